"""Dumps, restores and a logical replica keep what was sealed, and what guards it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from audit import ids
from audit.ledger.verify import verify
from auditproj.embedded.server import Server
from tests.support import sealed, servers
from tests.support.ledger import KEY, codes
from tests.support.users import until

TABLES = "audit_task", "audit_executionlog", "audit_pause_queue"

# One server of each version present; the newest dumps and restores, as a dump for a newer server must be made.
NEWEST = servers.NEWEST
SOURCES = pytest.mark.parametrize("version", servers.parameters())


@pytest.fixture(scope="module")
def find(django_db_blocker: Any) -> Iterator[Any]:
    """A server of the version asked for, migrated, with awkward rows, a live and a paused task, and sealed."""
    with contextlib.ExitStack() as stack:
        made: dict[str, Server] = {}

        def server(version: str) -> Server:
            if version not in made:
                made[version] = stack.enter_context(servers.throwaway(servers.binaries(version)))
                with django_db_blocker.unblock():
                    sealed.migrate(made[version])
                with sealed.connect(made[version]) as connection:
                    sealed.fill(connection)
                    for status in ("approved", "executing", "paused"):
                        row = {"id": ids.uuid7(), "action": "deploy", "status": status}
                        sealed.insert(connection, "audit_task", row)
                with django_db_blocker.unblock():
                    sealed.seal_all(made[version])
            return made[version]

        yield server


@pytest.fixture
def target(find: Any) -> Iterator[tuple[Server, str]]:
    """An empty database on the newest server."""
    server = find(NEWEST)
    with sealed.connect(server) as connection:
        connection.execute("CREATE DATABASE restored TEMPLATE template0")
        yield server, "restored"
        connection.execute("DROP DATABASE restored WITH (FORCE)")


def _guards(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Trigger → `A` where it is ENABLE ALWAYS, `O` where ordinary."""
    rows = connection.execute(
        "SELECT tgname, tgenabled::text FROM pg_trigger"
        " WHERE tgrelid::regclass::text = ANY (%s) AND NOT tgisinternal ORDER BY tgname",
        [list(TABLES)],
    )
    return dict(rows.fetchall())


