"""Finds the events in what CloudTrail and the tools around it write.

Log files (`Records`), JSON Lines, lists, single events, EventBridge envelopes, the output of `lookup-events`, log
events of CloudWatch (subscriptions, exports, queries); one after the other, with or without anything between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import ValidationError

from audit import conf
from audit.contrib.cloudtrail.events import MOST_MEMBERS, Members, members_of, task_of_members, too_many
from audit.contrib.cloudtrail.window import Window, decoded
from audit.exceptions import InvalidValue
from audit.interchange.importing import Read
from audit.interchange.records import Withheld, problems
from audit.interchange.sources import UNREADABLE, Source, TooLong, unreadable, while_hopeful
from audit.values import jsontext

__all__ = ["SUFFIXES", "read_events"]

SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
"""The names that are looked for in a directory."""

# What marks an event, as CloudTrail writes it and as Athena's tables do.
_MARKS = frozenset({"eventID", "eventName", "eventTime", "eventVersion", "userIdentity"})
_MARKS |= {each.lower() for each in _MARKS}
# Lists of events: log files, lookup-events, CloudWatch subscriptions, get-log-events, queries of CloudWatch.
_LISTS = ("Records", "Events", "logEvents", "events", "results")
# Events as strings: lookup-events, CloudWatch, notifications.
_TEXTS = ("CloudTrailEvent", "message", "@message", "Message")
_DIGEST = {"digestStartTime", "digestEndTime", "digestS3Object"}
# CloudWatch exports begin each line with a time.
_PREFIX = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{5,18}(?:Z|[+-]\d\d:?\d\d)[ \t]+(?=\{)")
_LONGEST_PREFIX = 60
_CONTROL = "CWL CONTROL MESSAGE"
_DEEPEST = 5


def read_events(source: Source) -> Iterator[Read]:
    """Yield each event of a file as a task, or what is wrong with it, or what stands there instead.

    The file is read in pieces; one event at a time is in memory.
    """
    return while_hopeful(source, _File(source).read())


class _File:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._window = Window(decoded(source.pieces()), conf.settings().IMPORT_MAX_RECORD_BYTES)
        self._has_events = False
        self._passed_over = False
        self._place = source.name

    def read(self) -> Iterator[Read]:
        try:
            yield from self._documents()
        except (*UNREADABLE, UnicodeDecodeError) as error:
            yield unreadable(self._source, error, f"line {self._window.line}")

    def _documents(self) -> Iterator[Read]:
        """Read one document after the other; behind one that is broken, go on where another may begin."""
        window, name = self._window, self._source.name
        first, closing = True, ""
        while found := window.peek():
            if window.match(_PREFIX, _LONGEST_PREFIX) or (not first and window.take("," + closing)):
                continue
            place, line = name if first else f"{name}:{window.line}", f"{name}:{window.line}"
            first, self._place = False, line
            window.keep()
            try:
                if found == "{":
                    yield from self._object(place, line)
                elif found == "[":
                    window.forget()
                    yield from self._elements(place, "")
                else:
                    raise window.broken("an object or a list must stand here")
            except (InvalidValue, TooLong) as error:
                problem = error if isinstance(error, InvalidValue) else Withheld("event", None, str(error))
                yield Read.bad(self._place, problem)
                window.recover()
                closing = "]}"  # what is left of a list whose element was broken
        if first:
            yield Read.other(name, "an empty file")

    def _object(self, place: str, line: str) -> Iterator[Read]:
        """Read an object member by member, for it may be a whole file: the events of its lists, or itself."""
        window = self._window
        window.take("{")
        container, count = False, 0
        while not window.take("}"):
            if window.peek() != '"':
                raise window.broken("a key in double quotes is missing")
            key = window.value()[0]
            count += 1
            if count > MOST_MEMBERS:
                raise too_many()
            if not window.take(":"):
                raise window.broken("':' is missing")
            if window.peek() == "[" and key in _LISTS:
                container = True
                window.forget()
                yield from self._elements(place, key)
            else:
                window.value()
            if not window.take(",") and window.peek() != "}":
                raise window.broken("',' or '}' is missing")
        if not container:
            yield from self._events(window.since(), line)

    def _elements(self, place: str, key: str) -> Iterator[Read]:
        window = self._window
        window.take("[")
        number = 0
        while not window.take("]"):
            self._place = f"{place}: {key}[{number}]"
            window.peek()
            window.keep()
            window.value()
            yield from self._events(window.since(), self._place)
            number += 1
            if not window.take(",") and window.peek() != "]":
                raise window.broken("',' or ']' is missing")

    def _events(self, text: str, place: str, depth: int = 0) -> Iterator[Read]:
        """Yield the event that a text of JSON is, or those that are inside of it."""
        try:
            if depth > _DEEPEST:
                raise Withheld("event", None, f"stands in more than {_DEEPEST} envelopes")
            if text.startswith("["):
                yield from self._listed(text, place, depth)
                return
            members = _members(text)
            if _MARKS.isdisjoint(members):
                yield from self._inside(members, place, depth)
                return
            self._has_events = True
            yield Read(place=place, record=task_of_members(members))
        except InvalidValue as error:
            yield Read.bad(place, error)
        except ValidationError as error:
            yield Read.bad(place, *problems(error))

    def _inside(self, members: Members, place: str, depth: int) -> Iterator[Read]:
        """Open an envelope."""
        for key in _TEXTS:
            text, cut = members.get(key, (None, ""))
            if not isinstance(text, str) or not cut.startswith('"'):
                continue
            if text.startswith(_CONTROL):
                yield Read.other(place, "a control message of CloudWatch Logs")
            elif text.lstrip().startswith(("{", "[")):
                yield from self._events(text.strip(), place, depth + 1)
            else:
                yield Read.bad(place, Withheld(key, None, "is not JSON; it must be an event as a string"))
            return
        for key in _LISTS:
            if members.get(key, (None, ""))[1].startswith("["):
                yield from self._listed(members[key][1], f"{place}: {key}", depth)
                return
        detail, cut = members.get("detail", (None, ""))
        if "detail-type" in members and isinstance(detail, dict):
            if _MARKS.isdisjoint(detail):
                yield Read.other(place, "an EventBridge event of something else than CloudTrail")
            else:
                yield from self._events(cut, place, depth + 1)
        elif not _DIGEST.isdisjoint(members):
            yield Read.other(self._source.name, "a digest: hashes of log files")
        elif not self._source.found or self._has_events:
            yield Read.bad(place, Withheld("event", None, "is missing; what stands here is not a CloudTrail event"))
        elif not self._passed_over:
            self._passed_over = True
            yield Read.other(self._source.name, "a file without CloudTrail events")

    def _listed(self, text: str, place: str, depth: int) -> Iterator[Read]:
        for number, (value, cut) in enumerate(jsontext.elements(text, "event")):
            if isinstance(value, dict) and value.keys() == {"field", "value"}:
                # A row of a query of CloudWatch: one pair for each column.
                if value["field"] == "@message":
                    yield from self._events(str(value["value"]).strip(), place, depth + 1)
            else:
                yield from self._events(cut, f"{place}[{number}]", depth + 1)


def _members(text: str) -> Members:
    """Read an object.

    Raises:
        Withheld: it is none, or not UTF-8; shows nothing of it.
    """
    try:
        text.encode()
        return members_of(text)
    except UnicodeEncodeError as error:
        raise Withheld("event", None, f"is not UTF-8, at character {error.start}") from None
    except InvalidValue as error:
        raise Withheld(error.field[:100], None, error.problem) from None
