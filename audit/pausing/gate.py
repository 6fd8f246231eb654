"""The gate: what a project asks whether there is capacity for a task (`AUDIT["CAPACITY_GATE"]`)."""

from __future__ import annotations

from collections.abc import Callable

from django.utils.module_loading import import_string

from audit import conf
from audit.exceptions import AuditError
from audit.models import Task
from audit.pausing.capacity import CapacityVerdict

__all__ = ["gate"]


def gate() -> Callable[[Task], CapacityVerdict] | None:
    """Return the callable that the setting names; None when it is None, and nobody is asked.

    Raises:
        AuditError: the path leads to nothing that can be called; the system check says the same earlier.
    """
    given = conf.settings().CAPACITY_GATE
    if given is None:
        return None
    try:
        found = import_string(given) if isinstance(given, str) else given
    except ImportError as error:
        raise AuditError(f'AUDIT["CAPACITY_GATE"] cannot be imported: {error}.') from error
    if not callable(found):
        raise AuditError(f'AUDIT["CAPACITY_GATE"] must name a callable, not {given!r}.')
    return found