def _content(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Every row of every table, live ones included."""
    connection.execute("SET TimeZone = 'UTC'")
    return {
        table: [row for (row,) in connection.execute(f"SELECT t::text FROM {table} AS t ORDER BY t.id")]
        for table in TABLES
    }


def _same(source: Server, target: Server, name: str) -> None:
    with sealed.connect(source) as there, sealed.connect(target, name) as here:
        assert _content(here) == _content(there)
        assert sealed.canonical_rows(here) == sealed.canonical_rows(there)


def _found(server: Server, name: str) -> list[str]:
    """What a verification finds."""
    with servers.connected(server, name, "copied") as alias:
        return codes(verify(alias, [KEY.verifier]))


@SOURCES
def test_a_full_dump_restores_rows_ledger_and_guards(
    find: Any, target: tuple[Server, str], version: str, django_db_blocker: Any
) -> None:
    source = find(version)
    assert servers.restore(*target, servers.dump(source, "--no-owner")) == ""
    _same(source, *target)
    with sealed.connect(source) as there, sealed.connect(*target) as here:
        guards = _guards(here)
        assert guards == _guards(there)
        assert {guards["audit_task_10_write"], guards["audit_executionlog_10_write"]} == {"A"}
        with pytest.raises(psycopg.errors.RestrictViolation):
            here.execute("UPDATE audit_task SET summary = 'forged' WHERE status = 'completed'")
        # Life goes on: what is finished there is sealed there.
        here.execute("UPDATE audit_task SET status = 'completed' WHERE status = 'executing'")
        finished = len(sealed.canonical_rows(there)["audit_task"])
        assert len(sealed.canonical_rows(here)["audit_task"]) == finished + 1
    with django_db_blocker.unblock():
        assert _found(*target) == []
        sealed.seal_all(*target)
        assert _found(*target) == []


@SOURCES
def test_a_dump_of_data_alone_is_restored_by_a_replica_session(
    find: Any, target: tuple[Server, str], version: str, django_db_blocker: Any
) -> None:
    source = find(version)
    dump = servers.dump(source, "--data-only", "--table=audit_*")
    assert b"set_config('search_path', '', false)" in dump
    with django_db_blocker.unblock():
        sealed.migrate(*target)
    # An ordinary session would seal and log the tasks anew; the log that comes with them has no place beside that.
    assert "made no step from nothing to" in servers.restore(*target, dump)
    with sealed.connect(*target) as here:
        assert _content(here) == {table: [] for table in TABLES}
    replica = {"PGOPTIONS": "-c session_replication_role=replica"}
    assert servers.restore(*target, dump, **replica) == ""
    with django_db_blocker.unblock():
        assert _found(*target) == []
    _same(source, *target)
    with sealed.connect(source) as there, sealed.connect(*target) as here:
        assert _guards(here) == _guards(there)


def test_a_row_that_was_changed_on_the_way_does_not_fit_its_leaf(
    find: Any, target: tuple[Server, str], django_db_blocker: Any
) -> None:
    dump = servers.dump(find(NEWEST), "--no-owner")
    assert b"\tlogged\t" in dump
    assert servers.restore(*target, dump.replace(b"\tlogged\t", b"\tforged\t", 1)) == ""
    with django_db_blocker.unblock():
        assert _found(*target) == ["row_tampered"]


def test_a_dump_that_disables_triggers_leaves_guards_ordinary(
    find: Any, target: tuple[Server, str], django_db_blocker: Any
) -> None:
    """Why the document warns of it."""
    with django_db_blocker.unblock():
        sealed.migrate(*target)
    dump = servers.dump(find(NEWEST), "--data-only", "--table=audit_*", "--disable-triggers")
    assert servers.restore(*target, dump) == ""
    _same(find(NEWEST), *target)
    with sealed.connect(*target) as here:
        assert set(_guards(here).values()) == {"O"}


# Logical replication


def _in_step(primary: psycopg.Connection[Any], replica: psycopg.Connection[Any]) -> bool:
    return _content(primary) == _content(replica)


def _copied(replica: psycopg.Connection[Any]) -> bool:
    states = replica.execute("SELECT srsubstate::text FROM pg_subscription_rel").fetchall()
    return len(states) == len(TABLES) and {state for (state,) in states} == {"r"}


@pytest.mark.parametrize("version", servers.parameters())
def test_a_logical_replica_holds_what_its_primary_sealed(version: str, django_db_blocker: Any) -> None:
    options = {"wal_level": "logical", "max_worker_processes": "8"}
    with (
        servers.throwaway(servers.binaries(version), options) as first,
        servers.throwaway(servers.binaries(NEWEST), options) as second,
        django_db_blocker.unblock(),
    ):
        for server in (first, second):
            sealed.migrate(server)
        with sealed.connect(first) as primary, sealed.connect(second) as replica:
            _replicate(first, primary, replica)


def _replicate(first: Server, primary: psycopg.Connection[Any], replica: psycopg.Connection[Any]) -> None:
    sealed.fill(primary)
    waiting, running, paused = (ids.uuid7() for _ in range(3))
    for key, status in ((waiting, "pending"), (running, "executing"), (paused, "paused")):
        sealed.insert(primary, "audit_task", {"id": key, "action": "deploy", "status": status, "actor": "alice"})
    primary.execute(f"CREATE PUBLICATION everything FOR TABLE {', '.join(TABLES)}")
    words = " ".join(f"{name}={value}" for name, value in first.connection_parameters().items())
    replica.execute(f"CREATE SUBSCRIPTION copy CONNECTION 'dbname=audit {words}' PUBLICATION everything")
    assert until(lambda: _copied(replica), 60), "the initial copy does not end"
    assert until(lambda: _in_step(primary, replica), 30)

    def move(key: Any, status: str) -> None:
        sql = "UPDATE audit_task SET status = %s, actor = 'bob', revision = revision + 1 WHERE id = %s"
        primary.execute(sql, [status, key])

    for status in ("approved", "executing"):
        move(waiting, status)
    sealed.insert(primary, "audit_executionlog", {"task_id": waiting, "kind": "step", "action": "step", "actor": "bob"})
    move(waiting, "paused")
    move(paused, "approved")
    move(running, "completed")
    sealed.insert(primary, "audit_executionlog", {"task_id": running, "kind": "note", "output_summary": "later"})
    primary.execute("UPDATE audit_pause_queue SET held = false WHERE task_id = %s", [waiting])
    sealed.insert(primary, "audit_task", {"id": ids.uuid7(), "action": "imported", "status": "failed"})
    assert until(lambda: _in_step(primary, replica), 30), "live changes do not arrive"
    assert sealed.canonical_rows(primary) == sealed.canonical_rows(replica)
    [(errors,)] = replica.execute("SELECT sum(apply_error_count + sync_error_count) FROM pg_stat_subscription_stats")
    assert errors == 0
    replica.execute("DROP SUBSCRIPTION copy")
    _attack_as_replica(replica)


def _attack_as_replica(connection: psycopg.Connection[Any]) -> None:
    """What the role of a replica may not write."""
    connection.execute("SET session_replication_role = replica")
    refused = [
        "UPDATE audit_task SET summary = 'forged' WHERE status = 'completed'",
        "UPDATE audit_task SET status = status WHERE status = 'failed'",
        "DELETE FROM audit_task WHERE status = 'completed'",
        "UPDATE audit_executionlog SET actor = 'forged'",
        "DELETE FROM audit_executionlog",
        "TRUNCATE audit_executionlog",
    ]
    for statement in refused:
        with pytest.raises(psycopg.errors.RestrictViolation):
            connection.execute(statement)
    # A live task that finishes without the stamps of its end.
    with pytest.raises(psycopg.errors.CheckViolation, match="finished_whole"):
        connection.execute("UPDATE audit_task SET status = 'rejected' WHERE status = 'approved'")
