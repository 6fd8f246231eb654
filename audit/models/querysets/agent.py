"""Questions to the registry of agents; every age is measured by the database's clock."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import Case, Count, F, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce, Now

from audit import conf
from audit.exceptions import InvalidValue
from audit.status import AgentState, Status
from audit.values import validation
from audit.values.patterns import covering

if TYPE_CHECKING:
    from audit.models import Agent, ResourceMetric  # noqa: F401

__all__ = ["AgentManager", "AgentQuerySet", "ResourceMetricManager", "ResourceMetricQuerySet", "names"]


class AgentQuerySet(models.QuerySet["Agent"]):
    """Agents of the registry."""

    def with_state(self) -> Self:
        """Add `state` (an `AgentState`) and `running`, the executing tasks that are claimed under its name."""
        from audit.models.task import Task

        claimed = (
            Task.objects.order_by()
            .filter(status=Status.EXECUTING, claimed_by=OuterRef("name"))
            .values("claimed_by")
            .annotate(tasks=Count("id"))
            .values("tasks")
        )
        state = Case(
            When(drain_requested_at__isnull=False, then=Value(AgentState.DRAINING)),
            When(_stopped() | _silent(conf.settings().AGENT_OFFLINE_SECONDS), then=Value(AgentState.OFFLINE)),
            When(_silent(conf.settings().AGENT_STALE_SECONDS), then=Value(AgentState.STALE)),
            When(running__gte=F("slots"), then=Value(AgentState.BUSY)),
            default=Value(AgentState.AVAILABLE),
            output_field=models.TextField(choices=AgentState),
        )
        running = Coalesce(Subquery(claimed, output_field=models.IntegerField()), 0)
        return self.annotate(running=running).annotate(state=state)

    def fresh(self) -> Self:
        """Narrow to agents that have not stopped and sent a heartbeat within `AUDIT["AGENT_STALE_SECONDS"]`."""
        return self.exclude(_stopped()).exclude(_silent(conf.settings().AGENT_STALE_SECONDS))

    def able(self, action: str, labels: Iterable[str] = ()) -> Self:
        """Narrow to agents that could do such work, whether they take new work now or not.

        Args:
            action: the kind of work; an agent that names no actions does any.
            labels: what the work needs; the agent must have all of them.

        Raises:
            InvalidValue: a name that is empty or cannot be stored, labels given as one string.
        """
        kind = validation.label("action", action)
        return self.filter(Q(actions=[]) | Q(actions__overlap=covering(kind)), labels__contains=names("labels", labels))


def names(field: str, value: Iterable[str]) -> list[str]:
    """Return actions or labels as a list, each once, in the given order.

    Args:
        field: what they are, for the error.
        value: the names.

    Raises:
        InvalidValue: a single string (its letters would become names), or a name that is empty or cannot be stored.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidValue(field, value, "must be a list of names")
    return list(dict.fromkeys(validation.label(f"{field}[{index}]", each) for index, each in enumerate(value)))


def _stopped() -> Q:
    return Q(stopped_at__isnull=False)


def _silent(seconds: int) -> Q:
    return Q(heartbeat_at__lte=Now() - timedelta(seconds=seconds))


class ResourceMetricQuerySet(models.QuerySet["ResourceMetric"]):
    """Readings of agents."""

    def of(self, agent: Any) -> Self:
        """Narrow to one agent (an instance or its id), the newest first."""
        return self.filter(agent_id=getattr(agent, "pk", agent)).order_by("-at", "-id")

    def within(self, span: timedelta) -> Self:
        """Narrow to readings of the last such span of time, by the database's clock."""
        return self.filter(at__gt=Now() - validation.span("span", span))


AgentManager = models.Manager.from_queryset(AgentQuerySet, "AgentManager")
ResourceMetricManager = models.Manager.from_queryset(ResourceMetricQuerySet, "ResourceMetricManager")
