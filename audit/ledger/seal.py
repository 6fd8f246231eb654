"""The sealer: hashes what finished, appends it to the tree and signs the tree, in batches, beside the work.

Note [One sealer at a time]
    Who seals holds the row of `audit_ledger_head`, which only the sealer's role may lock. No other login can keep it:
    an advisory lock could be taken by anybody. Every wait for a lock ends after `WAIT_S`, and is then an error that
    says so.

Note [Low-water mark]
    Rows are found by the transaction that wrote them. Every transaction below the `pg_snapshot_xmin` of a snapshot
    has ended: nothing new can appear below it. So a run looks through the rows at or above the mark that earlier
    runs left, in the order of (xid, id), and, when it has come to the end, moves the mark to the xmin that its first
    statement saw. Rows of transactions above that may be sealed already, and those that commit late are not missed:
    the next run meets both, and whether a row has its leaf is asked of the leaves (anti-join). Within a run each batch
    goes on behind the last row of the batch before, so that an import of a million rows in one transaction is walked
    through once.

Note [Another server]
    Transaction ids do not survive dump and restore: the new server counts anew. The head keeps the server's
    `system_identifier`; where it differs, or the mark lies in this server's future, one run looks at every row whatever
    its xid. Other runs leave out rows that claim a transaction which this server has not begun.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from struct import Struct
from typing import Any

from django.db import OperationalError, connections, transaction

from audit.exceptions import AuditError
from audit.ledger.binary_rows import Raw, number, pin_encoding
from audit.ledger.tables import edge, epochs, frontier_bytes, head_frontier, left_behind, read_tile, write_tiles
from audit.ledger.tlog import checkpoint as checkpoints
from audit.ledger.tlog.canonical import EPOCH_V1, LOG_V1, SALT, SALT_BYTES, TASK_V1, Uncanonical, row_hash
from audit.ledger.tlog.checkpoint import Checkpoint, SignedCheckpoint
from audit.ledger.tlog.damage import Damage, Damaged, read_kept
from audit.ledger.tlog.errors import LedgerError, Malformed, Unsigned, WrongOrigin
from audit.ledger.tlog.merkle import Frontier
from audit.ledger.tlog.note import Note, Signer, Verifier
from audit.ledger.tlog.origins import epoch_of, origin_of
from audit.ledger.tlog.tiles import Nodes, grow
from audit.ledger.tlog.wire import wire_hash
from audit.models import LedgerCheckpoint, LedgerEpoch, LedgerHead, LedgerLeaf
from audit.values import moments

__all__ = ["BATCH", "WAIT_S", "Batch", "Busy", "CannotSeal", "RefusesToSeal", "begin_epoch", "seal"]

BATCH = 10_000
"""How many rows a batch seals at most, unless another limit is given."""

WAIT_S = 10
"""How many seconds a batch waits for another sealer, and for any other lock."""

_NOWHERE = bytes(16)
_BEFORE_ALL = -(2**63)


class CannotSeal(AuditError):
    """What was given is nothing to seal with, or nothing can be sealed now: `problem`. Nothing was changed."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class RefusesToSeal(CannotSeal):
    """Signing on would hide something: `problem`. Nothing was changed."""


