"""Rows of transitions: whole, one for each step, and written by the statement that makes the step alone."""

from collections import Counter

import pytest
from django.db import IntegrityError, connection, transaction

from audit.ids import uuid7
from audit.models import ExecutionLog, Task
from audit.status import Status
from tests.support.attacks import circumstance
from tests.support.factories import (
    CHECK,
    DENIED,
    RESTRICT,
    STEPS_TO,
    UNIQUE,
    entry_of,
    finished,
    log_of,
    moved,
    refused,
    requested,
    sql,
    task_in,
    unchanged,
)

pytestmark = pytest.mark.django_db

_COLUMNS = "task_id, kind, from_status, to_status, revision, actor"


def _forged(task, table="public.audit_executionlog"):
    return f"INSERT INTO {table} ({_COLUMNS}) VALUES ('{task.pk}', 'transition', 'pending', 'approved', 2, 'alice')"


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("way", ["verbs", "raw", "insert"])
def test_each_step_has_one_row_and_the_row_is_whole(way, status):
    if way == "insert":
        task = Task(pk=uuid7())
        sql("INSERT INTO audit_task (id, action, status, attempt) VALUES (%s, 'x', %s, 7)", [task.pk, status])
    elif way == "verbs":
        task = task_in(status)
    else:
        task = requested()
        moved(task, *STEPS_TO[status])
    task.refresh_from_db()
    last = task.execution_log.filter(kind="transition").latest("revision")
    [[role, xid]] = sql("SELECT session_user::text, pg_current_xact_id()::text")
    assert (last.from_status, last.to_status, last.at) == (task.status_was, task.status, task.status_since)
    assert (last.db_role, last.xid, last.row_version) == (role, int(xid), 1)
    assert (last.revision, last.attempt, last.actor) == (task.revision, task.attempt, task.actor)
    assert (last.action, last.output_summary, last.duration_ms, last.step_number) == ("", "", None, None)
    steps = Counter(task.execution_log.filter(kind="transition").values_list("revision", flat=True))
    assert steps.total() == len(steps)


def test_a_change_without_a_step_writes_no_row():
    task = task_in(Status.EXECUTING)
    before = task.execution_log.count()
    task.heartbeat()
    task.touch("mail")
    sql("UPDATE audit_task SET status = status, status_was = 'paused', summary = 'x' WHERE id = %s", [task.pk])
    Task.objects.get(pk=task.pk).save()
    sql("UPDATE audit_task SET summary = 'x' WHERE false")
    sql("INSERT INTO audit_task (id, action) VALUES (%s, 'x') ON CONFLICT (id) DO NOTHING", [task.pk])
    assert task.execution_log.count() == before


def test_many_steps_of_one_statement_and_an_upsert_are_reported_once_each():
    tasks = [requested() for _ in range(3)]
    sql("UPDATE audit_task SET status = CASE priority WHEN 2 THEN 'approved' ELSE status END")
    key = uuid7()
    sql(
        "INSERT INTO audit_task (id, action) VALUES (%s, 'x'), (%s, 'x')"
        " ON CONFLICT (id) DO UPDATE SET status = 'rejected'",
        [key, tasks[0].pk],
    )
    assert [steps[1:3] for steps in log_of(tasks[0])] == [
        (None, "pending"),
        ("pending", "approved"),
        ("approved", "rejected"),
    ]
    assert [len(log_of(task)) for task in (*tasks, Task(pk=key))] == [3, 2, 2, 1]


_PAIRS = {
    "approved, executing": (Status.PENDING, ("approved", "executing"), True),
    "executing, completed": (Status.APPROVED, ("executing", "completed"), True),
    "executing, approved": (Status.APPROVED, ("executing", "approved"), True),
    # An entry would come to stand for a task that goes on, or a paused one would lose its own.
    "paused, approved": (Status.APPROVED, ("paused", "approved"), False),
    "approved, paused": (Status.PAUSED, ("approved", "paused"), False),
}


