"""What an owner of the database can do with the guards off, and what the verification says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, Form, Kind
from audit.ledger.tlog.note import generate
from audit.ledger.verify.findings import Code, Report
from tests.support import ledger
from tests.support.attacked import Base, fit_leaf, rebuild, resign
from tests.support.factories import sql
from tests.support.ledger import KEY, behind_the_guards, codes, verified

THIEF = generate(KEY.name)
STRANGER = generate("example.org/other")


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Something done to a sealed database, and all that is found of it, causes first."""

    do: tuple[str | Callable[[Base], object], ...]
    found: tuple[str, ...]
    names: str = ""
    """Which row of `Base.names` the findings name."""
    outside: bool = False
    """With the checkpoints that were kept outside."""
    armed: bool = False
    """With the guards on, because they are what is attacked."""
    perhaps: str = ""
    """A code that depends on what the server reads first."""


def does(*steps: str | Callable[[Base], object], found: str, **options: Any) -> Attack:
    return Attack(do=steps, found=tuple(found.split()), **options)


def task_leaf(base: Base) -> None:
    fit_leaf(TASK_V1, base.names["victim"])


def step_leaf(base: Base) -> None:
    fit_leaf(LOG_V1, base.names["step"])


def tree(_: Base) -> None:
    rebuild()


def other_key(_: Base) -> None:
    resign(THIEF)


def stolen_key(_: Base) -> None:
    resign(KEY)


def seal_on(_: Base) -> None:
    ledger.sealed()


TASK = "UPDATE audit_task SET {} WHERE id = $victim"
STEP = "UPDATE audit_executionlog SET {} WHERE id = $step"
DECIDED = TASK.format("decided_by = 'eve'")
REDONE = STEP.format("actor = 'eve'")
GONE = (
    "DELETE FROM audit_executionlog WHERE task_id = $bulk",
    "DELETE FROM audit_task WHERE id = $bulk",
)
GONE_LEAVES = (
    "DELETE FROM audit_ledger_leaf WHERE log_id IN (SELECT id FROM audit_executionlog WHERE task_id = $bulk)",
    "DELETE FROM audit_ledger_leaf WHERE task_id = $bulk",
)
CLOSE = (
    "DELETE FROM audit_ledger_leaf WHERE index = $step_leaf",
    "UPDATE audit_ledger_leaf SET index = index + 100000 WHERE index > $step_leaf",
    "UPDATE audit_ledger_leaf SET index = index - 100001 WHERE index > 100000",
)
# A copy of a row under another id, as it was stamped.
COPY = """
INSERT INTO audit_task SELECT (jsonb_populate_record(NULL::audit_task, to_jsonb(t) || jsonb_build_object({}))).*
FROM audit_task AS t WHERE id = $other
"""
NEW_TASK = UUID("01935a2e-7c00-7abc-8def-0123456789ab")
COPIED = COPY.format(f"'id', '{NEW_TASK}'")
COPIED_NOW = COPY.format(f"'id', '{NEW_TASK}', 'finished_xid', pg_current_xact_id()::text")
COPIED_LOG = """
INSERT INTO audit_executionlog SELECT (jsonb_populate_record(NULL::audit_executionlog, to_jsonb(l)
    || jsonb_build_object('id', 90000 + l.id, 'task_id', '{}', 'xid', {}))).*
FROM audit_executionlog AS l WHERE task_id = $other
"""
COPIED_LOGS = COPIED_LOG.format(NEW_TASK, "l.xid::text")
COPIED_LOGS_NOW = COPIED_LOG.format(NEW_TASK, "pg_current_xact_id()::text")
FORGED_STEP = """
INSERT INTO audit_executionlog SELECT (jsonb_populate_record(NULL::audit_executionlog, to_jsonb(l) || '{}')).*
FROM audit_executionlog AS l WHERE id = {}
"""


def new_leaves(_: Base) -> None:
    fit_leaf(TASK_V1, NEW_TASK)
    for (log,) in sql("SELECT id FROM audit_executionlog WHERE id > 90000"):
        fit_leaf(LOG_V1, log)


