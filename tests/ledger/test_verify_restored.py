"""What a verification says about databases that were restored from a backup, and about epochs."""

from __future__ import annotations

import pytest
from django.db import connection

from audit.ledger.seal import Batch, CannotSeal, RefusesToSeal, begin_epoch
from audit.ledger.tlog.checkpoint import Checkpoint
from audit.models import LedgerCheckpoint, LedgerHead
from tests.support.attacked import Base, copied, rebuild
from tests.support.factories import sql
from tests.support.ledger import KEY, behind_the_guards, codes, finish, sealed, signed, verified

# Restored from a backup


def test_an_older_backup_is_found_and_a_new_epoch_goes_on_from_it(victim: Base) -> None:
    with copied(f"{victim.name}_later", connection.settings_dict["NAME"]):
        finish(3)
        sealed(limit=7)
        *_, newer, newest = LedgerCheckpoint.objects.order_by("size").values_list("note", flat=True)
    # What follows is the state before: a backup that was restored.
    kept = [*victim.notes, newer, newest]
    assert codes(verified()) == []
    report = verified(outside=kept)
    assert codes(report) == ["rollback"]
    assert report.counts["rollback"] == 2

    finish(1)
    signed_before = set(LedgerCheckpoint.objects.values_list("note", flat=True))
    with pytest.raises(CannotSeal, match="restored from an older state, or its end"):
        sealed(exported=newest)
    with pytest.raises(CannotSeal, match="reason"):
        begin_epoch("default", [KEY], left_behind=newest, reason=" ", actor="cli:bob")
    with pytest.raises(CannotSeal, match="is not behind"):
        begin_epoch("default", [KEY], left_behind=victim.notes[0], reason="restored", actor="cli:bob")
    assert LedgerHead.objects.get().size == victim.names["size"]

    batch = begin_epoch("default", [KEY], left_behind=newest, reason="the disk broke", actor="cli:bob")
    assert (batch.epoch, batch.size) == (2, victim.names["size"] + 1)
    with pytest.raises(CannotSeal, match="is not behind"):
        begin_epoch("default", [KEY], left_behind=newest, reason="again", actor="cli:bob")
    assert sealed(exported=newest).size == batch.size + 5
    assert sealed(exported=batch.note).epoch == 2
    assert signed_before < set(LedgerCheckpoint.objects.values_list("note", flat=True))

    # That an epoch was declared excuses nothing: the key that signed it may be stolen.
    report = verified(outside=[*kept, batch.note])
    assert (codes(report), report.counts["rollback"]) == (["rollback"], 2)
    assert "--accept-epoch" in report.findings[0].message
    assert codes(verified(outside=[*kept, batch.note], accepted=[3])) == ["rollback"]
    report = verified(outside=[*kept, batch.note], accepted=[2])
    assert codes(report) == []
    assert report.as_json()["accepted_epochs"] == [2]
    assert report.covered["external_checkpoints"] == 4
    assert report.covered["epochs"] == 1
    assert any(said.startswith("2 external checkpoints of a past") for said in report.not_covered)
    # What nobody knew of when the epoch began is not forgiven.
    beyond = signed(KEY, KEY.name, Checkpoint.parse(newest.partition("\n\n")[0] + "\n").size + 1, bytes(32))
    assert codes(verified(outside=[*kept, beyond], accepted=[2])) == ["rollback"]
    # The sealer goes by the same rule, and one more epoch tells of that one, too.
    with pytest.raises(RefusesToSeal, match="restored from an older state, or its end"):
        sealed(exported=beyond)
    batch = begin_epoch("default", [KEY], left_behind=beyond, reason="there was more", actor="cli:bob")
    assert sealed(exported=beyond).epoch == 3
    assert codes(verified(outside=[*kept, beyond, batch.note], accepted=[2, 3])) == []
    assert codes(verified(outside=[*kept, beyond, batch.note], accepted=[2])) == ["rollback"]


