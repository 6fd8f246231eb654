"""How commands show tasks: as values for JSON, and as pages of text for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from audit.management.output import age, duration, moment, safe
from audit.management.tables import Column, Table, table, wrapped
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.reading.seal_state import SealState, TaskSeal
from audit.reading.spans import COLUMNS, Spans, spans
from audit.status import LIVE, PauseReason, Status
from audit.values import moments

if TYPE_CHECKING:
    from rich.text import Text

__all__ = [
    "Details",
    "entry_state",
    "entry_values",
    "life_of",
    "log_values",
    "short_moment",
    "task_page",
    "task_values",
    "zone",
]

_MOST_LINES = 60
_MOST_MESSAGE_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What belongs to a task: rows of its log in order, its place in the pause queue, and how it is sealed."""

    log: Sequence[ExecutionLog]
    more_log: bool
    """Whether the log goes on."""
    entry: PauseQueueEntry | None
    seal: TaskSeal
    waits: Sequence[str] = ()
    """Why it waits, in sentences."""


def zone() -> str:
    """Name the time zone in which moments are written, as it is now."""
    return f"{moments.local(moments.now()):%Z}"


def short_moment(value: datetime, now: datetime) -> str:
    """Write a moment briefly: without this year's number, or without the time of another year's day."""
    local = moments.local(value)
    return f"{local:%m-%d %H:%M:%S}" if local.year == moments.local(now).year else f"{local:%Y-%m-%d}"


def task_values(task: Task) -> dict[str, Any]:
    """Return every column of a task, and how long it waited, ran and was paused, in seconds, so far."""
    values = {field.attname: getattr(task, field.attname) for field in task._meta.concrete_fields}
    life = life_of(task, moments.now())
    total = life.total if task.finished_at else None
    return values | {"waited_s": life.waited, "ran_s": life.ran, "paused_s": life.paused, "total_s": total}


def log_values(row: ExecutionLog) -> dict[str, Any]:
    """Return every column of a log row, its task excepted."""
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields if field.name != "task"}


def entry_values(entry: PauseQueueEntry, now: datetime) -> dict[str, Any]:
    """Return every column of a pause entry, its state, and its age and delay in seconds."""
    values = {field.attname: getattr(entry, field.attname) for field in entry._meta.concrete_fields}
    state = entry_state(entry, now)
    overdue = now - entry.due_at if state in ("due", "leased") and entry.due_at < now else None
    return values | {"state": state, "age_s": now - entry.paused_at, "overdue_s": overdue}


def entry_state(entry: PauseQueueEntry, now: datetime) -> str:
    """Say how an entry stands: `leased` to a worker, `held` by a person or event, `due`, or `waiting` for its time."""
    if entry.lease_expires_at is not None and entry.lease_expires_at > now:
        return "leased"
    if entry.held:
        return "held"
    return "due" if entry.due_at <= now else "waiting"


def life_of(task: Task, now: datetime) -> Spans:
    """Measure how long a task waited, ran and was paused, until its end or until now."""
    return spans({name: getattr(task, name) for name in COLUMNS}, now)


def task_page(
    task: Task,
    details: Details,
    *,
    heading: Callable[[str], Text],
    paint: Callable[[str], str],
    width: int | None,
) -> Iterator[str | Text]:
    """Yield the lines of a page about a task.

    Args:
        task: what it is about.
        details: what belongs to it.
        heading: makes a heading stand out.
        paint: returns the style of a status.
        width: columns of the terminal; none: nothing is cut or wrapped.
    """
    from rich.text import Text

    now = moments.now()
    yield heading(safe(task.action)) + (f"  {safe(task.summary)}" if task.summary else "")
    yield Text.assemble(f"{task.pk}  ", (task.status, paint(task.status)))
    yield ""
    yield from _facts([*_task_facts(task, now), *_seal_facts(task, details.seal, now)], width)
    if details.waits:
        yield from ("", heading("Why it waits"))
        for reason in details.waits:
            first, *more = wrapped(reason, width and width - 4)
            yield from (f"  - {first}", *(f"    {line}" for line in more))
    if details.entry is not None:
        yield from ("", heading("Pause queue"))
        yield from _facts(_entry_facts(details.entry, now), width)
    for title, value in (
        ("Outcome", task.outcome),
        ("Plan", task.plan),
        ("Work plan: what remains", task.work_plan),
        ("Estimated resources", task.estimated_resources),
        ("Resources used", task.resources_used),
        ("Origin", task.origin),
    ):
        if value is not None:
            yield from ("", heading(title))
            yield from document(value)
    if task.suggestions:
        yield from ("", heading("Suggestions"))
        yield from _suggestions(task.suggestions)
    yield ""
    yield heading(f"Execution log ({zone()}; actors as claimed by the application, roles as seen by the database)")
    yield from _timeline(details.log, task.finished_at, width)
    if details.more_log:
        yield f"  … the log goes on after these {len(details.log)} rows; --log N shows more"


