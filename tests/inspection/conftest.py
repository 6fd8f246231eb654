"""What the checks of a database must not find here."""

import pytest

from tests.support.factories import sql


@pytest.fixture(autouse=True)
def _no_dead_rows(request: pytest.FixtureRequest) -> None:
    """Many rows that other tests rolled back are no finding of these tests."""
    if request.node.get_closest_marker("django_db"):
        sql("SELECT pg_stat_force_next_flush()")
        sql("SELECT pg_stat_reset()")