@pytest.mark.parametrize("pair", _PAIRS)
def test_two_steps_nested_in_one_statement_are_both_reported_or_neither_is_made(pair):
    status, (first, second), passes = _PAIRS[pair]
    task = task_in(status)
    sql(
        "CREATE FUNCTION pg_temp.further(task uuid) RETURNS void LANGUAGE sql AS"
        f" $$ UPDATE audit_task SET status = '{second}' WHERE id = task $$"
    )
    attack = f"UPDATE audit_task SET status = '{first}' WHERE id = '{task.pk}' RETURNING pg_temp.further(id)"
    if not passes:
        with unchanged(task), refused(match="paused"):
            sql(attack)
        return
    sql(attack)
    rows = list(ExecutionLog.objects.filter(task=task, kind="transition").order_by("revision"))[-2:]
    assert [(row.from_status, row.to_status) for row in rows] == [(status, first), (first, second)]
    assert rows[0].at < rows[1].at
    assert rows[1].revision == rows[0].revision + 1
    task.refresh_from_db()
    assert (task.status, task.revision) == (second, rows[1].revision)


# Forged


@pytest.mark.parametrize("where", ["as owner", "plain role", "plain session", "deep savepoint", "temp namesakes"])
@pytest.mark.parametrize("way", ["insert", "copy", "merge", "view", "function", "definer", "cte", "prepared"])
def test_no_statement_forges_a_transition(way, where):
    task = requested()
    if way == "merge" and connection.pg_version < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")
    forged = _forged(task)
    body = f"LANGUAGE sql {'SECURITY DEFINER' if way == 'definer' else ''} AS $$ {forged} $$"
    called = f"CREATE FUNCTION pg_temp.forge() RETURNS void {body}; SELECT pg_temp.forge()"
    attacks = {
        "insert": forged,
        "merge": "MERGE INTO public.audit_executionlog AS log USING (SELECT 1) AS one ON false WHEN NOT MATCHED THEN"
        f" INSERT ({_COLUMNS}) VALUES ('{task.pk}', 'transition', 'pending', 'approved', 2, 'alice')",
        "view": f"CREATE TEMP VIEW log AS SELECT * FROM public.audit_executionlog; {_forged(task, 'log')}",
        "function": called,
        "definer": called,
        "cte": f"WITH forged AS ({forged} RETURNING id) SELECT * FROM forged",
        "prepared": f"DEALLOCATE ALL; PREPARE forge AS {forged}; EXECUTE forge",
    }
    with unchanged(task), circumstance(where), refused(match=f"{task.pk} made no step from pending to approved"):
        if way == "copy":
            copy = f"COPY public.audit_executionlog ({_COLUMNS}) FROM STDIN"
            with connection.wrap_database_errors, connection.cursor().copy(copy) as stream:
                stream.write_row((task.pk, "transition", "pending", "approved", 2, "alice"))
        else:
            sql(attacks[way])


@pytest.mark.parametrize("timing", ["BEFORE", "AFTER", "CONSTRAINT"])
@pytest.mark.parametrize("security", ["SECURITY INVOKER", "SECURITY DEFINER"])
@pytest.mark.parametrize("where", ["plain role", "plain session"])
def test_no_trigger_of_an_application_role_forges_a_transition(where, security, timing):
    """Deep inside of triggers the row is let pass that the log function writes, and nobody else's."""
    task = requested()
    kind = "CONSTRAINT TRIGGER sprung AFTER" if timing == "CONSTRAINT" else f"TRIGGER sprung {timing}"
    with unchanged(task), circumstance(where), refused(match="made no step"):
        sql("CREATE TEMP TABLE bait (n int)")
        sql(
            f"CREATE FUNCTION pg_temp.sprung() RETURNS trigger LANGUAGE plpgsql {security} AS"
            f" $$ BEGIN {_forged(task)}; RETURN NEW; END $$"
        )
        sql(f"CREATE {kind} INSERT ON bait FOR EACH ROW EXECUTE FUNCTION pg_temp.sprung()")
        sql("INSERT INTO bait VALUES (1)")


