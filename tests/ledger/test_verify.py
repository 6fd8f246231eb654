"""What a verification says beside its findings, and attacks that take more than a statement."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import InternalError, connection, connections

from audit.ledger.binary_rows import snapshot
from audit.ledger.seal import seal
from audit.ledger.tlog.canonical import TASK_V1
from audit.ledger.tlog.note import KeyKind, generate
from audit.ledger.verify import CannotVerify, leaves, verify
from audit.ledger.verify.findings import MAX_FINDINGS, Code
from audit.ledger.verify.tree import Tree
from audit.ledger.verify.unsealed import backlog
from audit.models import LedgerHead, LedgerVerification, Task
from auditproj.embedded.server import Server
from tests.support import servers
from tests.support.attacked import Base, fit_leaf, rebuild, resign
from tests.support.factories import sql
from tests.support.ledger import KEY, behind_the_guards, codes, finish, sealed, signed, verified

WITHOUT = "No external checkpoint was given"
NONE_FOUND = "No external checkpoint was found"
STRANGER = generate("example.org/other")


def command(*arguments: str) -> int:
    """The exit status of audit_verify."""
    try:
        call_command("audit_verify", "--key", str(KEY.verifier), *arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    except CommandError as error:
        return error.returncode
    return 0


# What is not covered


def test_a_stolen_key_shows_only_against_what_is_kept_outside(victim: Base) -> None:
    with behind_the_guards():
        sql(victim.statement("UPDATE audit_task SET decided_by = 'eve' WHERE id = $victim"))
        fit_leaf(TASK_V1, victim.names["victim"])
        rebuild()
        resign(KEY)
    report = verified()
    assert codes(report) == []
    assert any(said.startswith(WITHOUT) for said in report.not_covered)
    report = verified(outside=victim.notes)
    # The first batch came before the task.
    assert [(each.code, each.leaf) for each in report.findings] == [
        (Code.FORK, victim.names["size1"]),
        (Code.FORK, victim.names["size2"]),
    ]
    assert not any("external" in said for said in report.not_covered)


def test_a_directory_without_checkpoints_is_reported(victim: Base) -> None:
    report = verified(outside=[])
    assert codes(report) == []
    assert any(said.startswith(NONE_FOUND) for said in report.not_covered)


def test_rows_that_wait_are_counted_and_what_becomes_of_them_leaves_no_trace(victim: Base) -> None:
    first, second = finish(2)
    report = verified()
    assert codes(report) == []
    assert report.unsealed == 10
    assert report.oldest_unsealed is not None
    assert (
        report.oldest_unsealed
        == min(
            sql(
                "SELECT at FROM audit_executionlog WHERE task_id IN (%s, %s) ORDER BY id LIMIT 1", [first.pk, second.pk]
            )
        )[0]
    )
    assert any("10 finished tasks and log rows that are not sealed yet" in said for said in report.not_covered)
    assert any(said.startswith("Whether the unsealed rows are really new.") for said in report.not_covered)
    # The window: what waits can be changed, until it is sealed.
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve' WHERE id = %s", [first.pk])
    assert codes(verified()) == []
    sealed()
    assert codes(verified()) == []
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'bob' WHERE id = %s", [first.pk])
    assert [(each.code, each.task) for each in verified().findings] == [(Code.ROW_TAMPERED, str(first.pk))]


def test_what_was_imported_waits_since_then(victim: Base) -> None:
    past = datetime(2023, 1, 1, tzinfo=UTC)
    Task.objects.bulk_record(
        [{"action": "old", "status": "completed", "created_at": past, "started_at": past, "finished_at": past}]
    )
    [task] = Task.objects.filter(action="old")
    assert task.finished_at == past
    head = LedgerHead.objects.get()
    with connection.cursor() as cursor:
        waiting = backlog(cursor, head)
    assert waiting.oldest == verified().oldest_unsealed == task.recorded_at


def test_what_is_verified_is_one_moment_of_the_database_and_nothing_is_written(victim: Base) -> None:
    def meanwhile() -> None:
        try:
            Task.objects.request("meanwhile")
        finally:
            connections.close_all()

    before = Task.objects.count()
    with snapshot("default") as (_, cursor):
        assert Task.objects.count() == before
        with ThreadPoolExecutor(1) as beside:
            beside.submit(meanwhile).result()
        assert Task.objects.count() == before
        with pytest.raises(InternalError, match="read-only transaction"):
            cursor.execute("DELETE FROM audit_ledger_checkpoint")
    assert Task.objects.count() == before + 1


def test_the_transaction_at_the_mark_still_waits_and_the_one_below_is_sealed(victim: Base) -> None:
    Task.objects.bulk_record([{"action": "new", "status": "completed"} for _ in range(2)])
    [xid] = {int(task.finished_xid) for task in Task.objects.filter(action="new")}
    rows = 2 + sql("SELECT count(*) FROM audit_executionlog WHERE xid = %s::text::xid8", [xid])[0][0]
    assert rows > 2
    head = LedgerHead.objects.get()
    counted = []
    for head.low_xid in (xid, xid + 1):
        with connection.cursor() as cursor:
            counted.append(backlog(cursor, head).count)
    assert counted == [rows, 0]


def test_many_findings_are_counted_and_reported_in_bounds(victim: Base) -> None:
    Task.objects.bulk_record([{"action": "bulk", "status": "completed"} for _ in range(MAX_FINDINGS + 5)])
    sealed()
    with behind_the_guards():
        sql("DELETE FROM audit_executionlog")
    report = verified()
    assert report.counts["row_deleted"] == sql("SELECT count(log_id) FROM audit_ledger_leaf")[0][0]
    assert len([each for each in report.findings if each.code is Code.ROW_DELETED]) == MAX_FINDINGS


def test_leaves_that_are_not_their_tiles_are_remembered_in_bounds(
    victim: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    Task.objects.bulk_record([{"action": "bulk", "status": "completed"} for _ in range(MAX_FINDINGS)])
    size = sealed().size
    remembered = [0]
    compare = Tree._as_stored

    def watched(tree: Tree, *arguments: Any, **options: Any) -> None:
        compare(tree, *arguments, **options)
        remembered.append(len(tree._suspects))

    monkeypatch.setattr(Tree, "_as_stored", watched)
    with behind_the_guards():
        sql("UPDATE audit_ledger_leaf SET leaf_hash = sha256(leaf_hash)")
    report = verified()
    assert report.counts["leaf_changed"] == size > MAX_FINDINGS
    assert len([each for each in report.findings if each.code is Code.LEAF_CHANGED]) == MAX_FINDINGS
    assert max(remembered) <= MAX_FINDINGS


def test_progress_is_reported(victim: Base) -> None:
    seen: list[tuple[int, int]] = []
    verify("default", [KEY.verifier], progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (victim.names["size"], victim.names["size"])


# Who verifies


@pytest.mark.parametrize("keys", [[], [KEY.verifier, STRANGER.verifier]], ids=["none", "two logs"])
def test_keys_must_be_of_one_log(victim: Base, keys: list[Any]) -> None:
    with pytest.raises(CannotVerify, match="of one name"):
        verify("default", keys)


def test_the_key_must_be_a_logs(victim: Base) -> None:
    witness = generate(KEY.name, KeyKind.COSIGNATURE)
    with pytest.raises(CannotVerify, match="is a witness's key"):
        verify("default", [witness.verifier])


def test_a_verification_that_breaks_is_no_tampering_and_hides_none(
    victim: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> bytes:
        raise TypeError("cannot be hashed")

    monkeypatch.setattr(leaves, "wire_hashes", breaks)
    with pytest.raises(CannotVerify, match="TypeError: cannot be hashed"):
        verified()
    assert command() == 2
    [stored] = LedgerVerification.objects.all()
    assert (stored.verdict, "cannot be hashed" in stored.report["problem"]) == ("unchecked", True)
    sql("ALTER TABLE audit_task DISABLE TRIGGER audit_task_10_write")
    report = verified()
    assert codes(report) == ["guard_off"]
    assert "TypeError: cannot be hashed" in report.not_covered[0]
    assert command() == 1


def test_a_migration_whose_record_is_gone_hides_nothing(victim: Base) -> None:
    sql("DELETE FROM django_migrations WHERE app = 'audit'")
    assert codes(verified()) == []
    with behind_the_guards():
        sql(victim.statement("UPDATE audit_task SET decided_by = 'eve' WHERE id = $victim"))
    sql("DROP TRIGGER audit_task_10_write ON audit_task")
    assert codes(verified()) == ["guard_off", "row_tampered"]
    assert command() == 1


def test_exit_codes_tell_intact_from_tampered_from_unchecked(victim: Base, tmp_path: Path) -> None:
    assert command() == 0
    # Nothing to compare with where something should be: whoever emptied it must not make it pass.
    assert command("--checkpoints", str(tmp_path)) == 2
    (tmp_path / "0001.checkpoint").write_text(victim.notes[0])
    assert command("--checkpoints", str(tmp_path)) == 0
    assert command("--accept-epoch", "7") == 2
    (tmp_path / "0001.checkpoint").unlink()
    (tmp_path / "0001.checkpoint").mkdir()
    assert command("--checkpoints", str(tmp_path)) == 2
    sql("ALTER TABLE audit_task DISABLE TRIGGER audit_task_10_write")
    assert command() == 1
    (tmp_path / "0001.checkpoint").rmdir()
    assert command("--checkpoints", str(tmp_path), "--accept-epoch", "7") == 1


def test_another_reader_of_the_log_finds_every_checkpoint_foreign(victim: Base) -> None:
    report = verified(STRANGER.verifier)
    assert codes(report) == ["forged_checkpoint", "leaves_unsigned"]


# Checkpoints kept outside


OUTSIDE: dict[str, tuple[Callable[[Base], str], str]] = {
    "signed by another key": (
        lambda base: signed(generate(KEY.name), KEY.name, base.names["size1"], bytes(32)),
        "forged_checkpoint",
    ),
    "of another log": (
        lambda base: signed(STRANGER, STRANGER.name, 5, bytes(32)),
        "forged_checkpoint",
    ),
    "of another log, by this key": (
        lambda base: signed(KEY, "example.org/elsewhere", 5, bytes(32)),
        "wrong_origin",
    ),
    "of another size": (
        lambda base: base.notes[0].replace(f"\n{base.names['size1']}\n", "\n7\n"),
        "forged_checkpoint",
    ),
    "of another tree": (
        lambda base: signed(KEY, KEY.name, base.names["size1"], bytes(32)),
        "fork",
    ),
    "of another tree at a size of its own": (
        lambda base: signed(KEY, KEY.name, 7, bytes(32)),
        "checkpoint_deleted fork",
    ),
    "of more than there is": (
        lambda base: signed(KEY, KEY.name, base.names["size"] + 1, bytes(32)),
        "rollback",
    ),
    "of an epoch that is to come": (
        lambda base: signed(KEY, f"{KEY.name}/epoch/2", 7, bytes(32)),
        "rollback",
    ),
}


DAMAGED: dict[str, Callable[[Base], str]] = {
    "empty": lambda base: "",
    "half of one": lambda base: base.notes[0][:40],
    "no text": lambda base: b"\xff\x00\xfe".decode("utf-8", "surrogateescape"),
    "bytes among the text": lambda base: base.notes[0].replace("\n\n", "\udcff\n\n", 1),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_checkpoint_from_outside_could_not_be_checked_and_hides_nothing(victim: Base, name: str) -> None:
    damaged = DAMAGED[name](victim)
    with pytest.raises(CannotVerify, match=r"3\.checkpoint"):
        verified(outside=[*victim.notes, damaged])
    fork = signed(KEY, KEY.name, victim.names["size1"], bytes(32))
    assert codes(verified(outside=[damaged, fork])) == ["fork"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_checkpoint_from_outside_that_does_not_belong(victim: Base, name: str) -> None:
    made, found = OUTSIDE[name]
    report = verified(outside=[*victim.notes, made(victim)])
    assert codes(report) == found.split()
    assert all("3.checkpoint" in each.message for each in report.findings)


# Row security


def test_rows_hidden_by_a_policy_are_not_taken_for_deleted(victim: Base) -> None:
    """As a role that policies apply to; to a superuser they do not."""
    role = f"audit_reader_{os.getpid()}"  # another worker of the run has roles on this server, too
    sql(f"CREATE ROLE {role}")
    try:
        sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        sql("ALTER TABLE audit_task ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        sql(victim.statement("CREATE POLICY hide ON audit_task USING (id <> $victim)"))
        sql(f"SET ROLE {role}")
        report = verified()
        assert codes(report) == ["relation_replaced"]
        assert report.size == 0
        assert "the tables cannot be read as they are now" in report.not_covered[0]
        assert report.as_json()["verdict"] == "tampering"
        # The connection is usable afterwards.
        assert sql("SELECT 1") == [(1,)]
    finally:
        sql("RESET ROLE")
        sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_owner_under_forced_row_security_sees_what_is_wrong(victim: Base) -> None:
    role = f"audit_owner_{os.getpid()}"
    sql(f"CREATE ROLE {role}")
    try:
        sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        sql(f"ALTER TABLE audit_executionlog OWNER TO {role}")
        sql("ALTER TABLE audit_executionlog ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        sql(f"SET ROLE {role}")
        assert codes(verified()) == ["relation_replaced", "guard_off"]
    finally:
        sql("RESET ROLE")
        sql(f"REASSIGN OWNED BY {role} TO {connection.settings_dict['USER']}")
        sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


# Functions replaced in the server


@pytest.fixture
def ruined(throwaway_server: Callable[..., Server], django_db_blocker: Any) -> Any:
    """A server of the test's own, under the alias `ruined`, with finished tasks."""
    with django_db_blocker.unblock(), servers.connected(throwaway_server(), "audit", "ruined") as alias:
        call_command("migrate", "audit", database=alias, verbosity=0)
        Task.objects.using(alias).bulk_record([{"action": "x", "status": "completed"} for _ in range(5)])
        yield alias