def test_an_accepted_epoch_explains_one_restore_and_not_a_second_one(victim: Base) -> None:
    database = connection.settings_dict["NAME"]

    def restored(left_behind: str) -> Batch:
        return begin_epoch("default", [KEY], left_behind=left_behind, reason="restored", actor="cli:bob")

    with copied(f"{victim.name}_lost", database):
        finish(1)
        newest = sealed().note
    with copied(f"{victim.name}_first", database):
        began = restored(newest).note
        with copied(f"{victim.name}_grown", connection.settings_dict["NAME"]):
            finish(1)
            grown = sealed().note
            kept = [*victim.notes, newest, began, grown]
            assert codes(verified(outside=kept, accepted=[2])) == []
        # Set back once more, within the epoch and without a word.
        assert codes(verified(outside=kept, accepted=[2])) == ["rollback"]
        # The second restore has an epoch of its own, which nobody accepted yet.
        assert restored(grown).epoch == 3
        assert codes(verified(outside=kept, accepted=[2])) == ["rollback"]
        assert codes(verified(outside=kept, accepted=[2, 3])) == []
    # Set back to before the epoch.
    assert codes(verified(outside=kept, accepted=[2])) == ["rollback"]
    with copied(f"{victim.name}_again", database):
        assert restored(newest).epoch == 2
        # The number is taken again. What is kept of the first epoch of that number shows it, and nothing else.
        assert codes(verified(outside=kept, accepted=[2])) == ["fork", "rollback"]
        assert codes(verified(outside=[*victim.notes, newest], accepted=[2])) == []


def test_a_whole_rewrite_under_a_declared_epoch_is_a_rollback(victim: Base) -> None:
    """The key is stolen, one row is rewritten, all leaves are made anew, and an epoch from nothing explains it."""
    with behind_the_guards():
        for table in ("leaf", "tile", "checkpoint"):
            sql(f"DELETE FROM audit_ledger_{table}")
        sql("UPDATE audit_ledger_head SET size = 0, frontier = '', low_xid = '0'")
        sql(victim.statement("UPDATE audit_task SET decided_by = 'eve' WHERE id = $victim"))
    begin_epoch("default", [KEY], left_behind=victim.notes[-1], reason="the disk broke", actor="cli:bob")
    sealed()
    report = verified(outside=victim.notes)
    assert codes(report) == ["rollback"]
    assert report.counts["rollback"] == 3
    # Only the auditor can say that it was so.
    assert codes(verified(outside=victim.notes, accepted=[2])) == []


def test_what_two_restores_left_behind_is_excused_by_both(victim: Base) -> None:
    kept = _in_second_epoch(victim)
    second = LedgerCheckpoint.objects.order_by("-epoch", "-size")[0].note
    with behind_the_guards():
        size = victim.names["size1"]
        sql("DELETE FROM audit_ledger_leaf WHERE index >= %s OR epoch IS NOT NULL", [size])
        sql("DELETE FROM audit_ledger_checkpoint WHERE size > %s", [size])
        sql("DELETE FROM audit_ledger_epoch")
        rebuild()
        sql("UPDATE audit_ledger_head SET epoch = 1, low_xid = '0'")
    batch = begin_epoch("default", [KEY], left_behind=second, reason="again", actor="cli:bob")
    assert batch.epoch == 3
    sealed()
    outside = [*kept, second]
    assert verified(outside=outside).counts == {"rollback": 4}
    assert codes(verified(outside=outside, accepted=[3])) == []


def _in_second_epoch(victim: Base) -> list[str]:
    with copied(f"{victim.name}_later", connection.settings_dict["NAME"]):
        finish(1)
        newest = sealed().note
    begin_epoch("default", [KEY], left_behind=newest, reason="the disk broke", actor="cli:bob")
    finish(1)
    sealed()
    return [*victim.notes, newest]


EPOCHS = {
    "its reason": ("UPDATE audit_ledger_epoch SET reason = 'nothing'", "row_tampered"),
    "who began it": ("UPDATE audit_ledger_epoch SET actor = 'eve'", "row_tampered"),
    "what it left behind": (
        "UPDATE audit_ledger_epoch SET previous = ''",
        "forged_checkpoint row_tampered",
    ),
    "where it began": ("UPDATE audit_ledger_epoch SET size = 0", "row_tampered row_inserted"),
    "deleted": ("DELETE FROM audit_ledger_epoch", "row_deleted"),
    "one more": (
        (
            "INSERT INTO audit_ledger_epoch SELECT 3, origin, size, previous, reason, actor, started_at, 1"
            " FROM audit_ledger_epoch"
        ),
        "row_inserted",
    ),
    "its first leaf for another row": (
        "UPDATE audit_ledger_leaf SET epoch = 3 WHERE epoch = 2",
        "row_deleted row_inserted",
    ),
}


@pytest.mark.parametrize("name", EPOCHS)
def test_an_epoch_that_is_not_what_was_sealed(victim: Base, name: str) -> None:
    statement, found = EPOCHS[name]
    kept = _in_second_epoch(victim)
    assert codes(verified(outside=kept, accepted=[2])) == []
    with behind_the_guards():
        sql(statement)
    assert codes(verified(outside=kept, accepted=[2])) == found.split()
