"""The execution log: nothing in it changes or goes, and nobody forges a transition."""

import contextlib

import pytest
from django.db import IntegrityError, connection, transaction

from audit.exceptions import AppendOnly
from audit.ids import uuid7
from audit.models import ExecutionLog
from audit.status import TRANSITIONS, Status
from tests.support.attacks import ATTACKS, CIRCUMSTANCES, attempts, changed, circumstance, columns_of
from tests.support.factories import (
    CHECK,
    RESTRICT,
    UNIQUE,
    finished,
    log_of,
    refused,
    requested,
    sql,
    task_in,
    unchanged,
)
from tests.support.refusals import line

pytestmark = pytest.mark.django_db

FORGE = (
    "INSERT INTO public.audit_executionlog (task_id, kind, from_status, to_status, revision, actor)"
    " VALUES ('{task}', 'transition', {before}, {after}, {revision}, 'mallory')"
)


def _attack(name, row, column="action", value="'forged'"):
    if name.startswith("merge") and connection.pg_version < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")
    return ATTACKS[name].format(
        table="public.audit_executionlog", key="id", id=f"{row.pk}::bigint", column=column, value=value
    )


def _forge(task, before, after, revision):
    return FORGE.format(task=task.pk, before=_literal(before), after=_literal(after), revision=_literal(revision))


def _literal(value):
    return "NULL" if value is None else f"'{value}'"


@pytest.mark.parametrize("status", [Status.EXECUTING, Status.COMPLETED])
@pytest.mark.parametrize("where", ["as owner", "replica role", "plain session"])
@pytest.mark.parametrize("field", columns_of(ExecutionLog))
def test_no_column_of_a_log_row_changes(field, where, status):
    task = task_in(status)
    row = task.execution_log.latest("id")
    [[differs]] = sql(
        f"SELECT ({changed(field)}) IS DISTINCT FROM {field.column} FROM audit_executionlog WHERE id = %s", [row.pk]
    )
    assert differs
    with unchanged(task), circumstance(where), refused(match=f"audit_executionlog {row.pk}: .* UPDATE .*{task.pk}"):
        sql(_attack("update", row, field.column, changed(field)))


@pytest.mark.parametrize(("attack", "where"), attempts())
def test_no_statement_changes_or_removes_a_log_row(attack, where):
    task = task_in(Status.EXECUTING)
    row = task.log("dig")
    with unchanged(task), circumstance(where), refused():
        sql(_attack(attack, row))


def test_upserts_do_not_reach_a_log_row():
    task = finished()
    row = task.execution_log.latest("id")
    with unchanged(task):
        for conflict in (
            "(id) DO UPDATE SET action = 'forged'",
            "ON CONSTRAINT audit_executionlog_pkey DO UPDATE SET kind = 'note'",
        ):
            with refused():
                sql(
                    "INSERT INTO audit_executionlog (id, task_id, kind, action) VALUES (%s, %s, 'note', 'forged')"
                    f" ON CONFLICT {conflict}",
                    [row.pk, task.pk],
                )
        with refused("23505"):
            sql("INSERT INTO audit_executionlog (id, task_id, kind) VALUES (%s, %s, 'note')", [row.pk, task.pk])


def test_the_orm_does_not_change_or_delete_a_log_row():
    task = finished()
    row = task.execution_log.latest("id")
    row.action = "forged"
    with unchanged(task):
        with refused():
            row.save()
        with refused():
            row.save(update_fields=["action"])
        with refused():
            ExecutionLog.objects.update(action="forged")
        with refused():
            ExecutionLog.objects.bulk_update([row], ["action"])
        with refused():
            ExecutionLog.objects.bulk_create(
                [row], update_conflicts=True, unique_fields=["id"], update_fields=["action"]
            )
        with refused() as refusal:
            row.delete()
        assert isinstance(refusal.error, AppendOnly)
        assert refusal.error.table == "audit_executionlog"
        with refused():
            task.execution_log.all().delete()


