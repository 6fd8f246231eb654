"""What an owner of the database can do to the ledger and its tables, and what the verification says of it."""

from __future__ import annotations

import pytest

from tests.support.attacked import Base, resign
from tests.support.ledger import codes
from tests.support.ledger_attacks import (
    COPIED,
    COPIED_LOGS,
    COPIED_LOGS_NOW,
    COPIED_NOW,
    FORGED_STEP,
    GONE,
    NEW_TASK,
    STRANGER,
    Attack,
    check_found,
    does,
    new_leaves,
    outside,
    params,
    tree,
)

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


def test_the_sealed_database_is_intact(victim: Base) -> None:
    report = outside(victim)
    assert codes(report) == []
    assert report.size == report.signed == victim.names["size"] > 256
    assert (report.unsealed, report.covered["external_checkpoints"], report.covered["checkpoints"]) == (0, 3, 3)


@pytest.mark.parametrize("attack", params(ledger=LEDGER, schema=SCHEMA))
def test_an_attack_is_found(victim: Base, attack: Attack) -> None:
    check_found(victim, attack)
