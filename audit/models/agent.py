"""The registry: who could do which work, and how much of each machine is in use.

It says what is likely, and guards nothing: leases alone decide whose work is whose. So these tables are no part of the
trail, and no seal covers them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from audit.models.fields import readable
from audit.models.querysets.agent import AgentManager, ResourceMetricManager

__all__ = ["Agent", "ResourceMetric"]


def _moment(verbose_name: Any) -> models.DateTimeField[Any, Any]:
    return models.DateTimeField(verbose_name, null=True, blank=True, db_default=None)


def _words(verbose_name: Any) -> models.TextField[Any, Any]:
    return models.TextField(verbose_name, blank=True, default="", db_default="")


def _names(verbose_name: Any) -> ArrayField[Any, Any]:
    return ArrayField(models.TextField(), verbose_name=verbose_name, blank=True, default=list, db_default=[])


class Agent(models.Model):
    """Somebody who takes work: a worker by its name, what it can do, and its last heartbeat."""

    id = models.BigAutoField(primary_key=True)
    name = models.TextField(_("name"), unique=True)
    actions = _names(_("actions"))
    labels = _names(_("labels"))
    slots = models.IntegerField(_("slots"), default=1, db_default=1)
    # Of the process: a second process of the same name takes the row over, and the first one notices.
    instance = models.UUIDField(_("instance"))
    host = _words(_("host"))
    pid = models.IntegerField(_("process id"), null=True, blank=True, db_default=None)
    version = _words(_("version"))
    registered_at = models.DateTimeField(_("registered at"), db_default=Now(), editable=False)
    heartbeat_at = models.DateTimeField(_("heartbeat at"), db_default=Now(), editable=False)
    drain_requested_at = _moment(_("drain requested at"))
    drain_requested_by = _words(_("drain requested by"))
    drain_reason = _words(_("drain reason"))
    stopped_at = _moment(_("stopped at"))

    objects = AgentManager()

    if TYPE_CHECKING:
        metrics: models.Manager[ResourceMetric]
        # With `with_state`.
        state: str
        running: int

    class Meta:
        db_table = "audit_agent"
        default_permissions = ("view",)
        permissions = [("drain_agent", "Can drain agents")]
        verbose_name = _("agent")
        verbose_name_plural = _("agents")
        constraints = [
            models.CheckConstraint(name="audit_agent_named", condition=~Q(name="")),
            models.CheckConstraint(name="audit_agent_slots_positive", condition=Q(slots__gte=1)),
            models.CheckConstraint(
                name="audit_agent_moments_readable",
                condition=readable("registered_at", "heartbeat_at", "drain_requested_at", "stopped_at"),
            ),
        ]
        # None on heartbeats: without one they are updates in place, and agents are few.
        indexes = [GinIndex(name="audit_agent_able_gin", fields=["labels", "actions"])]

    def __str__(self) -> str:
        return self.name

    @property
    def drain_confirmed(self) -> bool:
        """Whether it was asked to take no new work, and has sent a heartbeat since: it begins nothing any more."""
        return self.drain_requested_at is not None and self.heartbeat_at > self.drain_requested_at


def _ratio(name: str) -> Q:
    # NaN is larger than every number to PostgreSQL, so this refuses it.
    return Q(**{f"{name}__isnull": True}) | Q(**{f"{name}__gte": 0, f"{name}__lte": 1})


def _ratio_field(verbose_name: Any) -> models.FloatField[Any, Any]:
    return models.FloatField(verbose_name, null=True, blank=True, db_default=None)


class ResourceMetric(models.Model):
    """One reading of an agent: ratios in use from 0 to 1, NULL where unknown; kept for a time, then pruned."""

    id = models.BigAutoField(primary_key=True)
    agent = models.ForeignKey(
        Agent, on_delete=models.CASCADE, related_name="metrics", db_index=False, verbose_name=_("agent")
    )
    at = models.DateTimeField(_("at"), db_default=Now(), editable=False)
    source = models.TextField(_("source"))
    cpu = _ratio_field(_("CPU in use"))
    memory = _ratio_field(_("memory in use"))
    gpu = _ratio_field(_("GPU in use"))
    gpu_memory = _ratio_field(_("GPU memory in use"))
    # What the ratios are of, so that estimates in cores and bytes can be compared with them.
    cpu_count = models.FloatField(_("CPUs"), null=True, blank=True, db_default=None)
    memory_bytes_total = models.BigIntegerField(_("memory (bytes)"), null=True, blank=True, db_default=None)
    gpu_memory_bytes_total = models.BigIntegerField(_("GPU memory (bytes)"), null=True, blank=True, db_default=None)

    objects = ResourceMetricManager()

    class Meta:
        db_table = "audit_resource_metric"
        default_permissions = ("view",)
        verbose_name = _("reading")
        verbose_name_plural = _("readings")
        constraints = [
            models.CheckConstraint(
                name="audit_resource_metric_ratios",
                condition=_ratio("cpu") & _ratio("memory") & _ratio("gpu") & _ratio("gpu_memory"),
            ),
            models.CheckConstraint(
                name="audit_resource_metric_totals_positive",
                condition=(Q(cpu_count__isnull=True) | Q(cpu_count__gt=0, cpu_count__lt=1e9))
                & (Q(memory_bytes_total__isnull=True) | Q(memory_bytes_total__gt=0))
                & (Q(gpu_memory_bytes_total__isnull=True) | Q(gpu_memory_bytes_total__gt=0)),
            ),
            models.CheckConstraint(name="audit_resource_metric_moment_readable", condition=readable("at")),
        ]
        indexes = [
            models.Index("agent", F("at").desc(), F("id").desc(), name="audit_resource_metric_agent"),
            models.Index(fields=["at"], name="audit_resource_metric_at"),
        ]

    def __str__(self) -> str:
        return f"{self.agent_id} {self.at}"
