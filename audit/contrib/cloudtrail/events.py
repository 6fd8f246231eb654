"""Makes a task of an event: what was done, by whom, and whether it failed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from audit import ids
from audit.exceptions import InvalidValue
from audit.interchange.records import TaskRecord, Withheld, moment
from audit.values import jsontext
from audit.values.validation import MAX_LABEL, MAX_SERVICE, JSONText, fitted_text

__all__ = ["MOST_MEMBERS", "Members", "members_of", "task_of_event", "task_of_members", "too_many"]

Members = dict[str, tuple[Any, JSONText]]
"""An object: each member's value, numbers as strings, and its text."""

# Values that say how something ended: Failure, FAILED, CREATE_FAILED.
_FAILED = re.compile(r"(?:.*[_ -])?(?:fail(?:ed|ure)?|error|denied|unsuccessful|aborted|timed[_ -]?out)", re.IGNORECASE)
# Where the events of services say so: {"state": "FAILED"}, {"createManagedAccountStatus": {"state": "FAILED"}}.
_RESULT = re.compile(r".*(?:state|status|result|outcome)", re.IGNORECASE)
_SUCCESS = frozenset({"success", "succeeded", "successful"})
_ENDS = ("responseElements", "serviceEventDetails", "additionalEventData")
# Athena's tables have these as strings of JSON.
_STRINGS = tuple(each.lower() for each in ("requestParameters", *_ENDS))
_IN_SUMMARY = 200

MOST_MEMBERS = 1000
"""An object with more is not an event; it could fill the memory."""

# Who called, the most telling first.
_CALLERS = (
    ("userIdentity", "arn"),
    ("userIdentity", "userName"),
    ("userIdentity", "onBehalfOf", "userId"),
    ("additionalEventData", "UserName"),
    ("userIdentity", "principalId"),
    ("userIdentity", "invokedBy"),
    ("userIdentity", "sessionContext", "sessionIssuer", "arn"),
    ("userIdentity", "sessionContext", "sessionIssuer", "userName"),
    ("userIdentity", "sessionContext", "sessionIssuer", "principalId"),
    ("userIdentity", "sessionContext", "webIdFederationData", "federatedProvider"),
    ("userIdentity", "inScopeOf", "sourceArn"),
    ("userIdentity", "identityProvider"),
    ("userIdentity", "credentialId"),
    ("userIdentity", "accessKeyId"),
)


def members_of(text: str) -> Members:
    """Read an object.

    Raises:
        InvalidValue: it is none, or has more than `MOST_MEMBERS` members.
    """
    members: Members = {}
    for key, value, cut in jsontext.members(text, "event"):
        if len(members) == MOST_MEMBERS:
            raise too_many()
        members[key] = value, cut
    return members


def too_many() -> Withheld:
    """Make an error for an object with more than `MOST_MEMBERS` members."""
    return Withheld("event", None, f"has more than {MOST_MEMBERS} members; no event of CloudTrail has so many")


def task_of_event(text: str) -> TaskRecord:
    """Make a task of the text of one event.

    Nothing of the event is lost: `outcome.record` has its members, apart from `requestParameters`, which are the
    plan, and `responseElements`, which stand in the outcome beside it.

    Raises:
        InvalidValue: the event is not JSON object, or lacks what identifies it.
        pydantic.ValidationError: a value that no task can hold.
    """
    return task_of_members(members_of(text))


def task_of_members(members: Members) -> TaskRecord:
    """Make a task of an event that is read; as `task_of_event`."""
    members = _opened(members)
    event = {key: value for key, (value, _) in members.items()}
    rest = {key: cut for key, (_, cut) in members.items()}
    event_id = _required(members, "eventID")
    at = moment("eventTime", _required(members, "eventTime"))
    insight = _said(event, "insightDetails", "insightType")
    # An event of a partner has what was done inside.
    name = insight or _said(event, "eventName") or _said(event, "eventData", "eventName") or _said(event, "eventType")
    if not name:
        _required(members, "eventName")
    source = _source(members, event)
    service = source.removesuffix(".amazonaws.com")
    failure = _failure(event, name, service)
    outcome = {"success": "true", "error_type": "null", "output_summary": '""'}
    why = ""
    if failure:
        kind, message = failure
        outcome = {"success": "false", "error_type": json.dumps(kind), "output_summary": json.dumps(message)}
        why = f": {_said(event, 'errorCode') or message[:_IN_SUMMARY] or kind}"
    response, parameters = _key(rest, "responseElements"), _key(rest, "requestParameters")
    if response in rest:
        outcome["responseElements"] = rest.pop(response)
    plan = None if event.get(parameters) is None else rest.pop(parameters)
    of = f" of {_said(event, 'insightDetails', 'eventName')}" if insight else ""
    on = f" on {service}" if service else ""
    region = f" in {_said(event, 'awsRegion')}" if _said(event, "awsRegion") else ""
    # What is cut here stands whole in the record.
    caller = fitted_text(_caller(event, source), MAX_LABEL)
    return TaskRecord(
        id=ids.uuid7(at=at, key=event_id),
        action=name,
        summary=fitted_text(f"{name}{of}{on}{region}{why}"),
        status="failed" if failure else "completed",
        services_touched=[fitted_text(service, MAX_SERVICE)] if service else [],
        plan=plan,
        outcome=jsontext.spliced(**outcome, record=jsontext.spliced(**rest)),
        requested_by=caller,
        correlation_id=fitted_text(_said(event, "requestID") or _said(event, "sharedEventID"), MAX_LABEL),
        created_at=at,
        finished_at=at,
        actor=caller,
    )


