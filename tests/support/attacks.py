"""Ways to rewrite or remove a row of an audit table, and the circumstances under which they are tried.

`ATTACKS` are SQL with the names `{table}` (qualified), `{key}` (the column that finds the row), `{id}` (a literal),
`{column}` and `{value}` (an expression that really changes it). `circumstance` arranges a session in which a guard
might be expected to sleep.
"""

import contextlib
from collections.abc import Iterator
from itertools import product

import pytest
from django.db import connection, models, transaction

from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.models.fields import JSONField
from tests.support.factories import sql

__all__ = ["ATTACKS", "CIRCUMSTANCES", "attempts", "changed", "circumstance", "columns_of", "plain_role"]

_ASSIGN = "SET {column} = {value} WHERE {key} = {id}"

ATTACKS = {
    "update": "UPDATE {table} " + _ASSIGN,
    "update, nothing changed": "UPDATE {table} SET {column} = {column} WHERE {key} = {id}",
    "update of every row": "UPDATE {table} SET {column} = {value}",
    "update only": "UPDATE ONLY {table} " + _ASSIGN,
    "update from": "UPDATE {table} AS mine SET {column} = {value} FROM (VALUES (1)) AS other (n) WHERE"
    " mine.{key} = {id}",
    "update from itself": "UPDATE {table} AS mine SET {column} = other.{column} FROM {table} AS other WHERE"
    " other.{key} = {id}"
    " AND mine.{key} = other.{key}",
    "update in a common table expression": "WITH forged AS (UPDATE {table} "
    + _ASSIGN
    + " RETURNING *) SELECT count(*) FROM forged",
    "update of a locked row": "SELECT 1 FROM {table} WHERE {key} = {id} FOR UPDATE; UPDATE {table} " + _ASSIGN,
    "update where current of": "DECLARE attack CURSOR FOR SELECT * FROM {table} WHERE {key} = {id} FOR UPDATE;"
    " FETCH attack; UPDATE {table} SET {column} = {value} WHERE CURRENT OF attack",
    "update by ctid": "UPDATE {table} SET {column} = {value} WHERE ctid = (SELECT ctid FROM {table} WHERE {key}"
    " = {id})",
    "update, prepared": "DEALLOCATE ALL; PREPARE attack AS UPDATE {table} " + _ASSIGN + "; EXECUTE attack",
    "update in a block": "DO $$ BEGIN UPDATE {table} " + _ASSIGN + "; END $$",
    "update in a loop": "DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM {table} WHERE {key} = {id}"
    " LOOP UPDATE {table} SET {column} = {value} WHERE {key} = r.{key}; END LOOP; END $$",
    "update in a function": "CREATE FUNCTION pg_temp.attack() RETURNS void LANGUAGE sql AS $$ UPDATE {table} "
    + _ASSIGN
    + " $$; SELECT pg_temp.attack()",
    "update in a definer function": "CREATE FUNCTION pg_temp.attack() RETURNS void LANGUAGE plpgsql SECURITY DEFINER"
    " AS $$ BEGIN UPDATE {table} " + _ASSIGN + "; END $$; SELECT pg_temp.attack()",
    "update in dynamic SQL": "DO $$ BEGIN EXECUTE 'UPDATE {table} SET {column} = {column} WHERE {key} = $1'"
    " USING {id}; END $$",
    "update through a view": "CREATE TEMP VIEW window_on AS SELECT * FROM {table}; UPDATE window_on " + _ASSIGN,
    "update through a view with a rule": "CREATE TEMP VIEW window_on AS SELECT {key} AS seen, count(*) FROM {table}"
    " GROUP BY 1; CREATE RULE through AS ON UPDATE TO window_on DO INSTEAD UPDATE {table} SET {column} = {value}"
    " WHERE {key} = OLD.seen; UPDATE window_on SET seen = seen WHERE seen = {id}",
    "update through a view with a trigger": "CREATE TEMP VIEW window_on AS SELECT {key} AS seen, count(*) FROM {table}"
    " GROUP BY 1; CREATE FUNCTION pg_temp.through() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE {table}"
    " SET {column} = {value} WHERE {key} = OLD.seen; RETURN NEW; END $$; CREATE TRIGGER through INSTEAD OF UPDATE ON"
    " window_on FOR EACH ROW EXECUTE FUNCTION pg_temp.through(); UPDATE window_on SET seen = seen WHERE seen = {id}",
    "update by a trigger of another table": "CREATE TEMP TABLE bait (n int); CREATE FUNCTION pg_temp.sprung() RETURNS"
    " trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE {table} " + _ASSIGN + "; RETURN NEW; END $$; CREATE TRIGGER sprung"
    " AFTER INSERT ON bait FOR EACH ROW EXECUTE FUNCTION pg_temp.sprung(); INSERT INTO bait VALUES (1)",
    "merge update": "MERGE INTO {table} AS mine USING (SELECT {id} AS id) AS other ON mine.{key} = other.id"
    " WHEN MATCHED THEN UPDATE SET {column} = {value}",
    "merge delete": "MERGE INTO {table} AS mine USING (SELECT {id} AS id) AS other ON mine.{key} = other.id"
    " WHEN MATCHED THEN DELETE",
    "delete": "DELETE FROM {table} WHERE {key} = {id}",
    "delete of every row": "DELETE FROM {table}",
    "delete only": "DELETE FROM ONLY {table} WHERE {key} = {id}",
    "delete using": "DELETE FROM {table} AS mine USING (VALUES (1)) AS other (n) WHERE mine.{key} = {id}",
    "delete in a common table expression": "WITH gone AS (DELETE FROM {table} WHERE {key} = {id} RETURNING *)"
    " SELECT * FROM gone",
    "delete and insert anew": "WITH gone AS (DELETE FROM {table} WHERE {key} = {id} RETURNING *) INSERT INTO"
    " {table} SELECT * FROM gone",
    "delete where current of": "DECLARE attack CURSOR FOR SELECT * FROM {table} WHERE {key} = {id} FOR UPDATE;"
    " FETCH attack;"
    " DELETE FROM {table} WHERE CURRENT OF attack",
    "delete in a block": "DO $$ BEGIN DELETE FROM {table} WHERE {key} = {id}; END $$",
    "delete through a view": "CREATE TEMP VIEW window_on AS SELECT * FROM {table}; DELETE FROM window_on WHERE"
    " {key} = {id}",
    "truncate": "TRUNCATE {table} CASCADE",
    "truncate, identities restarted": "TRUNCATE {table} RESTART IDENTITY CASCADE",
    "truncate only": "TRUNCATE ONLY {table} CASCADE",
    "truncate in a block": "DO $$ BEGIN TRUNCATE {table} CASCADE; END $$",
    "truncate of all three": "TRUNCATE public.audit_pause_queue, public.audit_executionlog, public.audit_task",
}

