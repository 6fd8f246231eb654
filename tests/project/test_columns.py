"""The columns are described once, in `audit.columns`: models and database say the same."""

import inspect
import json

import pytest

from audit import columns
from audit.columns import Source
from audit.ids import uuid7
from audit.interchange import lines
from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support.factories import requested, sql

DESCRIBED = {Task: columns.TASK, PauseQueueEntry: columns.ENTRY, ExecutionLog: columns.LOG}
both = pytest.mark.parametrize("model", DESCRIBED)


@both
def test_models_have_the_same_columns_in_the_same_order(model):
    assert [column.name for column in DESCRIBED[model]] == [field.column for field in model._meta.concrete_fields]


@both
@pytest.mark.django_db
def test_the_database_has_the_same_types_and_what_may_be_missing(model):
    found = sql(
        "SELECT attname, atttypid::regtype::text, attnotnull FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [model._meta.db_table],
    )
    written = {"timestamp with time zone": "timestamptz", "character varying": "text"}
    # In whatever order: Django makes the column of a foreign key last.
    assert {name: written.get(kind, kind) for name, kind, _ in found} == {
        column.name: column.type for column in DESCRIBED[model]
    }
    described = {column.name: column for column in DESCRIBED[model]}
    fields = {field.column: field for field in model._meta.concrete_fields}
    for name, _, needed in found:
        assert needed == (not fields[name].null), name
        if described[name].default is not None:
            assert needed, name
        elif needed and not described[name].filled:
            # Neither given nor filled in: it is required, or the database's own.
            assert name in ("id", "action", "kind") or described[name].source in (Source.DATABASE, Source.TABLE), name


def _row(model):
    """A row of which nothing is given that has a default."""
    key = uuid7()
    if model is Task:
        sql("INSERT INTO audit_task (id, action) VALUES (%s, 'x')", [key])
        return Task.objects.get(pk=key), {"id", "action"}
    task = requested()
    if model is ExecutionLog:
        sql("INSERT INTO audit_executionlog (task_id, kind) VALUES (%s, 'note')", [task.pk])
        return task.execution_log.latest("id"), {"kind"}
    sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk])
    sql(
        "WITH paused AS (UPDATE audit_task SET status = 'paused' WHERE id = %s RETURNING id)"
        " INSERT INTO audit_pause_queue (task_id) SELECT id FROM paused",
        [task.pk],
    )
    return PauseQueueEntry.objects.get(task=task), set()


@both
@pytest.mark.django_db
def test_a_row_of_which_nothing_is_given_holds_the_defaults(model):
    row, given = _row(model)
    for column in DESCRIBED[model]:
        if column.source in (Source.REQUEST, Source.RECORD) and not column.filled and column.name not in given:
            value = getattr(row, column.name)
            if column.name == "actor":
                assert value.startswith("db:")
            else:
                assert value == column.default, column.name
    assert [column.name for column in DESCRIBED[model] if column.filled and column.default not in (None, "")] == []


def test_columns_are_found_by_who_says_them():
    assert list(columns.by_name(columns.TASK)) == [column.name for column in columns.TASK]
    by_source = [name for source in Source for name in columns.by_name(columns.TASK, source)]
    assert sorted(by_source) == sorted(columns.by_name(columns.TASK))
    assert [column.name for column in columns.TASK if column.is_list] == ["services_touched"]
    assert columns.by_name(columns.TASK)["services_touched"].travels_as == "text"
    assert {column.travels_as for column in columns.TASK if column.is_document} == {"text"}


def test_a_request_takes_every_column_that_a_request_may_say():
    taken = inspect.signature(Task.objects.request).parameters.keys() - {"actor", "services"}
    assert taken == columns.by_name(columns.TASK, columns.Source.REQUEST).keys() - {"services_touched"}


@pytest.mark.django_db
def test_an_object_of_many_members_is_written():
    """A function of PostgreSQL takes a hundred arguments, and a table may have more columns than that."""
    many = {f"c{n}": columns.Column(name="id", type="uuid", source=columns.Source.RECORD) for n in range(60)}
    key = Task.objects.request("x").pk
    [[text]] = sql(f"SELECT concat('{{', {lines._members_sql('task', many)}, '}}') FROM audit_task AS task")
    assert json.loads(text) == dict.fromkeys(many, str(key))
