"""The sealer: every finished row gets exactly one leaf, and what is signed covers the tree."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from audit import ids
from audit.ledger import seal as sealer
from audit.ledger.seal import Busy, CannotSeal, RefusesToSeal, begin_epoch, seal
from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, row_hash
from audit.ledger.tlog.damage import Damaged
from audit.ledger.tlog.note import generate
from audit.models import ExecutionLog, LedgerCheckpoint, LedgerEpoch, LedgerHead, LedgerLeaf, LedgerTile, Task
from tests.support.attacked import Base, maintained, rebuild, resign
from tests.support.databases import ended
from tests.support.factories import sql, task_in
from tests.support.ledger import KEY, behind_the_guards, codes, finish, sealed, session, verified
from tests.support.users import until

pytestmark = pytest.mark.django_db(transaction=True)


def leaves() -> list[tuple[object, ...]]:
    """Every leaf: index, task, log row."""
    return list(LedgerLeaf.objects.order_by("index").values_list("index", "task_id", "log_id"))


def test_everything_finished_and_logged_gets_one_leaf() -> None:
    finish(3)
    task_in("executing")
    last = sealed()
    assert last.size == last.sealed == 3 + ExecutionLog.objects.count()
    assert [index for index, *_ in leaves()] == list(range(last.size))
    assert {task for _, task, _ in leaves() if task} == set(Task.objects.finished().values_list("pk", flat=True))
    assert {log for *_, log in leaves() if log} == set(ExecutionLog.objects.values_list("pk", flat=True))
    report = verified()
    assert (codes(report), report.size, report.signed, report.unsealed) == ([], last.size, last.size, 0)
    assert report.covered["tasks"] == 3


def test_an_empty_batch_signs_nothing() -> None:
    assert sealed().note == ""
    assert not LedgerCheckpoint.objects.exists()
    finish(1)
    note = sealed().note
    assert sealed().note == note
    assert LedgerCheckpoint.objects.count() == 1


# Who commits when


def finish_in(beside: psycopg.Connection[Any]) -> None:
    """A finished task and its log row."""
    beside.execute("INSERT INTO audit_task (id, action, status) VALUES (%s, 'late', 'completed')", [ids.uuid7()])


def mark() -> int:
    """Below which transaction everything is sealed."""
    return LedgerHead.objects.get().low_xid or 0


def test_a_transaction_that_commits_late_is_not_missed() -> None:
    ended()
    finish(1)
    sealed()
    with session() as first, session() as second:
        finish_in(first)
        finish_in(second)
        second.commit()
        finish(1)
        before = mark()
        [(late,)] = first.execute("SELECT pg_current_xact_id()::text").fetchall()
        assert sealed().sealed == 7
        assert mark() <= int(late)
        # Nothing of what is above the mark is sealed again.
        assert sealed().sealed == 0
        first.commit()
        assert sealed().sealed == 2
        ended()
        assert sealed().sealed == 0
    assert mark() > before
    report = verified()
    assert (codes(report), report.unsealed) == ([], 0)


def test_one_that_commits_between_two_batches_is_found_by_the_next_run() -> None:
    with session() as late:
        finish_in(late)
        finish(3)
        batches = seal("default", [KEY], limit=4)
        assert next(batches).sealed == 4
        late.commit()
        assert sum(batch.sealed for batch in batches) == 11
    assert sealed().sealed == 2
    assert codes(verified()) == []


def test_what_was_rolled_back_has_no_leaf_and_savepoints_count_as_their_transaction() -> None:
    with session() as beside:
        finish_in(beside)
        beside.execute("SAVEPOINT part")
        finish_in(beside)
        beside.execute("ROLLBACK TO SAVEPOINT part")
        beside.execute("SAVEPOINT part")
        finish_in(beside)
        beside.execute("RELEASE SAVEPOINT part")
        finish(1)
        assert sealed().sealed == 5
        beside.commit()
    assert sealed().sealed == 4
    assert len({xid for (xid,) in sql("SELECT finished_xid FROM audit_task WHERE action = 'late'")}) == 1
    assert codes(verified()) == []


def test_a_transaction_of_another_database_holds_the_mark_and_not_the_sealing() -> None:
    ended()
    with maintained() as elsewhere:
        elsewhere.autocommit = False
        [(held,)] = elsewhere.execute("SELECT pg_current_xact_id()::text").fetchall()
        finish(1)
        assert sealed().sealed == 5
        finish(1)
        assert sealed().sealed == 5
        assert sealed().sealed == 0
        # A test next door may hold it further back.
        assert mark() <= int(held)
        elsewhere.rollback()
    ended()
    sealed()
    assert mark() > int(held)


def test_a_second_sealer_waits_for_the_first_and_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    sealed()
    finish(1)
    monkeypatch.setattr(sealer, "WAIT_S", 0.2)
    with session() as beside:
        beside.execute("SELECT FROM audit_ledger_head FOR UPDATE")
        with pytest.raises(Busy, match=r"perhaps another sealer, .*waited 0\.2 s.* Nothing was sealed"):
            sealed()
        with pytest.raises(Busy, match="perhaps another sealer"):
            begin_epoch("default", [KEY], left_behind="", reason="restored", actor="cli:bob")
        assert LedgerLeaf.objects.count() == 5
        # One that lets go in time is waited for.
        monkeypatch.setattr(sealer, "WAIT_S", 60)
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(_sealed_elsewhere)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
            assert until(lambda: sql(waiting, [connection.settings_dict["NAME"]]) == [(1,)])
            beside.rollback()
            assert second.result(timeout=120) == 5
    assert codes(verified()) == []


def _sealed_elsewhere() -> int:
    """Seal in this thread, with a connection of its own."""
    try:
        return sealed().sealed
    finally:
        connection.close()


def test_a_first_sealer_that_has_not_committed_is_waited_for_no_longer_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything was sealed there is no head to lock: it is made by whoever comes first."""
    finish(1)
    monkeypatch.setattr(sealer, "WAIT_S", 0.2)
    with session() as beside:
        beside.execute("INSERT INTO audit_ledger_head (id) VALUES (1)")
        with pytest.raises(Busy):
            sealed()
        beside.rollback()
    assert sealed().sealed == 5


