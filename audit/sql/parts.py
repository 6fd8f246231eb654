"""What statements of this package install, as values: functions, triggers, CHECKs.

Enough of a parser for the SQL files here and for what `pg_get_triggerdef` answers, and no more.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

__all__ = ["Function", "Installed", "Trigger", "replay", "trigger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A trigger function."""

    name: str
    body: str
    """The text between its dollar quotes, to the byte."""
    definer: bool
    """Whether it runs with the rights of its owner (SECURITY DEFINER)."""
    config: frozenset[str]
    """Its settings, each as `name=value`."""
    public: bool = True
    """Whether everybody may call it, as is the default of PostgreSQL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A trigger, and when it fires."""

    name: str
    table: str
    function: str
    timing: str
    """`BEFORE` or `AFTER`."""
    events: frozenset[str]
    """Of `INSERT`, `UPDATE`, `DELETE`, `TRUNCATE`; an `UPDATE OF` keeps its columns."""
    level: str
    """`ROW` or `STATEMENT`."""
    condition: str = ""
    """What stands in WHEN, in lower case, without casts."""
    referencing: str = ""
    """Its transition tables."""
    always: bool = False
    """Whether it fires in replica sessions too (ENABLE ALWAYS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What is there after some statements ran: each by its name, CHECKs by table and name."""

    functions: dict[str, Function] = field(default_factory=dict)
    triggers: dict[str, Trigger] = field(default_factory=dict)
    checks: frozenset[tuple[str, str]] = frozenset()


_FUNCTION = re.compile(
    r"CREATE(?: OR REPLACE)? FUNCTION (?P<name>\w+)\(\) RETURNS trigger\s+LANGUAGE plpgsql(?P<options>.*?)\s+"
    r"AS (?P<quote>\$\w*\$)(?P<body>.*)(?P=quote)$",
    re.DOTALL,
)
_TRIGGER = re.compile(
    r"CREATE(?: OR REPLACE)? TRIGGER (?P<name>\w+) (?P<timing>BEFORE|AFTER) (?P<events>.+?) ON (?P<table>[\w.]+)"
    r"(?: REFERENCING (?P<referencing>.+?))?(?: FOR EACH (?P<level>ROW|STATEMENT))(?: WHEN \((?P<condition>.+)\))?"
    r" EXECUTE (?:FUNCTION|PROCEDURE) (?P<function>[\w.]+)\(\)$"
)
_REVOKE = re.compile(r"REVOKE ALL ON FUNCTION (\w+)\(\) FROM PUBLIC$")
_ALWAYS = re.compile(r"ALTER TABLE (\w+) ENABLE ALWAYS TRIGGER (\w+)$")
_CHECK = re.compile(r"ALTER TABLE (\w+) ADD CONSTRAINT (\w+) CHECK ")
_DROP = re.compile(r"DROP (FUNCTION|TRIGGER) (\w+)")
_DROP_CHECK = re.compile(r"ALTER TABLE (\w+) DROP CONSTRAINT (\w+)$")
_OPTION = re.compile(r"SET (\w+) = (.+?)(?= SET |$)")
_COMMENTS = re.compile(r"\A(?:\s*--[^\n]*\n)*")


def replay(statements: Iterable[str]) -> Installed:
    """Tell what is installed after `statements` ran, in their order, in an empty schema.

    Raises:
        ValueError: a function, trigger or CHECK is written in a way that this module cannot read.
    """
    functions: dict[str, Function] = {}
    triggers: dict[str, Trigger] = {}
    checks: set[tuple[str, str]] = set()
    for statement in statements:
        text = _COMMENTS.sub("", statement).strip().removesuffix(";")
        line = " ".join(text.split())
        if line.startswith(("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")):
            made = _function(text)
            functions[made.name] = made
        elif line.startswith(("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER")):
            placed = trigger(line)
            triggers[placed.name] = placed
        elif found := _REVOKE.match(line):
            functions[found[1]] = replace(functions[found[1]], public=False)
        elif found := _ALWAYS.match(line):
            triggers[found[2]] = replace(triggers[found[2]], always=True)
        elif found := _CHECK.match(line):
            checks.add((found[1], found[2]))
        elif found := _DROP_CHECK.match(line):
            checks.discard((found[1], found[2]))
        elif found := _DROP.match(line):
            (functions if found[1] == "FUNCTION" else triggers).pop(found[2], None)
    return Installed(functions=functions, triggers=triggers, checks=frozenset(checks))


def trigger(definition: str) -> Trigger:
    """Read a CREATE TRIGGER statement, or the answer of `pg_get_triggerdef(oid, true)`.

    Raises:
        ValueError: the statement has a form that this module does not know.
    """
    found = _TRIGGER.match(" ".join(definition.split()))
    if found is None:
        raise ValueError(f"not a trigger this module can read: {definition}")
    return Trigger(
        name=found["name"],
        table=found["table"],
        function=found["function"],
        timing=found["timing"],
        events=frozenset(found["events"].split(" OR ")),
        level=found["level"],
        condition=re.sub(r"::\w+", "", (found["condition"] or "").lower()),
        referencing=found["referencing"] or "",
    )


def _function(text: str) -> Function:
    found = _FUNCTION.match(text)
    if found is None:
        raise ValueError(f"not a function this module can read: {text.splitlines()[0]}")
    options = " ".join(found["options"].split())
    return Function(
        name=found["name"],
        body=found["body"],
        definer="SECURITY DEFINER" in options,
        config=frozenset(f"{name}={value}" for name, value in _OPTION.findall(options)),
    )
