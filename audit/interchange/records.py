"""What a line may hold: a task, its pause entry, where it came from and its log, checked by pydantic.

Documents (JSONB columns) stay the text they are; see `audit.values.jsontext`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)

from audit import columns
from audit.columns import Column, Source
from audit.exceptions import InvalidValue
from audit.status import FINISHED, LogKind, OnExpiry, PauseReason, Status
from audit.values import jsontext, validation
from audit.values.validation import JSONText
from audit.verbs.differences import GIVEN_ENTRY
from audit.verbs.inserts import GIVEN

__all__ = ["LogRecord", "OriginRecord", "PauseQueueEntryRecord", "TaskRecord", "Withheld", "moment", "problems"]

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?")
_LARGEST_INTEGER = 2**31 - 1
# So many problems of one record are named; a file that holds no tasks may have a million.
_NAMED = 20
_UNKNOWN = 100


class Withheld(InvalidValue):
    """What is wrong with something that is not a record: its text, which may hold anything, is not in the message."""

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


def _named(check: Callable[[str, Any], Any]) -> Callable[[Any, ValidationInfo], Any]:
    """Make a pydantic validator of a check that wants the field's name."""
    return lambda value, info: check(info.field_name or "", value)


def moment(field: str, value: Any) -> datetime:
    """Return a moment given as text in ISO 8601, or as a datetime.

    Raises:
        InvalidValue: it is none, has no time zone, or more digits than microseconds.
    """
    if isinstance(value, str):
        read = _MOMENT.fullmatch(value)
        if not read:
            raise InvalidValue(field, value, "is not a moment such as 2026-11-24T05:48:03.123456Z")
        if not read[1]:
            problem = f"names no time zone; write {value}Z if it is UTC, else its offset, as in {value}+01:00"
            raise InvalidValue(field, value, problem)
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidValue(field, value, f"is not a moment: {error}") from None
    elif not isinstance(value, datetime):
        raise InvalidValue(field, value, "must be a string such as 2026-11-24T05:48:03.123456Z")
    return validation.moment(field, value)


def _identifier(field: str, value: Any) -> UUID:
    return validation.identifier(field, _uuid(field, value))


def _uuid(field: str, value: Any) -> UUID:
    if not isinstance(value, str | UUID):
        raise InvalidValue(field, value, "must be a UUID as a string")
    return validation.uuid(field, value)


def _document(field: str, value: Any) -> JSONText:
    checked = validation.document(field, value)
    jsontext.check_escapes(field, checked)
    return checked


def _services(field: str, value: Any) -> list[str]:
    # As the database has them: what a caller would not be allowed to write may be there all the same.
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise InvalidValue(field, value, "must be a list of service names")
    if len(value) > validation.MAX_SERVICES:
        raise InvalidValue(field, value[:3], f"has {len(value)} names; at most {validation.MAX_SERVICES} are allowed")
    return [
        validation.text(f"{field}[{index}]", each, max_length=validation.MAX_SERVICE)
        for index, each in enumerate(value)
    ]


def _action(field: str, value: Any) -> str:
    if validation.text(field, value, max_length=100) == "":
        raise InvalidValue(field, value, "must not be empty")
    return str(value)


def _one_of(values: Iterable[str]) -> PlainValidator:
    known = tuple(values)

    def check(field: str, value: Any) -> str:
        if value not in known:
            raise InvalidValue(field, value, f"must be one of {', '.join(known)}")
        return str(value)

    return PlainValidator(_named(check))


_Text = Annotated[str, PlainValidator(_named(validation.text))]
_Name = Annotated[str, PlainValidator(_named(partial(validation.text, max_length=validation.MAX_LABEL)))]
# In a document, which has a bound of its own.
_AnyText = Annotated[str, PlainValidator(_named(partial(validation.text, max_length=None)))]
_Moment = Annotated[datetime, PlainValidator(_named(moment))]
_Id = Annotated[UUID, PlainValidator(_named(_identifier))]
_Uuid = Annotated[UUID, PlainValidator(_named(_uuid))]
_Document = Annotated[JSONText, PlainValidator(_named(_document))]
_Priority = Annotated[int, PlainValidator(_named(validation.priority))]
_Count = Annotated[int, Field(strict=True, ge=0, le=_LARGEST_INTEGER)]
# Raw SQL may have counted below zero where no CHECK forbids it; what is exported comes back.
_Integer = Annotated[int, Field(strict=True, ge=-_LARGEST_INTEGER - 1, le=_LARGEST_INTEGER)]
_Whole = Annotated[int, Field(strict=True)]
_Milliseconds = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
_Status = Annotated[str, _one_of(Status.values)]


class _Record(BaseModel):
    # What no column takes would be lost; it is refused.
    model_config = ConfigDict(extra="forbid", frozen=True)


