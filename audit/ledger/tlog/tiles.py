"""The nodes of the tree, stored as tiles (c2sp.org/tlog-tiles).

A tile holds up to 256 neighbouring hashes of one tree level that is a multiple of 8, one after another:

    tile (0, 0)      the hashes of leaves 0 to 255
    tile (0, 1)      the hashes of leaves 256 to 511
    tile (1, 0)      the roots of tiles (0, 0) to (0, 255)

Tile (level, index) holds the hashes of the complete subtrees of 256**level leaves with the numbers 256·index up to
256·index + 255. What lies between two tile levels is hashed anew when it is asked for. A tile only grows, at its end,
until it is full; only full tiles stand in the level above. So all the tiles together are 1/255 larger than the leaf
hashes, and appending touches one partial tile a level.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from audit.ledger.tlog.errors import Malformed, shown
from audit.ledger.tlog.merkle import HASH_SIZE, parents

__all__ = ["HEIGHT", "WIDTH", "Nodes", "ReadTile", "grow", "parse_path", "path", "tile_of", "width_at"]

HEIGHT = 8
"""Tree levels that a tile spans."""
WIDTH = 1 << HEIGHT
"""Hashes in a full tile."""

_TILE_BYTES = WIDTH * HASH_SIZE
_MAX_LEVEL = 63
_PATH = re.compile(r"tile/(0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)

ReadTile = Callable[[int, int], bytes]
"""`read_tile(level, index)`: the bytes of a stored tile, 32 for each hash."""


def path(level: int, index: int, width: int = WIDTH) -> str:
    """Write where a public log serves a tile: `tile/0/x001/234`, `tile/1/000.p/17`.

    Args:
        level: level of the tile, 0 to 63.
        index: its number on the level, from 0.
        width: number of hashes, 1 to 256; below 256 it is a partial tile.

    Raises:
        ValueError: out of these ranges.
    """
    if not (0 <= level <= _MAX_LEVEL and index >= 0 and 1 <= width <= WIDTH):
        raise ValueError(f"There is no tile at level {level}, index {index}, of width {width}.")
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def parse_path(text: str) -> tuple[int, int, int]:
    """Read what `path` writes, and nothing else: level, index, width.

    Raises:
        Malformed: not such a path.
    """
    if found := _PATH.fullmatch(text):
        level, index = int(found[1]), int(found[2].replace("x", "").replace("/", ""))
        width = int(found[3] or WIDTH)
        if level <= _MAX_LEVEL and width <= WIDTH and path(level, index, width) == text:
            return level, index, width
    raise Malformed("tile path", f"{shown(text)} is not like tile/0/x001/234 or tile/1/000.p/17")


def width_at(level: int, index: int, size: int) -> int:
    """Count the hashes that a tile has in a tree of `size` leaves: 0 (no such tile) to 256."""
    return min(WIDTH, max(0, (size >> HEIGHT * level) - index * WIDTH))


def tile_of(level: int, index: int) -> tuple[int, int]:
    """Tell which tile, by level and index, holds what the tree's node (level, index) is made of."""
    tile_level, within = divmod(level, HEIGHT)
    return tile_level, index << within >> HEIGHT


def grow(size: int, leaf_hashes: Sequence[bytes], read_tile: ReadTile) -> dict[tuple[int, int], bytes]:
    """Append leaves to a tree and return which tiles change.

    Hashes only what is new: about one hash a leaf.

    Args:
        size: number of leaves before.
        leaf_hashes: the new leaves, 32 bytes each.
        read_tile: hands over stored tiles; asked for the partial tile at the right edge of each level that grows
            (level, index), never for one that `size` leaves do not make.

    Returns:
        Each tile that is new or grew, by (level, index), whole: 32 bytes for each of its hashes.

    Raises:
        Malformed: a stored tile has not the width that `size` leaves make.
        ValueError: a leaf hash is not 32 bytes long, or `size` is negative.
    """
    if size < 0:
        raise ValueError(f"A tree cannot have {size} leaves.")
    if any(len(each) != HASH_SIZE for each in leaf_hashes):
        raise ValueError(f"A leaf hash is not {HASH_SIZE} bytes long.")
    changed = {}
    fresh, level, before = b"".join(leaf_hashes), 0, size
    while fresh:
        first, partial = divmod(before, WIDTH)
        data = (_exactly(level, first, partial, read_tile(level, first)) if partial else b"") + fresh
        for each in range(0, len(data), _TILE_BYTES):
            changed[level, first + each // _TILE_BYTES] = data[each : each + _TILE_BYTES]
        fresh = data[: len(data) // _TILE_BYTES * _TILE_BYTES]
        for _ in range(HEIGHT):
            fresh = parents(fresh)
        level, before = level + 1, first
    return changed


class Nodes:
    """Reads a tree's nodes out of its tiles: call it as `node(level, index)`.

    Each tile is read once, so one reader is for one tree and one proof or a few.

    Args:
        read_tile: hands over stored tiles; they may be wider than asked for, up to 256 hashes.
    """

    __slots__ = ("_read_tile", "_tiles")

    def __init__(self, read_tile: ReadTile) -> None:
        self._read_tile = read_tile
        self._tiles: dict[tuple[int, int], bytes] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """Compute the hash of complete subtree number `index` of 2**level leaves; 32 bytes.

        Raises:
            Malformed: the tile that holds it is too narrow, too wide or not made of whole hashes.
        """
        within = level % HEIGHT
        place = tile_of(level, index)
        tile = self._tile(*place)
        begin = (index << within) % WIDTH * HASH_SIZE
        data = tile[begin : begin + (HASH_SIZE << within)]
        if len(data) != HASH_SIZE << within:
            raise Malformed(
                f"tile {path(*place)}",
                f"node {index} of level {level} takes more than its {len(tile) // HASH_SIZE} hashes",
            )
        while len(data) > HASH_SIZE:
            data = parents(data)
        return data

    def _tile(self, level: int, index: int) -> bytes:
        if (level, index) not in self._tiles:
            tile = bytes(self._read_tile(level, index))
            if len(tile) % HASH_SIZE or len(tile) > _TILE_BYTES:
                raise Malformed(f"tile {path(level, index)}", f"it has {len(tile)} bytes")
            self._tiles[level, index] = tile
        return self._tiles[level, index]


def _exactly(level: int, index: int, width: int, tile: bytes) -> bytes:
    tile = bytes(tile)
    if len(tile) != width * HASH_SIZE:
        raise Malformed(
            f"tile {path(level, index)}", f"it has {len(tile)} bytes, and the tree makes {width * HASH_SIZE}"
        )
    return tile
