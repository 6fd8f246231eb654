"""Stores records from elsewhere, batch by batch: the good ones, or all or none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from django.db import DatabaseError, connections, router
from django.db.transaction import atomic, set_rollback

from audit.exceptions import InvalidValue
from audit.interchange.inserting import insert_imported
from audit.interchange.records import TaskRecord
from audit.models import Task
from audit.statements.retry import persistently
from audit.status import LIVE
from audit.values import jsontext
from audit.values.redaction import redact, redact_text
from audit.verbs.differences import differing
from audit.verbs.inserts import GIVEN

__all__ = ["Counts", "Importer", "Read", "Refusal"]

_DOCUMENTS = [name for name, column in GIVEN.items() if column.is_document]
_ROWS_A_BATCH = 1000
_CHARACTERS_A_BATCH = 8_000_000
_LONGEST_PROBLEM = 1000
# Classes of SQLSTATE that speak of a row: its data, its constraints, what the server can hold.
_ABOUT_THE_ROW = ("22", "23", "54")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A record that is not stored, and why."""

    place: str
    """File and line."""
    problems: tuple[InvalidValue, ...]

    def __str__(self) -> str:
        # A field may be a key of somebody else's document, of any length.
        return f"{self.place}: {'; '.join(str(each)[:_LONGEST_PROBLEM] for each in self.problems)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was read at a place: a record, or what is wrong with what stands there, or why it is passed over."""

    place: str
    record: TaskRecord | None = None
    problems: tuple[InvalidValue, ...] = ()
    passed_over: str = ""
    """What stands there, if it is something else than a record and nothing is wrong with it."""

    @classmethod
    def bad(cls, place: str, *problems: InvalidValue) -> Self:
        """Make one that holds no record."""
        return cls(place=place, problems=problems)

    @classmethod
    def other(cls, place: str, what: str) -> Self:
        """Make one for something that is not a record, and need not be one."""
        return cls(place=place, passed_over=what)


@dataclass(slots=True)
class Counts:
    """How many records an import has come past."""

    stored: int = 0
    """Added by this import, and committed."""
    present: int = 0
    """Here already, with the same content."""
    refused: int = 0
    passed_over: int = 0
    """Something else than records: files or parts of them."""

    @property
    def seen(self) -> int:
        """All records."""
        return self.stored + self.present + self.refused


