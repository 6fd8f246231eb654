"""Texts of any length are refused by the database, whoever writes them and however."""

import pytest

from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import Status
from tests.support.attacks import circumstance
from tests.support.factories import CHECK, refused, requested, sql, task_in, unchanged

pytestmark = pytest.mark.django_db

_NAMES = ("requested_by", "decided_by", "correlation_id", "claimed_by", "actor")


@pytest.mark.parametrize("where", ["as owner", "replica role", "plain session"])
@pytest.mark.parametrize("column", ["summary", "decided_by", "correlation_id", "claimed_by", "actor"])
def test_no_update_makes_a_text_too_long(column, where):
    task = task_in(Status.APPROVED)
    longest = 65_536 if column == "summary" else 4_096
    # A stamped actor is the role's: only a statement that raises the revision names one.
    change = f"UPDATE public.audit_task SET revision = revision + 1, {column} = repeat('é', %s)"
    with unchanged(task), circumstance(where), refused(CHECK, match=r"audit_task_texts_bounded"):
        sql(change, [longest // 2 + 1])
    with circumstance(where):
        sql(change, [longest // 2])


@pytest.mark.parametrize("column", ["summary", *_NAMES])
def test_no_insert_brings_a_text_too_long(column):
    longest = 65_536 if column == "summary" else 4_096
    insert = f"INSERT INTO audit_task (id, action, {column}) VALUES ('01900000-0000-7000-8000-000000000000', 'x', %s)"
    with refused(CHECK, match="texts_bounded"):
        sql(insert, ["x" * (longest + 1)])
    sql(insert, ["x" * longest])


@pytest.mark.parametrize("where", ["as owner", "replica role"])
@pytest.mark.parametrize(("column", "longest"), [("output_summary", 65_536), ("action", 4_096), ("actor", 4_096)])
def test_no_row_of_the_log_brings_a_text_too_long(column, longest, where):
    task = requested()
    insert = (
        f"INSERT INTO audit_executionlog (task_id, kind, at, db_role, row_version, xid{', ' + column})"
        f" VALUES ('{task.pk}', 'note', now(), 'x', 1, '7', %s)"
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


@pytest.mark.parametrize("where", ["as owner", "replica role", "plain session"])
@pytest.mark.parametrize(("column", "longest"), [("note", 65_536), ("claimed_by", 4_096), ("actor", 4_096)])
def test_no_update_makes_a_text_of_an_entry_too_long(column, longest, where):
    task = task_in(Status.PAUSED)
    change = f"UPDATE public.audit_pause_queue SET revision = revision + 1, {column} = repeat('é', %s)"
    with unchanged(task), circumstance(where), refused(CHECK, match="audit_pause_queue_texts_bounded"):
        sql(change, [longest // 2 + 1])
    with circumstance(where):
        sql(change, [longest // 2])


@pytest.mark.parametrize("where", ["as owner", "replica role"])
@pytest.mark.parametrize(
    ("column", "longest"),
    [("note", 65_536), ("event", 800), ("paused_by", 4_096), ("claimed_by", 4_096), ("actor", 4_096)],
)
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
