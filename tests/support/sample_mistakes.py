"""One-line mistakes, made at random all over the app: does any test near them notice?

Run it by hand, from the root of the project::

    python -m tests.support.sample_mistakes --count 60 --seed 1
    python -m tests.support.sample_mistakes --count 10 --under audit/leases --seconds 300

With one server for all of it, each mistake takes some seconds less::

    python -m tests.support.with_server 18-wheel python -m tests.support.sample_mistakes --count 60 --seed 1

Each mistake is made in a copy of the last commit (a git worktree in a temporary directory). The tests nearest to it
run there until one fails that passes without the mistake. A line of the answer is ``noticed``, ``survived`` or
``no answer`` (the time ran out). It says where the mistake is, what was changed, and which test failed. Judge the
survivors by hand: some change nothing that anybody could see.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.mistakes import Mistake, find

__all__ = ["nearest", "sample"]

# The tests near the files of a folder: those of the same name, and these. What has no folder of that name has these.
_NEAREST = {
    "agents": "pausing commands/test_agents.py commands/test_queue.py",
    "checks": "inspection reading/test_health.py project/test_settings.py values/test_conf.py",
    "contrib": "interchange contrib_django_tasks",
    "inspection": "commands project/test_roles.py",
    "interchange": "commands",
    "leases": "recovery recording verbs/test_querysets.py",
    "ledger": "commands/test_seal.py commands/test_seal_loop.py commands/test_verify.py commands/test_prove.py",
    "management": "commands recovery/test_command.py recording interchange",
    "models": "verbs guards reading leases pausing recording ledger inspection",
    "pausing": "commands/test_queue.py",
    "process": "commands recording",
    "reading": "commands admin",
    "recording": "commands/test_record.py commands/test_record_output.py leases/test_kept.py"
    " leases/test_kept_elsewhere.py",
    "sql": "guards verbs pausing leases ledger",
    "statements": "verbs leases recording/test_connections.py",
    "templatetags": "admin",
    "testing": "project/test_testing.py project/test_host_project.py",
    "values": "verbs commands recording",
    "verbs": "pausing leases guards",
    "worker": "statements",
}
_ELSEWHERE = "verbs values recovery inspection reading commands project/test_settings.py"
# They compare the SQL with a copy of itself, and would notice every change of it.
_PINS = "tests/guards/test_migrations.py"


def nearest(mistake: Mistake, root: Path) -> list[str]:
    """Name the files of tests near a mistake, first those that name its module or its function most often."""
    folder = mistake.path.with_suffix("").parts[1]
    places = f"{folder} {_NEAREST.get(folder, '')}" if (root / "tests" / folder).is_dir() else _NEAREST.get(folder)
    files: dict[Path, float] = {}
    for number, place in enumerate((places or _ELSEWHERE).split()):
        near = root / "tests" / place
        for file in [near] if near.suffix else sorted(near.glob("test_*.py")):
            text = file.read_text()
            named = text.count(mistake.path.stem) + 3 * bool(mistake.around) * text.count(mistake.around)
            files.setdefault(file, number - min(named, 20))
    names = [file.relative_to(root).as_posix() for file in sorted(files, key=files.__getitem__)]
    return [name for name in names if name != _PINS or mistake.path.suffix != ".sql"]


def sample(root: Path, under: str, count: int, seed: int) -> list[Mistake]:
    """Choose mistakes by chance, as many of each kind as there can be."""
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
            if left and len(chosen) < count and (mistake := left.pop(chance.randrange(len(left)))).compiles:
                chosen.append(mistake)
    return chosen


class Run:
    """Runs the tests nearest to mistakes in a copy of the tree, with a limit of seconds for each."""

    def __init__(self, copy: Path, seconds: float) -> None:
        self._copy, self._seconds = copy, seconds
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
        wanted = ["-m", "not slow and not browser", *(f"--deselect={test}" for test in self._fail_anyway), *tests]
        run = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *wanted],
            cwd=self._copy,
            env=os.environ | {"PYTHONPYCACHEPREFIX": str(self._copy.parent / "compiled"), "COLUMNS": "1000"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # ignored where this runs in the background
        )
        try:
            return run.communicate(timeout=seconds)[0], run.returncode
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)  # pytest ends the server that it started
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.communicate(timeout=60)
            raise
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.communicate()


def main() -> None:
    """Read the arguments, sample, and print one line a mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="how many mistakes (20)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same mistakes (0)")
    parser.add_argument("--under", default="audit/", help="only in files whose path begins so (audit/)")
    parser.add_argument("--seconds", type=float, default=240, help="the time limit of one mistake's tests (240)")
    given = parser.parse_args()
    answers = []
    with tempfile.TemporaryDirectory(prefix="mistakes-") as directory:
        copy = Path(directory) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", copy], check=True)
        try:
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
