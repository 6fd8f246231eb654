"""The sealer: hashes what finished, appends it to the tree and signs the tree, in batches, beside the work.

Note [One sealer at a time]
    Who seals holds the row of `audit_ledger_head`, which only the sealer's role may lock. No other login can keep it:
    an advisory lock could be taken by anybody. Every wait for a lock ends after `WAIT_S`, and is then an error that
    says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import OperationalError, connections, transaction

from audit.ledger.binary_rows import Raw, number, pin_encoding
from audit.ledger.exported import Exported
from audit.ledger.seal.keys import Keys
from audit.ledger.seal.leaves import store_leaves
from audit.ledger.seal.picking import BEFORE_ALL, NOWHERE, Run, pick
from audit.ledger.seal.refusals import Busy, CannotSeal, RefusesToSeal
from audit.ledger.seal.signed_tree import append, covered, is_behind
from audit.ledger.tlog.canonical import EPOCH_V1, SALT, SALT_BYTES, row_hash
from audit.ledger.tlog.damage import Damaged
from audit.ledger.tlog.note import Signer, Verifier
from audit.ledger.tlog.origins import origin_of
from audit.models import LedgerEpoch, LedgerHead, LedgerLeaf
from audit.values import moments

__all__ = ["BATCH", "WAIT_S", "Batch", "Busy", "CannotSeal", "RefusesToSeal", "begin_epoch", "seal"]

BATCH = 10_000
"""How many rows a batch seals at most, unless another limit is given."""

WAIT_S = 10
"""How many seconds a batch waits for another sealer, and for any other lock."""

_SERVER = """
SELECT system_identifier::text, pg_snapshot_xmin(pg_current_snapshot())::text,
    pg_snapshot_xmax(pg_current_snapshot())::text
