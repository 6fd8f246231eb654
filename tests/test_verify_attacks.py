"""What an owner can do with the triggers off, and what the verification says of it."""

import pytest

from tests.factories import sql
from tests.ledger import behind_the_guards, codes, finish, sealed, verified

pytestmark = pytest.mark.django_db(transaction=True)

FIRST = "(SELECT min(id::text)::uuid FROM audit_task)"
SECOND = "(SELECT max(id::text)::uuid FROM audit_task)"
STEP = "(SELECT min(id) FROM audit_executionlog)"
WHERE = f"WHERE id = {FIRST}"

ATTACKS = {
    "a column": ([f"UPDATE audit_task SET summary = 'other' {WHERE}"], "row_tampered"),
    "who approved": ([f"UPDATE audit_task SET decided_by = 'eve' {WHERE}"], "row_tampered"),
    "a microsecond": (
        [f"UPDATE audit_task SET created_at = created_at + interval '1 microsecond' {WHERE}"],
        "row_tampered",
    ),
    "12.50 to 12.5": ([f"UPDATE audit_task SET plan = '{{\"cost\": 12.5}}' {WHERE}"], "row_tampered"),
    "NULL to empty": ([f"UPDATE audit_task SET origin = '{{}}' {WHERE}"], "row_tampered"),
    "two services to one": ([f"UPDATE audit_task SET services_touched = '{{\"a,b\"}}' {WHERE}"], "row_tampered"),
    "the hash": ([f"UPDATE audit_task SET row_hash = sha256('x') {WHERE}"], "row_hash_changed"),
    "a step of the log": ([f"UPDATE audit_executionlog SET actor = 'eve' WHERE id = {STEP}"], "row_tampered"),
    "a row": (
        [f"DELETE FROM audit_executionlog WHERE task_id = {FIRST}", f"DELETE FROM audit_task {WHERE}"],
        "row_deleted",
    ),
    "a log row": ([f"DELETE FROM audit_executionlog WHERE id = {STEP}"], "row_deleted"),
    "a log row and its leaf": (
        [
            f"DELETE FROM audit_ledger_leaf WHERE log_id = {STEP}",
            f"DELETE FROM audit_executionlog WHERE id = {STEP}",
        ],
        "leaf_gap",
    ),
    "closed gap": (
        [
            "DELETE FROM audit_executionlog WHERE id = (SELECT log_id FROM audit_ledger_leaf WHERE index = 3)",
            "DELETE FROM audit_ledger_leaf WHERE index = 3",
            "UPDATE audit_ledger_leaf SET index = index + 999 WHERE index > 3",
            "UPDATE audit_ledger_leaf SET index = index - 1000 WHERE index > 999",
        ],
        "leaves_missing",
    ),
    "the tail": (["DELETE FROM audit_ledger_leaf WHERE index > 4"], "leaves_missing"),
    "tile": (["UPDATE audit_ledger_tile SET data = set_byte(data, 3, (get_byte(data, 3) + 1) % 256)"], "tile_corrupt"),
    "frontier": (
        ["UPDATE audit_ledger_head SET frontier = set_byte(frontier, 3, (get_byte(frontier, 3) + 1) % 256)"],
        "frontier_altered",
    ),
    "checkpoints": (["DELETE FROM audit_ledger_checkpoint"], "leaves_unsigned"),
    "a leaf": (["UPDATE audit_ledger_leaf SET leaf_hash = sha256('x') WHERE index = 2"], "row_hash_changed"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_found(name: str) -> None:
    statements, code = ATTACKS[name]
    finish(2, services=["a", "b"])
    finish(1)
    sealed()
    assert codes(verified()) == []
    with behind_the_guards():
        for each in statements:
            sql(each)
    found = verified()
    assert code in codes(found)
