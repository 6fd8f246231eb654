"""What was proven, written in text for people and in JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from audit.ledger.tlog.canonical import Column, Kind
from audit.ledger.tlog.checkpoint import SignedCheckpoint
from audit.ledger.tlog.proof import Checked, ProvenRow, plan_sha256
from audit.values.terminal import safe, safe_json

__all__ = [
    "checked_as_json",
    "checked_as_text",
    "failure_as_json",
    "growth_as_json",
    "growth_as_text",
    "head_as_json",
    "head_as_text",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORT = 80
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|\[\s*\]|\{\s*\}|[\[\]{},:"]|[^\s\[\]{},:"]+', re.DOTALL)
_UNSHOWN = ("row_version", "salt")
# Columns of a log row that share its second line, and those with lines of their own.
_BRIEF = ("revision", "attempt", "duration_ms", "db_role", "xid")
_AT_LENGTH = ("output_summary", "detail")


def checked_as_text(checked: Checked) -> Iterator[str]:
    """Yield the lines for a task, its log rows in order, and where they stand in the log."""
    what = "Proven" if checked.task else "Proven, without the task itself"
    yield f"{what}: task {checked.task_id}"
    if checked.task:
        yield ""
        yield from _columns(checked.task, [name for name in checked.task.row if name not in _UNSHOWN])
    if checked.log:
        yield ""
        yield f"Log rows proven: {len(checked.log)} (the file may leave others out)"
        for each in checked.log:
            yield from _log_row(each)
    elif checked.task:
        yield ""
        yield "Log rows proven: none (the file holds the task only)"
    if checked.task:
        yield _plan(checked)
    for head in _heads(checked):
        yield ""
        yield from head_as_text(head)
        leaves = [each for each in _rows(checked) if each.head is head]
        yield f"  Proven in it   {', '.join(_leaf(leaf) for leaf in leaves[:20])}" + (
            f" and {len(leaves) - 20} more" if len(leaves) > 20 else ""
        )


def _plan(checked: Checked) -> str:
    approval = checked.approval
    if approval is None:
        return "Plan not compared: no row of the log in the file approves it"
    by = f"log row {approval.row['id']} by {safe(approval.row['actor'])}"
    digest = plan_sha256(checked.task.row["plan"]) if checked.task else None
    if digest is None:
        return f"Plan: none, and none was approved in {by}"
    return f"Plan: the one that was approved in {by}, SHA-256 {digest}"


def head_as_text(head: SignedCheckpoint) -> Iterator[str]:
    """Yield the lines for a checkpoint and who vouches for it."""
    checkpoint = head.checkpoint
    yield f"Log {safe(checkpoint.origin)}"
    yield f"  Leaves         {checkpoint.size}"
    yield f"  Root           {checkpoint.root.hex()}"
    for extension in checkpoint.extensions:
        yield f"  Extension      {safe(extension)}"
    for each in head.signed:
        yield f"  Signed by      {safe(each.verifier.label)}"
    for each in head.cosigned:
        yield f"  Cosigned by    {safe(each.verifier.label)} at {_second(each.at)}"
    if not head.cosigned:
        yield "  Cosigned by    none (no --witness given)"
    known = {each.signature for each in (*head.signed, *head.cosigned)}
    if unknown := [signature for signature in head.note.signatures if signature not in known]:
        names = ", ".join(safe(f"{each.name}+{each.key_id.hex()}") for each in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        yield f"  Not checked    signatures by {names}{more}"


def checked_as_json(checked: Checked) -> str:
    """Write the same on one line of JSON; documents are those that are stored, digit for digit."""
    return _object(
        proven="true",
        task_id=_text(checked.task_id),
        task=_row_as_json(checked.task) if checked.task else "null",
        log=_array(map(_row_as_json, checked.log)),
        approval=_approval_as_json(checked),
        checkpoints=_array(map(head_as_json, _heads(checked))),
    )


def _approval_as_json(checked: Checked) -> str:
    approval = checked.approval
    if approval is None or checked.task is None:
        return "null"
    digest = plan_sha256(checked.task.row["plan"])
    return _object(
        plan_sha256="null" if digest is None else _text(digest),
        log_row=str(approval.row["id"]),
        actor=_text(approval.row["actor"]),
        leaf=str(approval.index),
    )


def head_as_json(head: SignedCheckpoint) -> str:
    """Write a checkpoint and who vouches for it on one line of JSON."""
    checkpoint = head.checkpoint
    return _object(
        origin=_text(checkpoint.origin),
        size=str(checkpoint.size),
        root=_text(checkpoint.root.hex()),
        signed_by=_array(_text(each.verifier.label) for each in head.signed),
        cosigned=_array(_object(by=_text(each.verifier.label), at=_text(_second(each.at))) for each in head.cosigned),
    )


def growth_as_text(old: SignedCheckpoint, new: SignedCheckpoint) -> Iterator[str]:
    """Yield the lines for how a log grew."""
    before, after = old.checkpoint, new.checkpoint
    yield f"Consistent: the log grew from {before.size} to {after.size} leaves, and nothing before was changed."
    yield ""
    yield f"Older root       {before.root.hex()}"
    yield ""
    yield from head_as_text(new)


def growth_as_json(old: SignedCheckpoint, new: SignedCheckpoint) -> str:
    """Write the same on one line of JSON."""
    return _object(consistent="true", old=head_as_json(old), new=head_as_json(new))


def failure_as_json(error: Exception) -> str:
    """Write on one line of JSON that something was not proven, and why."""
    return _object(proven="false", error=_text(type(error).__name__), problem=_text(error))


def _rows(checked: Checked) -> Iterator[ProvenRow]:
    if checked.task:
        yield checked.task
    yield from checked.log


def _heads(checked: Checked) -> list[SignedCheckpoint]:
    """List the checkpoints, each once, the largest tree first."""
    heads: list[SignedCheckpoint] = []
    for each in _rows(checked):
        if not any(each.head is known for known in heads):
            heads.append(each.head)
    return sorted(heads, key=lambda head: -head.checkpoint.size)


def _leaf(row: ProvenRow) -> str:
    which = f"log row {row.row['id']}" if "task_id" in row.row else "task"
    return f"leaf {row.index} ({which})"


def _columns(row: ProvenRow, names: Sequence[str], indent: str = "  ") -> Iterator[str]:
    """Yield a line for each column, or several for a long value; NULL as `-`, the empty text as `""`."""
    width = max(map(len, names))
    for column in row.form.columns:
        if column.name in names:
            first, *rest = _value(column, row.row[column.name])
            yield f"{indent}{column.name:<{width}}  {first}"
            for line in rest:
                yield f"{indent}{'':<{width}}  {line}"


def _log_row(row: ProvenRow) -> Iterator[str]:
    values = row.row
    parts = (
        values["id"],
        _moment(values["at"]),
        f"{values['kind']} {values['step_number'] or ''}".rstrip(),
        " → ".join(filter(None, (values["from_status"], values["to_status"]))),
        values["action"],
        f"by {values['actor']}" if values["actor"] else "",
        f"leaf {row.index}",
    )
    yield "  " + "  ".join(safe(part) for part in parts if part)
    yield "      " + ", ".join(f"{name} {safe(values[name])}" for name in _BRIEF if values[name] not in (None, ""))
    if at_length := [name for name in _AT_LENGTH if values[name]]:
        yield from _columns(row, at_length, indent="      ")


def _value(column: Column, value: Any) -> list[str]:
    if value is None:
        return ["-"]
    if column.kind is Kind.MOMENT:
        return [_moment(value)]
    if column.kind is Kind.DOCUMENT:
        return [safe(line) for line in _indented(value)]
    if column.kind is Kind.NAMES:
        return [", ".join(map(safe, value)) or "none"]
    if column.kind is Kind.BYTES:
        return [value.hex()]
    if column.kind is Kind.TEXT:
        # Line breaks of a text are shown as lines, so that it can be read.
        return [safe(line) for line in value.split("\n")] if value else ['""']
    return [safe(value)]


def _moment(micros: int | None) -> str:
    """Write a moment in UTC, all its microseconds included; as a number where the calendar ends."""
    if micros is None:
        return "-"
    try:
        return f"{(_EPOCH + timedelta(microseconds=micros)).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    except OverflowError:
        return f"{micros} µs after 1970-01-01T00:00:00Z"


def _second(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    try:
        return f"{(_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()}Z"
    except OverflowError:
        return f"{seconds} s after 1970-01-01T00:00:00Z"


def _indented(document: str) -> list[str]:
    """Break a JSON document into indented lines without reading its values: 12.50 stays 12.50."""
    if len(document) <= _SHORT:
        return [document]
    lines, line, depth = [], "", 0
    for part in _TOKEN.findall(document):
        if part in ("{", "["):
            lines.append(line + part)
            depth += 1
            line = _indent(depth)
        elif part in ("}", "]"):
            lines.append(line)
            depth -= 1
            line = _indent(depth) + part
        elif part == ",":
            lines.append(line + part)
            line = _indent(depth)
        else:
            line += ": " if part == ":" else part
    return [*lines, line]


def _indent(depth: int) -> str:
    # Bounded, so that a document 100 000 levels deep fits into memory.
    return "  " * min(depth, 40)


def _row_as_json(row: ProvenRow) -> str:
    values = {column.name: _value_as_json(column, row.row[column.name]) for column in row.form.columns}
    return _object(**values, row_hash=_text(row.row_hash.hex()), leaf=str(row.index))


def _value_as_json(column: Column, value: Any) -> str:
    if value is None:
        return "null"
    if column.kind is Kind.MOMENT:
        return _text(_moment(value))
    if column.kind is Kind.DOCUMENT:
        return value if _on_one_line(value) else _text(value)
    if column.kind is Kind.NAMES:
        return _array(map(_text, value))
    if column.kind is Kind.BYTES:
        return _text(value.hex())
    if column.kind is Kind.INTEGER:
        return str(value)
    return _text(value)


def _on_one_line(document: str) -> bool:
    """Tell whether a document can stand in another as it is."""
    try:
        json.loads(document, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return not re.search(r"[\x00-\x1f]", document)


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _text(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _array(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"


def _object(**members: str) -> str:
    return safe_json("{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in members.items()) + "}")
