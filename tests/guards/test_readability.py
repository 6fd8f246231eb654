"""Rows that PostgreSQL takes and Python cannot read: refused by rules, or shown as text and saved back unchanged."""

import json

import pytest
from django.db import connection

from audit.ids import uuid7
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.models.fields import UnreadableJSON
from audit.status import Status
from tests.support.attacks import circumstance
from tests.support.factories import CHECK, assert_same, claimed, entry_of, refused, requested, sql, task_in, unchanged

pytestmark = pytest.mark.django_db

_MOMENTS = [
    "infinity",
    "-infinity",
    "20000-01-01 00:00+00",
    "0044-03-15 00:00+00 BC",
    "0001-01-01 00:00+00",
    "9999-12-31 00:00+00",
]
_LATE = ["infinity", "20000-01-01 00:00+00", "9999-12-31 00:00+00"]
_TASK_MOMENTS = [
    "created_at", "recorded_at", "available_at", "decided_at", "started_at", "finished_at", "lease_expires_at",
    "cancel_requested_at", "status_since",
]  # fmt: skip
_UNREADABLE = {
    "5 000 digits": '{"n": ' + "9" * 5000 + "}",
    "5 000 digits, negative": "[-" + "9" * 5000 + "]",
    "a number beyond a float": "[1" + "0" * 400 + ".5]",
    "3 000 levels of arrays": "[" * 3000 + "]" * 3000,
    "3 000 levels of objects": '{"a":' * 3000 + "1" + "}" * 3000,
    "201 levels": "[" * 201 + "]" * 201,
}
_READABLE = {
    "4 000 digits": "[" + "9" * 4000 + "]",
    "200 levels": "[" * 200 + "]" * 200,
    "many brackets, few levels": json.dumps([[n] for n in range(500)]),
    "brackets in a text": json.dumps("[" * 500),
    "small numbers": "[5e-324, 0.1, -0.0, 12.50]",
}


@pytest.mark.parametrize("moment", _MOMENTS)
@pytest.mark.parametrize("column", _TASK_MOMENTS)
@pytest.mark.parametrize("where", ["as owner", "replica role"])
def test_no_moment_of_a_task_is_beyond_python(column, moment, where):
    # Each in a status in which the column is the caller's to set; what the database stamps cannot be chosen.
    values = {
        "id": f"'{uuid7()}'", "action": "'x'", "created_at": "now()", "recorded_at": "now()", "available_at": "now()",
        "status": {"finished_at": "'failed'", "lease_expires_at": "'executing'"}.get(column, "'pending'"),
        "claim_token": "gen_random_uuid()", "lease_expires_at": "now()", "executing_ms": "0", "paused_ms": "0",
    }  # fmt: skip
    if column == "finished_at" and where == "replica role":
        values |= {"row_version": "1", "finished_xid": "'7'"}
    values[column] = f"'{moment}'"
    insert = f"INSERT INTO public.audit_task ({', '.join(values)}) VALUES ({', '.join(values.values())})"
    with circumstance(where):
        if column in ("recorded_at", "status_since") and where == "as owner":
            sql(insert)
            [[stamped]] = sql(f"SELECT {column} FROM public.audit_task WHERE id = {values['id']}")
            assert 2020 < stamped.year < 9999
        else:
            with refused(CHECK, match="moments_readable"):
                sql(insert)


@pytest.mark.parametrize("moment", _MOMENTS)
@pytest.mark.parametrize(
    ("column", "where"),
    [
        *((name, "as owner") for name in ("available_at", "decided_at", "lease_expires_at", "cancel_requested_at")),
        *((name, "replica role") for name in ("started_at", "status_since")),  # an ordinary session's are kept
    ],
)
def test_no_moment_of_a_live_task_is_moved_beyond_python(column, where, moment):
    task = task_in(Status.EXECUTING)
    with unchanged(task), circumstance(where), refused(CHECK, match="moments_readable"):
        sql(f"UPDATE public.audit_task SET {column} = '{moment}' WHERE id = '{task.pk}'")


@pytest.mark.parametrize("moment", _MOMENTS)
@pytest.mark.parametrize("other", ["now()", "NULL", *(f"'{moment}'" for moment in _MOMENTS)])
def test_the_span_of_work_done_elsewhere_is_reckoned_from_readable_moments_alone(moment, other):
    """What is subtracted before the row is judged must not fail by itself, with another error."""
    with refused(CHECK, match="moments_readable"):
        sql(
            "INSERT INTO audit_task (id, action, status, available_at, started_at, finished_at)"
            f" VALUES ('{uuid7()}', 'x', 'failed', now(), '{moment}', {other})"
        )


@pytest.mark.parametrize("moment", _MOMENTS)
@pytest.mark.parametrize("column", ["resume_after", "lease_expires_at"])
def test_no_moment_of_an_entry_is_beyond_python(column, moment):
    task = task_in(Status.PAUSED)
    with unchanged(task), refused(CHECK):
        sql(f"UPDATE audit_pause_queue SET {column} = '{moment}' WHERE task_id = '{task.pk}'")


