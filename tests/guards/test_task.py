"""A finished task against everything SQL and the ORM have to change or remove a row."""

import os
import re

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connection, transaction

from audit.exceptions import AppendOnly
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import FINISHED, LIVE
from tests.support.attacks import ATTACKS, CIRCUMSTANCES, attempts, changed, circumstance, columns_of, plain_role
from tests.support.factories import DENIED, RESTRICT, entry_of, finished, refused, requested, sql, task_in, unchanged

pytestmark = pytest.mark.django_db


def _attack(name, task, column="summary", value="'forged'"):
    if name.startswith("merge") and connection.pg_version < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")
    return ATTACKS[name].format(
        table="public.audit_task", key="id", id=f"'{task.pk}'::uuid", column=column, value=value
    )


@pytest.mark.parametrize("where", CIRCUMSTANCES)
@pytest.mark.parametrize("field", columns_of(Task))
def test_no_column_of_a_finished_task_changes(field, where):
    task = finished()
    [[differs]] = sql(
        f"SELECT ({changed(field)}) IS DISTINCT FROM {field.column} FROM audit_task WHERE id = %s", [task.pk]
    )
    assert differs
    with unchanged(task), circumstance(where), refused(match="never change"):
        sql(_attack("update", task, field.column, changed(field)))


@pytest.mark.parametrize(("attack", "where"), attempts())
def test_no_statement_changes_or_removes_a_finished_task(attack, where):
    task = finished()
    with unchanged(task), circumstance(where), refused():
        sql(_attack(attack, task))


@pytest.mark.parametrize("status", FINISHED)
@pytest.mark.parametrize("attack", ["update", "update, nothing changed", "delete"])
def test_every_finished_status_is_frozen_and_the_message_says_which(attack, status):
    task = task_in(status)
    with unchanged(task), refused(match=f"{task.pk}: .*status {status}"):
        sql(_attack(attack, task))


@pytest.mark.parametrize("status", LIVE)
def test_no_task_is_deleted_in_any_status(status):
    task = task_in(status)
    with unchanged(task), refused(match="never deleted"):
        sql(_attack("delete", task))


def test_the_refusal_names_table_and_schema_and_gives_a_hint():
    task = finished()
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        sql(_attack("update", task))
    diagnostics = caught.value.__cause__.diag
    assert (diagnostics.sqlstate, diagnostics.schema_name, diagnostics.table_name) == (RESTRICT, "public", "audit_task")
    assert "parent" in diagnostics.message_hint


@pytest.mark.parametrize("where", CIRCUMSTANCES)
def test_upsert_and_copy_do_not_reach_a_finished_task(where):
    task = finished()
    row = f"INSERT INTO public.audit_task (id, action, available_at) VALUES ('{task.pk}', 'forged', now())"
    with unchanged(task), circumstance(where):
        if where == "replica role":
            # Nothing stamps there; the conflict comes first all the same.
            row = row.replace("(id,", "(executing_ms, paused_ms, id,").replace("VALUES (", "VALUES (0, 0, ")
        with refused():
            sql(f"{row} ON CONFLICT (id) DO UPDATE SET action = excluded.action")
        with refused():
            sql(f"{row} ON CONFLICT ON CONSTRAINT audit_task_pkey DO UPDATE SET priority = audit_task.priority")
        sql(f"{row} ON CONFLICT DO NOTHING")
        with refused("23505"):
            sql(row)
        with refused("23505"), connection.cursor() as cursor, connection.wrap_database_errors:
            copy = "COPY public.audit_task (id, action, available_at, executing_ms, paused_ms) FROM STDIN"
            with cursor.copy(copy) as stream:
                stream.write_row((task.pk, "forged", "now", 0, 0))


def test_the_orm_does_not_change_a_finished_task():
    task = finished()
    forged = Task.objects.get(pk=task.pk)
    forged.summary = "forged"
    with unchanged(task):
        with refused():
            forged.save()
        with refused():
            Task.objects.get(pk=task.pk).save()
        with refused():
            forged.save(update_fields=["summary"])
        with refused():
            Task.objects.filter(pk=task.pk).update(summary="forged")
        with refused():
            Task.objects.update(priority=1)
        with refused():
            Task.objects.bulk_update([forged], ["summary"])
        with refused():
            Task.objects.bulk_create(
                [forged], update_conflicts=True, unique_fields=["id"], update_fields=["summary", "outcome"]
            )
        with refused():
            Task.objects.update_or_create(pk=task.pk, defaults={"summary": "forged"})
        with refused():
            Task.objects.select_for_update().filter(pk=task.pk).update(plan=None)
    assert forged.revision == task.revision


