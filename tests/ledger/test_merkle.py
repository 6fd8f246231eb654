"""The Merkle tree: every size to 256 against the definitions of RFC 6962, proofs and forgeries, published vectors."""

import random
from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.ledger.tlog.errors import InvalidProof
from audit.ledger.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    parents,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from tests.support.merkle_vectors import CONSISTENCY, INCLUSION, LEAVES, ROOTS

LARGEST = 256
LEAF_HASHES = [leaf_hash(b"leaf %d" % each) for each in range(LARGEST)]


# The definitions of RFC 6962 §2.1, written as they stand there.


def _half(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


@cache
def mth(begin: int, end: int) -> bytes:
    if begin == end:
        return sha256(b"").digest()
    if end - begin == 1:
        return LEAF_HASHES[begin]
    middle = begin + _half(end - begin)
    return sha256(b"\x01" + mth(begin, middle) + mth(middle, end)).digest()


def path(index: int, begin: int, end: int) -> list[bytes]:
    if end - begin == 1:
        return []
    middle = begin + _half(end - begin)
    if index < middle:
        return [*path(index, begin, middle), mth(middle, end)]
    return [*path(index, middle, end), mth(begin, middle)]


def subproof(old: int, begin: int, end: int, whole: bool) -> list[bytes]:
    if old == end:
        return [] if whole else [mth(begin, end)]
    middle = begin + _half(end - begin)
    if old <= middle:
        return [*subproof(old, begin, middle, whole), mth(middle, end)]
    return [*subproof(old, middle, end, False), mth(begin, middle)]


def node(level: int, index: int) -> bytes:
    begin, end = index << level, (index + 1) << level
    assert 0 <= begin < end <= LARGEST, "asked for a subtree that is not complete"
    return mth(begin, end)


def bounded(size: int):
    """Hands over nodes of a tree that has just `size` leaves: proofs may ask for complete subtrees only."""

    def read(level: int, index: int) -> bytes:
        assert (index + 1) << level <= size, f"node {level}, {index} of {size} leaves is not complete"
        return node(level, index)

    return read


@pytest.mark.parametrize("size", range(LARGEST + 1))
def test_every_tree(size: int) -> None:
    root = mth(0, size)
    frontier = Frontier()
    frontier.extend(LEAF_HASHES[:size])
    assert frontier.root() == root
    assert frontier == Frontier.of(size, bounded(size))
    assert tree_root(size, node) == root
    for index in range(size):
        proof = inclusion_proof(index, size, bounded(size))
        assert list(proof) == path(index, 0, size)
        verify_inclusion(LEAF_HASHES[index], index, size, proof, root)
    for old in range(size + 1):
        proof = consistency_proof(old, size, bounded(size))
        assert list(proof) == (subproof(old, 0, size, True) if old else [])
        if old:
            verify_consistency(old, mth(0, old), size, root, proof)


def refused_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    with pytest.raises(InvalidProof):
        verify_inclusion(leaf, index, size, proof, root)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 8, 11, 64, 65, 100, 255, 256])
def test_no_forged_inclusion_holds(size: int) -> None:
    root, other = mth(0, size), sha256(b"other").digest()
    for index in range(size):
        leaf, proof = LEAF_HASHES[index], inclusion_proof(index, size, node)
        for moved in {*range(size), -1, size, 2 * size} - {index}:
            refused_inclusion(leaf, moved, size, proof, root)
        refused_inclusion(other, index, size, proof, root)
        refused_inclusion(leaf, index, size, proof, other)
        refused_inclusion(leaf, index, size, [*proof, other], root)
        refused_inclusion(leaf, index, size, [other, *proof], root)
        refused_inclusion(leaf, index, size, [*proof, root], root)
        refused_inclusion(leaf, index, 0, proof, root)
        for at in range(len(proof)):
            refused_inclusion(leaf, index, size, [*proof[:at], *proof[at + 1 :]], root)
            refused_inclusion(leaf, index, size, [*proof[:at], other, *proof[at + 1 :]], root)
        for step in range(1, len(proof) + 1):
            # A node from further up, with what is left of the path, stands for no leaf.
            inner = leaf
            begin, end = 0, size
            for _ in range(len(proof) - step):
                middle = begin + _half(end - begin)
                begin, end = (begin, middle) if index < middle else (middle, end)
            inner = mth(begin, end)
            refused_inclusion(inner, index, size, proof[step:], root)
            refused_inclusion(inner, index >> step, size, proof[step:], root)


def test_an_interior_node_is_no_leaf() -> None:
    """Two leaves' hashes offered as the content of a leaf of a smaller tree (a second preimage) hash differently."""
    forged = leaf_hash(LEAF_HASHES[0] + LEAF_HASHES[1])
    assert forged != mth(0, 2)
    refused_inclusion(forged, 0, 4, [mth(2, 4)], mth(0, 4))


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 33, 64, 100])
def test_no_forged_growth_holds(size: int) -> None:
    root, other = mth(0, size), sha256(b"other").digest()
    for old in range(1, size + 1):
        old_root, proof = mth(0, old), consistency_proof(old, size, node)
        forgeries = [
            (old, other, size, root, proof),
            (old, root if old != size else other, size, old_root, proof),
            (old, old_root, size, other, proof),
            (old, old_root, size, root, [*proof, other]),
            (old, old_root, size, root, [other, *proof]),
            (size + 1, old_root, size, root, proof),
            (-1, old_root, size, root, proof),
        ]
        forgeries += [(old, old_root, size, root, [*proof[:at], *proof[at + 1 :]]) for at in range(len(proof))]
        forgeries += [(old, old_root, size, root, [*proof[:at], other, *proof[at + 1 :]]) for at in range(len(proof))]
        forgeries += [(moved, old_root, size, root, proof) for moved in range(-1, size + 1) if moved != old]
        for forgery in forgeries:
            with pytest.raises(InvalidProof):
                verify_consistency(*forgery)