ROWS = {
    "a column": does(TASK.format("summary = 'other'"), found="row_tampered", names="victim"),
    "a column of the log": does(STEP.format("output_summary = 'other'"), found="row_tampered", names="step"),
    "who approved": does(DECIDED, found="row_tampered", names="victim"),
    "who approved, in the log": does(
        "UPDATE audit_executionlog SET actor = 'eve' WHERE id = $approval", found="row_tampered", names="approval"
    ),
    "and the leaf": does(DECIDED, task_leaf, found="leaf_changed root_mismatch", names="victim"),
    "and the leaf of the log": does(REDONE, step_leaf, found="leaf_changed root_mismatch", names="step"),
    "and the tree": does(DECIDED, task_leaf, tree, found="root_mismatch"),
    "and the tree of the log": does(REDONE, step_leaf, tree, found="root_mismatch"),
    "and signed by another key": does(DECIDED, task_leaf, tree, other_key, found="forged_checkpoint leaves_unsigned"),
    "a step, and signed by another key": does(
        REDONE, step_leaf, tree, other_key, found="forged_checkpoint leaves_unsigned"
    ),
    "and signed by another key, seen from outside": does(
        *(DECIDED, task_leaf, tree, other_key),
        found="forged_checkpoint leaves_unsigned root_mismatch",
        outside=True,
    ),
    "and signed with the stolen key": does(DECIDED, task_leaf, tree, stolen_key, found="fork", outside=True),
    "a step, and signed with the stolen key": does(REDONE, step_leaf, tree, stolen_key, found="fork", outside=True),
    "with the stolen key, at other sizes": does(
        *("DELETE FROM audit_ledger_checkpoint WHERE size < $size", DECIDED, task_leaf, tree, stolen_key),
        found="checkpoint_deleted fork",
        outside=True,
    ),
    "the salt": does(
        "UPDATE audit_ledger_leaf SET salt = uuid_send(gen_random_uuid()) WHERE index = $leaf",
        found="row_tampered",
        names="victim",
    ),
    "the transaction": does(STEP.format("xid = '3'"), found="row_tampered", names="step"),
    "12.50 to 12.5 in JSON": does(
        TASK.format("""plan = '{"cost": 12.5}'"""), found="row_tampered plan_changed", names="victim"
    ),
    "a number of JSON in the log": does(
        STEP.format("""detail = '{"cost": 12.50}'"""), found="row_tampered", names="step"
    ),
    "a microsecond": does(
        TASK.format("created_at = created_at + interval '1 microsecond'"), found="row_tampered", names="victim"
    ),
    "a microsecond of the log": does(
        STEP.format("at = at - interval '1 microsecond'"), found="row_tampered", names="step"
    ),
    "NULL to an empty text": does(
        STEP.format("from_status = ''"),
        found="row_tampered",
        names="step",
    ),
    "NULL to an empty document": does(TASK.format("origin = '{}'"), found="row_tampered", names="victim"),
    "NULL to a JSON null": does(
        TASK.format("origin = 'null'"),
        found="row_tampered",
        names="victim",
    ),
    "two services to one": does(TASK.format("""services_touched = '{"a,b"}'"""), found="row_tampered", names="victim"),
    "the order of services": does(TASK.format("services_touched = '{b,a}'"), found="row_tampered", names="victim"),
    "back to live": does(
        TASK.format("status = 'approved', finished_at = NULL, row_version = NULL, finished_xid = NULL"),
        found="row_tampered status_unlogged",
        names="victim",
    ),
    "failed to completed": does(TASK.format("status = 'failed'"), found="row_tampered status_unlogged", names="victim"),
    "the content of two rows swapped": does(
        "UPDATE audit_task AS a SET summary = b.action, action = b.action FROM audit_task AS b"
        " WHERE (a.id, b.id) IN (($victim, $other), ($other, $victim))",
        found="row_tampered",
        names="victim",
    ),
    "two steps swapped, and their salts": does(
        "UPDATE audit_executionlog AS a SET action = b.action, at = b.at, detail = b.detail"
        " FROM audit_executionlog AS b"
        " WHERE (a.id, b.id) IN (($step, $second_step), ($second_step, $step))",
        "UPDATE audit_ledger_leaf AS a SET salt = b.salt FROM audit_ledger_leaf AS b"
        " WHERE (a.log_id, b.log_id) IN (($step, $second_step), ($second_step, $step))",
        found="row_tampered",
        names="step",
    ),
    "two steps swapped whole": does(
        "UPDATE audit_executionlog SET id = -1 WHERE id = $step",
        "UPDATE audit_executionlog SET id = $step WHERE id = $second_step",
        "UPDATE audit_executionlog SET id = $second_step WHERE id = -1",
        found="row_tampered",
        names="step",
    ),
    "a forged transition": does(
        "UPDATE audit_executionlog SET kind = 'transition', from_status = 'approved', to_status = 'executing',"
        " revision = 90 WHERE id = $step",
        found="row_tampered history_broken",
        names="step",
    ),
}
DELETED = {
    "a task with its log": does(*GONE, found="row_deleted", names="bulk"),
    "a step": does("DELETE FROM audit_executionlog WHERE id = $step", found="row_deleted", names="step"),
    "who approved": does(
        "DELETE FROM audit_executionlog WHERE id = $approval", found="row_deleted history_broken", names="approval"
    ),
    "a task with its leaves": does(*GONE_LEAVES, *GONE, found="leaf_gap"),
    "a step with its leaf": does(
        "DELETE FROM audit_ledger_leaf WHERE index = $step_leaf",
        "DELETE FROM audit_executionlog WHERE id = $step",
        found="leaf_gap",
    ),
    "a leaf alone": does(
        "DELETE FROM audit_ledger_leaf WHERE index = $step_leaf", found="row_inserted leaf_gap", names="step"
    ),
    "a step, and the gap closed": does(
        "DELETE FROM audit_executionlog WHERE id = $step", *CLOSE, found="leaf_changed leaves_missing root_mismatch"
    ),
    "a step, the gap closed, the tree rebuilt": does(
        "DELETE FROM audit_executionlog WHERE id = $step", *CLOSE, tree, found="leaves_missing root_mismatch"
    ),
    "the tail of leaves": does(
        "DELETE FROM audit_ledger_leaf WHERE index >= $size - 50", found="row_inserted leaves_missing"
    ),
    "the tail of leaves and rows": does(
        "DELETE FROM audit_executionlog WHERE id IN (SELECT log_id FROM audit_ledger_leaf WHERE index >= $size2)",
        "DELETE FROM audit_task WHERE id IN (SELECT task_id FROM audit_ledger_leaf WHERE index >= $size2)",
        "DELETE FROM audit_ledger_leaf WHERE index >= $size2",
        found="leaves_missing",
    ),
    "the tail of rows": does(
        "DELETE FROM audit_executionlog WHERE id IN (SELECT log_id FROM audit_ledger_leaf WHERE index >= $size2)",
        "DELETE FROM audit_task WHERE id IN (SELECT task_id FROM audit_ledger_leaf WHERE index >= $size2)",
        found="row_deleted",
        names="bulk",
    ),
    "the tail of everything": does(
        "DELETE FROM audit_executionlog WHERE id IN (SELECT log_id FROM audit_ledger_leaf WHERE index >= $size2)",
        "DELETE FROM audit_task WHERE id IN (SELECT task_id FROM audit_ledger_leaf WHERE index >= $size2)",
        "DELETE FROM audit_ledger_leaf WHERE index >= $size2",
        "DELETE FROM audit_ledger_checkpoint WHERE size > $size2",
        tree,
        found="rollback",
        outside=True,
    ),
    "the last leaf, and one of any number in its place": does(
        "UPDATE audit_ledger_leaf SET index = 4611686018427387904 WHERE index = $size - 1",
        found="leaf_gap leaves_missing leaves_unsigned",
    ),
}
INSERTED = {
    "long ago, by a copied transaction": does(COPIED, COPIED_LOGS, found="row_inserted"),
    "long ago, and sealed on": does(COPIED, COPIED_LOGS, seal_on, found="row_inserted"),
    # The mark is believed: see docs/ledger.md, "What stays a window". Its place in the log is at the end all the same.
    "long ago, behind a mark that was set back": does(
        "UPDATE audit_ledger_head SET low_xid = '3'", COPIED, COPIED_LOGS, seal_on, found=""
    ),
    "without the trigger's stamps": does(
        "ALTER TABLE audit_executionlog ALTER xid DROP NOT NULL",
        FORGED_STEP.format('{"id": 90001, "xid": null}', "$step"),
        found="schema_changed row_inserted",
    ),
    "now, not in the log": does(COPIED_NOW, seal_on, found="row_inserted"),
    "now, not in the log, and not sealed": does(COPIED_NOW, found="row_inserted"),
    "a step, of a transaction to come": does(
        FORGED_STEP.format('{"id": 90001, "action": "forged", "xid": "99999999"}', "$step"), found="row_inserted"
    ),
    "a transition": does(
        "INSERT INTO audit_executionlog SELECT (jsonb_populate_record(NULL::audit_executionlog, to_jsonb(l) ||"
        " jsonb_build_object('id', 90001, 'actor', 'eve', 'revision', 90, 'xid', pg_current_xact_id()::text))).*"
        " FROM audit_executionlog AS l WHERE id = $approval",
        seal_on,
        found="history_broken",
    ),
}
LEDGER = {
    "two leaves swapped": does(
        "UPDATE audit_ledger_leaf SET index = 100000 WHERE index = $leaf",
        "UPDATE audit_ledger_leaf SET index = $leaf WHERE index = $step_leaf",
        "UPDATE audit_ledger_leaf SET index = $step_leaf WHERE index = 100000",
        found="leaf_changed root_mismatch",
        names="victim",
    ),
    "a leaf's hash": does(
        "UPDATE audit_ledger_leaf SET leaf_hash = sha256('x') WHERE index = $leaf",
        found="row_tampered leaf_changed root_mismatch",
        names="victim",
    ),
    "a leaf that stands for another row": does(
        "DROP INDEX audit_ledger_leaf_task",
        *GONE,
        "UPDATE audit_ledger_leaf SET task_id = $other WHERE task_id = $bulk",
        "DELETE FROM audit_ledger_leaf WHERE log_id NOT IN (SELECT id FROM audit_executionlog)",
        found="guard_off row_tampered leaf_gap leaf_changed",
        names="other",
    ),
    "a second leaf for a row": does(
        "DROP INDEX audit_ledger_leaf_task",
        "INSERT INTO audit_ledger_leaf (index, task_id, salt, leaf_hash) SELECT $size, task_id, salt, leaf_hash"
        " FROM audit_ledger_leaf WHERE index = $leaf",
        found="guard_off leaf_changed leaves_unsigned tile_corrupt frontier_altered",
    ),
    "a second leaf of a number": does(
        "ALTER TABLE audit_ledger_leaf DROP CONSTRAINT audit_ledger_leaf_pkey",
        COPIED,
        COPIED_LOGS,
        "INSERT INTO audit_ledger_leaf (index, task_id, salt, leaf_hash)"
        f" SELECT $leaf, id, uuid_send(gen_random_uuid()), sha256('x') FROM audit_task WHERE id = '{NEW_TASK}'",
        "INSERT INTO audit_ledger_leaf (index, log_id, salt, leaf_hash)"
        " SELECT $leaf, id, uuid_send(gen_random_uuid()), sha256('x') FROM audit_executionlog WHERE id > 90000",
        new_leaves,
        found="guard_off leaf_changed",
        perhaps="root_mismatch",
    ),
    "a leaf of a negative number": does(
        "ALTER TABLE audit_ledger_leaf DROP CONSTRAINT audit_ledger_leaf_one_row",
        COPIED,
        COPIED_LOGS,
        "INSERT INTO audit_ledger_leaf (index, task_id, salt, leaf_hash)"
        f" SELECT -1, id, uuid_send(gen_random_uuid()), sha256('x') FROM audit_task WHERE id = '{NEW_TASK}'",
        "INSERT INTO audit_ledger_leaf (index, log_id, salt, leaf_hash)"
        " SELECT -id, id, uuid_send(gen_random_uuid()), sha256('x') FROM audit_executionlog WHERE id > 90000",
        new_leaves,
        found="guard_off leaf_changed",
    ),
    "a leaf for a task and a log row": does(
        "ALTER TABLE audit_ledger_leaf DROP CONSTRAINT audit_ledger_leaf_one_row",
        FORGED_STEP.format('{"id": 90001}', "$step"),
        "UPDATE audit_ledger_leaf SET log_id = 90001 WHERE index = $leaf",
        found="guard_off row_tampered leaf_changed",
    ),
    "a leaf for nothing": does(
        "ALTER TABLE audit_ledger_leaf DROP CONSTRAINT audit_ledger_leaf_one_row",
        "UPDATE audit_ledger_leaf SET log_id = NULL WHERE index = $step_leaf",
        "DELETE FROM audit_executionlog WHERE id = $step",
        found="guard_off leaf_changed",
    ),
    "a leaf without a hash": does(
        "ALTER TABLE audit_ledger_leaf DROP CONSTRAINT audit_ledger_leaf_hash_long",
        "UPDATE audit_ledger_leaf SET leaf_hash = '' WHERE index = $leaf",
        found="guard_off row_tampered leaf_changed root_mismatch",
    ),
    "a leaf for a live task": does(
        "INSERT INTO audit_ledger_leaf (index, task_id, salt, leaf_hash)"
        " VALUES ($size, $live, uuid_send(gen_random_uuid()), sha256('x'))",
        found="row_tampered leaves_unsigned tile_corrupt frontier_altered",
        names="live",
    ),
    "all of it": does(
        *(f"DELETE FROM audit_ledger_{each}" for each in ("leaf", "tile", "head", "checkpoint")),
        found="rollback",
        outside=True,
    ),
    "the leaves": does("DELETE FROM audit_ledger_leaf", found="row_inserted leaves_missing"),
    "a tile": does(
        "UPDATE audit_ledger_tile SET data = set_byte(data, 3, get_byte(data, 3) # 1) WHERE level = 0 AND index = 0",
        found="tile_corrupt",
    ),
    "a tile at the edge": does(
        "UPDATE audit_ledger_tile SET data = set_byte(data, 3, get_byte(data, 3) # 1) WHERE level = 0 AND index ="
        " $size / 256",
        found="tile_corrupt",
    ),
    "a tile of level 1": does(
        "UPDATE audit_ledger_tile SET data = set_byte(data, 3, get_byte(data, 3) # 1) WHERE level = 1",
        found="tile_corrupt",
    ),
    "a tile too short": does("UPDATE audit_ledger_tile SET data = substr(data, 1, 32)", found="tile_corrupt"),
    "no tile": does("DELETE FROM audit_ledger_tile", found="tile_corrupt"),
    "the frontier": does(
        "UPDATE audit_ledger_head SET frontier = set_byte(frontier, 3, get_byte(frontier, 3) # 1)",
        found="frontier_altered",
    ),
    "the frontier cut": does("UPDATE audit_ledger_head SET frontier = ''", found="frontier_altered"),
    "the head's size": does("UPDATE audit_ledger_head SET size = size - 1", found="frontier_altered"),
    "the head's size beyond": does("UPDATE audit_ledger_head SET size = size + 1", found="leaves_missing"),
    "the head's epoch": does("UPDATE audit_ledger_head SET epoch = 7", found="frontier_altered"),
    "the head": does("DELETE FROM audit_ledger_head", found="frontier_altered"),
    "the mark, beyond time": does(
        "UPDATE audit_ledger_head SET low_xid = '4611686018427387904'", found="frontier_altered"
    ),
    "the mark, over rows that wait": does(
        COPIED_NOW,
        COPIED_LOGS_NOW,
        "UPDATE audit_ledger_head SET low_xid = (SELECT finished_xid::text::bigint + 1 FROM audit_task WHERE id ="
        f" '{NEW_TASK}')::text::xid8",
        found="row_inserted",
    ),
    "the mark back": does("UPDATE audit_ledger_head SET low_xid = '3'", found=""),
    "another server's name": does("UPDATE audit_ledger_head SET system_identifier = 'x'", found=""),
    "every checkpoint": does("DELETE FROM audit_ledger_checkpoint", found="leaves_unsigned"),
    "every checkpoint, seen from outside": does(
        "DELETE FROM audit_ledger_checkpoint", found="checkpoint_deleted leaves_unsigned", outside=True
    ),
    "the newest checkpoint": does("DELETE FROM audit_ledger_checkpoint WHERE size = $size", found="leaves_unsigned"),
    "a checkpoint in the middle": does(
        "DELETE FROM audit_ledger_checkpoint WHERE size = $size2", found="checkpoint_deleted", outside=True
    ),
    "a checkpoint's text": does(
        "UPDATE audit_ledger_checkpoint SET note = replace(note, E'\\n$size\\n', E'\\n99999\\n') WHERE size = $size",
        found="forged_checkpoint leaves_unsigned",
    ),
    "a checkpoint's columns": does(
        "UPDATE audit_ledger_checkpoint SET root = sha256('x') WHERE size = $size", found="forged_checkpoint"
    ),
    "a checkpoint of another log": does(lambda _: resign(STRANGER), found="forged_checkpoint leaves_unsigned"),
    "an epoch that forgives": does(
        *(
            "DELETE FROM audit_executionlog WHERE id IN (SELECT log_id FROM audit_ledger_leaf WHERE index >= $size2)",
            "DELETE FROM audit_task WHERE id IN (SELECT task_id FROM audit_ledger_leaf WHERE index >= $size2)",
            "DELETE FROM audit_ledger_leaf WHERE index >= $size2",
            "DELETE FROM audit_ledger_checkpoint WHERE size > $size2",
            tree,
            "INSERT INTO audit_ledger_epoch VALUES (2, '', 0, '', 'restored', 'eve', now(), 1)",
        ),
        found="rollback row_inserted",
        outside=True,
    ),
}
SCHEMA = {
    "a column dropped": does("ALTER TABLE audit_task DROP COLUMN origin", found="schema_changed"),
    "a column dropped and made anew": does(
        "ALTER TABLE audit_executionlog DROP COLUMN detail CASCADE",
        "ALTER TABLE audit_executionlog ADD COLUMN detail jsonb",
        found="row_tampered plan_changed",
        names="step",
    ),
    "a column retyped": does(
        "ALTER TABLE audit_task ALTER summary TYPE varchar(9) USING left(summary, 9)",
        found="schema_changed row_tampered",
    ),
    "a moment without its zone": does("ALTER TABLE audit_task ALTER created_at TYPE timestamp", found="schema_changed"),
    "a number retyped": does(
        "ALTER TABLE audit_executionlog ALTER duration_ms TYPE numeric", found="schema_changed row_tampered"
    ),
    "an array retyped": does(
        "DROP INDEX audit_task_services_gin",
        "ALTER TABLE audit_task ALTER services_touched DROP DEFAULT, ALTER services_touched TYPE text USING '{}'",
        found="schema_changed guard_off row_tampered",
    ),
    "a column that may be NULL, with NULL in it": does(
        "ALTER TABLE audit_ledger_checkpoint ALTER note DROP NOT NULL",
        "UPDATE audit_ledger_checkpoint SET note = NULL",
        found="schema_changed",
    ),
    "a root that is NULL": does(
        "ALTER TABLE audit_ledger_checkpoint ALTER root DROP NOT NULL",
        "UPDATE audit_ledger_checkpoint SET root = NULL",
        found="schema_changed",
    ),
    "a leaf's task that is not a UUID": does(
        "ALTER TABLE audit_ledger_leaf DROP CONSTRAINT audit_ledger_leaf_one_row",
        "ALTER TABLE audit_ledger_leaf ALTER task_id TYPE text",
        found="schema_changed guard_off",
    ),
    "a column of one's own": does("ALTER TABLE audit_task ADD COLUMN approved boolean", found="schema_changed"),
    "a table replaced by a view": does(
        "ALTER TABLE audit_executionlog RENAME TO true_log",
        "CREATE VIEW audit_executionlog AS SELECT * FROM true_log WHERE id <> $step",
        found="relation_replaced row_deleted",
        armed=True,
    ),
    "tasks replaced by a view that lies": does(
        "ALTER TABLE audit_task RENAME TO true_task",
        "CREATE VIEW audit_task AS SELECT * FROM true_task",
        found="relation_replaced guard_off",
        armed=True,
    ),
    "a temporary table in front": does(
        "CREATE TEMP TABLE audit_task (LIKE audit_task INCLUDING ALL)",
        found="relation_replaced guard_off",
        armed=True,
    ),
    "another schema in front": does(
        "CREATE SCHEMA evil",
        "CREATE TABLE evil.audit_task (LIKE public.audit_task INCLUDING ALL)",
        "INSERT INTO evil.audit_task SELECT * FROM public.audit_task WHERE id <> $bulk",
        "SET search_path = evil, public",
        found="relation_replaced guard_off row_deleted",
        names="bulk",
        armed=True,
    ),
    "an operator in front": does(
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.never(bigint, bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false'",
        "CREATE OPERATOR evil.> (FUNCTION = evil.never, LEFTARG = bigint, RIGHTARG = bigint)",
        "SET search_path = evil, public, pg_catalog",
        found="relation_replaced",
        armed=True,
    ),
    "a partitioned table": does(
        "ALTER TABLE audit_ledger_verification RENAME TO true_verification",
        "ALTER INDEX audit_ledger_verification_pkey RENAME TO true_pkey",
        "CREATE TABLE audit_ledger_verification (LIKE true_verification) PARTITION BY RANGE (id)",
        found="relation_replaced guard_off",
        armed=True,
    ),
    "a trigger between stamp and seal": does(
        "CREATE FUNCTION other_role() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.db_role := 'bob'; RETURN NEW; END $$",
        "CREATE TRIGGER audit_executionlog_30_x BEFORE INSERT ON audit_executionlog FOR EACH ROW"
        " EXECUTE FUNCTION other_role()",
        found="guard_off",
        armed=True,
    ),
    "a CHECK of the same name": does(
        "ALTER TABLE audit_ledger_leaf DROP CONSTRAINT audit_ledger_leaf_hash_long",
        "ALTER TABLE audit_ledger_leaf ADD CONSTRAINT audit_ledger_leaf_hash_long CHECK (true)",
        found="guard_off",
    ),
    "a unique index of the same name": does(
        "DROP INDEX audit_ledger_leaf_log",
        "CREATE UNIQUE INDEX audit_ledger_leaf_log ON audit_ledger_leaf (log_id, index)",
        found="guard_off",
    ),
    "a child that lends its rows": does(
        "CREATE TABLE child () INHERITS (audit_executionlog)",
        "INSERT INTO child SELECT * FROM audit_executionlog WHERE id = $step",
        "DELETE FROM ONLY audit_executionlog WHERE id = $step",
        found="relation_replaced",
    ),
    "row security": does("ALTER TABLE audit_task ENABLE ROW LEVEL SECURITY", found="relation_replaced", armed=True),
    "a table that a crash empties": does(
        "ALTER TABLE audit_ledger_tile SET UNLOGGED", found="relation_replaced", armed=True
    ),
    "a trigger off": does("ALTER TABLE audit_task DISABLE TRIGGER audit_task_10_write", found="guard_off", armed=True),
    "a trigger of ordinary sessions": does(
        "ALTER TABLE audit_task ENABLE TRIGGER audit_task_10_write", found="guard_off", armed=True
    ),
    "a trigger dropped": does(
        "DROP TRIGGER audit_ledger_leaf_10_guard ON audit_ledger_leaf", found="guard_off", armed=True
    ),
    "a trigger after the seal": does(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER zz BEFORE INSERT ON audit_executionlog FOR EACH ROW EXECUTE FUNCTION late()",
        found="guard_off",
        armed=True,
    ),
    "a function replaced": does(
        "CREATE OR REPLACE FUNCTION audit_task_write_v1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        found="guard_off",
        armed=True,
    ),
    "a CHECK dropped": does(
        "ALTER TABLE audit_ledger_leaf DROP CONSTRAINT audit_ledger_leaf_hash_long", found="guard_off", armed=True
    ),
    "a key dropped": does(
        "ALTER TABLE audit_ledger_checkpoint DROP CONSTRAINT audit_ledger_checkpoint_size",
        found="guard_off",
        armed=True,
    ),
    "a rule in front": does(
        "CREATE RULE hush AS ON INSERT TO audit_executionlog DO INSTEAD NOTHING", found="guard_off", armed=True
    ),
    "a table away": does("ALTER TABLE audit_ledger_leaf RENAME TO away", found="relation_replaced", armed=True),
}
ATTACKS = [
    pytest.param(attack, id=f"{group}: {name}")
    for group, attacks in {
        "rows": ROWS,
        "deleted": DELETED,
        "inserted": INSERTED,
        "ledger": LEDGER,
        "schema": SCHEMA,
    }.items()
    for name, attack in attacks.items()
]


def perform(base: Base, attack: Attack) -> None:
    before = [step for step in attack.do if step is not seal_on]
    if attack.armed:
        for step in before:
            act(base, step)
    else:
        with behind_the_guards():
            for step in before:
                act(base, step)
    if seal_on in attack.do:
        seal_on(base)


def act(base: Base, step: Any) -> None:
    if callable(step):
        step(base)
    else:
        sql(base.statement(step))


def outside(base: Base) -> Report:
    return verified(outside=base.notes)


def test_the_sealed_database_is_intact(victim: Base) -> None:
    report = outside(victim)
    assert codes(report) == []
    assert report.size == report.signed == victim.names["size"] > 256
    assert (report.unsealed, report.covered["external_checkpoints"], report.covered["checkpoints"]) == (0, 3, 3)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_found(victim: Base, attack: Attack) -> None:
    perform(victim, attack)
    report = verified(outside=victim.notes if attack.outside else None)
    assert tuple(code for code in codes(report) if code != attack.perhaps) == attack.found, report.findings
    assert report.intact == (not attack.found)
    kinds = [each.code for each in report.findings]
    assert kinds == sorted(kinds, key=list(Code).index)
    if attack.names:
        key = victim.names[attack.names]
        named = [each for each in report.findings if key in (each.log, each.task and UUID(each.task))]
        assert named, report.findings


CHANGED = {
    Kind.TEXT: "'other'",
    Kind.INTEGER: "2000",
    Kind.XID: "'1'",
    Kind.IDENTIFIER: "'01935a2e-7c00-7abc-8def-000000000000'",
    Kind.MOMENT: "'1999-12-31 23:59:59.999999+00'",
    Kind.NAMES: "'{other}'",
    Kind.DOCUMENT: "'[]'",
}


@pytest.mark.parametrize(
    ("form", "name"),
    [pytest.param(form, name, id=form.table) for form, name in ((TASK_V1, "victim"), (LOG_V1, "step"))],
)
def test_no_column_of_a_sealed_row_can_be_changed(victim: Base, form: Form, name: str) -> None:
    key = victim.names[name]
    sql(f"CREATE TABLE kept AS SELECT * FROM {form.table} WHERE id = %s", [key])
    for each in form.stored[1:]:
        with behind_the_guards():
            sql(f"UPDATE {form.table} SET {each.name} = {CHANGED[each.kind]} WHERE id = %s", [key])
        assert "row_tampered" in codes(verified()), each.name
        with behind_the_guards():
            sql(f"UPDATE {form.table} AS r SET {each.name} = kept.{each.name} FROM kept WHERE r.id = %s", [key])
    assert codes(verified()) == []
