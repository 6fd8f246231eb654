"""The approved plan and the work plan side by side, and what differs between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import islice
from typing import Any

from django.utils.translation import gettext as _

from audit.admin.shared.jsontree import Tree, tree
from audit.admin.shared.wording import shown, size
from audit.status import FINISHED, Status
from audit.values.plans import is_remainder

__all__ = ["Difference", "Plan", "Plans", "plans"]

_MOST = 50
"""How many differences are listed."""
_LONGEST_LIST = 1_000
_LONGEST = 160
_DEEPEST = 20

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One of the two, drawn."""

    name: str
    title: str
    drawn: Tree
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What one plan has and the other has not."""

    is_new: bool
    """Whether only the work plan has it; else only the plan has."""
    words: str
    """Which of them has it."""
    where: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """Both plans of a task."""

    plans: Sequence[Plan]
    summary: str
    """What the difference comes to."""
    is_new: bool
    """Whether the work plan asks for something that the plan does not."""
    differences: Sequence[Difference]
    more: bool
    """Whether there are more differences than are listed."""


def plans(task: Row, entry: Row | None) -> Plans | None:
    """Draw both plans.

    Args:
        task: what `read_task` read.
        entry: what `read_entry` read, of paused work; its work plan is the one that the task goes on with.

    Returns:
        Both; None for a task without a work plan.
    """
    text, length = task["work_plan_text"], task["work_plan_length"]
    if entry is not None and entry["document"] is not None:
        text, length = entry["document"], entry["document_length"]
    if text is None:
        return None
    remains = _("Work plan: what remained") if task["status"] in FINISHED else _("Work plan: what remains")
    pair = [Plan(name="work-plan", title=remains, drawn=tree(text, length), size=size(length))]
    whole, whole_length = task["plan_text"], task["plan_length"]
    if whole is None:
        return Plans(plans=pair, summary="", is_new=False, differences=(), more=False)
    title = _("Plan") if task["status"] in (Status.PENDING, Status.REJECTED) else _("Approved plan")
    pair.insert(0, Plan(name="plan", title=title, drawn=tree(whole, whole_length), size=size(whole_length)))
    try:
        before, after = json.loads(whole), json.loads(text)
        fits = is_remainder(before, after)
        found = list(islice(_differences(before, after), _MOST + 1))
    except (ValueError, RecursionError):  # one of them is longer than a page reads, or nested too deeply
        return Plans(plans=pair, summary=_("They are too long to compare."), is_new=False, differences=(), more=False)
    return Plans(
        plans=pair,
        summary=_summary(found, fits),
        is_new=not fits,
        differences=found[:_MOST],
        more=len(found) > _MOST,
    )


def _summary(found: Sequence[Difference], fits: bool) -> str:
    if not found:
        return _("All of the plan remains.")
    if fits:
        return _("The work plan leaves out what is done or not needed, and asks for nothing else.")
    return _("The work plan asks for something that the plan does not.")


def _differences(before: Any, after: Any, where: str = "", depth: int = 0) -> Iterator[Difference]:
    if json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True):
        return
    if isinstance(before, dict) and isinstance(after, dict) and depth < _DEEPEST:
        for key in [*before, *(each for each in after if each not in before)]:
            place = f"{where}.{key}" if where else str(key)
            if key not in after:
                yield _only(False, place, before[key])
            elif key not in before:
                yield _only(True, place, after[key])
            else:
                yield from _differences(before[key], after[key], place, depth + 1)
    elif isinstance(before, list) and isinstance(after, list) and max(len(before), len(after)) <= _LONGEST_LIST:
        yield from _of_lists(before, after, where)
    else:
        yield _only(False, where, before)
        yield _only(True, where, after)


def _of_lists(before: Sequence[Any], after: Sequence[Any], where: str) -> Iterator[Difference]:
    old, new = ([json.dumps(each, sort_keys=True) for each in some] for some in (before, after))
    for kind, start, end, other_start, other_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            yield from (_only(False, f"{where}[{at}]", before[at]) for at in range(start, end))
            yield from (_only(True, f"{where}[{at}]", after[at]) for at in range(other_start, other_end))


def _only(is_new: bool, where: str, value: Any) -> Difference:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Difference(
        is_new=is_new,
        words=_("only in the work plan:") if is_new else _("only in the plan:"),
        where=shown(where, _LONGEST),
        text=shown(text, _LONGEST),
    )
