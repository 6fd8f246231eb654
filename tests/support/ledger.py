"""A log with a key of its own: rows to seal, sealing, verifying, and going behind the guards' back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from audit.ledger.exported import Exported
from audit.ledger.seal import Batch, seal
from audit.ledger.tlog import checkpoint as checkpoints
from audit.ledger.tlog import keys
from audit.ledger.tlog.note import Signer, generate
from audit.ledger.verify import verify
from audit.ledger.verify.findings import Report
from audit.models import Task
from tests.support.factories import sql, task_in

__all__ = [
    "KEY",
    "VKEY",
    "behind_the_guards",
    "codes",
    "exported",
    "finish",
    "sealed",
    "sealer",
    "session",
    "signed",
    "verified",
]

KEY: Signer = generate("example.org/audit")
VKEY = str(KEY.verifier)


def signed(signer: Any, origin: str, size: int, root: bytes) -> str:
    """Sign a checkpoint; its note."""
    return str(checkpoints.sign(checkpoints.Checkpoint(origin=origin, size=size, root=root), signer))


def finish(count: int, **values: Any) -> list[Task]:
    """Finished tasks, each with its log."""
    return [task_in("completed", **values) for _ in range(count)]


def sealed(*signers: Signer, **options: Any) -> Batch:
    """Seal all there is; the last batch."""
    *_, last = seal("default", signers or (KEY,), **options)
    return last


def verified(*keys: Any, outside: Iterable[str] | None = None, accepted: Iterable[int] = ()) -> Report:
    """Verify, with the checkpoints that were kept outside, if any."""
    kept = None if outside is None else exported(*outside)
    return verify("default", keys or (KEY.verifier,), exported=kept, accepted_epochs=tuple(accepted))


def exported(*texts: str) -> list[Exported]:
    """Checkpoints as a directory would hold them."""
    return [Exported(path=Path(f"{number}.checkpoint"), text=text) for number, text in enumerate(texts)]


def codes(report: Report) -> list[str]:
    """What was found, causes first, each code once."""
    return list(report.counts)


@contextlib.contextmanager
def behind_the_guards() -> Iterator[None]:
    """What an owner can do: take every trigger off, work, and put them back as they were."""
    tables = [
        *("audit_task", "audit_executionlog", "audit_pause_queue", "audit_ledger_leaf", "audit_ledger_checkpoint"),
        *("audit_ledger_epoch", "audit_ledger_verification", "audit_ledger_head", "audit_ledger_tile"),
    ]
    triggers = sql(
        "SELECT c.relname, t.tgname, t.tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " WHERE NOT t.tgisinternal AND c.relname = ANY(%s)",
        [tables],
    )
    with transaction.atomic(), connection.cursor() as cursor:
        for table, trigger, _ in triggers:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
        yield
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # ALTER TABLE waits for no pending foreign key
        for table, trigger, state in triggers:
            cursor.execute(f"ALTER TABLE {table} ENABLE {'ALWAYS ' if state == 'A' else ''}TRIGGER {trigger}")


@contextlib.contextmanager
def session() -> Iterator[psycopg.Connection[Any]]:
    """A session beside the test's, in a transaction of its own."""
    wanted = ("host", "port", "user", "password", "dbname")
    parameters = {name: value for name, value in connection.get_connection_params().items() if name in wanted}
    with contextlib.closing(psycopg.connect(**parameters)) as beside:
        yield beside


def sealer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have the key in its environment, as the sealer's has."""
    monkeypatch.delenv(keys.FILE_VARIABLE, raising=False)
    monkeypatch.setenv(keys.KEY_VARIABLE, KEY.secret())