@dataclass(kw_only=True)
class Importer:
    """One import; `counts` says how far it is, also after an exception.

    Records are stored in batches, each in a transaction of its own (savepoints in a caller's transaction): what an
    interruption leaves are whole batches. Memory is bounded by the size of a batch and of the largest record.
    """

    using: str | None = None
    """The alias to write through; the router's choice when left out."""
    live: bool = False
    """Take tasks that are not finished, too: they can be claimed here as soon as they are stored."""
    strict: bool = False
    """Store nothing if anything is refused: one transaction holds the whole import."""
    redact: bool = False
    """Mask secrets in outcomes and logs; see `audit.values.redaction`."""
    dry_run: bool = False
    """Ask the database for everything and keep nothing of it."""
    on_refusal: Callable[[Refusal], None] = lambda refusal: None
    on_passed_over: Callable[[Read], None] = lambda read: None
    on_batch: Callable[[Counts], None] = lambda counts: None

    def __post_init__(self) -> None:
        self.counts = Counts()
        self._alias = self.using or router.db_for_write(Task)

    def run(self, reads: Iterable[Read]) -> Counts:
        """Store what is read.

        Returns:
            The counts. With `strict` and a refusal, `stored` is 0.

        Raises:
            django.db.DatabaseError: the database cannot be reached or written to.
        """
        done = False
        try:
            with atomic(using=self._alias) if self.strict else nullcontext():
                for batch in self._batches(reads):
                    self._store(batch)
                    self.on_batch(self.counts)
                if self.strict and (self.counts.refused or self.dry_run):
                    set_rollback(True, using=self._alias)
            done = True
        finally:
            if self.strict and (self.counts.refused or not done):
                self.counts.stored = 0
        return self.counts

    def _batches(self, reads: Iterable[Read]) -> Iterator[list[tuple[str, TaskRecord]]]:
        """Collect good records into batches in which no id occurs twice."""
        batch: list[tuple[str, TaskRecord]] = []
        ids: set[UUID] = set()
        size = 0
        for read in reads:
            record = self._accepted(read)
            if record is None:
                continue
            if record.id in ids or len(batch) >= _ROWS_A_BATCH or size >= _CHARACTERS_A_BATCH:
                yield batch
                batch, ids, size = [], set(), 0
            batch.append((read.place, record))
            ids.add(record.id)
            size += sum(len(getattr(record, name) or "") for name in _DOCUMENTS)
        if batch:
            yield batch

    def _accepted(self, read: Read) -> TaskRecord | None:
        record = read.record
        if read.passed_over:
            self.counts.passed_over += 1
            self.on_passed_over(read)
            return None
        if record is None:
            self._refuse(read.place, *read.problems)
            return None
        try:
            if record.status in LIVE and not self.live:
                problem = "is the status of a task that is not finished; --live takes such tasks too"
                raise InvalidValue("status", record.status, problem)
            return _redacted(record) if self.redact else record
        except InvalidValue as error:
            self._refuse(read.place, error)
            return None

    def _refuse(self, place: str, *problems: InvalidValue) -> None:
        self.counts.refused += 1
        self.on_refusal(Refusal(place=place, problems=problems))

    def _store(self, batch: Sequence[tuple[str, TaskRecord]]) -> None:
        """Store a batch, and where the database refuses it, each half; so that one bad row is found and left out."""
        rows = [record.values() for _, record in batch]
        entries = {record.id: record.pause_entry.values() for _, record in batch if record.pause_entry}

        def attempt() -> set[UUID]:
            with atomic(using=self._alias):
                stored = insert_imported(self._alias, rows, entries)
                if self.dry_run:
                    set_rollback(True, using=self._alias)
            return stored

        try:
            stored = persistently(connections[self._alias], attempt)
        except DatabaseError as error:
            if not (getattr(error.__cause__, "sqlstate", None) or "").startswith(_ABOUT_THE_ROW):
                raise
            if len(batch) == 1:
                self._refuse(batch[0][0], self._blamed(rows[0], error))
            else:
                middle = len(batch) // 2
                self._store(batch[:middle])
                self._store(batch[middle:])
            return
        self.counts.stored += len(stored)
        if len(stored) < len(batch):
            self._compare([(place, record) for place, record in batch if record.id not in stored])

    def _compare(self, here: Sequence[tuple[str, TaskRecord]]) -> None:
        """Count the records whose ids are here already as present, or refuse them."""
        rows = [record.values() for _, record in here]
        entries = {record.id: record.pause_entry.values() for _, record in here if record.pause_entry}
        different = differing(self._alias, rows, entries)
        for place, record in here:
            if names := different[record.id]:
                problem = f"is the id of a task that is already here, with other content in: {', '.join(names)}"
                self._refuse(place, InvalidValue("id", str(record.id), problem))
            else:
                self.counts.present += 1

    def _blamed(self, row: dict[str, Any], error: DatabaseError) -> InvalidValue:
        """Find the document that the database does not take, or else say what it answered of the row."""
        for name in _DOCUMENTS:
            if row[name] is None:
                continue
            try:
                with atomic(using=self._alias), connections[self._alias].cursor() as cursor:
                    cursor.execute("SELECT %s::jsonb IS NULL", [str(row[name])])
            except DatabaseError as answer:
                return InvalidValue(name, str(row[name]), f"was refused by PostgreSQL: {_answer(answer)}")
        return InvalidValue("id", str(row["id"]), f"is the id of a row that PostgreSQL refused: {_answer(error)}")


def _answer(error: DatabaseError) -> str:
    return str(error).strip().partition("\n")[0]


def _redacted(record: TaskRecord) -> TaskRecord:
    """Mask secrets in the outcome and the log; plans stay, or nobody could carry them out."""
    changed = {}
    if record.outcome is not None:
        changed["outcome"] = jsontext.edited(record.outcome, redact)
    if record.origin is not None:
        changed["origin"] = jsontext.edited(record.origin, _redacted_origin)
    masked: TaskRecord = record.model_copy(update=changed)
    return masked


def _redacted_origin(origin: dict[str, Any]) -> dict[str, Any]:
    masked = dict(origin)
    if isinstance(origin.get("log"), list):
        masked["log"] = [
            line
            | {
                "output_summary": redact_text(line.get("output_summary", "")),
                "detail": _redacted_detail(line.get("detail")),
            }
            for line in origin["log"]
        ]
    if isinstance(origin.get("origin"), dict):
        masked["origin"] = _redacted_origin(origin["origin"])
    return masked


def _redacted_detail(detail: Any) -> Any:
    if not isinstance(detail, dict) or "work_plan" not in detail:
        return redact(detail)
    return redact(detail) | {"work_plan": detail["work_plan"]}