class Busy(CannotSeal):
    """Another session holds what the sealer needs, as another sealer does: `problem`. Nothing was changed."""


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
    keys = _Keys.of(signers, verifiers)
    run = _Run()
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
        verifiers: further keys that may have signed either checkpoint.

    Raises:
        RefusesToSeal: the last signature does not cover the tree as it is, or the tree is another one than that
            checkpoint's, which no new epoch heals.
        Busy: another sealer held the head for longer than `WAIT_S`.
        CannotSeal: no reason is given, or the log is not behind that checkpoint.
        Damaged: that checkpoint is damaged.
    """
    keys = _Keys.of(signers, verifiers)
    if not reason.strip():
        raise CannotSeal("A new epoch needs a reason that an auditor can read.")
    with _locked(using) as (cursor, head):
        _covered(using, head, keys)
        opened, epoch, damage = keys.open_kept(left_behind, "checkpoint that is left behind")
        if damage:  # what is left behind is kept in the log as it was signed
            raise Damaged(damage)
        if not _is_behind(using, head, opened.checkpoint, epoch, keys):
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
        note = _appended(cursor, using, head, [leaf], keys)
        head.save(using=using)
        return Batch(sealed=1, size=head.size, epoch=head.epoch, note=note)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """Who signs, and whose signatures count."""

    name: str
    signers: tuple[Signer, ...]
    verifiers: tuple[Verifier, ...]

    @classmethod
    def of(cls, signers: Sequence[Signer], verifiers: Iterable[Verifier]) -> _Keys:
        names = {each.name for each in signers}
        if len(names) != 1:
            listed = ", ".join(sorted(names)) or "none"
            raise CannotSeal(f"The signing keys must be of one name, the log's; these are of: {listed}.")
        own = tuple(each.verifier for each in signers)
        return cls(name=names.pop(), signers=tuple(signers), verifiers=tuple({*own, *verifiers}))

    def open(self, text: str, what: str) -> tuple[SignedCheckpoint, int]:
        """Read a checkpoint of this log, and its epoch."""
        try:
            return self._opened(text)
        except LedgerError as error:
            raise self._distrust(what, error) from error

    def open_kept(self, text: str, what: str) -> tuple[SignedCheckpoint, int, Damage | None]:
        """Read a checkpoint that was kept outside, its epoch, and what had to be put right in it.

        Raises:
            Damaged: it cannot be put right.
        """
        try:
            (opened, epoch), damage = read_kept(text, self._opened)
        except Damaged:
            raise
        except LedgerError as error:
            raise self._distrust(what, error) from error
        return opened, epoch, damage

    def _opened(self, text: str) -> tuple[SignedCheckpoint, int]:
        origin = Checkpoint.parse(Note.parse(text).text).origin
        epoch = epoch_of(self.name, origin)
        if epoch is None:
            raise WrongOrigin(origin, (self.name,))
        return checkpoints.open_checkpoint(text, self.verifiers, origin=origin), epoch

    def _distrust(self, what: str, error: LedgerError) -> CannotSeal:
        if isinstance(error, WrongOrigin):
            return CannotSeal(f"The {what} is of the log {error.origin!r}, and the key signs for {self.name!r}.")
        missed = ""
        if isinstance(error, Unsigned) and any(each.startswith(f"{self.name}+") for each in error.signed_by):
            missed = (
                " If the log's key was changed, this is not tampering: add the verifier key of the one that signed it "
                "to AUDIT['LEDGER_VERIFIERS'], or sign once with both."
            )
        return RefusesToSeal(f"The {what} cannot be trusted: {error}{missed}")


@dataclass(slots=True, kw_only=True)
class _Run:
    """Where one run stands between its batches."""

    task: tuple[int, bytes] = (0, _NOWHERE)
    """Behind which (xid, id) of the tasks it goes on."""
    log: tuple[int, int] = (0, 0)
    horizon: int = 0
    """The xmin that its first statement saw."""
    whole: bool = False
    """Whether it looks at every row: Note [Another server]."""


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


def _sealed(
    cursor: Any, using: str, head: LedgerHead, keys: _Keys, run: _Run, limit: int, exported: str | None
) -> Batch:
    note = _covered(using, head, keys)
    if exported is not None:
        opened, epoch, damage = keys.open_kept(exported, "exported checkpoint")
        if _is_behind(using, head, opened.checkpoint, epoch, keys):
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
        run.task, run.log = (low, _NOWHERE), (low, _BEFORE_ALL)
    raw = Raw(connections[using])
    rows = _pick(raw, run, upper_end, limit)
    if rows:
        note = _appended(cursor, using, head, _leaves(raw, head.size, rows), keys)
    if len(rows) < limit:
        head.low_xid = run.horizon if run.whole else max(head.low_xid or 0, run.horizon)
        head.system_identifier = system
    elif not run.whole:
        head.low_xid = max(head.low_xid or 0, min(run.horizon, rows[-1][0]))
    for xid, task, log in rows:
        if task is not None:
            run.task = (xid, task)
        elif log is not None:
            run.log = (xid, number(log))
    head.save(using=using)
    return Batch(sealed=len(rows), size=head.size, epoch=head.epoch, note=note)


def _covered(using: str, head: LedgerHead, keys: _Keys) -> str:
    """Insist that the last checkpoint is signed by a known key and covers the tree as it is; its text.

    Raises:
        RefusesToSeal: it does not.
    """
    wrong = "Nothing was signed; find out what happened with manage.py audit_verify."
    last = LedgerCheckpoint.objects.using(using).order_by("-epoch", "-size").first()
    leaf = LedgerLeaf.objects.using(using).order_by("-index").values_list("index", flat=True).first()
    leaves = 0 if leaf is None else leaf + 1
    if leaves != head.size:
        raise RefusesToSeal(f"The ledger's head says {head.size} leaves and the last leaf is number {leaf}. {wrong}")
    if last is None:
        if head.size:
            raise RefusesToSeal(f"The ledger has {head.size} leaves and no checkpoint. {wrong}")
        return ""
    opened, epoch = keys.open(last.note, "last checkpoint of this database")
    try:
        frontier = head_frontier(head)
        tiles = edge(using, head.size)
    except Malformed as error:
        raise RefusesToSeal(f"{error} {wrong}") from error
    signed = opened.checkpoint
    if (epoch, signed.size, signed.root) != (head.epoch, head.size, frontier.root()) or tiles != frontier:
        raise RefusesToSeal(
            f"The last checkpoint (epoch {epoch}, {signed.size} leaves) does not cover the tree as it is "
            f"(epoch {head.epoch}, {head.size} leaves). {wrong}"
        )
    return last.note


def _is_behind(using: str, head: LedgerHead, kept: Checkpoint, epoch: int, keys: _Keys) -> bool:
    """Whether this database lacks what a checkpoint kept elsewhere covers, as after a restore.

    Raises:
        RefusesToSeal: it has other leaves in their place.
    """
    if epoch > head.epoch or (epoch == head.epoch and kept.size > head.size):
        return True
    began = {number: each for number, each in epochs(using).items() if epoch < number <= head.epoch}
    left = {
        number: keys.open(each.previous, f"checkpoint that epoch {number} left behind")
        for number, each in began.items()
    }
    sizes = {number: each.size for number, each in began.items()}
    if left_behind(kept, epoch, sizes, {number: (each.checkpoint, of) for number, (each, of) in left.items()}):
        return False
    if kept.size > head.size:
        return True
    try:
        same = edge(using, kept.size).root() == kept.root
    except Malformed as error:
        raise RefusesToSeal(f"{error} Nothing was signed; see manage.py audit_verify.") from error
    if not same:
        raise RefusesToSeal(
            f"A checkpoint of {kept.size} leaves (epoch {epoch}) is of another tree than this database's {head.size} "
            f"(epoch {head.epoch}). That is a fork, not a restore, and no new epoch heals it: history was rewritten "
            "with the log's key, this is another database of the same log, or tiles were altered. Keep both; see "
            "manage.py audit_verify."
        )
    return False


_SERVER = """
SELECT system_identifier::text, pg_snapshot_xmin(pg_current_snapshot())::text,
    pg_snapshot_xmax(pg_current_snapshot())::text