REPLACED = {
    "sha256": "CREATE OR REPLACE FUNCTION pg_catalog.sha256(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE"
    " AS $$ SELECT decode(repeat('00', 32), 'hex') $$",
    "sha256, for one row": "CREATE OR REPLACE FUNCTION pg_catalog.sha256(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE"
    " AS $$ SELECT pg_catalog.sha512($1) $$",
    "convert_to": "CREATE OR REPLACE FUNCTION pg_catalog.convert_to(text, name) RETURNS bytea LANGUAGE sql IMMUTABLE"
    " AS $$ SELECT decode('41', 'hex') $$",
    "the sealer's horizon": "CREATE OR REPLACE FUNCTION pg_catalog.pg_snapshot_xmin(pg_snapshot) RETURNS xid8"
    " LANGUAGE sql IMMUTABLE AS $$ SELECT '9'::xid8 $$",
    "another symbol under its name": "CREATE OR REPLACE FUNCTION pg_catalog.sha256(bytea) RETURNS bytea"
    " LANGUAGE internal IMMUTABLE STRICT AS 'sha224_bytea'",
    "one more, in front of it": "CREATE FUNCTION pg_catalog.sha256(text) RETURNS bytea LANGUAGE sql"
    " AS $$ SELECT NULL::bytea $$",
}