def test_two_roots_of_one_size_are_a_fork() -> None:
    with pytest.raises(InvalidProof, match="a fork"):
        verify_consistency(5, mth(0, 5), 5, mth(1, 6), [])


@pytest.mark.parametrize("index", [-1, 0, 5])
def test_no_proof_for_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(ValueError, match="There is no leaf"):
        inclusion_proof(index, max(index, 0), node)


@pytest.mark.parametrize(("old", "new"), [(-1, 5), (6, 5), (1, 0)])
def test_no_proof_of_a_growth_that_cannot_be(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="cannot have grown"):
        consistency_proof(old, new, node)


def test_hashes_of_a_proof_have_32_bytes() -> None:
    with pytest.raises(InvalidProof, match="has 31 bytes"):
        verify_inclusion(LEAF_HASHES[0], 0, 2, [LEAF_HASHES[1][:31]], mth(0, 2))
    with pytest.raises(InvalidProof, match="has 33 bytes"):
        verify_consistency(1, mth(0, 1), 2, mth(0, 2), [mth(1, 2) + b"\0"])


# The frontier


@given(st.lists(st.integers(0, 40), max_size=10))
def test_a_frontier_grows_in_any_batches(batches: list[int]) -> None:
    frontier, size = Frontier(), 0
    for count in batches:
        if size + count > LARGEST:
            break
        frontier.extend(iter(LEAF_HASHES[size : size + count]))
        size += count
        assert frontier == Frontier.of(size, node)
        assert frontier == Frontier(frontier.size, frontier.hashes)
        assert frontier.root() == mth(0, size)


@pytest.mark.parametrize(
    ("size", "hashes", "problem"),
    [
        (-1, [], "cannot have -1 leaves"),
        (3, [bytes(32)], "has 2 subtrees at its edge, not 1"),
        (4, [bytes(32)] * 2, "has 1 subtrees at its edge, not 2"),
        (0, [bytes(32)], "has 0 subtrees at its edge, not 1"),
        (1, [bytes(31)], "not 32 bytes"),
    ],
)
def test_a_frontier_that_no_tree_has(size: int, hashes: list[bytes], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Frontier(size, hashes)


def test_a_bad_leaf_leaves_the_frontier_alone() -> None:
    frontier = Frontier.of(5, node)
    with pytest.raises(ValueError, match="not 32 bytes"):
        frontier.extend([LEAF_HASHES[5], b"short"])
    assert frontier == Frontier.of(5, node)
    assert frontier != "a frontier"
    assert repr(frontier).startswith("Frontier(5, ['")


def test_an_altered_frontier_has_another_root() -> None:
    frontier = Frontier.of(11, node)
    for at in range(3):
        hashes = list(frontier.hashes)
        hashes[at] = bytes(32)
        assert Frontier(11, hashes).root() != frontier.root()


def test_parents() -> None:
    pairs = [LEAF_HASHES[each : each + 2] for each in range(0, 10, 2)]
    assert parents(b"".join(LEAF_HASHES[:10])) == b"".join(node_hash(*pair) for pair in pairs)
    assert parents(b"") == b""


# Published vectors


def test_rfc_6962_hashes() -> None:
    """From transparency-dev/merkle, `rfc6962/rfc6962_test.go`."""
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert node_hash(b"N123", b"N456").hex() == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"


def test_rfc_6962_roots() -> None:
    frontier = Frontier()
    assert frontier.root() == ROOTS[0]
    for leaf, root in zip(LEAVES, ROOTS[1:], strict=True):
        frontier.extend([leaf_hash(leaf)])
        assert frontier.root() == root


@pytest.mark.parametrize("vector", INCLUSION, ids=lambda vector: vector[-1])
def test_published_inclusion(vector) -> None:
    index, size, leaf, root, proof, holds, _ = vector
    if holds:
        verify_inclusion(leaf, index, size, proof, root)
    else:
        refused_inclusion(leaf, index, size, proof, root)


@pytest.mark.parametrize("vector", CONSISTENCY, ids=lambda vector: vector[-1])
def test_published_consistency(vector) -> None:
    old, new, old_root, new_root, proof, holds, _ = vector
    if holds:
        verify_consistency(old, old_root, new, new_root, proof)
    else:
        with pytest.raises(InvalidProof):
            verify_consistency(old, old_root, new, new_root, proof)


def test_all_published_vectors_are_here() -> None:
    assert (len(INCLUSION), len(CONSISTENCY)) == (98, 98)
    assert (sum(each[5] for each in INCLUSION), sum(each[5] for each in CONSISTENCY)) == (6, 6)


def test_random_large_trees() -> None:
    """Beyond the sizes that are tried one by one: sizes around powers of two, with nodes computed on demand."""
    dice = random.Random(6962)

    @cache
    def deep(level: int, index: int) -> bytes:
        if level == 0:
            return sha256(b"%d" % index).digest()
        return node_hash(deep(level - 1, 2 * index), deep(level - 1, 2 * index + 1))

    for size in (4095, 4096, 4097, dice.randrange(5_000, 9_000)):
        root = tree_root(size, deep)
        for index in [0, size - 1, *(dice.randrange(size) for _ in range(20))]:
            verify_inclusion(deep(0, index), index, size, inclusion_proof(index, size, deep), root)
        for old in [1, size - 1, *(dice.randrange(1, size) for _ in range(20))]:
            verify_consistency(old, tree_root(old, deep), size, root, consistency_proof(old, size, deep))
