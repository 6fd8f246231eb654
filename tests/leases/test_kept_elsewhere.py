"""Leases of work in another schema, role or database than a new connection has, or beside a pool without a slot."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, connections

from audit import record
from audit.leases import keeper as keeping
from audit.leases.keeper import LeaseKeeper
from audit.leases.prolong import Lease, Session, prolong
from audit.models import Task
from tests.support.databases import temporary_database
from tests.support.factories import sql
from tests.support.sessions import application_role
from tests.support.worker import eventually

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

SHORT = timedelta(seconds=1)
KEPT = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lease is prolonged after a third of a second, also one that no slow machine lets run out."""

    class Soon(keeping.KeptLease):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.period = SHORT.total_seconds() / 3
            self.due = time.monotonic() + self.period

    monkeypatch.setattr(keeping, "KeptLease", Soon)


@contextmanager
def alias_like(source: Any, **settings: Any) -> Iterator[str]:
    """An alias that in this thread alone leads elsewhere than in others, until the block ends."""
    connections.settings["special"] = connections.settings["default"] | {"TEST": {}}
    special = source.copy()
    special.settings_dict |= settings
    connections["special"] = special
    try:
        yield "special"
    finally:
        special.close()
        del connections["special"]
        del connections.settings["special"]


def kept_alive(using: str) -> Task:
    """Record work, and see its lease prolonged twice."""
    with record("long", lease=KEPT, using=using) as task:
        last = task.lease_expires_at
        for _ in range(2):
            eventually(lambda last=last: Task.objects.using(using).get(pk=task.pk).lease_expires_at > last)
            last = Task.objects.using(using).get(pk=task.pk).lease_expires_at
        assert not Task.objects.using(using).recover_expired()
    assert task.status == "completed"
    return task


@pytest.mark.parametrize("decoy", [False, True], ids=["tables in one schema", "tables in public too"])
def test_in_the_schema_of_a_tenant(decoy: bool, caplog: pytest.LogCaptureFixture) -> None:
    with temporary_database("tenants") as other:
        if decoy:
            call_command("migrate", "audit", database=other, verbosity=0)
        with connections[other].cursor() as cursor:
            cursor.execute('CREATE SCHEMA "acme, inc"; SET search_path = "acme, inc", pg_catalog')
        call_command("migrate", "audit", database=other, verbosity=0)
        task = kept_alive(other)
        with connections[other].cursor() as cursor:
            cursor.execute('SELECT id FROM "acme, inc".audit_task')
            assert cursor.fetchall() == [(task.pk,)]
    assert "prolonged" not in caplog.text
    assert "lost" not in caplog.text


def test_in_the_database_that_the_alias_meant_in_this_thread() -> None:
    with temporary_database("elsewhere") as other:
        call_command("migrate", "audit", database=other, verbosity=0)
        with alias_like(connections[other]) as using:
            kept_alive(using)
            connections[using].close()
        connections[other].close()


def test_under_the_role_of_the_work_and_the_log_says_what_it_lacked(caplog: pytest.LogCaptureFixture) -> None:
    with application_role() as role:
        sql(f"SET ROLE {role}")
        try:
            with record("long", lease=SHORT) as task:
                sql(f"RESET ROLE; REVOKE UPDATE ON audit_task FROM {role}")
                eventually(lambda: "permission denied for table audit_task" in caplog.text)
                assert role in caplog.text
                assert str(task.pk) in caplog.text
                sql(f"GRANT UPDATE ON audit_task TO {role}")
                eventually(lambda: Task.objects.get(pk=task.pk).lease_expires_at > task.lease_expires_at)
        finally:
            sql("RESET ROLE")
    assert task.status == "completed"


def test_beside_a_pool_that_the_work_has_used_up() -> None:
    pooled = {"pool": {"min_size": 1, "max_size": 1, "timeout": 1}}
    with alias_like(connection, OPTIONS=connection.settings_dict["OPTIONS"] | pooled) as using:
        try:
            assert connections[using].pool.max_size == 1
            connections[using].pool.open(wait=True, timeout=120)  # its one connection is there, and asked for below
            with connections[using].cursor() as cursor:
                cursor.execute("SELECT 1")
            second = connections[using].copy()
            with pytest.raises((OperationalError, psycopg.OperationalError)):
                second.ensure_connection()
            before = connections[using].pool.get_stats()
            kept_alive(using)
            after = connections[using].pool.get_stats()
            assert after["requests_num"] == before["requests_num"]
        finally:
            connections[using].close()
            connections[using].close_pool()


def test_two_tenants_at_once_and_each_hears_of_its_own() -> None:
    keeper = LeaseKeeper()
    lost: list[str] = []
    with temporary_database("two") as other:
        tasks = []
        for name in ("one", "two"):
            with connections[other].cursor() as cursor:
                cursor.execute(f"CREATE SCHEMA {name}; SET search_path = {name}")
            call_command("migrate", "audit", database=other, verbosity=0)
            Task.objects.using(other).request("work").approve()
            (task,) = Task.objects.using(other).claim(worker="w", lease=SHORT)
            tasks.append((name, task))
        kept = [
            keeper.keep(
                Lease(
                    task_id=task.pk,
                    token=task.claim_token,
                    duration=SHORT,
                    actor="w",
                    using=other,
                    session=Session(search_path=name, role="none"),
                ),
                on_lost=lambda name=name: lost.append(name),
            )
            for name, task in tasks
        ]
        try:
            with connections[other].cursor() as cursor:
                for name, task in tasks:

                    def prolonged(name: str = name, task: Task = task) -> bool:
                        cursor.execute(f"SELECT lease_expires_at FROM {name}.audit_task")
                        return cursor.fetchall() > [(task.lease_expires_at,)]

                    eventually(prolonged)
                cursor.execute("UPDATE one.audit_task SET status = 'approved', actor = 'x', revision = revision + 1")
                eventually(lambda: bool(lost))
        finally:
            for each in kept:
                keeper.forget(each)
    assert lost == ["one"]


def test_what_a_lease_sets_ends_with_its_statement() -> None:
    """A pooler in transaction mode lends the session to somebody else afterwards."""
    Task.objects.request("work").approve()
    (task,) = Task.objects.claim(worker="w")
    with application_role() as role:
        session = Session(search_path=f"public, {role}", role=role)
        lease = Lease(
            task_id=task.pk, token=task.claim_token, duration=SHORT, actor="w", using="default", session=session
        )
        own = connection.copy()
        try:
            assert prolong(own, [lease])[task.pk, task.claim_token].prolonged
            with own.cursor() as cursor:
                cursor.execute("SELECT current_setting('search_path'), current_setting('role')")
                [(search_path, now)] = cursor.fetchall()
            assert role not in (search_path, now)
            assert now == "none"
            assert role not in search_path
        finally:
            own.close()


def test_a_connection_that_is_not_to_be_had_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with temporary_database("closed") as other:
        call_command("migrate", "audit", database=other, verbosity=0)
        name = connections[other].settings_dict["NAME"]
        with record("long", lease=SHORT, using=other) as task:
            sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            try:
                eventually(lambda: "is not currently accepting connections" in caplog.text)
            finally:
                sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            tasks = Task.objects.using(other)
            eventually(lambda: tasks.get(pk=task.pk).lease_expires_at > task.lease_expires_at)
    assert task.status == "completed"
    assert "prolonged" in caplog.text