def document(value: Any, indent: str = "  ") -> Iterator[str]:
    """Yield readable JSON; a document of more than 60 lines is cut there, with the number of those left out."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    lines = text.split("\n")
    for line in lines[:_MOST_LINES]:
        shown = safe(line)
        yield indent + (shown if len(shown) <= 2000 else f"{shown[:2000]}… ({len(shown)} characters)")
    if len(lines) > _MOST_LINES:
        yield f"{indent}… {len(lines) - _MOST_LINES} more lines; --format json shows all"


def _facts(pairs: Iterable[tuple[str, str]], width: int | None) -> Iterator[str]:
    shown = [(name, value) for name, value in pairs if value]
    aside = 4 + max(len(name) for name, _ in shown)
    for name, value in shown:
        first, *more = wrapped(value, width and width - aside)
        yield f"  {name:<{aside - 4}}  {first}"
        yield from (" " * aside + line for line in more)


def _durations(task: Task, now: datetime) -> str:
    life = life_of(task, now)
    if task.created_at > (task.finished_at or now):
        return ""
    waits = task.status in (Status.PENDING, Status.APPROVED)
    parts = [f"{'waiting for' if waits else 'waited'} {duration(life.waited)}"]
    if life.ran is not None:
        parts.append(f"{'running for' if task.status == Status.EXECUTING else 'ran'} {duration(life.ran)}")
    if life.paused:
        parts.append(f"{'paused for' if task.status == Status.PAUSED else 'paused'} {duration(life.paused)}")
    if task.finished_at:
        parts.append(f"in all {duration(life.total)}")
    return ", ".join(parts)


def _task_facts(task: Task, now: datetime) -> Iterator[tuple[str, str]]:
    yield "Services", ", ".join(map(safe, task.services_touched)) or "-"
    yield "Priority", f"{task.priority} (1 is highest)"
    yield "Requested by", safe(task.requested_by)
    yield "Decided by", safe(task.decided_by)
    yield "Last change by", safe(task.actor)
    yield "Correlation", safe(task.correlation_id)
    yield "Parent", str(task.parent or "")
    yield "Created", _moment(task.created_at, now)
    if abs((task.recorded_at - task.created_at).total_seconds()) >= 1:
        yield "Recorded", f"{_moment(task.recorded_at, now)}; when this database first saw it"
    if task.available_at > task.created_at:
        yield "Available", _moment(task.available_at, now)
    if task.status == Status.PENDING:
        yield "Approve before", _moment(task.approve_before, now)
    yield "Decided", _moment(task.decided_at, now)
    yield "Started", _moment(task.started_at, now)
    yield "Finished", _moment(task.finished_at, now)
    yield "Durations", _durations(task, now)
    if task.attempt:
        yield "Attempts", f"{task.attempt}" + (f", {task.expiries} lost by an expired lease" if task.expiries else "")
    if task.status in LIVE and task.claimed_by and task.lease_expires_at:
        expired = "expired" if task.lease_expires_at <= now else "expires"
        yield "Claimed by", f"{safe(task.claimed_by)}; lease {expired} {_moment(task.lease_expires_at, now)}"
    elif task.claimed_by:
        yield "Worker", safe(task.claimed_by)
    yield "Stop requested", _moment(task.cancel_requested_at, now)
    yield "Revision", str(task.revision)


def _seal_facts(task: Task, seal: TaskSeal, now: datetime) -> Iterator[tuple[str, str]]:
    if task.status not in LIVE or seal.state == SealState.FAILED:
        yield "Seal", _seal_text(seal, now)
        yield "Sealed", _moment(seal.covered_at, now)


def _seal_text(seal: TaskSeal, now: datetime) -> str:
    when = f"{age(seal.verified_at, now)} ago"
    where = "not sealed" if seal.leaf is None else f"leaf {seal.leaf}"
    if seal.state == SealState.FAILED:
        return f"TAMPERING: {safe(seal.finding)}, found {when}; {where}"
    if seal.state == SealState.VERIFIED:
        return f"{where}; verified {when}"
    if seal.state == SealState.UNCLEAR:
        return f"{where}; tampering was found {when}, not here"
    return f"{where} yet" if seal.leaf is None else f"{where}; not verified yet"


def _entry_facts(entry: PauseQueueEntry, now: datetime) -> Iterator[tuple[str, str]]:
    yield "Entry", str(entry.pk)
    yield "State", entry_state(entry, now)
    yield "Reason", str(PauseReason(entry.reason).label) + (f": {safe(entry.note)}" if entry.note else "")
    yield "Paused by", safe(entry.paused_by)
    yield "Paused", _moment(entry.paused_at, now)
    if entry.event:
        yield "Event", safe(entry.event)
    if entry.reason == PauseReason.AWAITING_APPROVAL and entry.resume_after is not None:
        yield "Approve before", _moment(entry.resume_after, now)
    else:
        released = "when somebody emits the event" if entry.event else "when somebody releases it"
        yield "Times out" if entry.event else "Due", released if entry.held else _moment(entry.due_at, now)
    yield "Priority", str(entry.priority)
    if entry.claimed_by and entry.lease_expires_at:
        yield "Claimed by", f"{safe(entry.claimed_by)}, until {_moment(entry.lease_expires_at, now)}"
    if entry.work_plan is not None:
        yield "Work plan", safe(_compact(entry.work_plan)[:2000])


def _moment(value: datetime | None, now: datetime) -> str:
    if value is None:
        return ""
    return f"{moment(value, precise=True)} ({age(value, now)}{'' if value > now else ' ago'})"


def _suggestions(suggestions: Any) -> Iterator[str]:
    if not isinstance(suggestions, list):
        yield from document(suggestions)
        return
    for number, each in enumerate(suggestions, 1):
        if isinstance(each, dict) and isinstance(each.get("suggestion"), str):
            reason = f" (because: {safe(each['reason'])})" if each.get("reason") else ""
            yield f"  {number}. {safe(each['suggestion'])}{reason}"
        else:
            yield f"  {number}. {safe(json.dumps(each, ensure_ascii=False))}"


def _timeline(log: Sequence[ExecutionLog], finished_at: datetime | None, width: int | None) -> Iterator[Text]:
    from rich.text import Text

    columns = (
        Column(title="At"),
        Column(title="Gap", right=True),
        Column(title="What", least=24),
        Column(title="Took", right=True, rank=3),
        Column(title="Actor", name=True, least=8),
        Column(title="Role", least=6, rank=1),
        Column(title="Message"),
    )
    previous = None
    rows = []
    for row in log:
        # Rows are in the order of their writing; two moments of one transaction may be the other way round.
        gap = f"+{duration(max(row.at - previous, timedelta()))}" if previous is not None else ""
        local = moments.local(row.at)
        at = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d}"
        took = duration(row.duration_ms / 1000) if row.duration_ms is not None else ""
        message = " ".join(filter(None, (row.output_summary, _compact(row.detail))))
        rows.append((at, gap, _what(row, finished_at), took, row.actor, row.db_role, message))
        previous = row.at
    if not rows:
        yield Text("  none")
        return
    indent = Text("  ")
    whole = list(table(columns, rows))
    width = width and max(width - 2, 20)
    if width is None or max(line.cell_len for line in whole) <= width:
        yield from (indent + line for line in whole)
        return
    narrow = Table(columns[:-1], [row[:-1] for row in rows], width)
    yield from (indent + line for line in narrow.head())
    for *values, message in rows:
        yield indent + narrow.line(values)
        yield from map(Text, _message(message, width))


def _message(message: str, width: int) -> Iterator[str]:
    """Yield the message of a row, below it; what takes more than 20 lines is cut, with the number of those left out."""
    lines = wrapped(safe(message), width - 4) if message else []
    yield from (f"      {line}" for line in lines[:_MOST_MESSAGE_LINES])
    if len(lines) > _MOST_MESSAGE_LINES:
        yield f"      … {len(lines) - _MOST_MESSAGE_LINES} more lines; --format json shows all"


def _what(row: ExecutionLog, finished_at: datetime | None) -> str:
    if row.to_status:
        return f"{row.from_status} → {row.to_status}" if row.from_status else f"new: {row.to_status}"
    step = f"step {row.step_number}" if row.step_number is not None else row.kind
    after = ", after the end" if finished_at and row.at > finished_at else ""
    return f"{step} {row.action}".rstrip() + after


def _compact(detail: Any) -> str:
    if detail is None:
        return ""
    return detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False)