def test_truncating_a_parent_table_stops_at_the_log():
    task = finished()
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("CREATE TABLE book (id bigint PRIMARY KEY)")
    sql("INSERT INTO book SELECT id FROM audit_executionlog")
    sql("ALTER TABLE audit_executionlog ADD FOREIGN KEY (id) REFERENCES book (id) ON DELETE CASCADE ON UPDATE CASCADE")
    with unchanged(task):
        for attack in ("DELETE FROM book", "UPDATE book SET id = -id", "TRUNCATE book CASCADE"):
            with refused():
                sql(attack)


# Forged transitions


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("where", ["as owner", "plain role", "plain session", "temp namesakes"])
def test_no_step_that_was_not_made_can_be_reported(status, where):
    """From and to every status, at the past, the current and the next revision, with or without a status before."""
    task = task_in(status)
    with unchanged(task), circumstance(where):
        for before in (None, *Status.values):
            for after in Status.values:
                for revision in (1, task.revision, task.revision + 1):
                    with pytest.raises(Exception, match=r"made no step|violates") as caught, transaction.atomic():
                        sql(_forge(task, before, after, revision))
                    assert caught.value.__cause__.sqlstate == RESTRICT


def test_no_transition_is_reported_at_the_revision_of_a_heartbeat():
    task = task_in(Status.EXECUTING)
    task.heartbeat()
    with unchanged(task):
        for before in (None, *Status.values):
            with refused():
                sql(_forge(task, before, "executing", task.revision))


def test_the_first_row_of_a_pending_task_is_reported_once():
    task = requested()
    assert log_of(task) == [("transition", None, "pending", "alice")]
    with refused():
        sql(_forge(task, None, "pending", 1))
    with refused():
        sql(_forge(task, None, "pending", 2))
    sql("UPDATE audit_task SET summary = 'other' WHERE id = %s", [task.pk])
    with refused():
        sql(_forge(task, None, "pending", 2))
    with refused():
        sql(_forge(task, "pending", "pending", 2))


@pytest.mark.parametrize("kind", ["step", "note", "suggestion"])
def test_other_rows_carry_no_statuses(kind):
    task = requested()
    for columns, values in (("from_status", "'pending'"), ("to_status", "'approved'")):
        with refused(CHECK):
            sql(f"INSERT INTO audit_executionlog (task_id, kind, {columns}) VALUES (%s, %s, {values})", [task.pk, kind])


@pytest.mark.parametrize("column", ["to_status", "revision"])
def test_a_transition_is_whole(column):
    """Only a replica, which copies its source's rows, is asked: elsewhere nobody writes a transition at all."""
    task = requested()
    whole = {"kind": "'transition'", "from_status": "'pending'", "to_status": "'approved'", "revision": "2"}
    with circumstance("replica role"):
        with refused(CHECK, match=r"\(audit_executionlog_transition_whole\)"):
            sql(line(**whole | {column: "NULL"}).replace("{id}", f"'{task.pk}'"))
        sql(line(**whole).replace("{id}", f"'{task.pk}'"))
        assert [row.to_status for row in task.execution_log.order_by("id")] == ["pending", "approved"]


@pytest.mark.parametrize("kind", ["", "Transition", "TRANSITION", "transition ", "audit", "null"])
def test_unknown_kinds_are_refused(kind):
    task = requested()
    with refused(CHECK):
        sql("INSERT INTO audit_executionlog (task_id, kind) VALUES (%s, %s)", [task.pk, kind])


_FORGED_FIELDS = {
    "actor": "'mallory'",
    "attempt": "7",
    "action": "'x'",
    "output_summary": "'x'",
    "duration_ms": "1",
    "step_number": "1",
    "detail": """'{"forged": true}'""",
    "from_status": "'executing'",
    "to_status": "'rejected'",
    "revision": "9",
}


