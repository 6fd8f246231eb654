"""Attacks upon a sealed database: what an owner does with the guards off, and all that is found of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from audit.ledger.tlog.canonical import LOG_V1, TASK_V1
from audit.ledger.tlog.note import generate
from audit.ledger.verify.findings import Code, Report
from tests.support import ledger
from tests.support.attacked import Base, fit_leaf, rebuild, resign
from tests.support.factories import sql
from tests.support.ledger import KEY, behind_the_guards, codes, verified

THIEF = generate(KEY.name)
STRANGER = generate("example.org/other")


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Something done to a sealed database, and all that is found of it, causes first."""

    do: tuple[str | Callable[[Base], object], ...]
    found: tuple[str, ...]
    names: str = ""
    """Which row of `Base.names` the findings name."""
    outside: bool = False
    """With the checkpoints that were kept outside."""
    armed: bool = False
    """With the guards on, because they are what is attacked."""
    perhaps: str = ""
    """A code that depends on what the server reads first."""


def does(*steps: str | Callable[[Base], object], found: str, **options: Any) -> Attack:
    return Attack(do=steps, found=tuple(found.split()), **options)


def task_leaf(base: Base) -> None:
    fit_leaf(TASK_V1, base.names["victim"])


def step_leaf(base: Base) -> None:
    fit_leaf(LOG_V1, base.names["step"])


def tree(_: Base) -> None:
    rebuild()


def other_key(_: Base) -> None:
    resign(THIEF)


def stolen_key(_: Base) -> None:
    resign(KEY)


def seal_on(_: Base) -> None:
    ledger.sealed()


TASK = "UPDATE audit_task SET {} WHERE id = $victim"
STEP = "UPDATE audit_executionlog SET {} WHERE id = $step"
DECIDED = TASK.format("decided_by = 'eve'")
REDONE = STEP.format("actor = 'eve'")
GONE = (
    "DELETE FROM audit_executionlog WHERE task_id = $bulk",
    "DELETE FROM audit_task WHERE id = $bulk",
)
GONE_LEAVES = (
    "DELETE FROM audit_ledger_leaf WHERE log_id IN (SELECT id FROM audit_executionlog WHERE task_id = $bulk)",
    "DELETE FROM audit_ledger_leaf WHERE task_id = $bulk",
)
CLOSE = (
    "DELETE FROM audit_ledger_leaf WHERE index = $step_leaf",
    "UPDATE audit_ledger_leaf SET index = index + 100000 WHERE index > $step_leaf",
    "UPDATE audit_ledger_leaf SET index = index - 100001 WHERE index > 100000",
)
# A copy of a row under another id, as it was stamped.
COPY = """
INSERT INTO audit_task SELECT (jsonb_populate_record(NULL::audit_task, to_jsonb(t) || jsonb_build_object({}))).*
FROM audit_task AS t WHERE id = $other
"""
NEW_TASK = UUID("01935a2e-7c00-7abc-8def-0123456789ab")
COPIED = COPY.format(f"'id', '{NEW_TASK}'")
COPIED_NOW = COPY.format(f"'id', '{NEW_TASK}', 'finished_xid', pg_current_xact_id()::text")
COPIED_LOG = """
INSERT INTO audit_executionlog SELECT (jsonb_populate_record(NULL::audit_executionlog, to_jsonb(l)
    || jsonb_build_object('id', 90000 + l.id, 'task_id', '{}', 'xid', {}))).*
FROM audit_executionlog AS l WHERE task_id = $other
"""
COPIED_LOGS = COPIED_LOG.format(NEW_TASK, "l.xid::text")
COPIED_LOGS_NOW = COPIED_LOG.format(NEW_TASK, "pg_current_xact_id()::text")
FORGED_STEP = """
INSERT INTO audit_executionlog SELECT (jsonb_populate_record(NULL::audit_executionlog, to_jsonb(l) || '{}')).*
FROM audit_executionlog AS l WHERE id = {}
"""


def new_leaves(_: Base) -> None:
    fit_leaf(TASK_V1, NEW_TASK)
    for (log,) in sql("SELECT id FROM audit_executionlog WHERE id > 90000"):
        fit_leaf(LOG_V1, log)


def perform(base: Base, attack: Attack) -> None:
    before = [step for step in attack.do if step is not seal_on]
    if attack.armed:
        for step in before:
            act(base, step)
    else:
        with behind_the_guards():
            for step in before:
                act(base, step)
    if seal_on in attack.do:
        seal_on(base)


def act(base: Base, step: Any) -> None:
    if callable(step):
        step(base)
    else:
        sql(base.statement(step))


def outside(base: Base) -> Report:
    return verified(outside=base.notes)


def params(**groups: dict[str, Attack]) -> list[Any]:
    """Make a parameter of each attack, named by its group and what it does."""
    return [
        pytest.param(attack, id=f"{group}: {name}")
        for group, attacks in groups.items()
        for name, attack in attacks.items()
    ]


def check_found(victim: Base, attack: Attack) -> None:
    """Carry out an attack, and compare what the verification finds."""
    perform(victim, attack)
    report = verified(outside=victim.notes if attack.outside else None)
    assert tuple(code for code in codes(report) if code != attack.perhaps) == attack.found, report.findings
    assert report.intact == (not attack.found)
    kinds = [each.code for each in report.findings]
    assert kinds == sorted(kinds, key=list(Code).index)
    if attack.names:
        key = victim.names[attack.names]
        named = [each for each in report.findings if key in (each.log, each.task and UUID(each.task))]
        assert named, report.findings
