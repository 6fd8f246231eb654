"""Many tasks in one call: the order in which they are locked, and what is sent of them."""

import pytest

from audit.ids import uuid7, uuid7s
from audit.models import Task
from audit.verbs import inserts
from tests.support.factories import sql

pytestmark = pytest.mark.django_db


def _stored_order():
    # The log is written row by row in the order of the tasks. Their own place in the table says less: a row goes where
    # an earlier test has left room.
    return [key for (key,) in sql("SELECT task_id FROM audit_executionlog ORDER BY id")]


@pytest.mark.parametrize("many", ["bulk_request", "bulk_record"])
def test_rows_are_locked_in_the_order_of_their_ids_and_returned_in_the_order_given(many, monkeypatch):
    monkeypatch.setattr(inserts, "_CHUNK", 3)  # the order holds across statements, too
    ids = [uuid7() for _ in range(10)]
    given = ids[::-1]
    values = {} if many == "bulk_request" else {"status": "completed"}
    assert getattr(Task.objects, many)([{"action": "x", "id": key, **values} for key in given]) == given
    assert _stored_order() == ids


def test_a_value_that_all_rows_share_is_sent_once():
    rows = inserts.requested(
        [{"action": "x", "actor": "alice", "services": ["a", 'b"'], "priority": number % 2 + 1} for number in range(100)]
    )
    assert inserts.identify(rows)
    text, params = inserts.statement(rows, "audit_task.id")
    assert [value for value in params if value == "x"] == ["x"]
    assert sum(isinstance(value, str) and value.startswith("{") for value in params) == 2, params  # ids and priorities
    assert "services_touched" not in text
    assert "plan" not in text


def test_many_ids_ascend_and_are_version_7():
    ids = [*uuid7s(1000), uuid7(), *uuid7s(3)]
    assert ids == sorted(set(ids))
    assert {key.version for key in ids} == {7}
    assert uuid7s(0) == []


def test_no_rows_are_no_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert Task.objects.bulk_request([]) == []