# Attacks that fail by themselves: ordinary triggers and rules sleep in a session with the replica role, and only the
# owner of a sequence restarts it.
_IDLE = {
    ("update through a view with a rule", "replica role"),
    ("update through a view with a trigger", "replica role"),
    ("update by a trigger of another table", "replica role"),
    ("truncate, identities restarted", "plain role"),
    ("truncate, identities restarted", "plain session"),
}

CIRCUMSTANCES = ("as owner", "replica role", "plain role", "plain session", "deep savepoint", "temp namesakes")

_TABLES = "public.audit_task, public.audit_executionlog, public.audit_pause_queue"


def attempts() -> list[tuple[str, str]]:
    """Every attack under every circumstance that it works in."""
    return [attempt for attempt in product(ATTACKS, CIRCUMSTANCES) if attempt not in _IDLE]


def plain_role(name: str = "audit_plain") -> None:
    """Make a role that may do plain DML (and TRUNCATE, so that a refusal of it is the guard's); it ends with the test's
    transaction."""
    sql(f"CREATE ROLE {name} LOGIN")
    sql(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {_TABLES} TO {name}")
    sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}")
    sql(f"GRANT USAGE ON SCHEMA public TO {name}")


@contextlib.contextmanager
def circumstance(name: str) -> Iterator[None]:
    """Arrange one of `CIRCUMSTANCES` for the block, and undo it with a savepoint."""
    undo = transaction.atomic()
    undo.__enter__()
    try:
        # Foreign keys still to be checked would refuse TRUNCATE before the guard does.
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        if name in {"plain role", "plain session"}:
            plain_role()
            sql("SET LOCAL ROLE audit_plain" if name == "plain role" else "SET LOCAL SESSION AUTHORIZATION audit_plain")
        elif name == "replica role":
            sql("SET LOCAL session_replication_role = replica")
        elif name == "temp namesakes":
            for table in (PauseQueueEntry, ExecutionLog, Task):
                sql(f"CREATE TEMP TABLE {table._meta.db_table} (LIKE public.{table._meta.db_table} INCLUDING DEFAULTS)")
            sql("SET LOCAL search_path = pg_temp, public")
        elif name == "deep savepoint":
            sql("SAVEPOINT a; SAVEPOINT b; SAVEPOINT c")
        yield
    finally:
        transaction.set_rollback(True)
        undo.__exit__(None, None, None)


def changed(field: models.Field) -> str:
    """An expression that gives a column another value than it has, one that its CHECKs would take."""
    column = field.column
    special = {
        "status": "CASE status WHEN 'failed' THEN 'completed' ELSE 'failed' END",
        "on_expiry": "CASE on_expiry WHEN 'fail' THEN 'requeue' ELSE 'fail' END",
        "kind": "CASE kind WHEN 'note' THEN 'step' ELSE 'note' END",
        "reason": "CASE reason WHEN 'awaiting_event' THEN 'manual_pause' ELSE 'awaiting_event' END",
        "from_status": "CASE from_status WHEN 'pending' THEN 'paused' ELSE 'pending' END",
        "to_status": "CASE to_status WHEN 'failed' THEN 'completed' ELSE 'failed' END",
        "priority": "CASE priority WHEN 1 THEN 2 ELSE 1 END",
    }
    if column in special:
        return special[column]
    if isinstance(field, JSONField):
        return f"""coalesce({column}, '[]') || '[{{"forged": true}}]'"""
    kind = field.db_type(connection).split("(")[0]
    return {
        "uuid": "'01900000-0000-7000-8000-000000000000'::uuid",
        "text": f"coalesce({column}, '') || ' forged'",
        "varchar": f"{column} || ' forged'",
        "smallint": f"coalesce({column}, 0) + 1",
        "integer": f"coalesce({column}, 0) + 1",
        "bigint": f"coalesce({column}, 0) + 1",
        "boolean": f"NOT {column}",
        "text[]": f"{column} || 'forged'::text",
        "bytea": f"coalesce({column}, '\\x00') || '\\x00'",
        "xid8": "'7'::xid8",
        "timestamp with time zone": f"coalesce({column}, now()) + interval '1 second'",
    }[kind]


def columns_of(model: type[models.Model]) -> list[object]:
    """Every column of a model as a pytest parameter."""
    return [pytest.param(field, id=field.column) for field in model._meta.concrete_fields]
