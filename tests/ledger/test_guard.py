"""The tables of the ledger only grow: no row of any changes or goes, whoever asks."""

import pytest
from django.db import transaction

from audit.sql import read
from tests.support.attacks import circumstance
from tests.support.factories import refused, sql
from tests.support.ledger import behind_the_guards, finish, sealed

pytestmark = pytest.mark.django_db(transaction=True)

# The head and the tiles change as the tree grows.
UPDATED = {
    "leaf": "leaf_hash = sha256('x')",
    "checkpoint": "note = 'x'",
    "epoch": "reason = 'x'",
    "verification": "size = 1",
}
TABLES = [*UPDATED, "head", "tile"]


def test_every_trigger_of_the_rule_is_enabled_always() -> None:
    """The rule is run once more: what empties tables between tests enables the triggers by itself."""
    forwards, backwards = read("ledger_guard_v1")
    states = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgname ~ '^audit_ledger_.*_10_' ORDER BY 1"
    with transaction.atomic():
        for statement in [*backwards, *forwards]:
            sql(statement)
        found = sql(states)
        transaction.set_rollback(True)
    assert [name for name, _ in found] == sorted(
        f"audit_ledger_{table}_10_{name}" for table in TABLES for name in ("guard", "no_truncate")
    )
    assert {state for _, state in found} == {"A"}


@pytest.mark.parametrize("where", ["as owner", "replica role"])
def test_nothing_of_the_ledger_changes_or_goes(where) -> None:
    finish(1)
    sealed()
    sql(
        "INSERT INTO audit_ledger_verification (started_at, verdict, size, unsealed, report)"
        " VALUES (now(), 'intact', 0, 0, '{}')"
    )
    sql(
        "INSERT INTO audit_ledger_epoch (number, origin, size, previous, reason, actor, started_at, row_version)"
        " VALUES (2, 'x', 0, '', 'restored', 'x', now(), 1)"
    )
    try:
        for table in TABLES:
            assert sql(f"SELECT EXISTS (SELECT FROM audit_ledger_{table})") == [(True,)]
            attacks = {
                "DELETE": f"DELETE FROM public.audit_ledger_{table}",
                "TRUNCATE": f"TRUNCATE public.audit_ledger_{table}",
            }
            if table in UPDATED:
                attacks["UPDATE"] = f"UPDATE public.audit_ledger_{table} SET {UPDATED[table]}"
            for operation, attack in attacks.items():
                words = "an audit table is never truncated" if operation == "TRUNCATE" else f"takes no {operation}"
                with circumstance(where), refused(match=f"audit_ledger_{table}: .*{words}"):
                    sql(attack)
    finally:
        with behind_the_guards():
            sql("DELETE FROM audit_ledger_epoch")
