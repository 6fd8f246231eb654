"""Whether the project's TASKS name the backend; needs no framework."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import import_string

__all__ = ["configured"]


def configured() -> list[str]:
    """Return the aliases of TASKS whose backend is `AuditBackend`, or a subclass of it.

    Raises:
        ImproperlyConfigured: it is named, and there is no Tasks framework.
    """
    found = []
    for alias, params in (getattr(settings, "TASKS", None) or {}).items():
        try:
            backend = import_string(params["BACKEND"])
        except (ImportError, KeyError):
            continue  # of which the framework complains
        if getattr(backend, "keeps_trail", False):
            found.append(alias)
    return found