def _origin(field: str, value: Any) -> JSONText:
    text = value if isinstance(value, JSONText) else validation.document(field, value)
    jsontext.check_escapes(field, text)
    try:
        OriginRecord.check_text(text)
    except InvalidValue as error:
        path = error.field if error.field.partition(".")[0] == field else f"{field}.{error.field}"
        raise InvalidValue(path, error.value, error.problem) from None
    return text


def _fields(columns: Mapping[str, Column], types: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Describe columns as fields for pydantic.

    Args:
        columns: the columns.
        types: the annotation of each type of column.
        own: the annotations of columns that hold less than their type would.
    """
    kinds = {**{name: types.get(column.type) for name, column in columns.items()}, **own}
    return {name: _field(kinds[name], column.default) for name, column in columns.items()}


def _field(kind: Any, default: Any) -> Any:
    return (kind | None, None) if default is None else (kind, default)


_GIVEN_TYPES = {
    "text": _Name,
    "jsonb": _Document,
    "timestamptz": _Moment,
    "uuid": _Uuid,
    "integer": _Count,
    "bigint": _Milliseconds,
    "boolean": Annotated[bool, Field(strict=True)],
    "text[]": Annotated[list[str], PlainValidator(_named(_services))],
}
_ENTRY_FIELDS = _fields(
    GIVEN_ENTRY,
    _GIVEN_TYPES,
    {"reason": Annotated[str, _one_of(PauseReason.values)], "note": _Text, "priority": _Priority, "attempt": _Integer},
)
_TASK_FIELDS = _fields(
    GIVEN,
    _GIVEN_TYPES,
    {"summary": _Text, "priority": _Priority, "on_expiry": Annotated[str, _one_of(OnExpiry.values)]},
) | {
    "id": (_Id, ...),
    "action": (Annotated[str, PlainValidator(_named(_action))], ...),
    "status": (_Status, ...),
    "origin": (Annotated[JSONText, PlainValidator(_named(_origin))] | None, None),
}
# What another database has stamped is taken as it says: raw SQL may have counted below zero there.
_STAMP_TYPES = {
    "text": _AnyText,
    "jsonb": Any,
    "timestamptz": _Moment,
    "integer": _Integer,
    "smallint": _Count,
    "bigint": _Whole,
    "xid8": _Whole,
}
_STAMP_FIELDS = _fields(columns.by_name(columns.TASK, Source.DATABASE), _STAMP_TYPES, {"revision": _Count})
_LOG_FIELDS = _fields(
    columns.by_name(columns.LOG, Source.DATABASE, Source.RECORD),
    _STAMP_TYPES,
    {"from_status": _Status, "to_status": _Status, "step_number": _Whole},
) | {"at": (_Moment, ...), "kind": (Annotated[str, _one_of(LogKind.values)], ...)}


class PauseQueueEntryRecord(create_model("_Entry", __base__=_Record, **_ENTRY_FIELDS)):  # type: ignore[misc]
    """The pause entry of a paused task: the columns that travel with it."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.reason == PauseReason.AWAITING_APPROVAL and not self.held:
            raise InvalidValue("pause_entry", "held: false", "must be held while it awaits an approval")
        if self.event and self.reason != PauseReason.AWAITING_EVENT:
            raise InvalidValue("pause_entry", self.event, f"waits for an event, but its reason is {self.reason}")
        return self

    def values(self) -> dict[str, Any]:
        """Return the values of its columns; who paused it acts, where nobody is said to."""
        return self.__dict__ | {"actor": self.actor or self.paused_by}


class LogRecord(create_model("_Log", __base__=_Record, **_LOG_FIELDS)):  # type: ignore[misc]
    """A row of the log of the database that a task came from."""

    model_config = ConfigDict(extra="allow", frozen=True)


class OriginRecord(create_model("_Origin", __base__=_Record, **_STAMP_FIELDS)):  # type: ignore[misc]
    """What the database that a task came from had stamped on it, its log, and where it came from before.

    The record is checked; what is stored is the text that came, with keys of other versions in it.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    pause_revision: _Integer | None = None
    log: list[LogRecord] = []
    origin: Any = None

    @classmethod
    def of_text(cls, text: str) -> OriginRecord:
        """Check the text of an origin.

        Raises:
            InvalidValue: it is not JSON object.
            pydantic.ValidationError: a known key holds what it cannot.
        """
        record: OriginRecord = cls.model_validate(cls._document(text))
        return record

    @classmethod
    def check_text(cls, text: str) -> None:
        """Check the text of an origin as `of_text` does, one line of the log at a time, for there may be millions.

        Raises:
            InvalidValue: the first that is wrong with it.
        """
        values = cls._document(text)
        try:
            if isinstance(values.get("log"), list):
                for index, line in enumerate(values.pop("log")):
                    place = f"log.{index}."
                    LogRecord.model_validate(line)
            place = ""
            cls.model_validate(values)
        except ValidationError as error:
            first = problems(error)[0]
            raise InvalidValue(f"{place}{first.field}".rstrip("."), first.value, first.problem) from None

    @classmethod
    def _document(cls, text: str) -> dict[str, Any]:
        try:
            values = json.loads(text, parse_constant=int)  # int("NaN") is a ValueError
        except (ValueError, RecursionError):
            # Documents that Python cannot read, or no JSON: cut apart, they are passed over, and the error is found.
            values = _values(text, {"origin", "log"}, "origin")
            if isinstance(values.get("log"), JSONText):
                values["log"] = [
                    _values(cut, {"detail"}, "origin.log") if cut.startswith("{") else _value(cut)
                    for _, cut in jsontext.elements(values["log"], "origin.log")
                ]
        if not isinstance(values, dict):
            raise InvalidValue("origin", text, "must be an object")
        return values


class TaskRecord(create_model("_Task", __base__=_Record, **_TASK_FIELDS)):  # type: ignore[misc]
    """A task: what is set on import, and what an export says."""

    pause_entry: PauseQueueEntryRecord | None = None

    @classmethod
    def of_line(cls, line: str) -> TaskRecord:
        """Read a line of JSON.

        Raises:
            InvalidValue: the line is not JSON object; the message does not show its text.
            pydantic.ValidationError: a field holds what it cannot; `problems` words it.
        """
        try:
            values = _values(line, _TASK_DOCUMENTS, "line", cls.model_fields)
        except InvalidValue as error:
            raise Withheld(error.field[:100], None, error.problem) from None
        if isinstance(values.get("pause_entry"), JSONText):
            known = PauseQueueEntryRecord.model_fields
            values["pause_entry"] = _values(values["pause_entry"], {"work_plan"}, "pause_entry", known)
        record: TaskRecord = cls.model_validate(values)
        return record

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.finished_at is not None and self.status not in FINISHED:
            raise InvalidValue("finished_at", self.finished_at.isoformat(), f"is given, but the task is {self.status}")
        if self.pause_entry is not None and self.status != Status.PAUSED:
            raise InvalidValue("pause_entry", "an entry", f"is given, but the task is {self.status}")
        # An export says where a task came from; raw SQL may have stored there what nobody should write by hand.
        if self.suggestions is not None and self.origin is None and not self.suggestions.startswith("["):
            raise InvalidValue("suggestions", self.suggestions, "must be a list")
        return self

    def values(self) -> dict[str, Any]:
        """Return the values of the task's own columns."""
        return {name: value for name, value in self.__dict__.items() if name != "pause_entry"}


_TASK_DOCUMENTS = {name for name, column in GIVEN.items() if column.is_document} | {"pause_entry"}


def problems(error: ValidationError) -> list[InvalidValue]:
    """Word each of pydantic's findings: field, value and what is wrong with it; of many, the first ones."""
    found: list[InvalidValue] = []
    for each in error.errors(include_url=False)[:_NAMED]:
        path = ".".join(map(str, each["loc"]))
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, InvalidValue):
            # The check knows more of the path where it looked inside, and nothing of what is around the field.
            name = str(each["loc"][-1]) if each["loc"] else ""
            inside = cause.field.removeprefix(name) if cause.field.startswith(name) else f".{cause.field}"
            found.append(InvalidValue(path + inside, cause.value, cause.problem))
        elif each["type"] == "missing":
            found.append(InvalidValue(path, None, "is required"))
        elif each["type"] == "extra_forbidden":
            found.append(Withheld(path[:100], None, "is not a known field"))
        else:
            found.append(InvalidValue(path, each["input"], each["msg"][:1].lower() + each["msg"][1:]))
    if error.error_count() > _NAMED:
        found.append(Withheld("line", None, f"has {error.error_count() - _NAMED} more problems"))
    return found


def _values(
    text: str, documents: Iterable[str], field: str = "line", known: Container[str] | None = None
) -> dict[str, Any]:
    """Read an object, its documents as their text; a `null` document is None.

    Raises:
        InvalidValue: it is none, or has more than a hundred members beside `known`.
    """
    values: dict[str, Any] = {}
    unknown = []
    for key, value, cut in jsontext.members(text, field):
        if known is not None and key not in known:
            unknown.append(key[:50])
            if len(unknown) > _UNKNOWN:
                names = ", ".join(unknown[:3])
                raise Withheld(field, None, f"has more than {_UNKNOWN} unknown members: {names} …")
            values[key] = None  # its name is what is refused
        elif key in documents:
            values[key] = None if cut == "null" else cut
        else:
            values[key] = value if cut[0] in '"tfn' else _value(cut)
    return values


def _value(cut: JSONText) -> Any:
    """Read what the scanner, which gives numbers as text, has not read for real."""
    try:
        return json.loads(cut)
    except (ValueError, RecursionError):
        return _Unreadable(cut)


class _Unreadable:
    """What no field takes: 5 000 digits, 3 000 levels."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text
