"""The task: what was asked, who decided, who did it, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.db.models.lookups import IsNull
from django.utils.translation import gettext_lazy as _

from audit import ids
from audit.models.fields import JSONField, XidField
from audit.models.querysets.search_text import ERROR_TYPE, WORDS
from audit.models.querysets.task import TaskManager
from audit.models.saving import FencedSave, Undeletable
from audit.status import FINISHED, OnExpiry, Status
from audit.verbs.task import TaskVerbs

if TYPE_CHECKING:
    from audit.models.log import ExecutionLog
    from audit.models.pause import PauseQueueEntry

__all__ = ["Task"]


def _stamp(verbose_name: Any, **options: Any) -> models.DateTimeField[Any, Any]:
    """A moment that the database stamps: its default makes Django read it back with RETURNING."""
    return models.DateTimeField(verbose_name, null=True, blank=True, db_default=None, **options)


def _document(verbose_name: Any) -> JSONField:
    return JSONField(verbose_name, null=True, blank=True)


def _words(verbose_name: Any) -> models.TextField[Any, Any]:
    return models.TextField(verbose_name, blank=True, default="", db_default="")


class Task(TaskVerbs, FencedSave, Undeletable):
    """One piece of work, from its request to its end. When it is finished, the database freezes it.

    `Task.objects.request`, `audit.record` and imports make rows. The verbs move them. Nothing removes them. `actor` is
    who made the last change, as the application claims it. The execution log keeps the database role beside each claim.
    """

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    action = models.CharField(_("action"), max_length=100)
    summary = _words(_("summary"))
    status = models.TextField(_("status"), choices=Status, default=Status.PENDING, db_default=Status.PENDING)
    priority = models.SmallIntegerField(_("priority"), default=3, db_default=3)
    services_touched = ArrayField(
        models.TextField(), verbose_name=_("services touched"), blank=True, default=list, db_default=[]
    )
    plan = _document(_("plan"))
    work_plan = _document(_("work plan"))
    estimated_resources = _document(_("estimated resources"))
    resources_used = _document(_("resources used"))
    outcome = _document(_("outcome"))
    suggestions = _document(_("suggestions"))
    requested_by = _words(_("requested by"))
    decided_by = models.TextField(_("decided by"), blank=True, db_default="")
    # Not a foreign key: the parent may live in another partition or database.
    parent = models.UUIDField(_("parent"), null=True, blank=True, db_default=None)
    correlation_id = _words(_("correlation id"))
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    recorded_at = models.DateTimeField(_("recorded at"), db_default=Now(), editable=False)
    # NOT NULL without a default: the stamp trigger copies created_at into a missing one.
    available_at = models.DateTimeField(_("available at"), blank=True, db_default=None)  # type: ignore[arg-type]
    # Until when a pending request may be approved; afterwards recovery rejects it.
    approve_before = _stamp(_("approve before"))
    decided_at = _stamp(_("decided at"))
    started_at = _stamp(_("started at"))
    finished_at = _stamp(_("finished at"))
    # NOT NULL without a default, as available_at: what is not given is summed up by the database.
    executing_ms = models.BigIntegerField(_("executing (ms)"), db_default=None, editable=False)  # type: ignore[arg-type]
    paused_ms = models.BigIntegerField(_("paused (ms)"), db_default=None, editable=False)  # type: ignore[arg-type]
    claimed_by = models.TextField(_("claimed by"), blank=True, db_default="")
    claim_token = models.UUIDField(_("claim token"), null=True, blank=True, db_default=None)
    lease_expires_at = _stamp(_("lease expires at"))
    attempt = models.IntegerField(_("attempt"), default=0, db_default=0)
    expiries = models.IntegerField(_("expiries"), default=0, db_default=0)
    # Attempts that ended in an error (`retry`); a claim, a release or a lost lease does not count.
    failures = models.IntegerField(_("failures"), default=0, db_default=0)
    on_expiry = models.TextField(
        _("on expiry"), choices=OnExpiry, default=OnExpiry.REQUEUE, db_default=OnExpiry.REQUEUE
    )
    cancel_requested_at = _stamp(_("cancel requested at"))
    actor = models.TextField(_("actor"), blank=True, db_default="")
    revision = models.IntegerField(_("revision"), db_default=1, editable=False)
    status_was = models.TextField(_("status before"), null=True, db_default=None, editable=False)  # noqa: DJ001 - NULL: there was none
    status_since = models.DateTimeField(_("in this status since"), db_default=Now(), editable=False)
    origin = _document(_("origin"))
    row_version = models.SmallIntegerField(_("row version"), null=True, db_default=None, editable=False)
    finished_xid = XidField(_("finished xid"), null=True, db_default=None, editable=False)

    objects = TaskManager()

    if TYPE_CHECKING:
        execution_log: models.Manager[ExecutionLog]
        pause_entry: PauseQueueEntry

    class Meta:
        db_table = "audit_task"
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        permissions = [("decide_task", "Can approve, reject and resume tasks")]
        # Migrations and scripts reach every row; there is no default ordering to pay for unasked.
        # What a row must be is said by audit/sql/task_write_v1.sql.
        indexes = [
            GinIndex(name="audit_task_services_gin", fields=["services_touched"]),
            models.Index("status", F("created_at").desc(), name="audit_task_status_created"),
            models.Index(F("created_at").desc(), F("id").desc(), name="audit_task_created"),
            models.Index(F("finished_at").desc(), name="audit_task_finished", condition=Q(status__in=FINISHED)),
            models.Index(
                fields=["priority", "available_at", "id"],
                name="audit_task_claim",
                condition=Q(status=Status.APPROVED),
            ),
            # What recovery looks through for requests that nobody approved in time.
            models.Index(
                fields=["approve_before", "id"],
                name="audit_task_approve_before",
                condition=Q(status=Status.PENDING, approve_before__isnull=False),
            ),
            models.Index(fields=["id"], name="audit_task_executing", condition=Q(status=Status.EXECUTING)),
            # What recovery looks through for paused tasks without an entry.
            models.Index(fields=["id"], name="audit_task_paused", condition=Q(status=Status.PAUSED)),
            models.Index(fields=["correlation_id"], name="audit_task_correlation", condition=~Q(correlation_id="")),
            models.Index("action", F("created_at").desc(), name="audit_task_action"),
            models.Index("requested_by", F("created_at").desc(), name="audit_task_requested_by"),
            models.Index(
                "decided_by",
                F("created_at").desc(),
                name="audit_task_decided_by",
                condition=~Q(decided_by=""),
            ),
            models.Index("actor", F("created_at").desc(), name="audit_task_actor"),
            models.Index(fields=["parent"], name="audit_task_parent", condition=Q(parent__isnull=False)),
            GinIndex(WORDS, name="audit_task_words"),
            models.Index(
                ERROR_TYPE,
                F("created_at").desc(),
                name="audit_task_error_type",
                condition=Q(IsNull(ERROR_TYPE, False)),
            ),
            # What the sealer looks through: the rows of the youngest transactions.
            models.Index(fields=["finished_xid", "id"], name="audit_task_xid", condition=Q(finished_xid__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.action} {str(self.id)[:8]} ({self.status})"
