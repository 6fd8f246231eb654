"""Sealing beside writers that commit late, roll back and hold on, by sealers of which many are killed."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from audit import ids
from audit.ledger.exported import Exports
from audit.ledger.tlog.checkpoint import open_checkpoint
from audit.models import LedgerCheckpoint, LedgerHead, LedgerLeaf
from tests.support.attacked import maintained
from tests.support.databases import ended
from tests.support.factories import sql
from tests.support.ledger import KEY, codes, sealed, verified
from tests.support.preloaded import Popen

WRITERS = 8
SEALERS = 3
KILLED = 10
SECONDS = 6
ENOUGH = 300
"""So many leaves."""

_UNSEALED = """
SELECT id::text FROM audit_task WHERE status IN ('completed', 'failed', 'rejected')
EXCEPT SELECT task_id::text FROM audit_ledger_leaf
UNION ALL (SELECT id::text FROM audit_executionlog EXCEPT SELECT log_id::text FROM audit_ledger_leaf)
"""


def _process(name: str, *arguments: object) -> Popen:
    command = [sys.executable, "-m", "tests.support.ledger_worker", connection.settings_dict["NAME"], name]
    return Popen([*command, *map(str, arguments)])


def _sealer(number: int, directory: Path, risk: float) -> Popen:
    return _process(f"sealer-{number}", "seal", SECONDS, KEY.secret(), directory, risk)


def _died_before(kept: Exports) -> int:
    """How many sealers were killed in the midst of a transaction."""
    return _said(kept).count("before")


def _said(kept: Exports) -> list[str]:
    deaths = Path(f"{kept.directory}.deaths")
    return deaths.read_text().split() if deaths.exists() else []


def _session() -> psycopg.Connection[tuple[object, ...]]:
    wanted = ("host", "port", "user", "password", "dbname")
    parameters = {name: value for name, value in connection.get_connection_params().items() if name in wanted}
    return psycopg.connect(**parameters)


def _finished(session: psycopg.Connection[tuple[object, ...]]) -> str:
    key = ids.uuid7()
    session.execute("INSERT INTO audit_task (id, action, status) VALUES (%s, 'held', 'completed')", [key])
    return str(key)


def _size() -> int:
    return LedgerHead.objects.values_list("size", flat=True).first() or 0


def _leaf_of(key: str) -> bool:
    return LedgerLeaf.objects.filter(task_id=key).exists()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_every_finished_row_gets_exactly_one_leaf(tmp_path: Path) -> None:
    kept = Exports(tmp_path / "kept")
    processes: list[Popen] = []
    chance = random.Random(5)
    started, doomed = 0, []
    ended()
    # Held open across many seals, in this database and in another.
    with _session() as held, maintained() as elsewhere:
        elsewhere.autocommit = False
        [(xid,)] = elsewhere.execute("SELECT pg_current_xact_id()::text").fetchall()
        late = _finished(held)
        held.execute("SAVEPOINT part")
        undone = _finished(held)
        held.execute("ROLLBACK TO SAVEPOINT part")
        held.execute("SAVEPOINT part")
        inner = _finished(held)
        try:
            processes += [_process(f"writer-{number}", "write", SECONDS) for number in range(WRITERS)]
            processes += [_sealer(number, kept.directory, 0) for number in range(SEALERS)]
            # However slow the machine is, until there is enough to look at.
            while any(each.poll() is None for each in processes) or _died_before(kept) < KILLED or _size() <= ENOUGH:
                doomed = [each for each in doomed if each.poll() is None]
                while len(doomed) < 3:
                    started += 1
                    assert started < 20 * KILLED
                    # Some at points of their own, some whenever it happens to be.
                    doomed.append(_sealer(100 + started, kept.directory, 0.2))
                # One that has not begun takes no part: on a busy machine none would ever begin.
                began = [each for each in doomed if f"began:{each.pid}" in _said(kept)]
                if began and chance.random() < 0.1:
                    os.kill(chance.choice(began).pid, signal.SIGKILL)
                time.sleep(0.2)
        finally:
            for each in [*processes, *doomed]:
                each.kill()
                each.wait()
        assert [each.returncode for each in processes] == [0] * len(processes)
        assert _died_before(kept) >= KILLED
        assert _size() > ENOUGH
        sealed()
        assert not sql(_UNSEALED)
        held.execute("RELEASE SAVEPOINT part")
        held.commit()
        assert not any(map(_leaf_of, (late, inner)))
        batch = sealed()
        assert all(map(_leaf_of, (late, inner)))
        assert batch.sealed == 4
        assert not _leaf_of(undone)
        # The mark waits for whoever is open in another database; sealing does not.
        assert LedgerHead.objects.get().low_xid <= int(xid)
        elsewhere.rollback()
    kept.write(batch.epoch, batch.size, batch.note)
    ended()
    sealed()
    assert LedgerHead.objects.get().low_xid > int(xid)

    assert not sql(_UNSEALED)
    rows = sql("SELECT (SELECT count(*) FROM audit_task) + (SELECT count(*) FROM audit_executionlog)")[0][0]
    assert LedgerLeaf.objects.count() == rows
    notes = dict(LedgerCheckpoint.objects.values_list("size", "note"))
    assert len(notes) == LedgerCheckpoint.objects.count()
    outside = list(kept.read())
    assert len(outside) > 3
    for each in outside:
        checkpoint = open_checkpoint(each.text, [KEY.verifier]).checkpoint
        assert notes[checkpoint.size] == each.text
        assert each.path == kept.path(1, checkpoint.size)
    report = verified(outside=[each.text for each in outside])
    assert codes(report) == []
    assert report.covered["external_checkpoints"] == len(outside)
    assert report.unsealed == 0
