"""Rules taken away, as an owner could, and what is seen of a task then."""

import re

from django.db import IntegrityError, transaction

from tests.support.factories import sql

__all__ = ["assignments", "judgements", "observed", "rewrite", "source_of"]

# A task, its entry, the last line of its log and the last event.
_SEEN = """
SELECT {wanted} FROM public.audit_task AS task
LEFT JOIN public.audit_pause_queue AS entry ON entry.task_id = task.id
LEFT JOIN LATERAL (
    SELECT * FROM public.audit_executionlog WHERE task_id = task.id ORDER BY id DESC LIMIT 1
) AS log ON true
LEFT JOIN LATERAL (SELECT * FROM public.audit_event ORDER BY id DESC LIMIT 1) AS event ON true
WHERE task.id = '{task}'
"""


def source_of(function: str) -> str:
    """A function's definition."""
    [[source]] = sql("SELECT pg_get_functiondef(%s::regproc)", [f"public.{function}"])
    return source


def rewrite(function: str, old: str, new: str) -> None:
    """Replace a piece of a function's source by another, wherever it stands."""
    source = source_of(function)
    assert source.count(old) >= 1, source
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(source.replace(old, new))


def assignments(function: str) -> list[str]:
    """Every assignment to a column, each once, as it stands in the function."""
    return sorted(set(re.findall(r"NEW\.\w+ :=[^;]*;", source_of(function))))


def judgements(function: str) -> dict[str, str]:
    """What a function finds broken, by its name: the piece of its source."""
    return {found[2]: found[1] for found in re.finditer(r"THEN\s+('(\w+)\|[^']*')", source_of(function))}


def observed(task: object, wanted: str, *statements: str) -> bool:
    """Whether an expression holds of a task after these statements, which leave no trace; refused, it does not."""
    try:
        with transaction.atomic():
            for statement in statements:
                sql(statement.replace("{id}", f"'{task}'"))
            [[holds]] = sql(_SEEN.format(wanted=wanted, task=task))
            transaction.set_rollback(True)
    except IntegrityError:
        return False
    return holds is True
