"""Runs `audit_record` as a process, and waits for what it writes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from django.db import connection

from audit.models import Task
from tests.support.preloaded import Popen

UNREACHABLE = {"DATABASE_URL": "postgres://u:p@127.0.0.1:1/x"}


def start(*words: str, environment: dict[str, str] | None = None, **options: Any) -> Popen:
    # A test that names another server means its database, not the one of the tests.
    database = "" if "DATABASE_URL" in (environment or {}) else connection.settings_dict["NAME"]
    command = [sys.executable, "-m", "tests.support.recorder", database, "manage", "audit_record", *words]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Popen(command, env=os.environ | (environment or {}), **(pipes | options))


def recorded(*words: str, environment: dict[str, str] | None = None, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run the command as a process of its own; its exit status and both outputs."""
    process = start(*words, environment=environment, stdin=subprocess.PIPE)
    out, err = process.communicate(stdin, timeout=120)
    return process.returncode, out, err


def only() -> Task:
    return Task.objects.get()


def python(program: str) -> Sequence[str]:
    return ("--", sys.executable, "-c", program)
