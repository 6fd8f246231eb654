"""The `AUDIT` setting: one dict, read live, each key with a type and a default."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from types import UnionType
from typing import Any, get_args, get_origin

from django.conf import settings as django_settings

from audit.exceptions import AuditError

__all__ = ["LONGEST_S", "WHERE", "AuditSettings", "problems", "settings"]

LONGEST_S = 3650 * 86_400
"""The longest lease, and the most of any setting in seconds: ten years."""

WHERE = (
    "The page 'Settings and system checks' of the documentation has a table of the keys; "
    "python -m pydoc audit.conf.AuditSettings shows them, too."
)
"""Where a person reads what `AUDIT` may hold, also with nothing but the installed app."""

_MAY_BE_ZERO = frozenset({"OUTPUT_TAIL_BYTES"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """What `AUDIT` may hold."""

    LEASE_SECONDS: int = 60
    """How long a claim lasts without a heartbeat, unless the claim says otherwise."""

    MAX_EXPIRIES: int = 3
    """How many expired leases a task survives before recovery fails it."""

    QUEUE_MAX_WAIT_SECONDS: int = 3_600
    """How long approved work or a due pause entry may wait before a system check complains."""

    MAX_JSON_BYTES: int = 16 * 1024 * 1024
    """The largest JSON document a verb stores; a larger one is refused whole, never cut."""

    IMPORT_MAX_BYTES: int = 1024 * 1024 * 1024
    """How many bytes an import takes out of one compressed file; it stops where the file grows larger."""

    IMPORT_MAX_RECORD_BYTES: int = 32 * 1024 * 1024
    """The longest line or event that an import reads; a longer one is refused."""

    RECORD_USING: str | None = None
    """The database alias `record` writes through; one with a connection of its own survives a rollback."""

    BROWSER_USING: str | None = None
    """The database alias the admin pages read from, such as a replica; the router's choice when left out."""

    DECIDE_OWN: bool = True
    """Whether people may approve, resume or defer what they requested themselves; off, it takes two."""

    REAPPROVE_CHANGED_PLANS: bool = False
    """Whether a work plan that is not a remainder of the approved plan is sent back to a person (see `task.pause`)."""

    RECORD_LEASE_SECONDS: int = 60
    """How long recorded work may go without a heartbeat before recovery fails it."""

    OUTPUT_TAIL_BYTES: int = 16 * 1024
    """How much of each output of a recorded command is kept, for ever: its last bytes; 0 keeps none."""

    TRACEBACK_CHARS: int = 16 * 1024
    """How much of a traceback is kept: its last characters."""

    NOTIFY: bool = True
    """Whether workers hear of new work by NOTIFY, sent after the commit; off, they find it when they look."""

    WORKER_CHILD_TASKS: int = 1_000
    """After so many tasks a worker replaces a child process."""

    WORKER_CHILD_BYTES: int = 512 * 1024 * 1024
    """A child process of a worker that holds more memory than this after a task is replaced."""

    LEDGER_VERIFIERS: list[str] = field(default_factory=list)
    """Verifier keys of the ledger (`audit_keygen` prints them), all of one name: the newest and its predecessors."""

    LEDGER_CHECKPOINTS: str | None = None
    """The directory that keeps exported checkpoints, outside the database; `audit_seal` writes to it and
    `audit_verify` compares with it."""

    LEDGER_ACCEPTED_EPOCHS: list[int] = field(default_factory=list)
    """Numbers of epochs whose restore the auditor knows of; `audit_verify` takes them as `--accept-epoch`."""

    LEDGER_MAX_AGE_SECONDS: int = 3_600
    """How old the oldest unsealed row may be before a system check complains, once a ledger is in use."""

    AGENT_HEARTBEAT_SECONDS: int = 10
    """How often a worker shows the registry that it lives, and reads how much of its machine is in use."""

    AGENT_STALE_SECONDS: int = 30
    """Without a heartbeat for so long an agent is stale: it is not counted on. A reading this old is unknown."""

    AGENT_OFFLINE_SECONDS: int = 120
    """Without a heartbeat for so long an agent is offline."""

    AGENTS_KEEP_SECONDS: int = 7 * 86_400
    """How long an agent that sends no heartbeat stays in the registry; one that drains stays."""

    METRICS_KEEP_SECONDS: int = 86_400
    """How long readings of agents are kept."""

    CAPACITY_GATE: str | Callable[..., Any] | None = "audit.pausing.check_capacity"
    """What says whether there is capacity for a task: called with it, returns a `CapacityVerdict`; None asks nobody."""

    CAPACITY_PAUSE_FREE: float = 0.20
    """Work is paused when each agent that could do it has less than this ratio free of a resource that it needs."""

    CAPACITY_RESUME_FREE: float = 0.30
    """Work that was paused so goes on when an agent has at least this ratio free of each; above the other one."""

    CAPACITY_BACKOFF_SECONDS: int = 15
    """When paused work is looked at first; doubled each time that there is no capacity, with jitter."""

    CAPACITY_BACKOFF_MAX_SECONDS: int = 300
    """The longest time between two looks at the same paused work."""

    CAPACITY_LAG_SECONDS: int = 10
    """A reading may not show yet what work uses that started so shortly before it: its estimate is subtracted."""

    RESOURCE_ERRORS: list[str] = field(default_factory=list)
    """Further values of `outcome.error_type` that mean a resource constraint, not an application error."""

    REDACT_KEYS: list[str] = field(default_factory=list)
    """Further key words whose values are masked, beside the narrow default (see `audit.values.redaction`)."""

    REDACT_PATTERNS: list[str] = field(default_factory=list)
    """Further regular expressions; what they match inside a text is masked."""


