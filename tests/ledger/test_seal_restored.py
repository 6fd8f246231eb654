"""Dump and restore into another server, whose transactions are counted anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from audit import ids
from audit.ledger.seal import seal
from audit.ledger.verify import verify
from audit.models import LedgerCheckpoint, LedgerHead, LedgerLeaf, Task
from tests.support import sealed, servers
from tests.support.ledger import KEY, codes, exported

_BURN = "DO $$ BEGIN FOR i IN 1..{} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"


def _finish(session: psycopg.Connection[Any], action: str) -> None:
    row = {"id": ids.uuid7(), "action": action, "status": "completed"}
    sealed.insert(session, "audit_task", row)


def _counter(session: psycopg.Connection[Any]) -> int:
    return int(session.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()[0])


def _xid(session: psycopg.Connection[Any], action: str) -> int:
    query = "SELECT finished_xid::text FROM audit_task WHERE action = %s"
    return int(session.execute(query, [action]).fetchone()[0])


@pytest.fixture
def unblocked(django_db_blocker: Any) -> Iterator[None]:
    """Databases of the test's own, which Django's test cases know nothing of."""
    with django_db_blocker.unblock():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("unblocked")
@pytest.mark.parametrize("version", servers.parameters())
def test_all_that_was_unsealed_is_sealed_once_on_another_server(version: str) -> None:
    with (
        servers.throwaway(servers.binaries(version)) as first,
        servers.throwaway() as second,
        servers.connected(first, "audit", "first") as old,
        servers.connected(second, "audit", "second") as new,
    ):
        sealed.migrate(first)
        with sealed.connect(first) as session, sealed.connect(first) as held:
            held.autocommit = False
            _finish(held, "late")
            sealed.fill(session)
            *_, last = seal(old, [KEY], limit=50)
            session.execute(_BURN.format(4_000))
            held.commit()
            _finish(session, "new")
            low, high = _xid(session, "late"), _xid(session, "new")
        before = verify(old, [KEY.verifier])
        assert (codes(before), before.unsealed, before.size) == ([], 4, last.size)

        with sealed.connect(second) as session:
            session.execute(_BURN.format(500))
            assert servers.restore(second, "audit", servers.dump(first, "--no-owner")) == ""
            assert low < _counter(session) < high
        kept = exported(*LedgerCheckpoint.objects.using(old).order_by("size").values_list("note", flat=True))
        between = verify(new, [KEY.verifier], exported=kept)
        assert (codes(between), between.unsealed) == ([], 4)

        # Killed in the midst of the run that looks at everything, and begun again.
        one = next(seal(new, [KEY], limit=1))
        assert (one.sealed, one.size) == (1, last.size + 1)
        assert [batch.sealed for batch in seal(new, [KEY], limit=2)] == [2, 1]
        tasks = Task.objects.using(new)
        assert tasks.finished().count() == LedgerLeaf.objects.using(new).filter(task_id__isnull=False).count()
        notes = list(LedgerCheckpoint.objects.using(new).order_by("size").values_list("note", flat=True))
        assert notes[: len(kept)] == [each.text for each in kept]
        assert len(notes) == len(kept) + 3
        head = LedgerHead.objects.using(new).get()
        assert head.low_xid < high
        assert head.system_identifier != LedgerHead.objects.using(old).get().system_identifier

        # Life goes on there, in transactions that the old server had long counted.
        with sealed.connect(second) as session:
            _finish(session, "there")
            assert _xid(session, "there") < high
        assert [batch.sealed for batch in seal(new, [KEY])] == [2]
        assert [batch.sealed for batch in seal(new, [KEY])] == [0]
        after = verify(new, [KEY.verifier], exported=kept)
        assert (codes(after), after.unsealed, after.size) == ([], 0, last.size + 6)
