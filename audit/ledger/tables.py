"""What the ledger's tables hold, read for the sealer, the prover and the verifier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db import connections

from audit.ledger.binary_rows import Raw
from audit.ledger.tlog.checkpoint import Checkpoint
from audit.ledger.tlog.errors import Malformed
from audit.ledger.tlog.merkle import HASH_SIZE, Frontier
from audit.ledger.tlog.tiles import Nodes
from audit.models import LedgerEpoch, LedgerHead, LedgerLeaf, LedgerTile

__all__ = [
    "edge",
    "epochs",
    "frontier_bytes",
    "head_frontier",
    "left_behind",
    "nodes",
    "read_tile",
    "read_tiles",
    "write_tiles",
]

_WRITE_TILES = """
INSERT INTO audit_ledger_tile (level, index, data)
SELECT * FROM unnest(%s::smallint[], %s::bigint[], %b::bytea[])
ON CONFLICT (level, index) DO UPDATE SET data = EXCLUDED.data
"""
_READ_TILES = """
SELECT tile.level, tile.index, tile.data
FROM unnest(%s::smallint[], %s::bigint[]) AS wanted (level, index)
JOIN audit_ledger_tile AS tile ON tile.level = wanted.level AND tile.index = wanted.index
"""


def epochs(using: str) -> dict[int, LedgerEpoch]:
    """Read the epochs after the first that have their leaf in the tree where they say they began, by number.

    An epoch says which checkpoints no longer count; a row that anybody put into its table must not.
    """
    leaves = LedgerLeaf.objects.using(using).filter(epoch__isnull=False)
    began = dict(leaves.values_list("epoch", "index"))
    found = LedgerEpoch.objects.using(using).order_by("number")
    return {each.number: each for each in found if began.get(each.number) == each.size}


def left_behind(
    kept: Checkpoint, epoch: int, began: Mapping[int, int], left: Mapping[int, tuple[Checkpoint, int]]
) -> set[int]:
    """Name the later epochs that went on from less than a checkpoint covers, if one of them says so.

    Args:
        kept: a checkpoint that was kept outside.
        epoch: its epoch.
        began: with how many leaves each epoch after the first began, by number.
        left: which checkpoint, of which epoch, each of them says it left behind. One whose word is not there counts as
            if it spoke of all: that it is missing is for the caller to find.

    Returns:
        Their numbers; none when the checkpoint is beyond all that they say they left behind, or none began with less.
    """
    later = {number for number, size in began.items() if number > epoch and size < kept.size}

    def covers(number: int) -> bool:
        if number not in left:
            return True
        checkpoint, of = left[number]
        return (epoch, kept.size) < (of, checkpoint.size) or (epoch, kept) == (of, checkpoint)

    return later if any(map(covers, later)) else set()


def head_frontier(head: LedgerHead) -> Frontier:
    """Read the tree's edge out of the head.

    Raises:
        Malformed: the head does not hold one hash for each subtree.
    """
    data = bytes(head.frontier)
    try:
        return Frontier(head.size, [data[each : each + HASH_SIZE] for each in range(0, len(data), HASH_SIZE)])
    except ValueError as error:
        raise Malformed("frontier", str(error)) from None


def frontier_bytes(frontier: Frontier) -> bytes:
    """Write a frontier for the head."""
    return b"".join(frontier.hashes)


def read_tile(using: str, level: int, index: int) -> bytes:
    """Read a tile; one that is not there is empty."""
    found = LedgerTile.objects.using(using).filter(level=level, index=index).values_list("data", flat=True).first()
    return b"" if found is None else bytes(found)


def read_tiles(using: str, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """Read several tiles, by (level, index); those that are not there are left out."""
    wanted = list(places)
    if not wanted:
        return {}
    with connections[using].cursor() as cursor:
        cursor.execute(_READ_TILES, [[level for level, _ in wanted], [index for _, index in wanted]])
        return {(level, index): bytes(data) for level, index, data in cursor.fetchall()}


def nodes(using: str) -> Nodes:
    """Read a tree's nodes out of the stored tiles."""
    return Nodes(lambda level, index: read_tile(using, level, index))


def edge(using: str, size: int) -> Frontier:
    """Compute the edge of the first `size` leaves from the tiles.

    Raises:
        Malformed: a tile is missing or too narrow.
    """
    return Frontier.of(size, nodes(using))


def write_tiles(raw: Raw, tiles: Mapping[tuple[int, int], bytes]) -> None:
    """Store tiles that are new or grew."""
    if tiles:
        raw.execute(
            _WRITE_TILES,
            *([level for level, _ in tiles], [index for _, index in tiles], list(tiles.values())),
        )
