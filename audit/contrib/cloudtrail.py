"""Reads the event files of AWS CloudTrail as tasks.

An event becomes a finished task: its name the action, its source the service, its request parameters the plan, its
response and all the rest of it the outcome, as the text they are. The id is made of the event's time and its own id,
so that reading the same event again gives the same task.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from audit import ids
from audit.exceptions import InvalidValue
from audit.interchange.importing import Read
from audit.interchange.records import TaskRecord, moment, problems
from audit.interchange.sources import UNREADABLE, Source
from audit.values import jsontext
from audit.values.validation import JSONText

__all__ = ["SUFFIXES", "read_events", "task_of_event"]

SUFFIXES = (".json", ".json.gz")
"""The names that are looked for in a directory."""


def read_events(source: Source) -> Iterator[Read]:
    """Yield each event of a file as a task, or what is wrong with it.

    The file is read whole; CloudTrail writes files of some megabytes.
    """
    try:
        with source.opened() as file:
            text = file.read().decode("utf-8-sig")
        parts = {key: cut for key, _, cut in jsontext.members(text)}
        if "Records" not in parts:
            if "digestStartTime" in parts:
                return  # a digest, which lies beside the event files and holds their hashes
            shown = ", ".join(parts)
            raise InvalidValue("Records", shown, "is missing; a CloudTrail file is an object with a list of Records")
        for number, (_, cut) in enumerate(jsontext.elements(parts["Records"], "Records")):
            yield _read(f"{source.name}: Records[{number}]", cut)
    except InvalidValue as error:
        yield Read.bad(source.name, error)
    except (*UNREADABLE, UnicodeDecodeError) as error:
        yield Read.bad(source.name, InvalidValue("file", source.name, f"cannot be read: {error}"))


def _read(place: str, text: str) -> Read:
    try:
        return Read(place=place, record=task_of_event(text))
    except InvalidValue as error:
        return Read.bad(place, error)
    except ValidationError as error:
        return Read.bad(place, *problems(error))


def task_of_event(text: str) -> TaskRecord:
    """Make a task of the text of one event.

    Nothing of the event is lost: `outcome.record` has its members, apart from `requestParameters`, which are the
    plan, and `responseElements`, which stand in the outcome beside it.

    Raises:
        InvalidValue: the event is no JSON object, or lacks what identifies it.
        pydantic.ValidationError: a value that no task can hold.
    """
    values: dict[str, Any] = {}
    rest: dict[str, JSONText] = {}
    for key, value, cut in jsontext.members(text):
        values[key] = value
        rest[key] = cut
    event_id, time, name, source = (
        _text(values, rest, key) for key in ("eventID", "eventTime", "eventName", "eventSource")
    )
    at = moment("eventTime", time)
    service = source.removesuffix(".amazonaws.com")
    error = values.get("errorCode")
    outcome = {
        "success": "false" if error is not None else "true",
        "error_type": rest.get("errorCode", "null"),
        "output_summary": rest["errorMessage"] if rest.get("errorMessage", "").startswith('"') else '""',
    }
    if "responseElements" in rest:
        outcome["responseElements"] = rest.pop("responseElements")
    plan = None if values.get("requestParameters") is None else rest.pop("requestParameters")
    region = f" in {values['awsRegion']}" if values.get("awsRegion") else ""
    caller = _caller(values.get("userIdentity"))
    return TaskRecord(
        id=ids.uuid7(at=at, key=event_id),
        action=name,
        summary=f"{name} on {service}{region}{'' if error is None else f': {error}'}",
        status="completed" if error is None else "failed",
        services_touched=[service],
        plan=plan,
        outcome=jsontext.spliced(**outcome, record=jsontext.spliced(**rest)),
        requested_by=caller,
        correlation_id=values["requestID"] if rest.get("requestID", "").startswith('"') else "",
        created_at=at,
        finished_at=at,
        actor=caller,
    )


def _text(values: dict[str, Any], cuts: dict[str, JSONText], key: str) -> str:
    # By its own text: the scanner gives numbers as strings.
    if not values.get(key) or not cuts[key].startswith('"'):
        raise InvalidValue(key, values.get(key), "is required, as a string")
    return str(values[key])


def _caller(identity: Any) -> str:
    """Name who called: by ARN, else user name, else the service that called for them; empty when none is told."""
    if not isinstance(identity, dict):
        return ""
    told = (identity.get(key) for key in ("arn", "userName", "invokedBy"))
    return next((each for each in told if isinstance(each, str) and each), "")
