"""Texts of any length are refused by the database, whoever writes them and however."""

import re
from itertools import product
from pathlib import Path

import pytest

import audit
from audit import columns
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import Status
from tests.support.attacks import circumstance
from tests.support.factories import CHECK, refused, requested, sql, task_in, unchanged
from tests.support.refusals import KEPT

pytestmark = pytest.mark.django_db

_LONGEST = {"summary": 65_536, "output_summary": 65_536, "note": 65_536, "event": 800}
_NAME = 4_096
_RULES = {
    Task: (columns.TASK, "task_write_v1.sql"),
    ExecutionLog: (columns.LOG, "log_write_v1.sql"),
    PauseQueueEntry: (columns.ENTRY, "entry_write_v1.sql"),
}


def _texts(model):
    """The texts of a table, and how many bytes each may have; what is one of few words is bounded by those."""
    return {
        column.name: _LONGEST.get(column.name, _NAME)
        for column in _RULES[model][0]
        if column.type == "text" and not model._meta.get_field(column.name).choices
    }


def _cases(model, wheres, but=()):
    """A parameter of every place and text but these texts, or pairs of a place and a text."""
    texts = _texts(model)
    assert {each if isinstance(each, str) else each[1] for each in but} <= texts.keys()
    found = product(wheres, texts)
    return [(where, name, texts[name]) for where, name in found if name not in but and (where, name) not in but]


@pytest.mark.parametrize("model", _RULES)
def test_every_text_is_bounded_by_the_rule(model):
    rule = (Path(audit.__file__).parent / "sql" / _RULES[model][1]).read_text(encoding="utf-8")
    assert set(re.findall(r"octet_length\((?:ltrim\()?NEW\.(\w+)", rule)) == _texts(model).keys()


_WHERE = ("as owner", "replica role", "plain session")
_FROZEN = tuple(KEPT & _texts(Task).keys())


# The action has a type that is shorter; some texts never change; the last status is stamped.
@pytest.mark.parametrize(("where", "column", "longest"), _cases(Task, _WHERE, but=("action", *_FROZEN, "status_was")))
def test_no_update_makes_a_text_too_long(where, column, longest):
    task = task_in(Status.APPROVED)
    # A stamped actor is the role's: only a statement that raises the revision names one.
    change = f"UPDATE public.audit_task SET revision = revision + 1, {column} = repeat('é', %s)"
    with unchanged(task), circumstance(where), refused(CHECK, match=r"audit_task_texts_bounded"):
        sql(change, [longest // 2 + 1])
    with circumstance(where):
        sql(change, [longest // 2])


@pytest.mark.parametrize(
    ("where", "column", "longest"), _cases(Task, _WHERE[:2], but=("action", ("as owner", "status_was")))
)
def test_no_insert_brings_a_text_too_long(where, column, longest):
    insert = (
        "INSERT INTO public.audit_task (id, action, available_at, executing_ms, paused_ms,"
        f" {column}) VALUES ('01900000-0000-7000-8000-000000000000', 'x', now(), 0, 0, %s)"
    )
    with circumstance(where), refused(CHECK, match="texts_bounded"):
        sql(insert, ["x" * (longest + 1)])
    with circumstance(where):
        sql(insert, ["x" * longest])


@pytest.mark.parametrize(
    ("where", "column", "longest"), _cases(ExecutionLog, _WHERE[:2], but=(("as owner", "db_role"),))
)
def test_no_row_of_the_log_brings_a_text_too_long(column, longest, where):
    task = requested()
    given = {"kind": "'note'", "at": "now()", "db_role": "'x'", "row_version": "1", "xid": "'7'", column: "%s"}
    insert = (
        f"INSERT INTO audit_executionlog (task_id, {', '.join(given)})"
        f" VALUES ('{task.pk}', {', '.join(given.values())})"
    )
    with unchanged(task), circumstance(where), refused(CHECK, match="texts_bounded"):
        sql(insert, ["x" * (longest + 1)])
    with circumstance(where):
        sql(insert, ["x" * longest])


def test_the_orm_is_refused_as_well():
    task = requested()
    for change in (
        lambda: Task.objects.filter(pk=task.pk).update(summary="x" * 65_537),
        lambda: ExecutionLog.objects.create(task=task, kind="note", output_summary="x" * 65_537),
        lambda: ExecutionLog.objects.bulk_create([ExecutionLog(task=task, kind="note", action="x" * 4_097)]),
    ):
        with unchanged(task), refused(CHECK, match="texts_bounded"):
            change()


def test_a_retry_with_a_long_message_is_written():
    task = task_in(Status.EXECUTING)
    row = task.retry("€" * 30_000)
    assert row.output_summary == "€" * 16_384
    assert row.detail["message"] == "€" * 30_000


@pytest.mark.parametrize(("where", "column", "longest"), _cases(PauseQueueEntry, _WHERE, but=("event", "paused_by")))
def test_no_update_makes_a_text_of_an_entry_too_long(column, longest, where):
    task = task_in(Status.PAUSED)
    change = f"UPDATE public.audit_pause_queue SET revision = revision + 1, {column} = repeat('é', %s)"
    with unchanged(task), circumstance(where), refused(CHECK, match="audit_pause_queue_texts_bounded"):
        sql(change, [longest // 2 + 1])
    with circumstance(where):
        sql(change, [longest // 2])


@pytest.mark.parametrize(("where", "column", "longest"), _cases(PauseQueueEntry, _WHERE[:2]))
def test_no_insert_brings_an_entry_a_text_too_long(column, longest, where):
    task = task_in(Status.PAUSED)
    sql("SET session_replication_role = replica; DELETE FROM audit_pause_queue; SET session_replication_role = origin")
    text = "x" * (longest + 1)
    insert = (
        f"INSERT INTO public.audit_pause_queue (task_id, reason, {column}) VALUES ('{task.pk}', 'awaiting_event', %s)"
    )
    with unchanged(task), circumstance(where), refused(CHECK, match="audit_pause_queue_texts_bounded"):
        sql(insert, [text])
    with circumstance(where):
        sql(insert, [text[:longest]])


def test_the_longest_note_and_event_of_a_pause_are_kept():
    task = task_in(Status.EXECUTING)
    entry = task.pause(event="€" * 200, note="\N{PILE OF POO}" * 16_384)
    assert (len(entry.event), len(entry.note)) == (200, 16_384)
    with pytest.raises(ValueError, match="note"):
        task_in(Status.EXECUTING).pause(note="x" * 16_385)
    with unchanged(task), refused(CHECK, match="texts_bounded"):
        PauseQueueEntry.objects.filter(pk=entry.pk).update(note="x" * 65_537)