def test_the_orm_does_not_delete_a_task():
    task = finished()
    with unchanged(task):
        with refused() as refusal:
            Task.objects.get(pk=task.pk).delete()
        error = refusal.error
        assert isinstance(error, AppendOnly)
        assert (error.table, error.operation) == ("audit_task", "DELETE")
        with refused():
            Task.objects.filter(pk=task.pk).delete()
        with refused():
            Task.objects.all().delete()
        with refused():
            Task.objects.filter(pk=task.pk)._raw_delete(using="default")


@pytest.mark.parametrize("rule", ["DELETE CASCADE", "DELETE SET NULL", "UPDATE CASCADE", "UPDATE SET NULL"])
@pytest.mark.parametrize("role", ["origin", "replica"])
def test_a_cascade_from_a_parent_table_stops_at_a_finished_task(rule, role):
    task = finished(parent="01900000-0000-7000-8000-000000000001")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("CREATE TABLE project (id uuid PRIMARY KEY)")
    sql("INSERT INTO project VALUES ('01900000-0000-7000-8000-000000000001')")
    sql(f"ALTER TABLE audit_task ADD FOREIGN KEY (parent) REFERENCES project (id) ON {rule}")
    change = "DELETE FROM project" if rule.startswith("DELETE") else "UPDATE project SET id = gen_random_uuid()"
    with unchanged(task):
        if role == "replica":
            # Foreign keys sleep there, so nothing comes to the task at all.
            with transaction.atomic():
                sql("SET LOCAL session_replication_role = replica")
                sql(change)
                transaction.set_rollback(True)
        else:
            with refused():
                sql(change)
        with refused():
            sql("TRUNCATE project CASCADE")


def test_a_cascade_to_a_child_table_takes_no_task_along():
    task = finished()
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("CREATE TABLE invoice (task uuid REFERENCES audit_task (id) ON DELETE CASCADE ON UPDATE CASCADE)")
    sql("INSERT INTO invoice VALUES (%s)", [task.pk])
    with unchanged(task):
        with refused():
            sql("DELETE FROM audit_task WHERE id = %s", [task.pk])
        with refused():
            sql("TRUNCATE audit_task CASCADE")
        sql("TRUNCATE invoice CASCADE")
        assert sql("SELECT count(*) FROM invoice") == [(0,)]


def test_deleting_the_users_leaves_history_alone():
    user = get_user_model().objects.create(username="alice")
    get_user_model().objects.create(username="bob")
    task = finished(actor="alice")
    with unchanged(task):
        user.delete()
        get_user_model().objects.all().delete()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE public.audit_task DISABLE TRIGGER ALL",
        "ALTER TABLE public.audit_task DISABLE TRIGGER audit_task_10_write",
        "ALTER TABLE public.audit_task ENABLE REPLICA TRIGGER audit_task_10_write",
        "DROP TRIGGER audit_task_10_write ON public.audit_task",
        "ALTER TABLE public.audit_task INHERIT public.audit_task",
        "ALTER TABLE public.audit_task ADD COLUMN extra int",
        "CREATE TABLE pg_temp.child () INHERITS (public.audit_task)",
        "CREATE RULE asleep AS ON UPDATE TO public.audit_task DO INSTEAD NOTHING",
        "CREATE TRIGGER mine BEFORE UPDATE ON public.audit_task EXECUTE FUNCTION tsvector_update_trigger()",
        "CREATE OR REPLACE FUNCTION audit_task_write_v1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "SET LOCAL session_replication_role = replica",
        "ALTER TABLE public.audit_task OWNER TO audit_plain",
        "DROP TABLE public.audit_task CASCADE",
        "CREATE POLICY mine ON public.audit_task USING (true)",
        "SELECT public.audit_task_log_v1()",
    ],
)
def test_a_plain_role_may_not_touch_the_rules(statement):
    task = finished()
    with unchanged(task), circumstance("plain session"), refused(DENIED):
        sql(statement)


def test_a_plain_role_may_lock_and_cannot_grant():
    task = finished()
    with unchanged(task), circumstance("plain session"):
        sql("LOCK TABLE public.audit_task IN ACCESS EXCLUSIVE MODE")
        with connection.cursor() as cursor:
            cursor.execute("GRANT TRIGGER, UPDATE ON public.audit_task TO PUBLIC")
        assert sql("SELECT has_table_privilege('public', 'public.audit_task', 'UPDATE')") == [(False,)]
        with refused():
            sql(_attack("update", task))