def test_functions_of_the_server_that_were_replaced(ruined: str) -> None:
    tasks = Task.objects.using(ruined)
    list(seal(ruined, [KEY]))

    def found() -> list[str]:
        return codes(verify(ruined, [KEY.verifier]))

    assert found() == []
    with connections[ruined].cursor() as cursor:
        originals = {}
        for what in ("sha256(bytea)", "convert_to(text,name)", "pg_snapshot_xmin(pg_snapshot)"):
            cursor.execute("SELECT pg_get_functiondef(%s::regprocedure)", [what])
            originals[what] = cursor.fetchone()[0]
        for name, statement in REPLACED.items():
            cursor.execute("SET allow_system_table_mods = on")
            cursor.execute(statement)
            # What was sealed before is hashed here, not there.
            assert found() == ["guard_off"], name
            for original in originals.values():
                cursor.execute(original)
            cursor.execute("DROP FUNCTION IF EXISTS pg_catalog.sha256(text)")
            assert found() == [], name
        # What was written while they were others is not hashed there either.
        cursor.execute(REPLACED["sha256"])
        tasks.bulk_record([{"action": "weak", "status": "completed"}])
        list(seal(ruined, [KEY]))
        cursor.execute(originals["sha256(bytea)"])
    assert found() == []


def test_of_rows_that_are_hashed_together_the_one_without_a_canonical_form_is_named(victim: Base) -> None:
    ((last,), (other,)) = sql("SELECT id FROM audit_task WHERE finished_xid IS NOT NULL ORDER BY id DESC LIMIT 2")
    with behind_the_guards():
        sql("UPDATE audit_task SET services_touched = '{a,NULL}' WHERE id = %s", [last])
        sql("UPDATE audit_task SET summary = 'forged' WHERE id = %s", [other])
    found = [each for each in verified().findings if each.code is Code.ROW_TAMPERED]
    assert {each.task: "no canonical form" in each.message for each in found} == {str(last): True, str(other): False}


# Memory


def test_memory_does_not_grow_with_what_rows_hold(victim: Base) -> None:
    import tracemalloc

    one = 3_000_000
    with behind_the_guards():  # the size of a document is limited where it is written
        for _ in range(8):
            sql(
                "INSERT INTO audit_executionlog (task_id, at, kind, actor, detail, db_role, revision, attempt, action,"
                " output_summary, row_version, xid)"
                " SELECT id, now(), 'note', 'x', to_jsonb(repeat('é', %s)), 'x', 1, 1, '', '', 1,"
                " pg_current_xact_id() FROM audit_task WHERE id = %s",
                [one // 2, victim.names["victim"]],
            )

    def peak(act: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            act()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    waiting = peak(lambda: codes(verified()))
    sealing = peak(sealed)
    assert max(waiting, sealing, peak(lambda: codes(verified()))) < 6 * one
    assert codes(verified()) == []
