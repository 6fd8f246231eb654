"""The tree as the leaves make it, compared with what was signed and with what is stored of it."""

from __future__ import annotations

from collections.abc import Sequence

from audit.ledger.errors import Malformed
from audit.ledger.merkle import HASH_SIZE, Frontier
from audit.ledger.stored import head_frontier, read_tile, read_tiles
from audit.ledger.tiles import WIDTH, grow
from audit.ledger.verify.expected import Expected, Root
from audit.ledger.verify.findings import Code, Findings
from audit.models import LedgerHead

__all__ = ["Tree"]


class Tree:
    """Takes leaves in order and tells where the tree is not the one that was signed.

    Args:
        using: alias of the database, whose tiles are compared.
        roots: what was signed, in the order of sizes.
        findings: takes what is wrong.
    """

    def __init__(self, using: str, roots: Sequence[Root], findings: Findings) -> None:
        self._using = using
        self._roots = list(reversed(roots))
        self._findings = findings
        self._frontier = Frontier()
        self._tiles: dict[tuple[int, int], bytes] = {}  # the tree's own, those at its right edge
        self._held = 0  # the size up to which a signed root was met
        self._broken = False
        self._suspects: list[int] = []  # leaves that differ from their tile since then

    @property
    def size(self) -> int:
        """Leaves taken."""
        return self._frontier.size

    def add(self, leaves: Sequence[tuple[int, bytes]]) -> None:
        """Take the next leaves.

        Args:
            leaves: index and hash (32 bytes) of each, in order. Where one is missing, its hash in the tile takes its
                place, so that what follows can still be compared.
        """
        hashes: list[bytes] = []
        begin = self.size
        for index, leaf in leaves:
            while begin + len(hashes) < index:
                hashes.append(self._missing(begin + len(hashes)))
            if index == begin + len(hashes):
                hashes.append(leaf)
        while hashes:
            # Stop at each size that was signed.
            take = len(hashes)
            if self._roots and self._roots[-1].size - self.size < take:
                take = self._roots[-1].size - self.size
            self._take(hashes[:take])
            del hashes[:take]
            self._meet()

    def end(self, head: LedgerHead, wanted: Expected) -> None:
        """Compare what only the whole tree can show: its edge, what is stored beyond it, and what nobody signed."""
        self._as_stored(self._tiles)
        self._settle(broken=self._broken)
        if self.size > wanted.signed:
            self._findings.add(
                Code.LEAVES_UNSIGNED,
                f"{self.size - wanted.signed} leaves from number {wanted.signed} on are covered by no checkpoint.",
                leaf=wanted.signed,
            )
        if head.size > self.size and wanted.signed <= self.size:
            self._findings.add(
                Code.LEAVES_MISSING, f"The ledger's head counts {head.size} leaves, and there are {self.size}."
            )
        try:
            same = head_frontier(head) == self._frontier
        except Malformed:
            same = False
        if not same and head.size <= self.size and not self._broken:
            self._findings.add(
                Code.FRONTIER_ALTERED,
                f"The ledger's head (size {head.size}) does not describe the tree of {self.size} leaves.",
            )

    def _missing(self, index: int) -> bytes:
        self._findings.add(Code.LEAF_GAP, f"The leaf {index} is missing.", leaf=index)
        at = index % WIDTH * HASH_SIZE
        found = read_tile(self._using, 0, index // WIDTH)[at : at + HASH_SIZE]
        return found if len(found) == HASH_SIZE else bytes(HASH_SIZE)

    def _take(self, hashes: list[bytes]) -> None:
        if not hashes:
            return
        grown = grow(self.size, hashes, lambda level, index: self._tiles[level, index])
        self._frontier.extend(hashes)
        full = {place: data for place, data in grown.items() if len(data) == WIDTH * HASH_SIZE}
        for place in full:
            self._tiles.pop(place, None)
        self._tiles.update({place: data for place, data in grown.items() if place not in full})
        self._as_stored(full)

    def _as_stored(self, own: dict[tuple[int, int], bytes], *, growing: bool = False) -> None:
        """Compare tiles with the stored ones, which are longer where later leaves are still to come (`growing`)."""
        stored = read_tiles(self._using, own)
        for (level, index), data in sorted(own.items()):
            there = stored.get((level, index), b"")
            if growing:
                there = there[: len(data)]
            if there == data:
                continue
            differing = [
                index * WIDTH + at // HASH_SIZE
                for at in range(0, len(data), HASH_SIZE)
                if there[at : at + HASH_SIZE] != data[at : at + HASH_SIZE]
            ]
            if level == 0 and differing:
                self._suspects += differing
            elif not (self._suspects or self._broken):
                self._corrupt(level, index)

    def _corrupt(self, level: int, index: int) -> None:
        self._findings.add(
            Code.TILE_CORRUPT, f"The tile {index} of level {level} does not hold the hashes that the leaves make."
        )

    def _meet(self) -> None:
        """Compare the tree with every root that was signed for the size it has now."""
        while self._roots and self._roots[-1].size <= self.size:
            wanted = self._roots.pop()
            if self._broken and wanted.code is Code.ROOT_MISMATCH:
                continue  # every later root differs too
            if self._frontier.root() == wanted.root:
                self._settle(broken=False)
                self._held = self.size
                continue
            self._findings.add(
                wanted.code,
                f"The {self.size} leaves do not make the root that {wanted.source} signs: "
                f"something changed among the leaves {self._held} to {self.size - 1}.",
                leaf=self._held,
            )
            if wanted.code is Code.ROOT_MISMATCH:
                # Tiles at the edge may still be waiting for their comparison.
                self._as_stored({place: data for place, data in self._tiles.items() if place[0] == 0}, growing=True)
                self._settle(broken=True)
                self._broken = True

    def _settle(self, *, broken: bool) -> None:
        """Decide who is wrong where leaf and tile differ: the leaf, if the root is wrong too; else the tile."""
        for index in sorted(set(self._suspects)):
            if broken:
                self._findings.add(
                    Code.LEAF_CHANGED, f"The leaf {index} is not the one that its tile holds.", leaf=index
                )
            else:
                self._findings.add(
                    Code.TILE_CORRUPT,
                    f"The tile {index // WIDTH} of level 0 does not hold the leaf {index}.",
                    leaf=index,
                )
        self._suspects = []
