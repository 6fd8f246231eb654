"""Many tasks in one call: the order in which they are locked, and what is sent of them."""

import pytest

from audit.exceptions import InvalidValue
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
    alike = {"action": "x", "actor": "alice", "services": ["a", 'b"']}
    rows = inserts.requested([{**alike, "priority": number % 2 + 1} for number in range(100)])
    assert inserts.identify(rows)
    text, params = inserts.statement(rows, "audit_task.id")
    assert [value for value in params if value == "x"] == ["x"]
    assert [value for value in params if value == r'{"a","b\""}'] == [r'{"a","b\""}']
    assert sum(isinstance(value, str) and value.count(",") == 99 for value in params) == 2, params  # ids and priorities
    assert "summary" not in text
    assert "plan" not in text


def test_many_ids_ascend_and_are_version_7():
    ids = [*uuid7s(1000), uuid7(), *uuid7s(3)]
    assert ids == sorted(set(ids))
    assert {key.version for key in ids} == {7}
    assert uuid7s(0) == []


def test_no_rows_are_no_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert Task.objects.bulk_request([]) == []


def test_values_are_taken_when_their_request_is_read():
    """A generator may fill the same list and document anew for each request."""
    services: list[str] = []
    plan: dict[str, int] = {}

    def requests():
        for number in range(3):
            services[:] = [f"host-{number}"]
            plan["step"] = number
            yield {"action": "x", "services": services, "plan": plan}

    keys = Task.objects.bulk_request(requests())
    kept = Task.objects.in_bulk(keys)
    assert [(kept[key].services_touched, kept[key].plan) for key in keys] == [
        ([f"host-{number}"], {"step": number}) for number in range(3)
    ]


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(["", '"', "\\", '\\"', "{}", ",", "NULL", "é\n\t"], id="signs"),
        pytest.param(["one"], id="one"),
        pytest.param(["", ""], id="empty"),
    ],
)
def test_texts_come_back_as_they_were_given(texts):
    keys = Task.objects.bulk_request([{"action": "x", "summary": text, "services": [f"s{text}"]} for text in texts])
    kept = Task.objects.in_bulk(keys)
    assert [(kept[key].summary, kept[key].services_touched) for key in keys] == [(text, [f"s{text}"]) for text in texts]


@pytest.mark.parametrize("services", [[["a"]], [{"a": 1}], [1], [None], ["a", ""]])
def test_a_list_of_services_that_is_none_is_refused_each_time(services):
    for _ in range(2):
        with pytest.raises(InvalidValue, match="services"):
            Task.objects.bulk_request([{"action": "x", "services": ["a"]}, {"action": "x", "services": services}])
    assert not Task.objects.exists()


def test_a_sign_that_no_text_has_parts_no_texts():
    """PostgreSQL refuses it, where it must not make two values of one."""
    assert inserts.array(inserts.GIVEN["summary"], ["a\0b", "c"]) == '{"a\0b","c"}'
