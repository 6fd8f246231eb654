"""A small log without a database: the two rows of docs/ledger-format.md and others, sealed by a key of its own.

`python -m tests.support.ledger_example` remakes the tables of columns and every value of the example in that document,
after a change of a form in `audit.ledger.tlog.canonical`.
"""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from audit import columns
from audit.ledger.tlog.canonical import EPOCH_V1, LOG_V1, TASK_V1, Form, Kind, canonical, leaf_hash, parse
from audit.ledger.tlog.checkpoint import Checkpoint
from audit.ledger.tlog.checkpoint import sign as sign_checkpoint
from audit.ledger.tlog.merkle import consistency_proof, inclusion_proof, tree_root
from audit.ledger.tlog.note import KeyKind, Note, Signer, sign, to_base64
from audit.ledger.tlog.proof import Growth, Proof
from audit.ledger.tlog.tiles import Nodes, grow

__all__ = [
    "COSIGNED_AT",
    "DOCUMENT",
    "EARLIER",
    "KEYS",
    "KINDS",
    "LEDGER",
    "LOG",
    "LOG_ROW",
    "OTHER_ID",
    "TASK",
    "TASK_ID",
    "WITNESS",
    "Log",
    "a_log_row",
    "a_task",
    "an_approval",
    "remade",
]

FILE = Path(__file__).resolve().parent.parent.parent / "docs" / "ledger-format.md"
DOCUMENT = FILE.read_text(encoding="utf-8")


def _block(document: str, form: Form) -> bytes:
    """The example's row of a form."""
    pattern = rf"^```text\n({re.escape(form.name)} v{form.version}\n.*?)^```$"
    return re.search(pattern, document, re.MULTILINE | re.DOTALL)[1].encode()


TASK, LOG_ROW = (_block(DOCUMENT, form) for form in (TASK_V1, LOG_V1))
TASK_ID = UUID("01935a2e-7c00-7abc-8def-0123456789ab")

# Seeds that anybody can guess: for examples only.
LOG = Signer(name="example.com/audit", kind=KeyKind.ED25519, seed=bytes(range(32)))
WITNESS = Signer(name="example.com/witness", kind=KeyKind.COSIGNATURE, seed=bytes(range(32, 64)))
COSIGNED_AT = 1_732_375_330


def a_task(**changes: Any) -> bytes:
    """The document's task with other values."""
    return canonical(TASK_V1, parse(TASK)[1] | changes)


def a_log_row(**changes: Any) -> bytes:
    """The document's log row with other values."""
    return canonical(LOG_V1, parse(LOG_ROW)[1] | changes)


def an_approval(**changes: Any) -> bytes:
    """The row of the document's log that approves the document's plan, with other values."""
    digest = sha256(parse(TASK)[1]["plan"].encode()).hexdigest()
    values = {"id": 1200, "from_status": "pending", "to_status": "approved", "revision": 2, "actor": "bob"}
    return a_log_row(**values | {"detail": f'{{"plan_sha256": "{digest}"}}'} | changes)


class Log:
    """Rows in a tree, and the files that prove them."""

    def __init__(self, *rows: bytes) -> None:
        self.rows = rows
        self._tiles = grow(0, [leaf_hash(row) for row in rows], lambda _level, _index: b"")
        self.node = Nodes(lambda level, index: self._tiles[level, index])

    def head(self, size: int | None = None, *, origin: str = LOG.name) -> Checkpoint:
        size = len(self.rows) if size is None else size
        return Checkpoint(origin=origin, size=size, root=tree_root(size, self.node))

    def checkpoint(self, size: int | None = None, *signers: Signer, witness: Signer | None = WITNESS) -> Note:
        note = sign_checkpoint(self.head(size), *(signers or (LOG,)))
        return sign(note, witness, at=COSIGNED_AT) if witness else note

    def proof(self, index: int, size: int | None = None, /, **changes: Any) -> Proof:
        size = len(self.rows) if size is None else size
        values = {
            "index": index,
            "hashes": inclusion_proof(index, size, self.node),
            "checkpoint": str(self.checkpoint(size)),
            "extra": self.rows[index],
        }
        return Proof(**values | changes)

    def growth(self, old: int, size: int | None = None, /, **changes: Any) -> Growth:
        size = len(self.rows) if size is None else size
        values = {
            "old_size": old,
            "hashes": consistency_proof(old, size, self.node),
            "checkpoint": str(self.checkpoint(size)),
        }
        return Growth(**values | changes)


