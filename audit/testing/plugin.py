"""The pytest plugin: `transactional_db` and `TransactionTestCase` flush a database whose audit tables refuse TRUNCATE,
and `--no-migrations` makes tables that have their rules.

pytest loads it in every project of the environment, so nothing of Django is touched unless the run has set it up
with this app installed.
"""

import sys
from collections.abc import Iterator

import pytest

__all__: list[str] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Wrap the flush, and what makes test databases, for the length of the run."""
    if not _is_installed():
        return (yield)
    from audit.testing.flush import every_teardown_flushable
    from audit.testing.rules import rules_without_migrations

    with every_teardown_flushable(), rules_without_migrations():
        return (yield)


def _is_installed() -> bool:
    # Where nobody imported Django's app registry, nobody set Django up.
    if "django.apps" not in sys.modules:
        return False
    from django.apps import apps

    return apps.ready and apps.is_installed("audit")
