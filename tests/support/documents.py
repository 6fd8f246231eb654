"""The code blocks of README and docs, and where they run.

A page is run from its top to its end: Python in one namespace, SQL in the test database, `sh` by bash in one folder.
There `python manage.py` works on the test database and takes the verifier keys from the file `audit.vkey`. Three
comments in a page say more about the next block, and one about the whole page:

    <!-- not run: why it cannot -->
    <!-- run by: tests/project/test_demo.py -->
    <!-- run first: Python that readers need not see -->
    <!-- all run by: tests/project/test_roles.py -->
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection

__all__ = ["CHECKOUT", "PAGES", "Block", "Place", "blocks"]

CHECKOUT = Path(__file__).resolve().parent.parent.parent

PAGES = {
    str(path.relative_to(CHECKOUT)): path
    for path in (
        *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md")),
        *sorted((CHECKOUT / "docs").glob("**/*.md")),
    )
}

RUNS = ("python", "sql", "sh")

_PART = re.compile(
    r"^<!-- run first:\n(?P<first>.*?)^-->$"
    r"|^<!-- not run: (?P<excuse>.+?) -->$"
    r"|^<!-- run by: (?P<runner>.+?) -->$"
    r"|^<!-- all run by: (?P<everything>.+?) -->$"
    r"|^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A piece of code in a page."""

    line: int
    language: str
    code: str
    excuse: str = ""
    """Why it cannot run."""
    runner: str = ""
    """The file of the test that runs it."""


def blocks(text: str) -> Iterator[Block]:
    """Find the blocks of a page, in order."""
    excuse = runner = everything = ""
    for part in _PART.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        if part["first"] is not None:
            yield Block(line=line, language="python", code=part["first"])
        elif part["everything"]:
            everything = part["everything"]
        elif part["language"] is None:
            excuse, runner = part["excuse"] or "", part["runner"] or ""
        else:
            indent = len(part["indent"])
            code = "".join(each[indent:] for each in part["code"].splitlines(keepends=True))
            yield Block(line=line, language=part["language"], code=code, excuse=excuse, runner=runner or everything)
            excuse = runner = ""


# The page whose reader writes the directory of checkpoints into the settings.
_WITH_CHECKPOINTS = "docs/tutorial.md"


class Place:
    """Where the blocks of one page run.

    Args:
        page: the page's name.
        folder: an empty folder.
        manage: the words that run `manage.py` of this folder faster than Python (`preloaded.for_shells`).
    """

    def __init__(self, page: str, folder: Path, manage: list[str] | None = None) -> None:
        self.page = page
        self.folder = folder
        self.namespace: dict[str, Any] = {"__name__": "a_page", "shell": self.shell, "folder": folder}
        (folder / "settings_of_page.py").write_text(
            "from tests.settings import *\n"
            f"DATABASES['default']['NAME'] = {connection.settings_dict['NAME']!r}\n"
            "from pathlib import Path\n"
            f"_VERIFIERS = Path({str(folder / 'audit.vkey')!r})\n"
            "AUDIT = {'LEDGER_VERIFIERS': _VERIFIERS.read_text().split()} if _VERIFIERS.exists() else {}\n"
            f"if {page == _WITH_CHECKPOINTS}:\n    AUDIT['LEDGER_CHECKPOINTS'] = {str(folder / 'checkpoints')!r}\n"
        )
        (folder / "manage.py").write_text(
            "from django.core.management import execute_from_command_line\nimport sys\n"
            "execute_from_command_line(sys.argv)\n"
        )
        programs = folder / "bin"
        programs.mkdir()
        python = programs / "python"
        faster = (
            f'if [ "$1" = manage.py ] && [ "$PWD" = {shlex.quote(str(folder))} ] '
            f'&& [ "$DJANGO_SETTINGS_MODULE" = settings_of_page ]; then exec {shlex.join(manage)} "$@"; fi\n'
            if manage
            else ""
        )
        python.write_text(f'#!/bin/sh\n{faster}exec "{sys.executable}" "$@"\n')
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AUDIT_LEDGER_")},
            "DJANGO_SETTINGS_MODULE": "settings_of_page",
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{folder}{os.pathsep}{CHECKOUT}",
        }

    def run(self, block: Block) -> None:
        """Run a block.

        Raises:
            Exception: whatever Python or SQL raised; an AssertionError with the output when a shell ended badly.
        """
        if block.language == "sh":
            self.shell(block.code)
        elif block.language == "sql":
            with connection.cursor() as cursor:
                cursor.execute(block.code)
        else:
            # Lines in a traceback are those of the page.
            code = "\n" * block.line + block.code
            exec(compile(code, self.page, "exec"), self.namespace)

    def shell(self, script: str) -> str:
        """Run a script with bash; variables that it exports stay for the next one.

        Returns:
            What it printed.
        """
        kept = self.folder / "environment"
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{script}\nenv -0 > '{kept}'"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=900,
        )
        assert ended.returncode == 0, f"{self.page}: exit status {ended.returncode}\n{script}\n{ended.stdout}"
        for each in kept.read_text(encoding="utf-8", errors="surrogateescape").split("\0"):
            name, _, value = each.partition("=")
            if name and name not in ("_", "SHLVL", "PWD", "OLDPWD"):
                self.environment[name] = value
        return ended.stdout