OTHER_ID = "01935a2e-7c00-7abc-8def-000000000000"
EARLIER = an_approval()
LEDGER = Log(
    EARLIER, a_task(id=OTHER_ID), LOG_ROW, TASK, a_log_row(task_id=OTHER_ID), b"no row", a_task(status="failed")
)
"""A log of seven leaves: other rows before and after those of the example, and one leaf that is no row."""
KEYS = [LOG.verifier]
"""What a verifier trusts of `LEDGER`."""


# The document

KINDS = {
    Kind.TEXT: "text",
    Kind.INTEGER: "integer",
    Kind.XID: "transaction id",
    Kind.IDENTIFIER: "UUID",
    Kind.MOMENT: "moment",
    Kind.NAMES: "names",
    Kind.DOCUMENT: "JSON",
    Kind.BYTES: "bytes",
}
"""What the document calls each kind of column."""
_CUT = 60
"""How many characters of the extra data are shown."""


def remade(document: str) -> str:
    """Return the document with its tables of columns and all values of its example made anew.

    Args:
        document: the text; a column that its example lacks gets its default, and one that no form has any more is left
            out.
    """
    for form in (TASK_V1, LOG_V1, EPOCH_V1):
        rows = "".join(f"| `{column.name}` | {KINDS[column.kind]} |\n" for column in form.columns)
        heading = rf"(### `{re.escape(form.name)} v1`\n(?:(?!###).)*?\| column \| kind \|\n\|---\|---\|\n)"
        document = _put(document, rf"{heading}(?:\| `\w+` \| [^|]+ \|\n)+", rf"\g<1>{rows}")
    task = _row(TASK_V1, _block(document, TASK_V1), columns.TASK)
    log = _row(LOG_V1, _block(document, LOG_V1), columns.LOG)
    for form, row, text in (
        (TASK_V1, task, "A finished task"),
        (LOG_V1, log, "The row of its log that says how it ended"),
    ):
        old = re.escape(_block(document, form).decode())
        document = _put(document, rf"{text}, \d+ bytes", f"{text}, {len(row)} bytes")
        document = _put(document, rf"(```text\n){old}(```\n.*?```text\n)[0-9a-f]{{64}}\n", _with_hash(row))
    before, heading, after = document.partition("## A log of three rows")
    ledger, extra = Log(log, task, b"another row"), to_base64(task)
    places = ((0, 0), (0, 1), (0, 2), (1, 0))
    nodes = [f"{level} {index}   {ledger.node(level, index).hex()}\n" for level, index in places]
    blocks = iter(
        (
            "".join(f"{key}\n" for signer in (LOG, WITNESS) for key in (signer.secret(), signer.verifier)),
            "".join([*nodes, f"root  {ledger.head().root.hex()}\n"]),
            str(ledger.checkpoint()),
            str(ledger.proof(1)).replace(extra, f"{extra[:_CUT]}…"),
            str(ledger.growth(1)),
        )
    )
    after = re.sub(r"^```\n.*?^```$", lambda _: f"```\n{next(blocks)}```", after, flags=re.MULTILINE | re.DOTALL)
    counts = f"{_CUT} of {len(extra)} characters (the example's {len(task)} bytes"
    return before + heading + _put(after, r"\d+ of \d+ characters \(the example's \d+ bytes", counts)


def _put(document: str, pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> str:
    document, count = re.subn(pattern, replacement, document, count=1, flags=re.DOTALL)
    if not count:
        raise ValueError(f"docs/ledger-format.md has nothing of the form {pattern}")
    return document


def _with_hash(row: bytes) -> Callable[[re.Match[str]], str]:
    return lambda found: f"{found[1]}{row.decode()}{found[2]}{leaf_hash(row).hex()}\n"


def _row(form: Form, data: bytes, described: tuple[columns.Column, ...]) -> bytes:
    """What the example holds of each column that the form has now, else the column's default."""
    header, _, rest = data.partition(b"\n")
    lines = {}
    while rest:
        begin = re.match(rb"(\w+) (?:-|(\d+):)", rest)
        end = begin.end() + int(begin[2] or 0) + 1
        lines[begin[1].decode()], rest = rest[:end], rest[end:]
    defaults = {column.name: column.default for column in described}
    row = b"\n".join([header, b""]) + b"".join(
        lines.get(column.name) or _line(column.name, defaults[column.name]) for column in form.columns
    )
    parse(row)  # raises where it is not canonical
    return row


def _line(name: str, value: Any) -> bytes:
    if value is None:
        return f"{name} -\n".encode()
    text = json.dumps(value) if isinstance(value, list) else str(value)
    return f"{name} {len(text.encode())}:{text}\n".encode()


if __name__ == "__main__":
    FILE.write_text(remade(DOCUMENT), encoding="utf-8")
