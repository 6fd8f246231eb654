"""The filter column: what there is to choose, with how often it occurs among the newest tasks of the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Left
from django.utils.translation import gettext_lazy

from audit.admin.question import Link, Question
from audit.admin.samples import newest, rows_of
from audit.admin.wording import shown
from audit.status import Status

__all__ = ["FAILURES", "SAMPLE", "Facet", "counted", "facets", "failures"]

SAMPLE = 5_000
"""How many of the newest tasks the choices are counted in."""
FAILURES = 1_000
"""How many of the newest tasks that did not end well the error types are counted in."""
_MOST = 10
_LONGEST = 200
_SERVICES_A_TASK = 50

_COUNTED = """
(SELECT 'service', name, count(*) FROM sample CROSS JOIN unnest(sample.services) AS name
 GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'action', action, count(*) FROM sample GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'actor', who, count(*) FROM sample WHERE who <> '' GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'all', '', count(*) FROM sample)
"""
_FAILED = """
SELECT kind, count(*) FROM sample WHERE kind <> '' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %s
"""

Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """A group of choices in the filter column, and the field that adds another."""

    key: str
    title: Any
    add: Any
    choices: Sequence[Link]
    hidden: Sequence[tuple[str, str]]


_FACETS = (
    ("error_type", "error_types", gettext_lazy("By failure"), gettext_lazy("error type")),
    ("service", "services", gettext_lazy("By service"), gettext_lazy("service")),
    ("action", "actions", gettext_lazy("By action"), gettext_lazy("action")),
    ("actor", "actors", gettext_lazy("By actor"), gettext_lazy("actor")),
)


def counted(using: str, tasks: Any, sample: int = SAMPLE) -> dict[str, dict[str, int]]:
    """Count services, actions and actors among the newest tasks, in one query.

    Returns:
        For each of `service`, `action` and `actor` the most frequent names and their numbers; under `all` the size
        of the sample.
    """
    columns = tasks.values("action", who=Left("actor", _LONGEST), services=F(f"services_touched__0_{_SERVICES_A_TASK}"))
    found: dict[str, dict[str, int]] = {}
    for key, name, count in rows_of(using, newest(columns, "created_at", sample), _COUNTED, [_MOST] * 3):
        found.setdefault(key, {})[name] = count
    return found


def failures(using: str, tasks: Any, sample: int = FAILURES) -> dict[str, int]:
    """Count error types among the newest tasks that did not end well, in one query."""
    unwell = tasks.filter(status__in=(Status.FAILED, Status.REJECTED))
    columns = unwell.values(kind=Left(KeyTextTransform("error_type", "outcome"), _LONGEST))
    return dict(rows_of(using, newest(columns, "created_at", sample), _FAILED, [_MOST]))


def facets(question: Question, counts: Counts) -> list[Facet]:
    """Lay out the choices: those that are chosen first, then the frequent ones."""
    return [
        Facet(
            key=key,
            title=title,
            add=add,
            choices=list(_choices(question, key, field, counts.get(key, {}))),
            hidden=list(question.hidden()),
        )
        for key, field, title, add in _FACETS
    ]


def _choices(question: Question, key: str, field: str, counts: Mapping[str, int]) -> list[Link]:
    chosen = getattr(question.asked, field)
    names = [*chosen, *(name for name in counts if name not in chosen)]
    links = []
    for name in names:
        url = question.toggled(key, field, name)
        # A name as long as the column was perhaps cut, and a part of a name finds nothing.
        if url and len(name) < _LONGEST:
            links.append(
                Link(
                    label=shown(name, 40),
                    value=shown(name),
                    url=url,
                    chosen=name in chosen,
                    count=counts.get(name),
                )
            )
    return links
