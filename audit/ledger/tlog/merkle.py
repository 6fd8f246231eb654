"""The Merkle tree of RFC 6962: roots, proofs that a leaf is in it, proofs that it only grew.

    root of 5 leaves:        ┌───────┴──────┐
                         ┌───┴───┐          │        a leaf:  SHA-256(0x00 ‖ data)
                       ┌─┴─┐   ┌─┴─┐        │        a node:  SHA-256(0x01 ‖ left ‖ right)
                       0   1   2   3        4

The tree over n leaves splits after the largest power of two below n. So a *complete subtree*, 2**level leaves from a
multiple of 2**level on, never changes once it is full, whatever comes later: `node(level, index)` names it, and
proofs are made of such nodes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from audit.ledger.tlog.canonical import leaf_hash
from audit.ledger.tlog.errors import InvalidProof

__all__ = [
    "EMPTY_ROOT",
    "HASH_SIZE",
    "Frontier",
    "Node",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "parents",
    "tree_root",
    "verify_consistency",
    "verify_inclusion",
]

HASH_SIZE = 32
"""Bytes of a hash."""

EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without leaves (RFC 6962 §2.1)."""

Node = Callable[[int, int], bytes]
"""`node(level, index)`: the hash of complete subtree number `index` of 2**level leaves; level 0 are the leaf hashes."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children (RFC 6962 §2.1); 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


def parents(hashes: bytes) -> bytes:
    """Hash neighbours in pairs: one level up.

    Args:
        hashes: an even number of 32-byte hashes, one after another.

    Returns:
        Half as many, one after another.
    """
    return b"".join(
        [sha256(b"\x01" + hashes[each : each + 64]).digest() for each in range(0, len(hashes), 2 * HASH_SIZE)]
    )


class Frontier:
    """The complete subtrees along the right edge of a tree: all that is needed to append to it and to know its root.

    The "compact range" of a tree from its first leaf on, one hash for each bit set in `size`. It is a builder:
    `extend` changes it in place. An independent copy is `Frontier(frontier.size, frontier.hashes)`.

    Args:
        size: number of leaves.
        hashes: 32-byte hashes of the subtrees, largest first.

    Raises:
        ValueError: a negative size, not one hash for each bit of it, or a hash of another length.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        kept = [bytes(each) for each in hashes]
        if size < 0:
            raise ValueError(f"A tree cannot have {size} leaves.")
        if len(kept) != size.bit_count():
            raise ValueError(f"A tree of {size} leaves has {size.bit_count()} subtrees at its edge, not {len(kept)}.")
        if any(len(each) != HASH_SIZE for each in kept):
            raise ValueError(f"A hash at the edge of a tree of {size} leaves is not {HASH_SIZE} bytes long.")
        self._size = size
        self._hashes = kept

    @classmethod
    def of(cls, size: int, node: Node) -> Frontier:
        """Find the frontier of a tree whose nodes are stored.

        Args:
            size: number of leaves.
            node: hash of a complete subtree.
        """
        return cls(size, [node(level, (size >> level) - 1) for level in _bits(size)])

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The subtrees' hashes, largest first."""
        return tuple(self._hashes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frontier):
            return NotImplemented
        return self._size == other._size and self._hashes == other._hashes

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Frontier({self._size}, {[each.hex() for each in self._hashes]})"

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Append leaves, in place.

        About one hash a leaf: each level takes the hashes that are new on it, pairs them and hands them up.

        Args:
            leaf_hashes: 32 bytes each (`leaf_hash`, or `row_hash` of a row).

        Raises:
            ValueError: one is not 32 bytes long. Nothing was appended.
        """
        fresh = list(leaf_hashes)
        if any(len(each) != HASH_SIZE for each in fresh):
            raise ValueError(f"A leaf hash is not {HASH_SIZE} bytes long.")
        edge = dict(zip(_bits(self._size), self._hashes, strict=True))
        data, level, size = b"".join(fresh), 0, self._size + len(fresh)
        while data:
            data = edge.pop(level, b"") + data
            if len(data) % (2 * HASH_SIZE):
                edge[level], data = data[-HASH_SIZE:], data[:-HASH_SIZE]
            data, level = parents(data), level + 1
        self._size = size
        self._hashes = [edge[level] for level in _bits(size)]

    def root(self) -> bytes:
        """Compute the tree's root hash (RFC 6962 §2.1); 32 bytes."""
        if not self._hashes:
            return EMPTY_ROOT
        root = self._hashes[-1]
        for each in reversed(self._hashes[:-1]):
            root = node_hash(each, root)
        return root


def tree_root(size: int, node: Node) -> bytes:
    """Compute the root of the first `size` leaves of a tree whose nodes are stored; 32 bytes."""
    return Frontier.of(size, node).root()


