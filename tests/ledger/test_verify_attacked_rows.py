"""What an owner of the database can do to sealed rows, and what the verification says of it."""

from __future__ import annotations

import pytest

from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, Form, Kind
from tests.support.attacked import Base
from tests.support.factories import sql
from tests.support.ledger import behind_the_guards, codes, verified
from tests.support.ledger_attacks import (
    CLOSE,
    COPIED,
    COPIED_LOGS,
    COPIED_NOW,
    DECIDED,
    FORGED_STEP,
    GONE,
    GONE_LEAVES,
    REDONE,
    STEP,
    TASK,
    Attack,
    check_found,
    does,
    other_key,
    params,
    seal_on,
    step_leaf,
    stolen_key,
    task_leaf,
    tree,
)

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


@pytest.mark.parametrize("attack", params(rows=ROWS, deleted=DELETED, inserted=INSERTED))
def test_an_attack_is_found(victim: Base, attack: Attack) -> None:
    check_found(victim, attack)


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
