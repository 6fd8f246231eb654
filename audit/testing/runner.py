"""A test runner for `manage.py test`: `TEST_RUNNER = "audit.testing.runner.AuditDiscoverRunner"`."""

from typing import Any

from django.test.runner import DiscoverRunner, ParallelTestSuite

from audit.testing.flush import every_teardown_flushable
from audit.testing.rules import rules_without_migrations

__all__ = ["AuditDiscoverRunner", "GuardedFlushRunnerMixin"]


def _run_guarded_subsuite(args: Any) -> Any:
    # A worker that was spawned, not forked, knows nothing of what the parent wrapped.
    with every_teardown_flushable():
        return ParallelTestSuite.run_subsuite(args)


class _GuardedParallelTestSuite(ParallelTestSuite):
    run_subsuite = _run_guarded_subsuite


class GuardedFlushRunnerMixin:
    """For a runner of your own; put it in front of `DiscoverRunner`. `TransactionTestCase`s need no change then."""

    parallel_test_suite: type[ParallelTestSuite] = _GuardedParallelTestSuite

    def setup_databases(self, **kwargs: Any) -> Any:
        """Make the test databases; tables that are made without migrations get the rules, too."""
        with rules_without_migrations():
            return super().setup_databases(**kwargs)  # type: ignore[misc]

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        """Run the suite with every teardown able to flush the audit tables of the test database."""
        with every_teardown_flushable():
            return super().run_suite(suite, **kwargs)  # type: ignore[misc]


class AuditDiscoverRunner(GuardedFlushRunnerMixin, DiscoverRunner):
    """Django's runner, for projects that had none of their own."""