@pytest.mark.parametrize("depth", [0, 1])
def test_no_function_of_another_role_forges_a_transition(depth):
    """A function of somebody who may write the log, called by somebody who may not; from a trigger, too."""
    task = requested()
    with unchanged(task), circumstance("plain role"):
        sql("RESET ROLE; CREATE ROLE audit_caller; GRANT USAGE, CREATE ON SCHEMA public TO audit_plain, audit_caller")
        sql("SET LOCAL ROLE audit_plain")
        sql(f"CREATE FUNCTION public.forge() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ {_forged(task)} $$")
        sql("RESET ROLE; SET LOCAL ROLE audit_caller")
        sql("CREATE TABLE public.bait (n int)")
        sql(
            "CREATE FUNCTION public.sprung() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM public.forge(); RETURN NEW; END $$"
        )
        sql("CREATE TRIGGER sprung BEFORE INSERT ON public.bait FOR EACH ROW EXECUTE FUNCTION public.sprung()")
        with refused(match="made no step"):
            sql("SELECT public.forge()" if depth == 0 else "INSERT INTO public.bait VALUES (1)")
        with refused(DENIED):
            sql(_forged(task))


@pytest.mark.parametrize("where", ["as owner", "plain session"])
@pytest.mark.parametrize("parent", ["partitioned", "inherited"])
def test_no_parent_of_the_log_lets_a_transition_through(parent, where):
    task = requested()
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("ALTER TABLE audit_executionlog ALTER id DROP IDENTITY IF EXISTS")
    like = "CREATE TABLE above (LIKE audit_executionlog)"
    if parent == "partitioned":
        sql(f"{like} PARTITION BY LIST (kind)")
        sql("ALTER TABLE above ATTACH PARTITION audit_executionlog DEFAULT")
    else:
        sql(like)
        sql("ALTER TABLE audit_executionlog INHERIT above")
    with circumstance(where):
        if where != "as owner":
            sql("RESET SESSION AUTHORIZATION; GRANT ALL ON above TO audit_plain; SET SESSION AUTHORIZATION audit_plain")
        values = f"'{task.pk}', 'transition', 'pending', 'approved', 2, 'alice', 77, now(), '', 1, '7', '', ''"
        forge = (
            f"INSERT INTO public.above ({_COLUMNS}, id, at, db_role, row_version, xid, action, output_summary)"
            f" VALUES ({values})"
        )
        if parent == "partitioned":
            with refused(match="made no step"):
                sql(forge)
        for change in ("UPDATE public.above SET actor = 'mallory'", "DELETE FROM public.above"):
            with refused(match="the log takes no"):
                sql(change)
    assert task.execution_log.count() == 1


@pytest.mark.parametrize("where", ["as owner", "plain session"])
@pytest.mark.parametrize(
    ("attack", "answer"),
    [
        ("UPDATE public.above SET status = 'completed'", RESTRICT),
        ("UPDATE public.above SET priority = 9", CHECK),
        ("DELETE FROM public.above", RESTRICT),
    ],
)
def test_a_parent_of_the_tasks_passes_over_no_rule_of_a_row(attack, answer, where):
    task = requested()
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("CREATE TABLE above (LIKE audit_task)")
    sql("ALTER TABLE audit_task INHERIT above; GRANT ALL ON above TO PUBLIC")
    with unchanged(task), circumstance(where), refused(answer):
        sql(attack)


