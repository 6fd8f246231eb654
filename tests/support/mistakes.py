"""The one-line mistakes that can be made in a file, found by its syntax tree; in SQL, by its words."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mistake", "find"]

_COMPARED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "in": "not in", "is": "is not"}
_COMPARED |= {"not in": "in", "is not": "is"}
_SQL = {
    r" FOR NO KEY UPDATE\b": " FOR UPDATE",
    r" FOR (NO KEY )?UPDATE( OF \w+)?( SKIP LOCKED)?": "",
    r" SKIP LOCKED\b": "",
    r" IS NOT NULL\b": " IS NULL",
    r" IS NULL\b": " IS NOT NULL",
    r" IS DISTINCT FROM ": " = ",
    r" AND ": " OR ",
    r" OR ": " AND ",
    r" <= ": " < ",
    r" >= ": " > ",
    r" < ": " <= ",
    r" > ": " >= ",
    r" DESC\b": "",
    r"\bclock_timestamp\(\)": "now()",
    r"\bENABLE ALWAYS TRIGGER\b": "ENABLE TRIGGER",
    r"\b(UPDATE|INSERT) OR DELETE\b": r"\1",
    r"\bleast\(": "greatest(",
    r"\bgreatest\(": "least(",
}
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
    """Bytes of a file, from `start` to `end`, replaced by `new`; `around` is the name of the function around them."""

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

    @property
    def compiles(self) -> bool:
        """Whether Python reads the file with the mistake in it."""
        try:
            return self.path.suffix == ".sql" or bool(ast.parse(self.mistaken))
        except SyntaxError:
            return False


def find(path: Path, source: bytes) -> list[Mistake]:
    """Find every mistake that can be made in a file of Python or SQL."""
    found = _in_sql(source, 0, len(source)) if path.suffix == ".sql" else _in_python(source)
    return [
        Mistake(path=path, source=source, start=start, end=end, new=new, kind=kind, around=around)
        for start, end, new, kind, around in found
    ]


def _in_sql(source: bytes, start: int, end: int, around: str = "") -> Iterator[tuple[int, int, str, str, str]]:
    for pattern, new in _SQL.items():
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
        around = getattr(node, "name", around) if isinstance(node, ast.stmt) else around
        for start, end, new, kind in _of_node(node, source, span):
            yield start, end, new, kind, around
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            start, end = span(node)
            if _QUERY.search(source[start:end].decode()):
                yield from _in_sql(source, start, end, around)
            return
        for name, below in ast.iter_fields(node):
            for child in below if isinstance(below, list) else [below]:
                docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
                if isinstance(child, ast.AST) and not docstring and name not in {"annotation", "returns"}:
                    yield from visit(child, around)

    yield from visit(ast.parse(source), "")


def _of_node(node: ast.AST, source: bytes, span) -> Iterator[tuple[int, int, str, str]]:
    """Make the mistakes of one node of the syntax tree: from, to, the new text, the kind."""
    match node:
        case ast.Compare(left=left, comparators=[right, *_]):
            sign = re.compile(rb"not in|is not|in|is|[<>=!]=?=?").search(source, span(left)[1], span(right)[0])
            yield *sign.span(), _COMPARED[sign[0].decode()], "comparison"
        case ast.BoolOp(op=operator, values=[first, second, *_]):
            old, new = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
            at = source.index(old.encode(), span(first)[1], span(second)[0])
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
