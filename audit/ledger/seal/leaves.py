"""The leaves of rows: hashed in Python, and stored by COPY."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from struct import Struct

from audit.ledger.binary_rows import Raw
from audit.ledger.seal.picking import Picked
from audit.ledger.seal.refusals import CannotSeal
from audit.ledger.tlog.canonical import LOG_V1, SALT_BYTES, TASK_V1, Uncanonical
from audit.ledger.tlog.wire import wire_hashes

__all__ = ["store_leaves"]

_STORE = "COPY audit_ledger_leaf (index, task_id, log_id, salt, leaf_hash) FROM STDIN (FORMAT BINARY)"
_START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
# A leaf as COPY takes it in binary: five fields, each behind its length, which is -1 for NULL.
_TASK_LEAF = Struct("!hiqi16sii16si32s")
_LOG_LEAF = Struct("!hiqii8si16si32s")


def store_leaves(raw: Raw, size: int, rows: Sequence[Picked]) -> list[bytes]:
    """Hash rows and store their leaves behind `size` others; their hashes.

    Raises:
        CannotSeal: a row is not of the types that are sealed, or not there any more.
    """
    drawn = os.urandom(SALT_BYTES * len(rows))
    salts = [drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES)]
    hashes = [b""] * len(rows)
    for form, keys in ((TASK_V1, [task for _, task, _ in rows]), (LOG_V1, [log for *_, log in rows])):
        places = {key: place for place, key in enumerate(keys) if key is not None}
        for together in raw.sealed(form, places) if places else ():
            at = [places[values[0]] for values in together]
            try:
                found = wire_hashes(form, [salts[place] for place in at], together)
            except Uncanonical as error:
                raise CannotSeal(f"A row of {form.table} cannot be sealed: {error}. See manage.py check.") from error
            for place, leaf in zip(at, found, strict=True):
                hashes[place] = leaf
    if b"" in hashes:
        raise CannotSeal("A row went away while it was sealed. See manage.py audit_verify.")
    raw.load(_STORE, _copied(size, rows, salts, hashes))
    return hashes


def _copied(size: int, rows: Sequence[Picked], salts: list[bytes], hashes: list[bytes]) -> Iterator[bytes]:
    yield _START
    for index, ((_, task, log), salt, leaf) in enumerate(zip(rows, salts, hashes, strict=True), size):
        if task is not None:
            yield _TASK_LEAF.pack(5, 8, index, 16, task, -1, 16, salt, 32, leaf)
        else:
            yield _LOG_LEAF.pack(5, 8, index, -1, 8, log, 16, salt, 32, leaf)
    yield _END
