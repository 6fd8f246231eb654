"""What the newest stored verification says of single rows, written once for pages and filters.

A report is JSON that somebody stored; what does not read as an id in it is passed over.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.db.models.expressions import RawSQL

__all__ = ["NEWEST", "named_by_verification"]

NEWEST = r"""
last AS MATERIALIZED (
    SELECT verdict, size, finished_at, report -> 'findings' AS findings
    FROM audit_ledger_verification WHERE verdict <> 'unchecked' ORDER BY finished_at DESC, id DESC LIMIT 1
), finding AS MATERIALIZED (
    SELECT told.place,
        told.finding ->> 'code' AS code,
        CASE WHEN told.finding ->> 'task' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            THEN (told.finding ->> 'task')::uuid END AS task,
        CASE WHEN told.finding ->> 'log' ~ '^[0-9]{1,18}$' THEN (told.finding ->> 'log')::bigint END AS log
    FROM last CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(last.findings) WHEN 'array' THEN last.findings ELSE '[]' END
    ) WITH ORDINALITY AS told (finding, place)
    WHERE last.verdict = 'tampering'
), blamed AS MATERIALIZED (
    SELECT coalesce(finding.task, log.task_id) AS task, (array_agg(finding.code ORDER BY finding.place))[1] AS code
    FROM finding LEFT JOIN audit_executionlog AS log ON log.id = finding.log
    WHERE finding.task IS NOT NULL OR finding.log IS NOT NULL
    GROUP BY 1
)
"""
"""Common table expressions: `last`, the newest stored verification that could check; `finding`, what it found about
single rows, in its order; `blamed`, each task that it names, itself or by a row of its log, with the first code.

A report holds at most `audit.ledger.verify.findings.MAX_FINDINGS` findings of a code, so all of this is bounded.
"""

_NAMED = f"WITH {NEWEST} SELECT task FROM blamed WHERE task IS NOT NULL"  # noqa: S608 - our own text


def named_by_verification() -> Q:
    """The condition that the newest stored verification found something about a task or a row of its log."""
    named: Any = RawSQL(_NAMED, ())  # noqa: S611 - our own text
    return Q(id__in=named)