def inclusion_proof(index: int, size: int, node: Node) -> tuple[bytes, ...]:
    """Collect the hashes that lead from a leaf to the root: PATH(m, D[n]) of RFC 6962 §2.1.1.

    Args:
        index: number of the leaf, from 0.
        size: number of leaves of the tree whose root it is proven against; the stored tree may have more.
        node: hash of a complete subtree.

    Returns:
        The leaf's sibling first, the root's child last.

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"There is no leaf {index} in a tree of {size}.")
    path = []
    begin, end = 0, size
    while end - begin > 1:
        middle = _split(begin, end)
        if index < middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(begin, middle, node))
            begin = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, node: Node) -> tuple[bytes, ...]:
    """Collect the hashes that show a tree to begin with an older one: PROOF(m, D[n]) of RFC 6962 §2.1.2.

    Args:
        old: number of leaves of the older tree. From an empty one there is nothing to show: no hashes.
        new: number of leaves of the newer tree; the stored tree may have more.
        node: hash of a complete subtree.

    Raises:
        ValueError: a negative size, or the older tree is the larger one.
    """
    if not 0 <= old <= new:
        raise ValueError(f"A tree of {new} leaves cannot have grown from one of {old}.")
    if old in (0, new):
        return ()
    path = []
    begin, end = 0, new
    whole = True  # what is left of the older tree is all of it, whose root the verifier has
    while end != old:
        middle = _split(begin, end)
        if old <= middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(begin, middle, node))
            begin = middle
            whole = False
    if not whole:
        path.append(_subtree(begin, end, node))
    return tuple(reversed(path))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf is number `index` of the tree with this size and root: RFC 9162 §2.1.3.2.

    Args:
        leaf: the leaf's hash, 32 bytes.
        index: its number, from 0.
        size: number of leaves of the tree.
        proof: hashes from the leaf's sibling up, 32 bytes each.
        root: the tree's root, 32 bytes.

    Raises:
        InvalidProof: says what does not hold.
    """
    if not 0 <= index < size:
        raise InvalidProof(f"There is no leaf {index} in a tree of {size}.")
    _check_lengths(leaf, *proof, root)
    here, last = index, size - 1
    found = leaf
    for sibling in proof:
        if last == 0:
            raise InvalidProof(f"The inclusion proof has more hashes than leaf {index} of {size} takes ({len(proof)}).")
        if here & 1 or here == last:
            found = node_hash(sibling, found)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        here, last = here >> 1, last >> 1
    if last:
        raise InvalidProof(f"The inclusion proof has fewer hashes than leaf {index} of {size} takes ({len(proof)}).")
    if found != root:
        raise InvalidProof(
            f"Leaf {index} with its proof gives the root {found.hex()}, but the tree of {size} has {root.hex()}: "
            "the content, its place or the proof was changed."
        )


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the newer tree begins with all leaves of the older one: RFC 9162 §2.1.4.2.

    Args:
        old_size: number of leaves of the older tree, 1 or more: any tree at all begins with the empty one, so from 0
            there is nothing to verify (and for RFC 9162 no proof).
        old_root: its root, 32 bytes.
        new_size: number of leaves of the newer tree.
        new_root: its root, 32 bytes.
        proof: hashes, 32 bytes each; none when the trees have the same size.

    Raises:
        InvalidProof: says what does not hold.
    """
    if not 0 < old_size <= new_size:
        raise InvalidProof(f"There is no proof that a tree of {new_size} leaves grew from one of {old_size}.")
    _check_lengths(old_root, *proof, new_root)
    if old_size == new_size:
        if proof:
            raise InvalidProof(f"Between two trees of {new_size} leaves the proof has no hashes, not {len(proof)}.")
        if old_root != new_root:
            raise InvalidProof(
                f"Two trees of {new_size} leaves have the roots {old_root.hex()} and {new_root.hex()}: a fork."
            )
        return
    # An older tree that is one complete subtree is its own first hash.
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        raise InvalidProof(f"The proof from {old_size} to {new_size} leaves lacks its hashes.")
    here, last = old_size - 1, new_size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    found_old = found_new = path[0]
    for each in path[1:]:
        if last == 0:
            raise InvalidProof(f"The proof from {old_size} to {new_size} leaves has too many hashes ({len(proof)}).")
        if here & 1 or here == last:
            found_old, found_new = node_hash(each, found_old), node_hash(each, found_new)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            found_new = node_hash(found_new, each)
        here, last = here >> 1, last >> 1
    if last:
        raise InvalidProof(f"The proof from {old_size} to {new_size} leaves has too few hashes ({len(proof)}).")
    for size, found, root in ((old_size, found_old, old_root), (new_size, found_new, new_root)):
        if found != root:
            raise InvalidProof(
                f"The proof from {old_size} to {new_size} leaves gives the root {found.hex()} for {size} leaves, "
                f"not {root.hex()}: a tree was rewritten, or the proof was."
            )


def _bits(size: int) -> list[int]:
    """List the levels of the complete subtrees of a tree, largest first."""
    return [level for level in range(size.bit_length() - 1, -1, -1) if size >> level & 1]


def _split(begin: int, end: int) -> int:
    """Tell where the tree over these leaves splits: after the largest power of two below their number."""
    return begin + (1 << (end - begin - 1).bit_length() - 1)


def _subtree(begin: int, end: int, node: Node) -> bytes:
    """Compute MTH(D[begin:end]) where `begin` is a multiple of the least power of two that holds the leaves."""
    count = end - begin
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, begin >> level)
    middle = _split(begin, end)
    return node_hash(_subtree(begin, middle, node), _subtree(middle, end, node))


def _check_lengths(*hashes: bytes) -> None:
    for each in hashes:
        if len(each) != HASH_SIZE:
            raise InvalidProof(f"A hash of the proof has {len(each)} bytes, not {HASH_SIZE}.")
