"""The log as static files for anyone to follow (c2sp.org/tlog-tiles): its checkpoint and the tiles below it.

Tiles hold hashes alone, of salted rows: what a task said cannot be guessed from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from audit.exceptions import AuditError
from audit.ledger.binary_rows import snapshot
from audit.ledger.tables import edge, read_tiles
from audit.ledger.tlog import files
from audit.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from audit.ledger.tlog.damage import examine
from audit.ledger.tlog.errors import LedgerError, Malformed
from audit.ledger.tlog.merkle import HASH_SIZE
from audit.ledger.tlog.note import Note, Verifier
from audit.ledger.tlog.tiles import HEIGHT, WIDTH, path, width_at
from audit.models import LedgerCheckpoint

__all__ = ["CannotPublish", "publish"]

_AT_ONCE = 256
_CHECKPOINT = "checkpoint"


class CannotPublish(AuditError):
    """The log cannot be written out: `problem`."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


def publish(using: str, directory: Path, verifiers: Iterable[Verifier] = ()) -> tuple[int, int]:
    """Write the newest checkpoint and the tiles that its tree has more than the one that is published.

    The checkpoint is exchanged last, so that whoever reads it finds its tiles. What is published only grows.

    Args:
        using: alias of the database; a replica will do.
        directory: served as it is, of one log alone; made if it is not there. Without a checkpoint in it every tile is
            written.
        verifiers: keys of the log, if known: what none of them has signed is not published.

    Returns:
        Leaves of the tree, and how many tiles were written.

    Raises:
        CannotPublish: nothing is sealed yet, or not signed by the log; the directory holds another log, or a tree that
            the database's does not go on from; a tile is missing in the database; or a file cannot be read or written.
    """
    known = tuple(verifiers)
    with snapshot(using):
        signed = (
            LedgerCheckpoint.objects.using(using).order_by("-epoch", "-size").values_list("note", flat=True).first()
        )
        if signed is None:
            raise CannotPublish("Nothing is sealed yet. Run manage.py audit_seal.")
        try:
            newest = open_checkpoint(signed, known).checkpoint if known else Checkpoint.parse(Note.parse(signed).text)
            _insist(using, newest, "The newest checkpoint of the database is not of its tree.")
            published = _published(directory)
            if published:
                _check_growth(using, directory, published, newest)
            written = _write_tiles(using, directory, published.size if published else 0, newest.size)
            if _published(directory) != published:
                raise CannotPublish(f"{directory}: another audit_tiles wrote here meanwhile. Run it again.")
            files.replace(directory / _CHECKPOINT, signed, mode=0o644)
        except LedgerError as error:
            raise CannotPublish(f"{error} See manage.py audit_verify.") from error
        except OSError as error:
            raise CannotPublish(f"{error.filename or directory}: {error.strerror}") from error
    return newest.size, written


def _published(directory: Path) -> Checkpoint | None:
    path = directory / _CHECKPOINT
    data = b""
    try:
        data = path.read_bytes()
        return Checkpoint.parse(Note.parse(data).text)
    except FileNotFoundError:
        return None
    except Malformed as error:
        found = examine(data)
        what = f"It is damaged: {found}." if found.causes else "Find out what it is."
        raise CannotPublish(f"{path}: {error} {what} Without it, all tiles are written anew.") from error


def _check_growth(using: str, directory: Path, published: Checkpoint, newest: Checkpoint) -> None:
    """Insist that a tree is what was published and more."""
    if published.origin != newest.origin:
        raise CannotPublish(
            f"{directory} holds the log {published.origin!r}, and the database goes on as {newest.origin!r}. That is "
            "another log, as after each new epoch, and needs a directory of its own."
        )
    if published.size > newest.size:
        raise CannotPublish(
            f"{directory} holds {published.size} leaves, and the database has signed {newest.size}: it is a replica "
            "that lags, or was set back to an older state. Nothing was published."
        )
    _insist(
        using,
        published,
        f"{directory} holds another tree of {published.size} leaves than the database's: one of them was rewritten. "
        "Keep what is published, it is evidence.",
    )


def _insist(using: str, checkpoint: Checkpoint, otherwise: str) -> None:
    if edge(using, checkpoint.size).root() != checkpoint.root:
        raise CannotPublish(f"{otherwise} See manage.py audit_verify.")


def _write_tiles(using: str, directory: Path, before: int, size: int) -> int:
    written = 0
    places = _grown(before, size)
    while some := list(islice(places, _AT_ONCE)):
        written += _write(using, directory, size, some)
    return written


def _grown(before: int, size: int) -> Iterator[tuple[int, int]]:
    """Every tile that a tree has, or has wider, than it had with `before` leaves: by level and index."""
    level = 0
    while hashes := size >> HEIGHT * level:
        had = before >> HEIGHT * level
        if hashes > had:
            for index in range(had // WIDTH, -(-hashes // WIDTH)):
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