def settings() -> AuditSettings:
    """Read `AUDIT` as it stands now.

    Raises:
        AuditError: a key is unknown or its value of the wrong type; the system check says the same earlier.
    """
    global _read
    given = getattr(django_settings, "AUDIT", {})
    if given != _read[0]:
        found = problems()
        if found:
            raise AuditError(" ".join([*found, WHERE]))
        _read = (copy.deepcopy(given), AuditSettings(**given))
    return _read[1]


# The setting as it was last read, and what it said: checking it anew for every document would cost more than storing.
_read: tuple[dict[str, Any], AuditSettings] = ({}, AuditSettings())


def problems() -> list[str]:
    """Name what is wrong with `AUDIT`, a sentence for each; an empty list when nothing is."""
    given = getattr(django_settings, "AUDIT", {})
    if not isinstance(given, dict):
        return [f"AUDIT must be a dict, not {type(given).__name__}."]
    known = {each.name: each.type for each in fields(AuditSettings)}
    found = []
    for key, value in given.items():
        if key not in known:
            close = get_close_matches(str(key).upper(), known, 1, 0.7)
            found.append(f"AUDIT[{key!r}] is unknown{f'; did you mean {close[0]!r}?' if close else '.'}")
        elif not _is(value, known[key]):
            # A signing key, given where a verifier key belongs, must not end in a log of checks.
            shown = _shape(value) if key == "LEDGER_VERIFIERS" else repr(value)
            found.append(f"AUDIT[{key!r}] must be {_name(known[key])}, not {shown}.")
        elif isinstance(value, int) and not isinstance(value, bool) and value <= 0:
            if key not in _MAY_BE_ZERO:
                found.append(f"AUDIT[{key!r}] must be positive, not {value!r}.")
            elif value < 0:
                found.append(f"AUDIT[{key!r}] must be zero or more, not {value!r}.")
        elif key.endswith("_SECONDS") and value > LONGEST_S:
            found.append(f"AUDIT[{key!r}] must be at most {LONGEST_S}, ten years, not {value!r}.")
        elif key.endswith("_FREE") and not 0 < value < 1:
            found.append(f"AUDIT[{key!r}] must be a ratio between 0 and 1, not {value!r}.")
    return found or _disordered(given)


def _disordered(given: dict[str, Any]) -> list[str]:
    """Name the pairs of settings of which the first must be the smaller one, and is not."""
    now = AuditSettings(**given)
    return [
        f"AUDIT[{low!r}] must be less than AUDIT[{high!r}] ({getattr(now, low)!r}, {getattr(now, high)!r}), or {why}."
        for low, high, why in _ORDERED
        if getattr(now, low) >= getattr(now, high)
    ]


_ORDERED = (
    ("CAPACITY_PAUSE_FREE", "CAPACITY_RESUME_FREE", "work would be paused and resumed in turn"),
    ("CAPACITY_BACKOFF_SECONDS", "CAPACITY_BACKOFF_MAX_SECONDS", "the backoff could not grow"),
    ("AGENT_HEARTBEAT_SECONDS", "AGENT_STALE_SECONDS", "every agent would be stale between two heartbeats"),
    ("AGENT_STALE_SECONDS", "AGENT_OFFLINE_SECONDS", "no agent would ever be stale"),
)


def _is(value: object, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_is(value, each) for each in get_args(kind))
    if get_origin(kind) is list:
        (inner,) = get_args(kind)
        return isinstance(value, list) and all(_is(each, inner) for each in value)
    if get_origin(kind) is Callable:
        return callable(value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _shape(value: object) -> str:
    kind = type(value).__name__
    return (
        f"{kind} of {', '.join(sorted({type(each).__name__ for each in value}))}" if isinstance(value, list) else kind
    )


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_origin(kind) else str(kind)
