"""Work as a project would keep it in a model of its own, and the history that a package adds to it."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from audit.ids import uuid7

__all__ = ["Job"]

_history = settings.SAVED


def _followed() -> Callable[[Any], Any]:
    if _history not in ("rows", "statements"):
        return lambda model: model
    import pghistory

    level = pghistory.Row if _history == "rows" else pghistory.Statement
    return pghistory.track(pghistory.InsertEvent(level=level), pghistory.UpdateEvent(level=level))  # type: ignore[no-any-return]


@_followed()
class Job(models.Model):
    """A piece of work."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    action = models.CharField(max_length=100)
    status = models.TextField(default="pending")
    priority = models.SmallIntegerField(default=3)
    services = ArrayField(models.TextField(), default=list)
    plan = models.JSONField(null=True)
    requested_by = models.TextField(default="")
    decided_by = models.TextField(default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    if _history == "records":
        from simple_history.models import HistoricalRecords

        history = HistoricalRecords()
        del HistoricalRecords

    class Meta:
        indexes = [models.Index("status", "created_at", name="saved_job_status")]

    def __str__(self) -> str:
        return f"{self.action} ({self.status})"


if _history == "entries":
    from auditlog.registry import auditlog

    auditlog.register(Job)