FROM pg_control_system()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one transaction of the sealer did."""

    sealed: int
    """Rows that got their leaf."""
    size: int
    """Leaves of the tree now."""
    epoch: int
    note: str
    """The checkpoint as it is signed now; empty when nothing was ever sealed."""


def seal(
    using: str,
    signers: Sequence[Signer],
    *,
    verifiers: Iterable[Verifier] = (),
    limit: int = BATCH,
    exported: str | None = None,
    empty: Path | None = None,
) -> Iterator[Batch]:
    """Seal what has finished and was not sealed yet, a batch a transaction, until nothing is left.

    Args:
        using: alias of the database.
        signers: the log's signing keys, all of one name, which is the log's; several while one follows the other.
        verifiers: further keys that may have signed the last checkpoint, such as the predecessor's.
        limit: rows of a batch, at least 1.
        exported: the newest checkpoint that is kept outside, as its text; the log must not be behind it.
        empty: the directory that keeps checkpoints when none is in it; then the log must not have signed any yet.

    Yields:
        A batch after each transaction; the last one sealed fewer rows than the limit, or none.

    Raises:
        RefusesToSeal: the last signature does not cover the tree as it is, or the exported checkpoint is newer, of
            another tree, or missing. What earlier batches committed stays.
        Busy: another session held the head, or a table, for longer than `WAIT_S`.
        CannotSeal: the keys do not fit together or are of another log, the limit is none, or a row is not of the types
            that are sealed.
        Damaged: the exported checkpoint is damaged, and what can be read of it contradicts nothing.
    """
    if limit < 1:
        raise CannotSeal(f"A batch of {limit} rows seals nothing; give at least 1.")
    keys = Keys.of(signers, verifiers)
    run = Run()
    while True:
        with _locked(using) as (cursor, head):
            if head.size and empty:
                raise RefusesToSeal(
                    f"This database has signed {head.size} leaves, and no checkpoint is in {empty}. Is that the right "
                    "directory, and is it mounted? Without them nothing shows whether the database was set back. If "
                    "they are kept there from now on, say so once: --first-export."
                )
            batch = _sealed(cursor, using, head, keys, run, limit, exported)
        empty = None
        yield batch
        if batch.sealed < limit:
            return


def begin_epoch(
    using: str,
    signers: Sequence[Signer],
    *,
    left_behind: str,
    reason: str,
    actor: str,
    verifiers: Iterable[Verifier] = (),
    newest: Exported | None = None,
) -> Batch:
    """Go on from an older state of the database, in a new epoch of the log.

    After a legitimate restore the tree is shorter than what was signed, and must not grow under the same name again.
    The new epoch has a name of its own; its first leaf holds the reason and the checkpoint that was left behind.

    Args:
        using: alias of the database.
        signers: the log's signing keys.
        left_behind: the newest checkpoint that was signed before, as its text, signatures included.
        reason: why, in words.
        actor: who decided it.
        verifiers: further keys that may have signed any of these checkpoints.
        newest: the newest checkpoint that is kept outside, if any. It must be the one that is left behind: behind an
            older one, the number of an epoch could be used again.

    Raises:
        RefusesToSeal: the last signature does not cover the tree as it is, or the tree is another one than that
            checkpoint's, which no new epoch heals, or a newer checkpoint is kept outside.
        Busy: another sealer held the head for longer than `WAIT_S`.
        CannotSeal: no reason is given, or the log is not behind that checkpoint.
        Damaged: that checkpoint is damaged.
    """
    keys = Keys.of(signers, verifiers)
    if not reason.strip():
        raise CannotSeal("A new epoch needs a reason that an auditor can read.")
    with _locked(using) as (_, head):
        covered(using, head, keys)
        opened, epoch, damage = keys.open_kept(left_behind, "checkpoint that is left behind")
        if damage:  # what is left behind is kept in the log as it was signed
            raise Damaged(damage)
        if newest:
            last, last_epoch, _ = keys.open_kept(newest.text, f"checkpoint {newest.path}")
            if (last_epoch, last.checkpoint.size) > (epoch, opened.checkpoint.size):
                raise RefusesToSeal(
                    f"It is of epoch {epoch} and {opened.checkpoint.size} leaves, and {newest.path} is newer: of epoch "
                    f"{last_epoch} and {last.checkpoint.size} leaves. Name that one: --new-epoch {newest.path}"
                )
        if not is_behind(using, head, opened.checkpoint, epoch, keys):
            raise CannotSeal(
                f"The log holds the checkpoint of {opened.checkpoint.size} leaves: it is not behind, and can go on."
            )
        head.epoch = max(head.epoch, epoch) + 1
        began = {
            "number": head.epoch,
            "origin": origin_of(keys.name, head.epoch),
            "size": head.size,
            "previous": left_behind,
            "reason": reason,
            "actor": actor,
            "started_at": moments.now(),
            "row_version": EPOCH_V1.version,
        }
        LedgerEpoch.objects.using(using).create(**began)
        salt = os.urandom(SALT_BYTES)
        leaf = row_hash(EPOCH_V1, began | {SALT: salt})
        LedgerLeaf.objects.using(using).create(index=head.size, epoch=head.epoch, salt=salt, leaf_hash=leaf)
        note = append(Raw(connections[using]), using, head, [leaf], keys)
        head.save(using=using)
        return Batch(sealed=1, size=head.size, epoch=head.epoch, note=note)


@contextmanager
def _locked(using: str) -> Iterator[tuple[Any, LedgerHead]]:
    """A transaction of its own that holds the head: Note [One sealer at a time]."""
    try:
        with transaction.atomic(using=using, durable=True), connections[using].cursor() as cursor:
            # A snapshot per statement: the one that looks for rows must be younger than the lock.
            cursor.execute("SHOW transaction_isolation")
            if cursor.fetchone() != ("read committed",):
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute(f"SET LOCAL lock_timeout = {int(WAIT_S * 1000)}")
            pin_encoding(cursor)
            # A checkpoint is published after the commit; the commit must then be on disk.
            cursor.execute("SHOW synchronous_commit")
            if cursor.fetchone() == ("off",):
                cursor.execute("SET LOCAL synchronous_commit = on")
            # Each batch goes on in the order of an index, whatever the planner believes of tables that just grew.
            for method in ("enable_seqscan", "enable_bitmapscan", "enable_sort", "jit"):
                cursor.execute(f"SET LOCAL {method} = off")
            LedgerHead.objects.using(using).bulk_create([LedgerHead(id=1)], ignore_conflicts=True)
            yield cursor, LedgerHead.objects.using(using).select_for_update().get(id=1)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != "55P03":
            raise
        where = error.__cause__.diag.context or ""  # type: ignore[union-attr]
        raise Busy(
            f"Another session, perhaps another sealer, holds what this one needs; waited {WAIT_S:g} s"
            f"{f' {where}' if where else ''}. Nothing was sealed."
        ) from error


def _sealed(cursor: Any, using: str, head: LedgerHead, keys: Keys, run: Run, limit: int, exported: str | None) -> Batch:
    note = covered(using, head, keys)
    if exported is not None:
        opened, epoch, damage = keys.open_kept(exported, "exported checkpoint")
        if is_behind(using, head, opened.checkpoint, epoch, keys):
            raise RefusesToSeal(
                f"A checkpoint of {opened.checkpoint.size} leaves was exported (epoch {epoch}), and this database has "
                f"{head.size} (epoch {head.epoch}): it was restored from an older state, or its end was cut off. "
                "Find out which. After a legitimate restore begin a new epoch: manage.py audit_seal --new-epoch "
                "CHECKPOINT --reason TEXT."
            )
        if damage:
            raise Damaged(damage)
    cursor.execute(_SERVER)
    system, horizon, upper_end = cursor.fetchone()
    if not run.horizon:
        run.horizon = int(horizon)
        run.whole = head.system_identifier != system or (head.low_xid or 0) > int(upper_end)
        low = 0 if run.whole else head.low_xid or 0
        run.task, run.log = (low, NOWHERE), (low, BEFORE_ALL)
    raw = Raw(connections[using])
    rows = pick(raw, run, upper_end, limit)
    if rows:
        note = append(raw, using, head, store_leaves(raw, head.size, rows), keys)
    if len(rows) < limit:
        head.low_xid = run.horizon if run.whole else max(head.low_xid or 0, run.horizon)
        head.system_identifier = system
    elif not run.whole:
        head.low_xid = max(head.low_xid or 0, min(run.horizon, number(rows[-1][0])))
    run.goes_on_behind(rows)
    head.save(using=using)
    return Batch(sealed=len(rows), size=head.size, epoch=head.epoch, note=note)