@pytest.mark.parametrize("moment", _MOMENTS)
def test_no_moment_of_a_new_entry_or_of_the_log_is_beyond_python(moment):
    task = task_in(Status.APPROVED)
    with refused(CHECK):
        sql(
            "WITH paused AS (UPDATE audit_task SET status = 'paused' WHERE id = %s RETURNING id)"
            " INSERT INTO audit_pause_queue (task_id, paused_at) SELECT id, %s FROM paused",
            [task.pk, moment],
        )
    [[at]] = sql(
        "INSERT INTO audit_executionlog (task_id, kind, at) VALUES (%s, 'note', %s) RETURNING at", [task.pk, moment]
    )
    assert 2020 < at.year < 9999


_LEDGER = {
    "started_at of an epoch": (
        "audit_ledger_epoch (number, origin, size, previous, reason, actor, started_at, row_version)",
        "2, 'x', 0, '', 'x', 'x', %s, 1",
    ),
    "created_at of a checkpoint": (
        "audit_ledger_checkpoint (epoch, size, root, note, created_at)",
        "1, 1, sha256(''), 'x', %s",
    ),
    "sealed_at of the head": ("audit_ledger_head (id, sealed_at)", "1, %s"),
    "started_at of a verification": (
        "audit_ledger_verification (started_at, verdict, size, unsealed, report)",
        "%s, 'intact', 0, 0, '{}'",
    ),
    "oldest_unsealed of a verification": (
        "audit_ledger_verification (started_at, oldest_unsealed, verdict, size, unsealed, report)",
        "now(), %s, 'intact', 0, 0, '{}'",
    ),
    "finished_at of a verification": (
        "audit_ledger_verification (started_at, finished_at, verdict, size, unsealed, report)",
        "now(), %s, 'intact', 0, 0, '{}'",
    ),
}


@pytest.mark.parametrize("moment", _MOMENTS)
@pytest.mark.parametrize("column", _LEDGER)
@pytest.mark.parametrize("where", ["as owner", "replica role"])
def test_no_moment_of_the_ledger_is_beyond_python(column, moment, where):
    into, values = _LEDGER[column]
    insert = f"INSERT INTO public.{into} VALUES ({values})"
    with circumstance(where):
        if column.startswith("finished_at") and where == "as owner" and moment in _LATE:
            sql(insert, [moment])
            [[stamped]] = sql("SELECT finished_at FROM public.audit_ledger_verification")
            assert 2020 < stamped.year < 9999
        else:
            with refused(CHECK, match="moments?_readable"):
                sql(insert, [moment])


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize("moment", ["0001-01-02 00:00+00", "9999-12-30 23:59:59.999999+00"])
def test_the_outermost_moments_read_in_every_time_zone(moment, zone):
    task = requested()
    sql("UPDATE audit_task SET available_at = %s WHERE id = %s", [moment, task.pk])
    sql(f"SET LOCAL TimeZone = '{zone}'")
    task = Task.objects.get(pk=task.pk)
    assert task.available_at.year in {1, 9999}
    assert str(task.available_at.astimezone())


@pytest.mark.parametrize(
    "services",
    [
        "ARRAY[NULL]::text[]",
        "ARRAY['a', NULL]",
        "ARRAY[['a'], ['b']]",
        "ARRAY[['a', 'b']]",
        "'[0:1]={a,b}'::text[]",
        "'[2:2]={a}'::text[]",
        "'[-3:-3]={a}'::text[]",
        "array_fill('x'::text, ARRAY[1, 1, 1])",
        "'[0:0][0:0]={{a}}'::text[]",
    ],
)
@pytest.mark.parametrize("where", ["as owner", "replica role"])
def test_services_are_one_row_of_names(services, where):
    task = requested()
    with unchanged(task), circumstance(where), refused(CHECK, match="services_flat"):
        sql(f"UPDATE public.audit_task SET services_touched = {services} WHERE id = '{task.pk}'")


def test_services_may_be_none_at_all_and_odd_text():
    task = requested()
    sql("UPDATE audit_task SET services_touched = '{}' WHERE id = %s", [task.pk])
    sql("UPDATE audit_task SET services_touched = ARRAY['', 'NULL', '{', E'\\t'] WHERE id = %s", [task.pk])
    assert Task.objects.get(pk=task.pk).services_touched == ["", "NULL", "{", "\t"]


@pytest.mark.parametrize(
    "column", ["plan", "work_plan", "estimated_resources", "resources_used", "outcome", "suggestions", "origin"]
)
@pytest.mark.parametrize("where", ["as owner", "replica role"])
def test_a_json_null_is_not_a_document(column, where):
    task = requested()
    change = f"UPDATE public.audit_task SET {column} = 'null' WHERE id = '{task.pk}'"
    with unchanged(task), circumstance(where), refused(CHECK if column != "origin" else "23001"):
        sql(change)
    with refused(CHECK):
        sql(f"INSERT INTO audit_task (id, action, available_at, {column}) VALUES (%s, 'x', now(), 'null')", [uuid7()])


