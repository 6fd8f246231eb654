"""Which class a failure is of, and what an exception is called where its class does not say what was missing."""

import errno
import re
from pathlib import Path

import pytest
from django.db import OperationalError
from psycopg import errors

from audit.status import FailureClass
from audit.values.failures import CLASSES, RESOURCE_ERRORS, failure_class, failure_outcome, resource_errors


def _caused(cause: Exception) -> OperationalError:
    error = OperationalError(str(cause))
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "error_type", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "NoSpaceLeft", "resource"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "NoSpaceLeft", "resource"),
        (OSError(errno.EMFILE, "Too many open files"), "TooManyOpenFiles", "resource"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "OutOfMemory", "resource"),
        ("rsync: write failed: No space left on device (28)", "NoSpaceLeft", "resource"),
        (MemoryError(), "MemoryError", "resource"),
        (_caused(errors.DiskFull("could not extend file")), "DiskFull", "resource"),
        (_caused(errors.TooManyConnections("too many clients")), "TooManyConnections", "resource"),
        (_caused(errors.LockNotAvailable("lock timeout")), "OperationalError", "application"),
        (TimeoutError("no answer"), "TimeoutError", "application"),
        (OSError(errno.EACCES, "Permission denied"), "PermissionError", "application"),
        (OSError("no number"), "OSError", "application"),
        ("space left", "Error", "application"),
        (ValueError("No space left on device"), "ValueError", "application"),
    ],
)
def test_a_failure_goes_where_a_reader_expects(error, error_type, kind) -> None:
    outcome = failure_outcome(error)
    assert outcome["error_type"] == error_type
    assert failure_class("failed", error_type) == kind


def test_a_project_adds_what_is_a_lack_for_it(settings) -> None:
    settings.AUDIT = {"RESOURCE_ERRORS": ["TimeoutError"]}
    assert failure_class("failed", "TimeoutError") == FailureClass.RESOURCE
    assert set(resource_errors()) - set(RESOURCE_ERRORS) == {"TimeoutError"}


def test_the_docs_list_the_types_and_every_class_is_defined() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
    section = text.split("## Failure classes")[1].split("Every other type")[0]
    assert set(re.findall(r"`(\w+)`", section)) - {"RESOURCE_ERRORS"} == set(RESOURCE_ERRORS)
    assert set(CLASSES) == set(FailureClass)
