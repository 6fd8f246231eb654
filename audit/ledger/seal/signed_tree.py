"""The tree and its signature: whether the last one covers it, whether it was set back, and the next one."""

from __future__ import annotations

from functools import partial

from audit.ledger.binary_rows import Raw
from audit.ledger.seal.keys import Keys
from audit.ledger.seal.refusals import RefusesToSeal
from audit.ledger.tables import edge, epochs, frontier_bytes, head_frontier, left_behind, read_tile, write_tiles
from audit.ledger.tlog.checkpoint import Checkpoint, sign
from audit.ledger.tlog.errors import Malformed
from audit.ledger.tlog.merkle import Frontier
from audit.ledger.tlog.origins import origin_of
from audit.ledger.tlog.tiles import Nodes, grow
from audit.models import LedgerCheckpoint, LedgerHead, LedgerLeaf
from audit.values import moments

__all__ = ["append", "covered", "is_behind"]


def covered(using: str, head: LedgerHead, keys: Keys) -> str:
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


def is_behind(using: str, head: LedgerHead, kept: Checkpoint, epoch: int, keys: Keys) -> bool:
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


def append(raw: Raw, using: str, head: LedgerHead, leaves: list[bytes], keys: Keys) -> str:
    """Grow tiles and head by leaves that are stored already, and sign the tree; the checkpoint's text."""
    tiles = grow(head.size, leaves, partial(read_tile, using))
    write_tiles(raw, tiles)
    # What the head says is the edge of the tiles, and a batch begins by looking at that.
    node = Nodes(lambda *place: tiles.get(place) or read_tile(using, *place))
    frontier = Frontier.of(head.size + len(leaves), node)
    signed = Checkpoint(origin=origin_of(keys.name, head.epoch), size=frontier.size, root=frontier.root())
    note = str(sign(signed, *keys.signers))
    LedgerCheckpoint.objects.using(using).create(epoch=head.epoch, size=signed.size, root=signed.root, note=note)
    head.size, head.frontier, head.sealed_at = frontier.size, frontier_bytes(frontier), moments.now()
    return note