@pytest.mark.parametrize("column", ["plan", "outcome", "suggestions"])
@pytest.mark.parametrize("kind", _UNREADABLE)
def test_a_document_python_cannot_read_is_its_text_and_is_saved_back_unchanged(kind, column):
    task = requested()
    sql(f"UPDATE audit_task SET {column} = %s::jsonb WHERE id = %s", [_UNREADABLE[kind], task.pk])
    [[stored]] = sql(f"SELECT {column}::text FROM audit_task WHERE id = %s", [task.pk])
    task = Task.objects.get(pk=task.pk)
    value = getattr(task, column)
    assert isinstance(value, UnreadableJSON)
    assert value == stored
    task.summary = "saved"
    task.save()
    assert sql(f"SELECT summary, {column}::text FROM audit_task WHERE id = %s", [task.pk]) == [("saved", stored)]
    Task.objects.bulk_update([task], [column])
    assert sql(f"SELECT {column}::text FROM audit_task WHERE id = %s", [task.pk]) == [(stored,)]
    assert Task.objects.filter(pk=task.pk).values_list(column, flat=True)[0] == stored
    assert_same(Task.objects.get(pk=task.pk))
    assert isinstance(Task.objects.only(column).get(pk=task.pk).__dict__[column], UnreadableJSON)


@pytest.mark.parametrize("kind", _READABLE)
def test_what_python_can_read_is_a_document(kind):
    task = requested()
    sql("UPDATE audit_task SET plan = %s::jsonb WHERE id = %s", [_READABLE[kind], task.pk])
    plan = Task.objects.get(pk=task.pk).plan
    assert not isinstance(plan, UnreadableJSON)
    assert plan == json.loads(_READABLE[kind])


@pytest.mark.parametrize("kind", _UNREADABLE)
def test_every_verb_works_on_a_task_nobody_can_read(kind):
    """A frozen row can never be repaired, and a live one must still be finished."""
    task = requested()
    for column in ("plan", "outcome", "estimated_resources", "resources_used"):
        sql(f"UPDATE audit_task SET {column} = %s::jsonb WHERE id = %s", [_UNREADABLE[kind], task.pk])
    [[stored]] = sql("SELECT plan::text FROM audit_task WHERE id = %s", [task.pk])
    task = Task.objects.get(pk=task.pk)
    task.approve(actor="bob")
    task = claimed(task)
    assert isinstance(task.plan, UnreadableJSON)
    task.heartbeat()
    task.log("x")
    task.touch("mail")
    task.suggest("read it elsewhere")
    task.pause(work_plan=task.plan)
    entry = entry_of(task)
    assert isinstance(entry.work_plan, UnreadableJSON)
    row = task.execution_log.latest("id")
    assert isinstance(row.detail, UnreadableJSON)
    entry.save()
    resumed = entry_of(task).resume()
    assert (resumed.plan, resumed.work_plan) == (stored, stored)
    task = claimed(resumed, "orch-2")
    task.complete(task.plan)
    assert_same(task)
    assert task.outcome == stored
    assert isinstance(task.outcome, UnreadableJSON)
    assert [str(each) for each in ExecutionLog.objects.of(task)]
    assert PauseQueueEntry.objects.count() == 0


@pytest.mark.parametrize(
    "key",
    [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "919108f7-52d1-4320-9bac-f847db4148a8",
        "1ec9414c-232a-6b00-b3c8-9f6bdeced846",
        "01900000-0000-8000-8000-000000000000",
    ],
)
@pytest.mark.parametrize("where", ["as owner", "replica role"])
def test_every_id_is_of_version_seven(key, where):
    with circumstance(where), refused(CHECK, match="id_is_uuid7"):
        sql(
            "INSERT INTO public.audit_task (id, action, available_at, recorded_at, created_at)"
            f" VALUES ('{key}', 'x', now(), now(), now())"
        )


@pytest.mark.parametrize(
    "change", ["priority = 0", "priority = 6", "priority = -32768", "attempt = -1", "expiries = -1"]
)
def test_numbers_stay_in_their_ranges(change):
    task = requested()
    with unchanged(task), refused(CHECK):
        sql(f"UPDATE audit_task SET {change} WHERE id = '{task.pk}'")


def test_documents_of_other_expressions_read_as_before():
    """A key of a document is read by Django's own rule."""
    task = requested(plan={"a": {"b": [1, "x"]}, "n": 12.5})
    assert Task.objects.filter(pk=task.pk).values_list("plan__a__b", "plan__n", "plan__none")[0] == (
        [1, "x"],
        12.5,
        None,
    )
    assert connection.is_usable()