def test_no_function_of_the_rules_may_be_called_or_attached_by_others():
    rows = sql(
        "SELECT p.proname, has_function_privilege('public', p.oid, 'EXECUTE'), p.proconfig, p.prosrc FROM pg_proc AS p"
        " JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname = 'public' AND p.proname ~ '^audit_'"
    )
    assert len(rows) >= 10
    # Whose operators are all named with their schema needs no search_path.
    bare = [name for name, _, config, _ in rows if config is None]
    assert bare == ["audit_actor_named_v1"]
    [operators] = [re.findall(r"[^\s\w.;:()'\\]+", source) for name, _, _, source in rows if name in bare]
    assert operators == ["=", "||"], "the assignment, and the operator with its schema"
    assert [source.count("OPERATOR(pg_catalog.||)") for name, _, _, source in rows if name in bare] == [1]
    allowed = {"search_path=pg_catalog, pg_temp", "enable_seqscan=off"}
    assert [
        name
        for name, public, config, _ in rows
        if public or (config is not None and ("search_path" not in config[0] or {*config} - allowed))
    ] == []


def test_a_block_that_swallows_the_refusal_changes_nothing():
    task = finished()
    with unchanged(task):
        sql(f"DO $$ BEGIN {_attack('update', task)}; EXCEPTION WHEN OTHERS THEN NULL; END $$")
        sql(f"DO $$ BEGIN {_attack('delete', task)}; EXCEPTION WHEN restrict_violation THEN NULL; END $$")


def test_one_frozen_row_among_many_stops_the_statement():
    task, live = finished(), requested()
    with unchanged(task, live), refused():
        sql("UPDATE audit_task SET priority = 5")


def test_a_change_that_waits_for_the_finish_is_refused_when_it_gets_the_row(django_db_blocker):
    """The rule looks at the row as it is when the lock is granted, not as the statement first saw it."""
    task = task_in("executing")
    with connection.cursor() as cursor:
        # In one session, the same in small: a cursor opened before the finish sees the live row and meets the frozen.
        cursor.execute("DECLARE before CURSOR FOR SELECT id FROM audit_task WHERE id = %s FOR UPDATE", [task.pk])
        cursor.execute("FETCH before")
    task.complete()
    with unchanged(task), refused():
        sql("UPDATE audit_task SET summary = 'forged' WHERE id = %s AND claim_token = %s", [task.pk, task.claim_token])


@pytest.fixture
def login():
    """A connection under a login of its own: no SET ROLE, nothing inherited from the tests' session."""
    settings = connection.get_connection_params()
    settings = {key: settings[key] for key in ("dbname", "user", "host", "port", "password") if key in settings}
    role = f"audit_login_{os.getpid()}"
    with psycopg.connect(**settings) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN")
        owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {role}")
        owner.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    try:
        try:
            opened = psycopg.connect(**settings | {"user": role, "password": None})
        except psycopg.OperationalError as error:
            pytest.skip(f"this server lets no further role log in without a password: {error}")
        try:
            yield opened
        finally:
            opened.rollback()
            opened.close()
    finally:
        with psycopg.connect(**settings) as owner:
            owner.execute(f"DROP OWNED BY {role}")
            owner.execute(f"DROP ROLE {role}")


def test_a_role_that_logs_in_meets_the_same_rules(login):
    name = login.info.user
    login.execute(
        "INSERT INTO audit_task (id, action, available_at, status) VALUES"
        " ('01900000-0000-7000-8000-00000000000a', 'x', now(), 'completed')"
    )
    found = login.execute(
        "SELECT task.actor, session_user::text, log.db_role FROM audit_task AS task"
        " JOIN audit_executionlog AS log ON log.task_id = task.id"
        " WHERE task.id = '01900000-0000-7000-8000-00000000000a'"
    ).fetchone()
    assert found == (f"db:{name}", name, name)
    login.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for attack in (
        "UPDATE audit_task SET summary = 'forged'",
        "DELETE FROM audit_task",
        "TRUNCATE audit_task CASCADE",
        "UPDATE audit_executionlog SET actor = 'forged'",
        "DELETE FROM audit_executionlog",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation), login.transaction():
            login.execute(attack)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), login.transaction():
        login.execute("SET LOCAL session_replication_role = replica")