def _opened(members: Members) -> Members:
    """Read the strings of JSON that Athena's tables have where CloudTrail has objects."""
    opened = dict(members)
    for key in _STRINGS:
        text = members.get(key, (None, ""))[0]
        if isinstance(text, str) and text.startswith(("{", "[")):
            with suppress(ValueError, RecursionError):
                opened[key] = json.loads(text, parse_int=str, parse_float=str), JSONText(text)
    return opened


def _required(members: Members, name: str) -> str:
    value, cut = members.get(_key(members, name), (None, ""))
    # By its own text: the scanner gives numbers as strings.
    if not value or not cut.startswith('"'):
        raise InvalidValue(name, value, "is required, as a string")
    return str(value)


def _key(mapping: Mapping[str, Any], name: str) -> str:
    """Return the key under which a mapping has a name: CloudTrail's own, or Athena's in small letters."""
    return name if name in mapping else name.lower()


def _at(value: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(_key(value, name))
    return value


def _said(value: Any, *path: str) -> str:
    """Return the text that stands at a path; empty if there is none."""
    found = _at(value, *path)
    return found.strip() if isinstance(found, str) else ""


def _source(members: Members, event: dict[str, Any]) -> str:
    if _at(event, "eventSource") is not None:
        return _required(members, "eventSource")
    return _said(event, "insightDetails", "eventSource") or _said(event, "eventData", "eventSource")


def _failure(event: dict[str, Any], name: str, service: str) -> tuple[str, str] | None:
    """Tell whether an event failed, by all fields that say so.

    Returns:
        The kind of error and its message, empty if there is none; None for an event that did not fail.
    """
    for each in (event, event.get("eventData")):
        code, message = _said(each, "errorCode"), _said(each, "errorMessage")
        ended = code or _ended_badly(each, name, service)
        if ended or message:
            return ended or "Error", message
    return None


def _ended_badly(event: Any, name: str, service: str) -> str:
    """Return the word by which an event without an error code says that it failed; empty if none does."""
    signs_in = service == "signin" or _said(event, "eventType") == "AwsConsoleSignIn"
    for section in _ENDS:
        members = _at(event, section)
        for key, value in members.items() if isinstance(members, dict) else ():
            # The answer of an API call may hold the state of what was asked for, which is not a failure of the call.
            speaks = signs_in or section == "serviceEventDetails"
            inner = value.items() if speaks and isinstance(value, dict) else ()
            for at, word in ((key, value), *inner):
                if word is False and speaks and at.lower() in _SUCCESS:
                    return "Failure"
                if not isinstance(word, str) or not _FAILED.fullmatch(word):
                    continue
                if at.lower() == name.lower():
                    return word
                if speaks and (_RESULT.fullmatch(at) or word.lower() == "failure"):
                    return word
    return ""


def _caller(event: dict[str, Any], source: str) -> str:
    """Name who called by what the record has; never empty, or the importer would stand there."""
    account = _said(event, "userIdentity", "accountId")
    for path in _CALLERS:
        found = _said(event, *path) or _said(event.get("eventData"), *path)
        if found and found != account:
            return found
    kind = _said(event, "userIdentity", "type")
    if account:
        return f"root of account {account}" if kind == "Root" else f"account {account}"
    if kind:
        return kind
    if _at(event, "insightDetails"):
        return "cloudtrail.amazonaws.com"
    if _said(event, "eventType") == "AwsServiceEvent" and source:
        return source
    recipient = _said(event, "recipientAccountId")
    return f"account {recipient}" if recipient else "unknown"