def test_a_step_is_reported_once_whoever_writes_it():
    """The tables' owner may write what the log function may, from a trigger; not what is told already."""
    task = requested()
    sql("CREATE TEMP TABLE bait (n int)")
    sql(
        "CREATE FUNCTION pg_temp.sprung() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.audit_executionlog (task_id, kind, to_status, revision, row_version, xid) VALUES"
        f" ('{task.pk}', 'transition', 'pending', 1, 1, '7'); RETURN NEW; END $$"
    )
    sql("CREATE TRIGGER sprung BEFORE INSERT ON bait FOR EACH ROW EXECUTE FUNCTION pg_temp.sprung()")
    with unchanged(task), refused(UNIQUE):
        sql("INSERT INTO bait VALUES (1)")


@pytest.mark.parametrize(
    "condition", ["NEW.kind <> 'transition'", "NEW.kind <> 'transition' OR pg_trigger_depth() = 0"]
)
def test_without_its_condition_the_trigger_lets_a_forged_row_through(condition):
    """Each part of the WHEN is needed: the depth against direct rows, the privilege against others' triggers."""
    task = requested()
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("DROP TRIGGER audit_executionlog_10_write ON audit_executionlog")
    sql(
        "CREATE TRIGGER audit_executionlog_10_write BEFORE INSERT ON audit_executionlog FOR EACH ROW"
        f" WHEN ({condition}) EXECUTE FUNCTION audit_log_write_v1()"
    )
    forged = _forged(task).replace("actor)", "actor, row_version, xid)").replace("'alice')", "'alice', 1, '7')")
    with circumstance("plain role"):
        if "depth" in condition:
            with refused():
                sql(forged)
            sql("CREATE TEMP TABLE bait (n int)")
            sql(
                "CREATE FUNCTION pg_temp.sprung() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN {forged}; RETURN NEW; END $$"
            )
            sql("CREATE TRIGGER sprung BEFORE INSERT ON bait FOR EACH ROW EXECUTE FUNCTION pg_temp.sprung()")
            forged = "INSERT INTO bait VALUES (1)"
        sql(forged)


@pytest.mark.parametrize("kind", ["step", "note", "suggestion"])
@pytest.mark.parametrize("where", ["as owner", "plain session", "temp namesakes"])
def test_no_row_of_a_task_that_does_not_exist(kind, where):
    with circumstance(where), refused("23503", match="there is no task") as refusal:
        sql(f"INSERT INTO public.audit_executionlog (task_id, kind) VALUES ('{uuid7()}', '{kind}')")
    assert "Request the task first" in refusal.hint
    assert refusal.error.__cause__.diag.table_name == "audit_executionlog"


def test_a_task_that_another_session_has_not_committed_takes_no_row():
    other = connection.copy()
    key = uuid7()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO audit_task (id, action) VALUES (%s, 'x')", [key])
            with refused("23503"):
                sql("INSERT INTO audit_executionlog (task_id, kind) VALUES (%s, 'note')", [key])
            cursor.execute("ROLLBACK")
    finally:
        other.close()


def test_what_a_replica_session_brings_is_judged_and_not_looked_up():
    row = "task_id, kind, to_status, revision, at, db_role, actor, row_version, xid"
    with circumstance("replica role"):
        insert = (
            f"INSERT INTO public.audit_executionlog ({row})"
            f" VALUES ('{uuid7()}', 'transition', %s, 1, now(), 'x', '', 1, '7')"
        )
        sql(insert, ["pending"])
        with refused(CHECK, match="transition_whole"):
            sql(insert, ["x"])
        with pytest.raises(IntegrityError), transaction.atomic():
            sql(insert, [None])


def test_the_reason_of_a_pause_is_reported_as_its_entry_has_it():
    task = task_in(Status.EXECUTING)
    task.pause(reason="awaiting_event", note="n", work_plan={"left": [1.5]}, priority=1)
    entry = entry_of(task)
    detail = task.execution_log.get(to_status="paused").detail
    assert detail == {
        "reason": "awaiting_event",
        "note": "n",
        "event": "",
        "resume_after": None,
        "held": entry.held,
        "priority": 1,
        "work_plan": {"left": [1.5]},
    }
    assert finished().execution_log.get(to_status="completed").detail is None
