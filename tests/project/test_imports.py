"""What a process imports: every crontab line and every child of a worker pays for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.documents import CHECKOUT

# What most processes do without. The patterns of the redaction are among the slowest of all to load.
_HEAVY = {
    *("audit.admin.pages", "audit.checks.database", "audit.checks.settings", "audit.inspection", "audit.ledger.verify"),
    *("audit.interchange.exporting", "audit.pausing", "audit.recording", "audit.values.redaction.shapes"),
    *("audit.worker", "cryptography", "psutil", "pydantic", "rich.console", "rich.progress", "rich.text", "statistics"),
}
_SET_UP = "import django; django.setup(); import audit.models"
_COMMAND = (
    "from django.core.management import execute_from_command_line; execute_from_command_line(['manage.py', {!r}, {!r}])"
)


def _imported(code: str) -> set[str]:
    """Run some code in a process of its own and return the modules that it imports."""
    code = f"import atexit, sys; atexit.register(lambda: print('', *sys.modules, file=sys.stderr)); {code}"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "auditproj.settings"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(ended.stderr.split())


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        pytest.param(_SET_UP, set(), id="setup"),
        pytest.param(_COMMAND.format("audit_list", "--help"), set(), id="audit_list"),
        pytest.param(_COMMAND.format("audit_recover", "--help"), set(), id="audit_recover"),
        pytest.param(_COMMAND.format("audit_seal", "--help"), {"audit.inspection", "cryptography"}, id="audit_seal"),
        pytest.param(
            _COMMAND.format("audit_record", "--help"),
            {"audit.recording", "audit.values.redaction.shapes", "psutil"},
            id="audit_record",
        ),
    ],
)
def test_a_process_imports_what_it_needs_and_no_more(code: str, needed: set[str]) -> None:
    imported = _imported(code)
    assert "audit.models" in imported
    assert imported & _HEAVY == needed


def test_the_pages_of_the_browser_are_imported_when_one_is_asked_for() -> None:
    asked = "; from django.contrib import admin; admin.site.get_model_admin(audit.models.Task).{}"
    assert "audit.admin" in _imported(_SET_UP)
    assert "audit.admin.pages" in _imported(_SET_UP + asked.format("list_display"))


def test_what_records_can_mask_when_no_file_can_be_opened_any_more() -> None:
    """A block that ends because the process has too many open files is stored nevertheless."""
    code = (
        f"{_SET_UP}; from audit import record; import resource;"
        " resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3));"
        " from audit.values.failures import failure_outcome;"
        " outcome = failure_outcome(OSError(24, 'Too many open files, password=hunter22'));"
        " assert 'hunter22' not in str(outcome), outcome"
    )
    assert "audit.values.redaction.shapes" in _imported(code)
