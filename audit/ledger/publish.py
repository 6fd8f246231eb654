"""The log as static files for anyone to follow (c2sp.org/tlog-tiles): its checkpoint and the tiles below it.

Tiles hold hashes alone, of salted rows: what a task said cannot be guessed from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audit.exceptions import AuditError
from audit.ledger import files
from audit.ledger.checkpoint import Checkpoint
from audit.ledger.merkle import HASH_SIZE
from audit.ledger.note import Note
from audit.ledger.rows import snapshot
from audit.ledger.stored import read_tiles
from audit.ledger.tiles import HEIGHT, WIDTH, path, width_at
from audit.models import LedgerCheckpoint

__all__ = ["CannotPublish", "publish"]

_AT_ONCE = 256


class CannotPublish(AuditError):
    """The log cannot be written out: `problem`."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


def publish(using: str, directory: Path) -> tuple[int, int]:
    """Write the newest checkpoint and every tile of its tree that is not there yet.

    The checkpoint is exchanged last, so that whoever reads it finds its tiles.

    Args:
        using: alias of the database; a replica will do.
        directory: served as it is; made if it is not there.

    Returns:
        Leaves of the tree, and how many tiles were new.

    Raises:
        CannotPublish: nothing is sealed yet, a tile is missing in the database, or a file cannot be written.
    """
    with snapshot(using):
        signed = (
            LedgerCheckpoint.objects.using(using).order_by("-epoch", "-size").values_list("note", flat=True).first()
        )
        if signed is None:
            raise CannotPublish("Nothing is sealed yet. Run manage.py audit_seal.")
        size = Checkpoint.parse(Note.parse(signed).text).size
        try:
            written = _write_tiles(using, directory, size)
            files.replace(directory / "checkpoint", signed, mode=0o644)
        except OSError as error:
            raise CannotPublish(f"{error.filename or directory}: {error.strerror}") from error
    return size, written


def _write_tiles(using: str, directory: Path, size: int) -> int:
    written = 0
    wanted: list[tuple[int, int]] = []
    for place in _places(size):
        if not (directory / path(*place, width_at(*place, size))).exists():
            wanted.append(place)
        if len(wanted) == _AT_ONCE:
            written += _write(using, directory, size, wanted)
            wanted = []
    return written + _write(using, directory, size, wanted)


def _places(size: int) -> Iterator[tuple[int, int]]:
    """Every tile of a tree, by level and index."""
    level = 0
    while hashes := size >> HEIGHT * level:
        for index in range(-(-hashes // WIDTH)):
            yield level, index
        level += 1


def _write(using: str, directory: Path, size: int, places: list[tuple[int, int]]) -> int:
    stored = read_tiles(using, places)
    for level, index in places:
        width = width_at(level, index, size)
        data = stored.get((level, index), b"")[: width * HASH_SIZE]
        if len(data) != width * HASH_SIZE:
            raise CannotPublish(f"The tile {index} of level {level} is not whole. See manage.py audit_verify.")
        target = directory / path(level, index, width)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.replace(target, data, mode=0o644)
    return len(places)