def test_a_table_that_somebody_locks_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    monkeypatch.setattr(sealer, "WAIT_S", 0.2)
    with session() as beside:
        beside.execute("LOCK TABLE audit_task IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Busy, match="Nothing was sealed"):
            sealed()
        beside.rollback()
    assert sealed().sealed == 5


# What a login that may only read, or nothing at all, tries in order to stop the sealer.
BLOCKED = [
    "SELECT FROM audit_ledger_head FOR UPDATE",
    "SELECT FROM audit_ledger_head FOR NO KEY UPDATE",
    "SELECT FROM audit_ledger_head FOR SHARE",
    "SELECT FROM audit_ledger_head FOR KEY SHARE",
    "LOCK TABLE audit_ledger_head IN ROW SHARE MODE",
    "LOCK TABLE audit_ledger_leaf IN SHARE MODE",
    "LOCK TABLE audit_task IN ACCESS EXCLUSIVE MODE",
    "INSERT INTO audit_ledger_head (id) VALUES (1)",
]
ALLOWED = [
    "LOCK TABLE audit_ledger_head, audit_ledger_leaf, audit_task, audit_executionlog IN ACCESS SHARE MODE",
    "SELECT pg_advisory_lock(1635083380, hashint8('audit_ledger_head'::regclass::oid::bigint))",
    "SELECT count(*) FROM audit_ledger_head, audit_ledger_leaf, audit_task",
]


def test_who_may_only_read_cannot_keep_the_sealer_from_sealing(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    sealed()
    finish(1)
    monkeypatch.setattr(sealer, "WAIT_S", 0.2)
    role = f"audit_reader_{os.getpid()}"  # another worker of the run has roles on this server, too
    sql(f"CREATE ROLE {role}")
    try:
        sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        with session() as beside:
            beside.execute(f"SET ROLE {role}")
            for statement in BLOCKED:
                beside.execute("SAVEPOINT before")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    beside.execute(statement)
                beside.execute("ROLLBACK TO SAVEPOINT before")
            for statement in ALLOWED:
                beside.execute(statement)
            assert sealed().sealed == 5
            beside.rollback()
    finally:
        sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_session_may_be_set_to_another_isolation() -> None:
    finish(1)
    sql("SET default_transaction_isolation = 'repeatable read'")
    sql("SET synchronous_commit = off")
    try:
        assert sealed().sealed == 5
        assert codes(verified()) == []
        with sealer._locked("default"):
            assert sql("SHOW transaction_isolation") == [("read committed",)]
            assert sql("SHOW synchronous_commit") == [("on",)]
    finally:
        sql("RESET default_transaction_isolation")
        sql("RESET synchronous_commit")


def test_a_role_of_its_own_seals_and_another_that_only_reads_verifies(victim: Base) -> None:
    """With the rights that docs/ledger.md names, and no more."""
    finish(1)
    seals, reads = roles = [f"audit_{name}_{os.getpid()}" for name in ("sealer", "reader")]
    for role in roles:
        sql(f"CREATE ROLE {role}")
        sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        for table in ("leaf", "tile", "head", "checkpoint", "epoch"):
            sql(f"GRANT INSERT, UPDATE ON audit_ledger_{table} TO {seals}")
        sql(f"SET ROLE {seals}")
        assert sealed(exported=victim.notes[-1]).sealed == 5
        sql(f"SET ROLE {reads}")
        report = verified(outside=victim.notes)
        assert (codes(report), report.unsealed) == ([], 0)
    finally:
        sql("RESET ROLE")
        for role in roles:
            sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_sealing_joins_no_transaction_of_its_caller() -> None:
    finish(1)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        sealed()


# What it refuses to sign

STRANGER = generate("example.org/other")
SPOILT = {
    "no checkpoint": "DELETE FROM audit_ledger_checkpoint",
    "a leaf too many": "INSERT INTO audit_ledger_leaf (index, epoch, salt, leaf_hash)"
    " VALUES (99, 2, uuid_send(gen_random_uuid()), sha256('x'))",
    "the last leaf gone": "DELETE FROM audit_ledger_leaf WHERE index = (SELECT max(index) FROM audit_ledger_leaf)",
    "another frontier": "UPDATE audit_ledger_head SET frontier = set_byte(frontier, 3, get_byte(frontier, 3) # 1)",
    "no frontier": "UPDATE audit_ledger_head SET frontier = ''",
    "another size": "UPDATE audit_ledger_head SET size = size + 1",
    "another epoch": "UPDATE audit_ledger_head SET epoch = 2",
    "no head": "DELETE FROM audit_ledger_head",
    "another tile": "UPDATE audit_ledger_tile SET data = set_byte(data, 3, get_byte(data, 3) # 1)",
    "no tile": "DELETE FROM audit_ledger_tile",
    "a checkpoint nobody signed": "UPDATE audit_ledger_checkpoint SET note = replace(note, 'example', 'elpmaxe')",
    "a checkpoint that is not text": "UPDATE audit_ledger_checkpoint SET note = 'x'",
}


@pytest.mark.parametrize("name", SPOILT)
def test_nothing_is_signed_upon_a_tree_that_is_not_the_signed_one(name: str) -> None:
    finish(1)
    sealed()
    finish(1)
    with behind_the_guards():
        sql(SPOILT[name])
    before = [list(model.objects.order_by("pk").values_list()) for model in (LedgerLeaf, LedgerTile, LedgerCheckpoint)]
    with pytest.raises(CannotSeal):  # a forger may as well have made it look like another log's
        sealed()
    after = [list(model.objects.order_by("pk").values_list()) for model in (LedgerLeaf, LedgerTile, LedgerCheckpoint)]
    assert before == after


def test_nothing_is_signed_upon_a_tree_rebuilt_under_old_signatures() -> None:
    finish(1)
    sealed()
    finish(1)
    with behind_the_guards():
        sql("UPDATE audit_ledger_leaf SET leaf_hash = sha256('x') WHERE index = 2")
        rebuild()
    with pytest.raises(RefusesToSeal, match="does not cover the tree as it is"):
        sealed()
    with behind_the_guards():
        resign(generate(KEY.name))
    with pytest.raises(RefusesToSeal, match="cannot be trusted"):
        sealed()
    assert LedgerCheckpoint.objects.count() == 1


def test_a_kept_checkpoint_of_another_tree_stops_the_sealer() -> None:
    finish(1)
    kept = sealed().note
    with behind_the_guards():
        sql("UPDATE audit_ledger_leaf SET leaf_hash = sha256('x') WHERE index = 2")
        rebuild()
        resign(KEY)  # stolen
    finish(1)
    with pytest.raises(RefusesToSeal, match="a fork, not a restore"):
        sealed(exported=kept)
    # No new epoch heals that: what was kept would still be of another tree.
    with pytest.raises(RefusesToSeal, match="a fork, not a restore"):
        begin_epoch("default", [KEY], left_behind=kept, reason="restored", actor="eve")
    assert not LedgerEpoch.objects.exists()
    with behind_the_guards():  # an epoch that nobody began forgives nothing
        sql("INSERT INTO audit_ledger_epoch VALUES (2, '', 0, '', 'restored', 'eve', now(), 1)")
    with pytest.raises(RefusesToSeal, match="a fork, not a restore"):
        sealed(exported=kept)


@pytest.mark.parametrize(
    ("signers", "options", "message", "refused"),
    [
        ([], {}, "of one name", False),
        ([KEY, STRANGER], {}, "of one name", False),
        ([KEY], {"limit": 0}, "seals nothing", False),
        ([STRANGER], {}, "of the log 'example.org/audit', and the key signs for 'example.org/other'", False),
        ([generate(KEY.name)], {}, "cannot be trusted", True),
        ([KEY], {"exported": "x"}, "It is damaged: its end is missing", False),
    ],
    ids=["no key", "keys of two logs", "no rows", "another log's key", "another key", "no checkpoint"],
)
def test_what_cannot_seal_changes_nothing(
    signers: list[Any], options: dict[str, Any], message: str, refused: bool
) -> None:
    finish(1)
    sealed()
    finish(1)
    with pytest.raises((CannotSeal, Damaged), match=message) as caught:
        list(seal("default", signers, **options))
    assert isinstance(caught.value, RefusesToSeal) == refused
    assert LedgerCheckpoint.objects.count() == 1


def test_a_mark_in_the_future_is_not_believed() -> None:
    finish(1)
    sealed()
    finish(1)
    sql("UPDATE audit_ledger_head SET low_xid = '4611686018427387904'")
    assert codes(verified()) == ["frontier_altered"]
    assert sealed().sealed == 5
    assert codes(verified()) == []
    assert mark() < 2**40


# What a leaf holds


def test_a_leaf_holds_a_salt_of_its_own_and_the_hash_of_its_row_with_it() -> None:
    finish(2)
    sealed()
    salts = set()
    for leaf in LedgerLeaf.objects.all():
        form, key = (TASK_V1, leaf.task_id) if leaf.task_id else (LOG_V1, leaf.log_id)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {form.select()} FROM {form.table} WHERE id = %s", [key])
            row = dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))
        assert bytes(leaf.leaf_hash) == row_hash(form, row | {"salt": leaf.salt})
        salts.add(bytes(leaf.salt))
    assert {len(each) for each in salts} == {16}
    assert len(salts) == LedgerLeaf.objects.count() == 2 + ExecutionLog.objects.count()


@pytest.mark.parametrize(
    "setting",
    ["client_encoding = 'LATIN1'", "bytea_output = 'escape'", "TimeZone = 'Asia/Kathmandu'"],
)
def test_settings_of_the_session_change_no_hash(setting: str) -> None:
    finish(1, summary="Zoë")
    sql(f"SET {setting}")
    try:
        assert sealed().sealed == 5
        assert codes(verified()) == []
    finally:
        connection.close()
    assert codes(verified()) == []


def test_a_row_that_has_no_canonical_form_stops_the_sealer(victim: Base) -> None:
    finish(1)
    size = LedgerLeaf.objects.count()
    sql("ALTER TABLE audit_task ALTER created_at TYPE date")
    with pytest.raises(CannotSeal, match=r"A row of audit_task cannot be sealed: .* not of the type"):
        sealed()
    assert LedgerLeaf.objects.count() == size
