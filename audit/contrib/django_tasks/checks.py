"""A system check: does anybody run the tasks of the framework?"""

from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Any

from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as Caution
from django.db import DatabaseError, connections, router, transaction
from django.db.models.functions import Now

from audit.contrib.django_tasks.configured import configured
from audit.values import moments
from audit.values.patterns import matching

__all__ = ["check_workers"]

_PATIENCE = timedelta(minutes=1)
_LOOKED_AT = 1000


@register(Tags.database)
def check_workers(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """W019: a task of the framework has been due for a minute, and no worker that could run it is there."""
    from audit.models import Task

    alias = router.db_for_write(Task)
    if alias not in (databases or ()) or not configured() or connections[alias].vendor != "postgresql":
        return []
    try:
        with transaction.atomic(using=alias):
            waiting = _waiting(alias)
    except DatabaseError:
        return []  # of which the checks of the tables complain
    if waiting is None:
        return []
    since = moments.with_zone(waiting.available_at).astimezone(UTC)
    return [
        Caution(
            f"{waiting.action} {waiting.pk} waits since {since:%Y-%m-%d %H:%M} UTC, and no worker that "
            f"could run it has sent a heartbeat in {alias!r}.",
            hint="Run manage.py audit_worker; with --actions, name 'task:*', or 'task@QUEUE:*' for a queue.",
            id="audit.W019",
        )
    ]


def _waiting(alias: str) -> Any:
    from audit.contrib.django_tasks.stored import PATTERNS
    from audit.models import Agent, Task
    from audit.status import Status

    # Read by the index of claims, and no further than that is quick.
    due = Task.objects.using(alias).filter(status=Status.APPROVED, available_at__lte=Now() - _PATIENCE)
    first = due.order_by("priority", "available_at", "id").values("pk")[:_LOOKED_AT]
    tasks = Task.objects.using(alias).filter(matching(PATTERNS), pk__in=first).order_by("available_at")
    agents = Agent.objects.using(alias).fresh()
    seen: set[str] = set()
    for task in tasks.only("action", "available_at"):
        if task.action not in seen and not agents.able(task.action).exists():
            return task
        seen.add(task.action)
    return None
