"""Runs commands in this process and returns what they print."""

import io
import json
import os
import shutil
from datetime import timedelta
from typing import Any

from django.core.management import CommandError, call_command
from django.utils import timezone

from audit.ids import uuid7
from audit.models import Task

__all__ = ["ESCAPED", "HOSTILE", "any_width", "lines_of", "outcome", "record", "run"]

HOSTILE = "x\x1b[31m\u202e\r\nTotal: 0"
ESCAPED = r"x\x1b[31m\u202e\r\nTotal: 0"


def run(*argv, **options):
    """Run a command and return what it wrote to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command(*argv, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def lines_of(*argv):
    out, _ = run(*argv, "--format", "jsonl")
    return [json.loads(line) for line in out.splitlines()]


def record(ago, **given):
    at = timezone.now() - ago
    columns = {
        "id": uuid7(at),
        "action": "deploy",
        "status": "completed",
        "created_at": at,
        "started_at": at + timedelta(seconds=2),
        "finished_at": at + timedelta(seconds=5),
        "requested_by": "alice",
    }
    [key] = Task.objects.bulk_record([columns | given])
    return key


def any_width(monkeypatch):
    """Let output have no width, wherever the tests themselves run, unless a test sets `COLUMNS`."""
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr(
        shutil,
        "get_terminal_size",
        lambda fallback=(80, 24): os.terminal_size((int(os.environ["COLUMNS"]) or fallback[0], 24)),
    )


def outcome(*arguments: Any) -> tuple[int, str, str]:
    """Run a command: its exit code, output and error output."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command(*map(str, arguments), stdout=out, stderr=err)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except CommandError as error:
        code = error.returncode
        err.write(str(error))
    return code, out.getvalue(), err.getvalue()