FROM pg_control_system()
"""
_PICK = """
SELECT * FROM (
    (SELECT task.finished_xid AS xid, task.id AS task_id, NULL::bigint AS log_id
    FROM audit_task AS task
    WHERE task.finished_xid IS NOT NULL AND (task.finished_xid, task.id) > (%s::xid8, %s::uuid)
        AND (%s OR task.finished_xid < %s::xid8)
        AND (SELECT leaf.index FROM audit_ledger_leaf AS leaf WHERE leaf.task_id = task.id LIMIT 1) IS NULL
    ORDER BY task.finished_xid, task.id LIMIT %s)
    UNION ALL
    (SELECT log.xid, NULL, log.id
    FROM audit_executionlog AS log
    WHERE (log.xid, log.id) > (%s::xid8, %s)
        AND (%s OR log.xid < %s::xid8)
        AND (SELECT leaf.index FROM audit_ledger_leaf AS leaf WHERE leaf.log_id = log.id LIMIT 1) IS NULL
    ORDER BY log.xid, log.id LIMIT %s)
) AS found ORDER BY xid, log_id NULLS FIRST, task_id LIMIT %s
"""

_Picked = tuple[int, bytes | None, bytes | None]
"""A row's transaction, and its key, as it comes, as a task or as a row of the log."""


