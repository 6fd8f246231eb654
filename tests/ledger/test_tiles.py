"""Tiles: they grow with the tree, and every node of the tree is read back out of them."""

from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger.tlog.errors import Malformed
from audit.ledger.tlog.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from audit.ledger.tlog.tiles import WIDTH, Nodes, grow, parse_path, path, tile_of, width_at


@cache
def node(level: int, index: int) -> bytes:
    """A node of an endless tree."""
    if level == 0:
        return sha256(b"leaf %d" % index).digest()
    return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))


def leaves(begin: int, end: int) -> list[bytes]:
    return [node(0, each) for each in range(begin, end)]


def expected(size: int) -> dict[tuple[int, int], bytes]:
    """All tiles of a tree, by the formula of c2sp.org/tlog-tiles."""
    tiles = {}
    for level in range(4):
        count = size // 256**level
        for index in range(-(-count // WIDTH)):
            ends = range(index * WIDTH, min(count, (index + 1) * WIDTH))
            tiles[level, index] = b"".join(node(8 * level, each) for each in ends)
    return tiles


class Store(dict[tuple[int, int], bytes]):
    """Tiles, and which of them were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []

    def read(self, level: int, index: int) -> bytes:
        self.asked.append((level, index))
        return self[level, index]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(st.integers(0, 300), st.integers(0, 5), st.just(256)), min_size=1, max_size=12))
def test_tiles_grow_in_any_batches(batches: list[int]) -> None:
    store, frontier = Store(), Frontier()
    for count in batches:
        size = frontier.size
        fresh = leaves(size, size + count)
        store.asked.clear()
        changed = grow(size, fresh, store.read)
        # Only partial tiles at the right edge are read, one a level, and only those that grow are handed back.
        assert all(0 < width_at(*each, size) < WIDTH for each in store.asked)
        assert len({level for level, _ in store.asked}) == len(store.asked)
        assert all(store.get(place) != tile for place, tile in changed.items())
        store.update(changed)
        frontier.extend(fresh)
    assert store == expected(frontier.size)
    assert tree_root(frontier.size, Nodes(store.read)) == frontier.root() == tree_root(frontier.size, node)


def test_three_levels_of_tiles_and_every_proof_from_them() -> None:
    size = 70_000
    store, frontier, at = Store(), Frontier(), 0
    for batch in (1, 254, 1, 256, 65_023, 1, 4_000, 464):
        store.update(grow(at, leaves(at, at + batch), store.read))
        frontier.extend(leaves(at, at + batch))
        at += batch
    assert at == size
    # The example of c2sp.org/tlog-tiles: 273 full tiles and one of 112 hashes, one full and one of 17, one of 1.
    widths = {place: len(tile) // 32 for place, tile in store.items()}
    assert [widths[0, 273], widths[1, 1], widths[2, 0]] == [112, 17, 1]
    assert all(width == WIDTH for place, width in widths.items() if place not in {(0, 273), (1, 1), (2, 0)})
    assert len(widths) == 274 + 2 + 1
    assert store == expected(size)
    assert all(width_at(*place, size) == width for place, width in widths.items())
    for index in (0, 1, 255, 256, 65_535, 65_536, 69_887, 69_888, size - 1):
        store.asked.clear()
        proof = inclusion_proof(index, size, Nodes(store.read))
        verify_inclusion(node(0, index), index, size, proof, frontier.root())
        assert len(store.asked) == len(set(store.asked)) <= 6
    for old in (1, 255, 256, 300, 65_535, 65_536, 65_537, 69_999):
        nodes = Nodes(store.read)
        verify_consistency(old, tree_root(old, nodes), size, frontier.root(), consistency_proof(old, size, nodes))


def test_every_node_is_read_from_the_tile_that_is_named() -> None:
    store = Store()
    store.update(grow(0, leaves(0, 1_500), store.read))
    for level in range(11):
        for index in range(1_500 >> level):
            store.asked.clear()
            assert Nodes(store.read)(level, index) == node(level, index)
            assert store.asked == [tile_of(level, index)]


def test_a_node_that_is_not_complete_is_not_read() -> None:
    store = Store()
    store.update(grow(0, leaves(0, 300), store.read))
    for level, index in ((0, 300), (2, 75), (5, 9), (8, 1)):
        with pytest.raises(Malformed, match="takes more than its"):
            Nodes(store.read)(level, index)


@pytest.mark.parametrize("damage", [b"\0", bytes(31), bytes(256 * 32)])
def test_a_tile_of_no_possible_size(damage: bytes) -> None:
    with pytest.raises(Malformed, match=r"tile/0/000: it has \d+ bytes"):
        Nodes(lambda _level, _index: bytes(32) + damage)(0, 0)


@pytest.mark.parametrize("change", [-32, -1, 1, 32])
def test_growing_needs_the_tile_that_the_size_makes(change: int) -> None:
    store = Store()
    store.update(grow(0, leaves(0, 10), store.read))
    store[0, 0] = (store[0, 0] + bytes(32))[: 320 + change]
    with pytest.raises(Malformed, match=r"tile/0/000: it has \d+ bytes, and the tree makes 320"):
        grow(10, leaves(10, 11), store.read)


def test_growing_by_nonsense() -> None:
    with pytest.raises(ValueError, match="not 32 bytes"):
        grow(0, [b"short"], Store().read)
    with pytest.raises(ValueError, match="cannot have -1 leaves"):
        grow(-1, [], Store().read)
    assert grow(5, [], Store().read) == {}


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ((0, 0, 256), "tile/0/000"),
        ((0, 1234067, 256), "tile/0/x001/x234/067"),  # the example of c2sp.org/tlog-tiles
        ((0, 273, 112), "tile/0/273.p/112"),
        ((1, 1, 17), "tile/1/001.p/17"),
        ((63, 1_000, 1), "tile/63/x001/000.p/1"),
    ],
)
def test_paths(place: tuple[int, int, int], text: str) -> None:
    assert path(*place) == text
    assert parse_path(text) == place


@given(st.integers(0, 63), st.integers(0, 2**55), st.integers(1, 256))
def test_paths_there_and_back(level: int, index: int, width: int) -> None:
    assert parse_path(path(level, index, width)) == (level, index, width)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tile/0",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/257",
        "tile/0/000\n",
        "tile/\u0660/000",
        "tile/8/0/000",
        "/tile/0/000",
        "tile/entries/000",
    ],
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(Malformed, match="is not a valid tile path"):
        parse_path(text)


@pytest.mark.parametrize("place", [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)])
def test_places_without_a_path(place: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no tile"):
        path(*place)
