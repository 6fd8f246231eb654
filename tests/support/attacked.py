"""A sealed database to attack, copied anew for each attack, and what an attacker with all rights does to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from django.core.management import call_command
from django.db import connection

from audit.ledger.binary_rows import Raw
from audit.ledger.tables import frontier_bytes, write_tiles
from audit.ledger.tlog import checkpoint as checkpoints
from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, Form, row_hash
from audit.ledger.tlog.checkpoint import Checkpoint
from audit.ledger.tlog.merkle import Frontier
from audit.ledger.tlog.note import Signer
from audit.ledger.tlog.tiles import grow
from audit.models import ExecutionLog, LedgerCheckpoint, LedgerLeaf, Task
from tests.support import ledger, sealed
from tests.support.databases import ended
from tests.support.factories import requested, sql, task_in

__all__ = [
    "Base",
    "base",
    "copied",
    "fit_leaf",
    "leading_to",
    "leaf_hashes",
    "maintained",
    "rebuild",
    "resign",
]


@dataclass(slots=True, kw_only=True)
class Base:
    """What the database holds that every attack begins with."""

    name: str
    names: dict[str, Any] = field(default_factory=dict)
    """What statements may call by `$name`: rows and leaves."""
    notes: list[str] = field(default_factory=list)
    """Its checkpoints, as they were exported."""

    def statement(self, text: str) -> str:
        """Put in what `$name` stands for."""
        for name in sorted(self.names, key=len, reverse=True):
            value = self.names[name]
            text = text.replace(f"${name}", f"'{value}'" if isinstance(value, UUID) else str(value))
        return text


@contextlib.contextmanager
def maintained() -> Iterator[psycopg.Connection[Any]]:
    """A session beside the databases of the test, autocommit."""
    parameters = connection.get_connection_params() | {"dbname": "postgres"}
    kept = {name: value for name, value in parameters.items() if name in {"dbname", "user", "password", "host", "port"}}
    with psycopg.connect(**kept, autocommit=True) as session:
        yield session


@contextlib.contextmanager
def leading_to(name: str) -> Iterator[None]:
    """Let the default connection lead to another database until the block ends."""
    usual = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = usual


@contextlib.contextmanager
def copied(name: str, template: str) -> Iterator[None]:
    """Let the default connection lead to a copy of a database until the block ends; then drop it."""
    connection.close()
    with maintained() as session:
        session.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        session.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            with leading_to(name):
                yield
        finally:
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextlib.contextmanager
def base() -> Iterator[Base]:
    """Make the database that attacks begin with: awkward rows and plain ones, sealed in three batches."""
    # The process in its name: beside this one another worker of the run makes its own.
    made = Base(name=f"test_attacked_{os.getpid()}")
    with maintained() as session:
        session.execute(f'DROP DATABASE IF EXISTS "{made.name}" WITH (FORCE)')
        session.execute(f'CREATE DATABASE "{made.name}"')
        try:
            with leading_to(made.name):
                _fill(made)
            yield made
        finally:
            session.execute(f'DROP DATABASE "{made.name}" WITH (FORCE)')


def _fill(made: Base) -> None:
    call_command("migrate", "audit", verbosity=0)
    connection.ensure_connection()
    sealed.fill(connection.connection)
    ended()
    made.notes.append(ledger.sealed().note)
    victim = requested(action="victim", services=["a", "b"])
    victim.approve(actor="bob")
    [victim] = Task.objects.filter(pk=victim.pk).claim("orch-1")
    victim.log("step one", detail={"cost": 12.5})
    victim.log("step two")
    victim.complete({"output_summary": "up"})
    other = task_in("completed", action="other")
    live = task_in("executing", action="live")
    ended()
    made.notes.append(ledger.sealed().note)
    Task.objects.bulk_record([{"action": "bulk", "status": "completed"} for _ in range(100)])
    ended()
    made.notes.append(ledger.sealed().note)
    made.names |= _names(victim.pk, other.pk, live.pk)


def _names(victim: UUID, other: UUID, live: UUID) -> dict[str, Any]:
    log = ExecutionLog.objects.filter(task_id=victim)
    step = log.get(action="step one").pk
    names = {
        "victim": victim,
        "other": other,
        "live": live,
        "bulk": Task.objects.filter(action="bulk").order_by("id")[0].pk,
        "step": step,
        "second_step": log.get(action="step two").pk,
        "approval": log.get(to_status="approved").pk,
        "leaf": LedgerLeaf.objects.get(task_id=victim).pk,
        "step_leaf": LedgerLeaf.objects.get(log_id=step).pk,
        "other_leaf": LedgerLeaf.objects.get(task_id=other).pk,
        "size": LedgerLeaf.objects.count(),
    }
    for number, size in enumerate(LedgerCheckpoint.objects.order_by("size").values_list("size", flat=True), 1):
        names[f"size{number}"] = size
    return names


def fit_leaf(form: Form, key: Any) -> None:
    """Write into a row's leaf the hash that fits what the row holds now."""
    column = {TASK_V1: "task_id", LOG_V1: "log_id"}[form]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {form.select('r')}, leaf.salt FROM {form.table} AS r"
            f" JOIN audit_ledger_leaf AS leaf ON leaf.{column} = r.id WHERE r.id = %s",
            [key],
        )
        row = dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))
    sql(f"UPDATE audit_ledger_leaf SET leaf_hash = %s WHERE {column} = %s", [row_hash(form, row), key])


def leaf_hashes() -> list[bytes]:
    """Every leaf's hash."""
    return [bytes(leaf) for leaf in LedgerLeaf.objects.order_by("index").values_list("leaf_hash", flat=True)]


def rebuild() -> None:
    """Make tiles and head fit the leaves."""
    leaves = leaf_hashes()
    frontier = Frontier()
    frontier.extend(leaves)
    sql("DELETE FROM audit_ledger_tile")
    write_tiles(Raw(connection), grow(0, leaves, lambda level, index: b""))
    sql("UPDATE audit_ledger_head SET size = %s, frontier = %s", [len(leaves), frontier_bytes(frontier)])


def resign(signer: Signer) -> None:
    """Sign the tree as it is anew, at every size that was signed."""
    leaves = leaf_hashes()
    for number, size, epoch in LedgerCheckpoint.objects.values_list("pk", "size", "epoch"):
        frontier = Frontier()
        frontier.extend(leaves[:size])
        note = checkpoints.sign(Checkpoint(origin=signer.name, size=size, root=frontier.root()), signer)
        sql(
            "UPDATE audit_ledger_checkpoint SET root = %s, note = %s WHERE id = %s AND epoch = %s",
            [frontier.root(), str(note), number, epoch],
        )