def _pick(raw: Raw, run: _Run, upper_end: str, limit: int) -> list[_Picked]:
    """Look for the next rows, in the order of the tree: Note [Low-water mark]."""
    # xid8 has a cast from text alone.
    (task_xid, task), (log_xid, log) = run.task, run.log
    found = raw.narrow(
        *(_PICK, str(task_xid), task.hex(), run.whole, upper_end, limit),
        *(str(log_xid), log, run.whole, upper_end, limit, limit),
    )
    return [(number(xid), task, log) for xid, task, log in found]


_START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
# A leaf as COPY takes it in binary: five fields, each behind its length, which is -1 for NULL.
_TASK_LEAF = Struct("!hiqi16sii16si32s")
_LOG_LEAF = Struct("!hiqii8si16si32s")


def _leaves(raw: Raw, size: int, rows: Sequence[_Picked]) -> list[bytes]:
    """Hash rows and store their leaves behind `size` others; their hashes.

    Raises:
        CannotSeal: a row is not of the types that are sealed, or not there any more.
    """
    drawn = os.urandom(SALT_BYTES * len(rows))
    salts = [drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES)]
    hashes = [b""] * len(rows)
    for form, keys in ((TASK_V1, [task for _, task, _ in rows]), (LOG_V1, [log for *_, log in rows])):
        places = {key: place for place, key in enumerate(keys) if key is not None}
        for values in raw.sealed(form, places):
            place = places[values[0]]
            try:
                hashes[place] = wire_hash(form, salts[place], values)
            except Uncanonical as error:
                raise CannotSeal(f"A row of {form.table} cannot be sealed: {error}. See manage.py check.") from error
    if b"" in hashes:
        raise CannotSeal("A row went away while it was sealed. See manage.py audit_verify.")
    raw.load(_STORE, _copied(size, rows, salts, hashes))
    return hashes


def _copied(size: int, rows: Sequence[_Picked], salts: list[bytes], hashes: list[bytes]) -> Iterator[bytes]:
    yield _START
    for index, ((_, task, log), salt, leaf) in enumerate(zip(rows, salts, hashes, strict=True), size):
        if task is not None:
            yield _TASK_LEAF.pack(5, 8, index, 16, task, -1, 16, salt, 32, leaf)
        else:
            yield _LOG_LEAF.pack(5, 8, index, -1, 8, log, 16, salt, 32, leaf)
    yield _END


_STORE = "COPY audit_ledger_leaf (index, task_id, log_id, salt, leaf_hash) FROM STDIN (FORMAT BINARY)"


def _appended(cursor: Any, using: str, head: LedgerHead, leaves: list[bytes], keys: _Keys) -> str:
    """Grow tiles and head by leaves that are stored already, and sign the tree; the checkpoint's text."""
    tiles = grow(head.size, leaves, partial(read_tile, using))
    write_tiles(cursor, tiles)
    # What the head says is the edge of the tiles, and a batch begins by looking at that.
    node = Nodes(lambda *place: tiles.get(place) or read_tile(using, *place))
    frontier = Frontier.of(head.size + len(leaves), node)
    signed = Checkpoint(origin=origin_of(keys.name, head.epoch), size=frontier.size, root=frontier.root())
    note = str(checkpoints.sign(signed, *keys.signers))
    LedgerCheckpoint.objects.using(using).create(epoch=head.epoch, size=signed.size, root=signed.root, note=note)
    head.size, head.frontier, head.sealed_at = frontier.size, frontier_bytes(frontier), moments.now()
    return note
