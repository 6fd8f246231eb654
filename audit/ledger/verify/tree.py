"""The tree as the leaves make it, compared with what was signed and with what is stored of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from audit.ledger.tables import head_frontier, read_tiles
from audit.ledger.tlog.errors import Malformed
from audit.ledger.tlog.merkle import HASH_SIZE, Frontier
from audit.ledger.tlog.tiles import WIDTH, grow
from audit.ledger.verify.findings import MAX_FINDINGS, Code, Findings
from audit.ledger.verify.signed_roots import Expected, Root
from audit.models import LedgerHead, LedgerLeaf

__all__ = ["Tree"]

_TILES_AT_ONCE = 64

_ROTATED = " If the log's key was changed and its verifier key not added, they are (see forged_checkpoint)."


class Tree:
    """Takes leaves in order and reports where the tree is not the one that was signed.

    Args:
        using: alias of the database, whose tiles are compared.
        wanted: what was signed.
        findings: takes what is wrong.
    """

    def __init__(self, using: str, wanted: Expected, findings: Findings) -> None:
        self._using = using
        self._wanted = wanted
        self._roots = list(reversed(wanted.roots))
        self._findings = findings
        self._frontier = Frontier()
        self._tiles: dict[tuple[int, int], bytes] = {}  # the tree's own, those at its right edge
        self._held = 0  # the size up to which a signed root was met
        self._broken = False
        self._adrift = 0  # leaves behind a gap that reaches beyond what was signed: they have no place
        # External roots that the tree does not have, while it may still be the signed one.
        self._strange: list[Root] = []
        self._suspects: list[int] = []  # leaves that differ from their tile since then, the first of them
        self._more_suspects = 0  # and how many more
        self._last_suspect = -1  # tiles at the edge are compared more than once

    @property
    def size(self) -> int:
        """Leaves taken."""
        return self._frontier.size

    def add(self, leaves: Sequence[tuple[int, bytes]]) -> None:
        """Take the next leaves.

        Args:
            leaves: index and hash of each, in order. Where one is missing, its hash in the tile takes its place, so
                that what follows can still be compared.
        """
        hashes: list[bytes] = []
        for index, leaf in leaves:
            next_one = self.size + len(hashes)
            if index > next_one and not self._adrift:
                self._push(hashes)
                hashes = []
                self._fill(index)
                next_one = self.size
            if index < next_one:
                self._findings.add(Code.LEAF_CHANGED, f"{index} is not a number of a leaf, or two have it.", leaf=index)
            elif index > next_one:
                self._adrift += 1
            elif len(leaf) != HASH_SIZE:
                self._findings.add(Code.LEAF_CHANGED, f"The leaf {index} holds no hash.", leaf=index)
                hashes.append(bytes(HASH_SIZE))
            else:
                hashes.append(leaf)
        self._push(hashes)

    def end(self, head: LedgerHead) -> None:
        """Compare what only the whole tree can show: its edge, what is stored beyond it, and what nobody signed."""
        # Where the end is missing, its tiles are longer than the tree.
        self._as_stored(self._tiles, growing=self._wanted.signed > self.size)
        for each in self._strange:
            self._mismatch(each)
        self._settle(broken=self._broken)
        self._beyond()
        signed = self._wanted.signed
        unsigned = self.size - signed if self.size > signed else 0
        if unsigned or self._adrift:
            self._findings.add(
                Code.LEAVES_UNSIGNED,
                f"{unsigned + self._adrift} leaves, from number {min(signed, self.size)} on, are covered by no "
                "checkpoint." + (_ROTATED if self._wanted.rotated else ""),
                leaf=min(signed, self.size),
            )
        if head.size > self.size and signed <= self.size:
            self._findings.add(
                Code.LEAVES_MISSING, f"The ledger's head counts {head.size} leaves, and there are {self.size}."
            )
        self._compare(head)

    def _compare(self, head: LedgerHead) -> None:
        try:
            same = head_frontier(head) == self._frontier
        except Malformed:
            same = False
        # A tree that is not the signed one explains a head that is.
        if not same and head.size <= self.size and not self._broken:
            self._findings.add(
                Code.FRONTIER_ALTERED,
                f"The ledger's head (size {head.size}) does not describe the tree of {self.size} leaves.",
            )
        if head.epoch != self._wanted.epoch:
            self._findings.add(
                Code.FRONTIER_ALTERED,
                f"The ledger's head is in epoch {head.epoch}, and the last checkpoint in epoch {self._wanted.epoch}.",
            )

    def _beyond(self) -> None:
        """Tell of roots that were signed for more leaves than there are."""
        signed = self._wanted.signed
        if signed > self.size:
            self._findings.add(
                Code.LEAVES_MISSING,
                f"{signed} leaves were signed, and the database has {self.size}: the end of the tree is missing.",
                leaf=self.size,
            )
        for root in reversed(self._roots):
            if root.external and root.size > signed:
                self._findings.add(
                    Code.ROLLBACK,
                    f"{root.size} leaves were signed, says {root.source}, and the database has {self.size}: it was set "
                    "back to an older state, or its end was cut off.",
                )

    def _fill(self, end: int) -> None:
        """Put the hashes of the tiles where leaves are missing before number `end`."""
        begin = self.size
        last = f" to {end - 1}" if end - 1 > begin else ""
        message = f"The leaves {begin}{last} are missing." if last else f"The leaf {begin} is missing."
        self._findings.add(Code.LEAF_GAP, message, leaf=begin)
        # Nobody signed anything beyond, so a number beyond says nothing: it may be any.
        if end > self._wanted.signed:
            return
        for hashes in self._from_tiles(begin, end):
            self._push(hashes)

    def _from_tiles(self, begin: int, end: int) -> Iterator[list[bytes]]:
        tiles = range(begin // WIDTH, (end - 1) // WIDTH + 1)
        for first in range(tiles.start, tiles.stop, _TILES_AT_ONCE):
            wanted = range(first, min(first + _TILES_AT_ONCE, tiles.stop))
            stored = read_tiles(self._using, ((0, index) for index in wanted))
            data = b"".join(stored.get((0, index), b"").ljust(WIDTH * HASH_SIZE, b"\0") for index in wanted)
            low, high = max(begin - first * WIDTH, 0), min(end - first * WIDTH, len(data) // HASH_SIZE)
            yield [data[at * HASH_SIZE : (at + 1) * HASH_SIZE] for at in range(low, high)]

    def _push(self, hashes: list[bytes]) -> None:
        """Append hashes, and stop at each size that was signed."""
        while hashes:
            take = len(hashes)
            if self._roots and self._roots[-1].size - self.size < take:
                take = self._roots[-1].size - self.size
            self._take(hashes[:take])
            del hashes[:take]
            self._meet()

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
                self._suspect(differing)
            elif not (self._suspects or self._broken):
                self._corrupt(level, index)

    def _suspect(self, leaves: list[int]) -> None:
        """Remember leaves that differ from their tile, as many as a report has in full."""
        fresh = [leaf for leaf in leaves if leaf > self._last_suspect]
        self._last_suspect = max([self._last_suspect, *fresh])
        room = MAX_FINDINGS - len(self._suspects)
        self._suspects += fresh[:room]
        self._more_suspects += len(fresh[room:])

    def _corrupt(self, level: int, index: int) -> None:
        self._findings.add(
            Code.TILE_CORRUPT, f"The tile {index} of level {level} does not hold the hashes that the leaves make."
        )

    def _meet(self) -> None:
        """Compare the tree with every root that was signed for the size it has now: the database's, and others."""
        met: list[Root] = []
        while self._roots and self._roots[-1].size <= self.size:
            met.append(self._roots.pop())
        if not met:
            return
        root = self._frontier.root()
        own = next((each for each in met if not each.external), None)
        for each in met:
            if own and each.external and each.root != own.root:
                self._fork(each)
        if own is None:
            if any(each.root == root for each in met):
                self._hold()
            elif not self._broken:
                self._strange += met
        elif own.root == root:
            self._hold()
            for each in self._strange:
                self._fork(each)
            self._strange = []
        elif not self._broken:
            self._mismatch(own)

    def _hold(self) -> None:
        self._settle(broken=False)
        self._held = self.size

    def _fork(self, each: Root) -> None:
        self._findings.add(
            Code.FORK,
            f"Another tree of {each.size} leaves than this database's is signed by {each.source}: history was "
            "rewritten with the log's key, or the database is another one of the same log.",
            leaf=self._held,
        )

    def _mismatch(self, wanted: Root) -> None:
        if self._broken:
            return  # every later root differs too
        self._findings.add(
            Code.ROOT_MISMATCH,
            f"The {wanted.size} leaves do not make the root that {wanted.source} signs: "
            f"something changed among the leaves {self._held} to {wanted.size - 1}.",
            leaf=self._held,
        )
        # Tiles at the edge may still be waiting for their comparison.
        self._as_stored({place: data for place, data in self._tiles.items() if place[0] == 0}, growing=True)
        self._settle(broken=True)
        self._broken = True

    def _settle(self, *, broken: bool) -> None:
        """Decide who is wrong where leaf and tile differ: the leaf, if the root is wrong too; else the tile."""
        suspects = self._suspects
        rows = self._rows(suspects) if broken else {}
        for index in suspects:
            if broken:
                task, log = rows.get(index, (None, None))
                self._findings.add(
                    Code.LEAF_CHANGED,
                    f"The leaf {index} is not the one that its tile holds.",
                    leaf=index,
                    task=task and str(task),
                    log=log,
                )
            else:
                self._findings.add(
                    Code.TILE_CORRUPT,
                    f"The tile {index // WIDTH} of level 0 does not hold the leaf {index}.",
                    leaf=index,
                )
        if self._more_suspects:
            self._findings.counts[Code.LEAF_CHANGED if broken else Code.TILE_CORRUPT] += self._more_suspects
        self._suspects, self._more_suspects = [], 0

    def _rows(self, leaves: Sequence[int]) -> dict[int, tuple[UUID | None, int | None]]:
        found = LedgerLeaf.objects.using(self._using).filter(index__in=leaves)
        return {index: (task, log) for index, task, log in found.values_list("index", "task_id", "log_id")}
