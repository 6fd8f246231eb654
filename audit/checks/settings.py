"""What can be seen without a connection."""

from collections.abc import Iterator

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution
from django.db import connections, router

from audit import conf, pausing
from audit.exceptions import AuditError
from audit.ledger.tlog import keys
from audit.ledger.tlog.errors import InvalidKey
from audit.models import Task
from audit.values import redaction

__all__ = ["look", "not_postgresql"]


def look() -> list[CheckMessage]:
    """Return what `audit.checks.check_settings` does."""
    found: list[CheckMessage] = []
    alias = router.db_for_write(Task)
    if connections[alias].vendor != "postgresql":
        found.append(not_postgresql(alias))
    if not apps.is_installed("django.contrib.postgres"):
        found.append(
            Error(
                "django.contrib.postgres is not installed.",
                hint="Add 'django.contrib.postgres' to INSTALLED_APPS. The filters of services need its lookups.",
                id="audit.E003",
            )
        )
    found += [Error(problem, hint=conf.WHERE, id="audit.E004") for problem in _settings()]
    if keys.is_configured():  # audit_seal, which needs it, runs no checks
        found.append(
            Caution(
                "The key that signs the ledger is in the environment of this process.",
                hint="Give it only to audit_seal. Whoever breaks into a process with this key can sign a forged log.",
                id="audit.W003",
            )
        )
    return found


def _settings() -> list[str]:
    problems = conf.problems() or list(_bad_keys())
    if not problems:
        try:
            redaction.check()
            pausing.gate()
        except AuditError as error:
            problems = [str(error)]
    return problems


def _bad_keys() -> Iterator[str]:
    """Name the verifier keys that are none, such as an example that was copied from the documentation."""
    for place, key in enumerate(conf.settings().LEDGER_VERIFIERS):
        try:
            keys.verifier_of(key)
        except InvalidKey as error:
            yield f"AUDIT['LEDGER_VERIFIERS'][{place}]: {error} audit_keygen prints the key that belongs there."


def not_postgresql(alias: str) -> Error:
    """E001, of a database that should keep audit tables."""
    return Error(
        f"The database {alias!r} is {connections[alias].vendor}. Only PostgreSQL can enforce the trail.",
        hint="Add a PostgreSQL database to DATABASES, and a router that sends the app 'audit' to it.",
        id="audit.E001",
    )