@pytest.mark.parametrize("column", [None, *_FORGED_FIELDS])
@pytest.mark.parametrize("way", ["common table expression", "returned function"])
@pytest.mark.parametrize("status", ["approved", "paused"])
def test_nobody_but_the_database_writes_the_row_of_a_step(status, way, column):
    """Whoever makes a step could write its row in the same statement. It is refused, the true row too (None)."""
    task = task_in("pending" if status == "approved" else "approved")
    [[before, revision]] = sql("SELECT status, revision + 1 FROM audit_task WHERE id = %s", [task.pk])
    true = {
        "from_status": f"'{before}'",
        "to_status": f"'{status}'",
        "revision": str(revision),
        "actor": "'db:' || session_user",
        "attempt": "0",
    }
    values = true | ({column: _FORGED_FIELDS[column]} if column else {})
    names = f"task_id, kind, {', '.join(values)}"
    step = f"UPDATE audit_task SET status = '{status}' WHERE id = '{task.pk}' RETURNING "
    if way == "common table expression":
        attack = (
            f"WITH changed AS ({step} id) INSERT INTO audit_executionlog ({names})"
            f" SELECT id, 'transition', {', '.join(values.values())} FROM changed"
        )
    else:
        sql(
            "CREATE FUNCTION pg_temp.first(task uuid) RETURNS void LANGUAGE sql AS $$ INSERT INTO audit_executionlog"
            f" ({names}) VALUES (task, 'transition', {', '.join(values.values())}) $$"
        )
        attack = f"{step} pg_temp.first(id)"
    with unchanged(task), refused(match=f"task {task.pk} made no step"):
        sql(attack)


def test_a_step_is_not_reported_at_the_revision_before_it():
    """Where the row before has that revision already, the true row would be taken for a repetition."""
    task = task_in(Status.EXECUTING)
    task.heartbeat()
    task.refresh_from_db()
    sql(
        "CREATE FUNCTION pg_temp.first(task uuid) RETURNS void LANGUAGE sql AS $$ INSERT INTO audit_executionlog"
        " (task_id, kind, from_status, to_status, revision, actor, attempt)"
        f" VALUES (task, 'transition', 'executing', 'approved', {task.revision}, 'alice', 1) $$"
    )
    with unchanged(task), refused(match=f"task {task.pk} made no step from executing to approved"):
        sql(f"UPDATE audit_task SET status = 'approved' WHERE id = '{task.pk}' RETURNING pg_temp.first(id)")


def test_a_new_task_is_not_reported_under_another_name():
    key = uuid7()
    with refused():
        sql(
            "WITH made AS (INSERT INTO audit_task (id, action, available_at) VALUES (%s, 'x', now()) RETURNING id)"
            " INSERT INTO audit_executionlog (task_id, kind, to_status, revision, actor, attempt)"
            " SELECT id, 'transition', 'pending', 1, 'mallory', 0 FROM made",
            [key],
        )


def test_two_steps_in_one_statement_are_refused_or_reported_one_by_one():
    task = requested()
    sql(
        "CREATE FUNCTION pg_temp.further(task uuid) RETURNS void LANGUAGE sql AS"
        " $$ UPDATE audit_task SET status = 'executing' WHERE id = task $$"
    )
    with contextlib.suppress(IntegrityError), transaction.atomic():
        sql("UPDATE audit_task SET status = 'approved' WHERE id = %s RETURNING pg_temp.further(id)", [task.pk])
    rows = ExecutionLog.objects.filter(task=task, kind="transition").order_by("revision")
    steps = list(rows.values_list("from_status", "to_status"))
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    task.refresh_from_db()
    assert steps in (
        [(None, "pending")],
        [(None, "pending"), ("pending", "approved"), ("approved", "executing")],
    )
    assert steps[-1][1] == task.status