def test_a_namesake_in_the_temporary_schema_diverts_nothing():
    task = requested()
    with circumstance("temp namesakes"):
        sql("UPDATE public.audit_task SET status = 'approved' WHERE id = %s", [task.pk])
        sql("UPDATE public.audit_task SET status = 'paused' WHERE id = %s", [task.pk])
        for table in (Task, ExecutionLog, PauseQueueEntry):
            assert sql(f"SELECT count(*) FROM pg_temp.{table._meta.db_table}") == [(0,)]
        rows = sql("SELECT to_status FROM public.audit_executionlog WHERE task_id = %s ORDER BY id", [task.pk])
        assert rows == [("pending",), ("approved",), ("paused",)]
        assert sql("SELECT count(*) FROM public.audit_pause_queue WHERE task_id = %s", [task.pk]) == [(1,)]
        sql("UPDATE public.audit_task SET status = 'rejected' WHERE id = %s", [task.pk])
        assert sql("SELECT count(*) FROM public.audit_pause_queue WHERE task_id = %s", [task.pk]) == [(0,)]
        with refused():
            sql("UPDATE public.audit_task SET summary = 'forged' WHERE id = %s", [task.pk])


def test_hostile_functions_and_operators_on_the_search_path_are_never_called():
    task = requested()
    for name, arguments, returns in [
        ("quote_ident", "text", "text"),
        ("clock_timestamp", "", "timestamptz"),
        ("set_config", "text, text, boolean", "text"),
        ("sha256", "bytea", "bytea"),
        ("hostile_equals", "text, text", "boolean"),
        ("hostile_equals", "uuid, uuid", "boolean"),
        ("hostile_equals", "text, unknown", "boolean"),
    ]:
        with transaction.atomic():
            try:
                sql(
                    f"CREATE FUNCTION public.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS"
                    " $$ BEGIN RAISE EXCEPTION 'called'; END $$"
                )
            except DatabaseError:
                transaction.set_rollback(True)
    for kind in ("text", "uuid"):
        sql(f"CREATE OPERATOR public.= (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = public.hostile_equals)")
    sql("SET LOCAL search_path = public, pg_catalog")
    for status in ("approved", "paused", "approved", "executing", "completed"):
        sql(f"UPDATE audit_task SET status = '{status}' WHERE id OPERATOR(pg_catalog.=) '{task.pk}'")
    sql("SET LOCAL search_path = public")
    assert ExecutionLog.objects.of(task).count() == 6


def test_plain_roles_with_rights_on_tasks_alone_are_logged():
    task = requested()
    sql("CREATE ROLE audit_narrow")
    sql("GRANT SELECT, UPDATE ON audit_task TO audit_narrow")
    with transaction.atomic():
        sql("SET LOCAL ROLE audit_narrow")
        for status in ("approved", "paused", "approved", "executing", "failed"):
            sql("UPDATE audit_task SET status = %s WHERE id = %s", [status, task.pk])
        with refused(DENIED):
            sql("SELECT 1 FROM audit_executionlog")
    sql("RESET ROLE")
    steps = [row.to_status for row in ExecutionLog.objects.of(task)]
    assert steps == ["pending", "approved", "paused", "approved", "executing", "failed"]


def test_a_role_with_rights_on_the_log_alone_may_write_notes():
    """Whether the task exists is looked up with the rights of who made the rules."""
    task = finished()
    sql("CREATE ROLE audit_narrow")
    sql("GRANT INSERT ON audit_executionlog TO audit_narrow")
    sql("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO audit_narrow")
    with transaction.atomic():
        sql("SET LOCAL ROLE audit_narrow")
        sql("INSERT INTO audit_executionlog (task_id, kind, output_summary) VALUES (%s, 'note', 'seen')", [task.pk])
        with refused("23503"):
            sql("INSERT INTO audit_executionlog (task_id, kind) VALUES (gen_random_uuid(), 'note')")
        with refused(DENIED):
            sql("SELECT 1 FROM audit_task")
    sql("RESET ROLE")
    assert task.execution_log.latest("id").output_summary == "seen"


def test_a_role_with_rights_on_the_queue_alone_may_change_entries():
    """What follows the entry's task runs with the rights of who made it."""
    task = task_in("paused")
    sql("CREATE ROLE audit_narrow")
    sql("GRANT SELECT, UPDATE ON audit_pause_queue TO audit_narrow")
    with transaction.atomic():
        sql("SET LOCAL ROLE audit_narrow")
        sql("UPDATE audit_pause_queue SET note = 'seen' WHERE task_id = %s", [task.pk])
        with refused(DENIED):
            sql("SELECT 1 FROM audit_task")
    sql("RESET ROLE")
    assert entry_of(task).note == "seen"


def test_plain_role_fixture_is_plain():
    plain_role()
    [[superuser, owner]] = sql(
        "SELECT rolsuper, pg_has_role('audit_plain', tableowner, 'MEMBER') FROM pg_roles, pg_tables"
        " WHERE rolname = 'audit_plain' AND tablename = 'audit_task'"
    )
    assert (superuser, owner) == (False, False)
