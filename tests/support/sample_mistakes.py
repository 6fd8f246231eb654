"""One-line mistakes, made at random all over the app: does any test near them notice?

Run it by hand, from the root of the project::

    python -m tests.support.sample_mistakes --count 60 --seed 1
    python -m tests.support.sample_mistakes --count 10 --under audit/leases --seconds 300

Each mistake is made in a copy of the last commit (a git worktree in a temporary directory). The tests nearest to it run
there until one fails that passes without the mistake. A line of the answer is ``noticed``, ``survived`` or ``no answer``
(the time ran out). It says where the mistake is, what was changed, and which test failed. Judge the survivors by hand:
some change nothing that anybody could see.
"""

import argparse
import ast
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mistake", "find", "nearest"]

# The tests near a module, by the beginning of its path: the longest one counts.
NEAREST = {
    "audit/": "values verbs reading commands",
    "audit/admin": "admin",
    "audit/agents": "agents pausing commands/test_agents.py commands/test_queue.py",
    "audit/checks": "inspection project/test_settings.py values/test_conf.py",
    "audit/columns": "project/test_columns.py verbs interchange inspection",
    "audit/conf": "values project/test_settings.py inspection",
    "audit/contrib": "interchange",
    "audit/decisions": "verbs admin/test_decide.py admin/test_decide_around.py admin/test_decide_races.py",
    "audit/events": "verbs recovery guards/test_events.py",
    "audit/inspection": "inspection commands project/test_roles.py",
    "audit/interchange": "interchange commands",
    "audit/leases": "leases recovery recording",
    "audit/ledger": "ledger commands/test_seal.py commands/test_verify.py commands/test_prove.py",
    "audit/management": "commands recovery/test_command.py recording interchange",
    "audit/models": "verbs guards reading leases recording ledger inspection",
    "audit/models/querysets": "verbs reading leases pausing recording",
    "audit/pausing": "pausing commands/test_queue.py",
    "audit/process": "process commands recording/test_resources.py recording",
    "audit/reading": "reading commands admin",
    "audit/recording": "recording commands/test_record.py leases/test_kept.py leases/test_kept_elsewhere.py",
    "audit/recovery": "recovery leases",
    "audit/sql": "guards verbs leases ledger",
    "audit/sql/entry": "guards pausing verbs leases",
    "audit/sql/event": "guards verbs recovery",
    "audit/sql/ledger": "ledger guards",
    "audit/statements": "verbs leases",
    "audit/templatetags": "admin",
    "audit/testing": "project/test_testing.py project/test_host_project.py",
    "audit/values": "values verbs commands recording",
    "audit/verbs": "verbs pausing leases",
}
# These compare files with a copy of themselves: they would notice every change of the SQL.
_PINS = "tests/guards/test_migrations.py"
_COMPARED = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
_SQL = [
    (r" FOR NO KEY UPDATE\b", " FOR UPDATE"),
    (r" FOR (NO KEY )?UPDATE( OF \w+)?( SKIP LOCKED)?", ""),
    (r" SKIP LOCKED\b", ""),
    (r" IS NOT NULL\b", " IS NULL"),
    (r" IS NULL\b", " IS NOT NULL"),
    (r" IS DISTINCT FROM ", " = "),
    (r" AND ", " OR "),
    (r" OR ", " AND "),
    (r" <= ", " < "),
    (r" >= ", " > "),
    (r" < ", " <= "),
    (r" > ", " >= "),
    (r" DESC\b", ""),
    (r"\bclock_timestamp\(\)", "now()"),
    (r"\bENABLE ALWAYS TRIGGER\b", "ENABLE TRIGGER"),
    (r"\b(UPDATE|INSERT) OR DELETE\b", r"\1"),
    (r"\bleast\(", "greatest("),
    (r"\bgreatest\(", "least("),
]
# A part of the text of a query, not an English sentence.
_QUERY = re.compile(r"\b(SELECT|UPDATE|INSERT INTO|DELETE FROM|WHERE|RETURNING|FOR NO KEY|ORDER BY|NOT NULL|AND)\b")
# Arguments that word something, or that nobody sees.
_WORDING = {
    "help",
    "verbose_name",
    "verbose_name_plural",
    "metavar",
    "hint",
    "description",
    "slots",
    "kw_only",
    "frozen",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Bytes of a file, from `start` to `end`, replaced by `new`."""

    path: Path
    source: bytes
    start: int
    end: int
    new: str
    kind: str
    around: str = ""

    def __str__(self) -> str:
        old = " ".join(self.source[self.start : self.end].decode().split())
        line = self.source.count(b"\n", 0, self.start) + 1
        return f"{self.path}:{line}: {self.kind}: {old[:90]!r} -> {self.new[:90].strip()!r}"

    @property
    def mistaken(self) -> bytes:
        """The file with the mistake in it."""
        return self.source[: self.start] + self.new.encode() + self.source[self.end :]


def find(path: Path, source: bytes) -> list[Mistake]:
    """Every mistake that can be made in a file of Python or SQL."""
    found = _in_sql(source, 0, len(source)) if path.suffix == ".sql" else _in_python(source)
    return [
        Mistake(path=path, source=source, start=start, end=end, new=new, kind=kind, around=around)
        for start, end, new, kind, around in found
    ]


def _compiles(mistake: Mistake) -> bool:
    try:
        return mistake.path.suffix == ".sql" or bool(ast.parse(mistake.mistaken))
    except SyntaxError:
        return False


def _in_sql(source: bytes, start: int, end: int, around: str = "") -> Iterator[tuple[int, int, str, str, str]]:
    for pattern, new in _SQL:
        for match in re.compile(pattern.encode()).finditer(source, start, end):
            line = source[source.rfind(b"\n", 0, match.start()) + 1 : match.start()]
            if b"--" not in line and b"-- backwards" not in source[start : match.start()]:
                yield match.start(), match.end(), match.expand(new.encode()).decode(), "SQL", around


def _in_python(source: bytes) -> Iterator[tuple[int, int, str, str, str]]:
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def span(node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        return lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + node.end_col_offset

    def visit(node: ast.AST, around: str) -> Iterator[tuple[int, int, str, str, str]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            around = node.name
        for start, end, new, kind in _of_node(node, source, span):
            yield start, end, new, kind, around
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            start, end = span(node)
            if _QUERY.search(source[start:end].decode()):
                yield from _in_sql(source, start, end, around)
            return
        for name, below in ast.iter_fields(node):
            if name in {"annotation", "returns", "type_params"}:
                continue
            for child in below if isinstance(below, list) else [below]:
                docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
                if isinstance(child, ast.AST) and not docstring:
                    yield from visit(child, around)

    yield from visit(ast.parse(source), "")


def _of_node(node: ast.AST, source: bytes, span) -> Iterator[tuple[int, int, str, str]]:
    """The mistakes of one node of the syntax tree: from, to, the new text, the kind."""
    match node:
        case ast.Compare(left=left, ops=[operator, *_], comparators=[right, *_]) if type(operator) in _COMPARED:
            old, new = _COMPARED[type(operator)]
            if between := re.compile(rb"\s*".join(map(re.escape, old.encode().split()))).search(
                source, span(left)[1], span(right)[0]
            ):
                yield *between.span(), new, "comparison"
        case ast.BoolOp(op=operator, values=[first, second, *_]):
            old, new = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
            at = source.find(old.encode(), span(first)[1], span(second)[0])
            if at >= 0:
                yield at, at + len(old), new, "and/or"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield span(node)[0], span(operand)[0], "", "not dropped"
        case ast.Constant(value=bool(value)):
            yield *span(node), str(not value), "constant"
        case ast.Constant(value=int(value)):
            yield *span(node), str(value + 1), "constant"
        case ast.Call(keywords=keywords):
            for keyword in keywords:
                if keyword.arg and keyword.arg not in _WORDING:
                    start, end = span(keyword)
                    yield start, re.compile(rb"\s*,?").match(source, end).end(), "", "argument dropped"
        case ast.If(test=test) | ast.IfExp(test=test) if ast.unparse(test) != "TYPE_CHECKING":
            start, end = span(test)
            yield start, end, f"not ({source[start:end].decode()})", "branches swapped"
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.AugAssign() | ast.Continue() | ast.Break():
            yield *span(node), "pass", "statement removed"
        case ast.Return(value=None) | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield *span(node), "pass", "statement removed"


def nearest(mistake: Mistake, root: Path) -> list[str]:
    """The files of tests near a mistake, those that name its module or its function most often first."""
    path = mistake.path.as_posix()
    folders = NEAREST[max((beginning for beginning in NEAREST if path.startswith(beginning)), key=len)]
    files: dict[Path, float] = {}
    for place, folder in enumerate(folders.split()):
        for file in sorted((root / "tests" / folder).glob("test_*.py")) or [root / "tests" / folder]:
            text = file.read_text()
            named = text.count(mistake.path.stem) + 3 * bool(mistake.around) * text.count(mistake.around)
            files.setdefault(file, place - min(named, 20))
    names = [file.relative_to(root).as_posix() for file in sorted(files, key=files.__getitem__)]
    return [name for name in names if name != _PINS]


def sample(root: Path, under: str, count: int, seed: int) -> list[Mistake]:
    """Mistakes chosen by chance, as many of each kind as there can be."""
    kinds: dict[str, list[Mistake]] = {}
    chance = random.Random(seed)
    for path in sorted([*root.glob("audit/**/*.py"), *root.glob("audit/sql/*.sql")]):
        name = path.relative_to(root)
        if name.as_posix().startswith(under) and "migrations" not in name.parts:
            for mistake in find(name, path.read_bytes()):
                kinds.setdefault(mistake.kind, []).append(mistake)
    chosen: list[Mistake] = []
    while len(chosen) < count and any(kinds.values()):
        for left in kinds.values():
            if left and len(chosen) < count and _compiles(mistake := left.pop(chance.randrange(len(left)))):
                chosen.append(mistake)
    return chosen


class Run:
    """The tests nearest to a mistake, run in a copy of the tree.

    Args:
        copy: where the copy is.
        seconds: the time limit of one mistake.
    """

    def __init__(self, copy: Path, seconds: float) -> None:
        self._copy = copy
        self._seconds = seconds
        self._fail_anyway: list[str] = []

    def answer(self, mistake: Mistake) -> str:
        """Make a mistake, run the tests until one fails that passes without it, and undo the mistake."""
        files, until = nearest(mistake, self._copy), time.monotonic() + self._seconds
        while True:
            (self._copy / mistake.path).write_bytes(mistake.mistaken)
            try:
                output, status = self._pytest(files, until - time.monotonic())
            except subprocess.TimeoutExpired:
                return f"no answer {mistake}"
            finally:
                (self._copy / mistake.path).write_bytes(mistake.source)
            if status == 0:
                return f"survived  {mistake}"
            failed = re.search(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", output, re.MULTILINE)
            if failed is None:
                return f"noticed   {mistake} (nothing starts)"
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self._pytest([failed[1]], self._seconds)[1] == 0:
                    return f"noticed   {mistake} ({failed[1]})"
            self._fail_anyway.append(failed[1])

    def _pytest(self, tests: list[str], seconds: float) -> tuple[str, int]:
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"),
                *("-m", "not slow and not browser", *(f"--deselect={test}" for test in self._fail_anyway), *tests),
            ],
            cwd=self._copy,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "1000"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            return run.communicate(timeout=seconds)[0], run.returncode
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)  # pytest ends the server that it started
            try:
                run.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                run.communicate()
            raise


def main() -> None:
    """Read the arguments, sample, and print one line a mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="how many mistakes (20)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same mistakes (0)")
    parser.add_argument("--under", default="audit/", help="only in files whose path begins so (audit/)")
    parser.add_argument("--seconds", type=float, default=240, help="the time limit of one mistake's tests (240)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mistakes-") as directory:
        copy = Path(directory) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", copy], check=True)
        try:
            answers = []
            run = Run(copy, given.seconds)
            for mistake in sample(copy, given.under, given.count, given.seed):
                answers.append(run.answer(mistake))
                print(answers[-1], flush=True)  # noqa: T201
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", copy], check=True)
    noticed = sum(line.startswith("noticed") for line in answers)
    print(f"{noticed} of {len(answers)} noticed")  # noqa: T201


if __name__ == "__main__":
    main()
