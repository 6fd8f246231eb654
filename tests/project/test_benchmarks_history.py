"""The history that benchmarks add to queues is written, whole, and a benchmark whose history has holes stops."""

from typing import Any

import psycopg
import pytest
from django.db import connection

from tests.benchmarks.contenders import Contender, check
from tests.benchmarks.history import history_sql
from tests.support.factories import sql

pytestmark = pytest.mark.django_db


@pytest.fixture
def _jobs() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bench_job (id integer PRIMARY KEY, status text, beat integer)")
        cursor.execute(history_sql("bench_job", key="integer", deleted="'ended as ' || gone.status"))
        cursor.execute("SET LOCAL history.actor = 'worker'")
        cursor.execute("INSERT INTO bench_job SELECT n, 'queued', 0 FROM generate_series(1, 3) AS n")


def _history() -> list[tuple[Any, ...]]:
    return sql("SELECT job_id, from_status, to_status FROM bench_job_history ORDER BY id")


@pytest.mark.usefixtures("_jobs")
def test_every_change_of_status_is_in_the_history() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE bench_job SET status = 'picked' WHERE id < 3")
        cursor.execute("UPDATE bench_job SET beat = 1")
        cursor.execute("DELETE FROM bench_job WHERE id = 1")
    came = [(1, None, "queued"), (2, None, "queued"), (3, None, "queued")]
    moved = [(1, "queued", "picked"), (2, "queued", "picked")]
    assert _history() == [*came, *moved, (1, "picked", "ended as picked")]
    # The moment of the statement, not of the transaction.
    assert sql("SELECT DISTINCT actor, db_role = session_user, at > now() FROM bench_job_history") == [
        ("worker", True, True)
    ]


class _Holed(Contender):
    name = "holed"

    @staticmethod
    def unlogged(connection: psycopg.Connection[Any]) -> int:
        return 2


def test_a_history_with_holes_is_not_measured() -> None:
    with pytest.raises(RuntimeError, match="holed: 2 changes are not in its history"):
        check(None, _Holed)  # type: ignore[arg-type]
    check(None, Contender)  # type: ignore[arg-type]