def test_the_owner_may_hang_the_log_trigger_on_another_table_and_it_says_no_step_anew():
    """The owner may attach the function elsewhere, as they may disable any; a step that is told is not told again."""
    task = requested()
    columns = ", ".join(field.column for field in task._meta.concrete_fields if field.column != "status")
    copy = f"SELECT {columns}, 'completed' FROM public.audit_task WHERE id = '{task.pk}'"
    for table, answer in (("public.decoy", UNIQUE), ("pg_temp.audit_task", "42P01")):
        sql(f"CREATE TABLE {table} (LIKE public.audit_task INCLUDING DEFAULTS)")
        sql(
            f"CREATE TRIGGER log AFTER INSERT ON {table} REFERENCING NEW TABLE AS changed"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_task_log_v1()"
        )
        # From the temporary schema it looks for a log there, and finds none.
        with unchanged(task), refused(answer, match="executionlog"):
            sql(f"INSERT INTO {table} ({columns}, status) {copy}")


def test_copy_forges_no_transition_either():
    task = requested()
    copy = "COPY audit_executionlog (task_id, kind, from_status, to_status, revision) FROM STDIN"
    with unchanged(task), refused(), connection.wrap_database_errors, connection.cursor().copy(copy) as stream:
        stream.write_row((task.pk, "transition", "pending", "approved", 1))


def test_an_import_of_finished_work_does_not_open_the_log_to_steps_in_between():
    task = finished()
    for before, afters in TRANSITIONS.items():
        for after in afters:
            with refused():
                sql(_forge(task, before, after, 3))


# What the database observes


@pytest.mark.parametrize("where", ["as owner", "plain role", "plain session"])
def test_moment_and_role_are_the_databases_own(where):
    task = finished()
    with circumstance(where):
        [[session, before]] = sql("SELECT session_user::text, clock_timestamp()")
        [[at, role, version, xid, current]] = sql(
            "INSERT INTO public.audit_executionlog (task_id, kind, at, db_role, actor, row_version, xid)"
            " VALUES (%s, 'note', '2001-01-01', 'root', 'mallory', 7, '7')"
            " RETURNING at, db_role, row_version, xid::text, pg_current_xact_id()::text",
            [task.pk],
        )
        assert at >= before
        assert (role, version, xid) == (session, 1, current)


def test_a_row_without_an_actor_names_the_role():
    task = requested()
    [[actor, session]] = sql(
        "INSERT INTO audit_executionlog (task_id, kind) VALUES (%s, 'note') RETURNING actor, session_user::text",
        [task.pk],
    )
    assert actor == f"db:{session}"


def test_at_stands_still_for_nobody():
    task = requested()
    first, second = task.note("a"), task.note("b")
    assert second.at > first.at


@pytest.mark.parametrize("kind", ["note", "transition"])
def test_a_row_for_a_missing_task_is_refused(kind):
    statuses = ("'pending'", "1") if kind == "transition" else ("NULL", "NULL")
    with refused(RESTRICT if kind == "transition" else "23503"):
        sql(
            "INSERT INTO audit_executionlog (task_id, kind, to_status, revision)"
            f" VALUES ('{uuid7()}', '{kind}', {', '.join(statuses)})"
        )


def test_negative_durations_and_json_nulls_are_refused():
    task = requested()
    with refused(CHECK):
        sql("INSERT INTO audit_executionlog (task_id, kind, duration_ms) VALUES (%s, 'step', -1)", [task.pk])
    with refused(CHECK):
        sql("INSERT INTO audit_executionlog (task_id, kind, detail) VALUES (%s, 'step', 'null')", [task.pk])


# A replica session brings rows that are whole already.
@pytest.mark.parametrize("where", sorted(set(CIRCUMSTANCES) - {"replica role"}))
def test_a_finished_task_takes_later_rows(where):
    task = finished()
    with circumstance(where):
        sql("INSERT INTO public.audit_executionlog (task_id, kind, output_summary) VALUES (%s, 'note', 'x')", [task.pk])
        assert sql("SELECT count(*) FROM public.audit_executionlog WHERE task_id = %s", [task.pk]) == [(5,)]
