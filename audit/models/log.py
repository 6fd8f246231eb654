"""The execution log: every status change and every step, written once."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from audit.models.fields import JSONField, XidField
from audit.models.querysets.log import ExecutionLogManager
from audit.models.saving import Undeletable
from audit.models.task import Task
from audit.status import LogKind, Status

__all__ = ["ExecutionLog"]


class ExecutionLog(Undeletable):
    """One row of a task's history. The database allows inserts only.

    A trigger writes the `transition` rows, in the statement that changes the status. Nothing else can write them.
    `actor` is what the application claims. `db_role` is the session user that the database saw.
    """

    id = models.BigAutoField(primary_key=True)
    # DO_NOTHING: the answer to a DELETE is the database's, not a cascade's. No constraint: audit/sql/log_write_v1.sql
    # looks once that the task exists.
    task = models.ForeignKey(
        Task,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="execution_log",
        db_index=False,
        verbose_name=_("task"),
    )
    at = models.DateTimeField(_("at"), db_default=Now(), editable=False)
    kind = models.TextField(_("kind"), choices=LogKind)
    from_status = models.TextField(_("from status"), choices=Status, null=True, blank=True, db_default=None)  # noqa: DJ001 - NULL: there was none
    to_status = models.TextField(_("to status"), choices=Status, null=True, blank=True, db_default=None)  # noqa: DJ001 - NULL: not a transition
    revision = models.IntegerField(_("revision"), null=True, blank=True, db_default=None)
    actor = models.TextField(_("actor"), blank=True, db_default="")
    db_role = models.TextField(_("database role"), blank=True, db_default="", editable=False)
    attempt = models.IntegerField(_("attempt"), null=True, blank=True, db_default=None)
    step_number = models.IntegerField(_("step number"), null=True, blank=True, db_default=None)
    action = models.TextField(_("action"), blank=True, default="", db_default="")
    duration_ms = models.BigIntegerField(_("duration (ms)"), null=True, blank=True, db_default=None)
    output_summary = models.TextField(_("output summary"), blank=True, default="", db_default="")
    detail = JSONField(_("detail"), null=True, blank=True)
    row_version = models.SmallIntegerField(_("row version"), db_default=None, editable=False)  # type: ignore[arg-type]
    xid = XidField(_("xid"), db_default=None, editable=False)

    objects = ExecutionLogManager()

    class Meta:
        db_table = "audit_executionlog"
        verbose_name = _("execution log row")
        verbose_name_plural = _("execution log")
        constraints = [
            # What a row must be is said by audit/sql/log_write_v1.sql; that a step is logged once, by this.
            models.UniqueConstraint(
                fields=["task", "revision"],
                name="audit_executionlog_transition",
                condition=Q(kind=LogKind.TRANSITION),
            ),
        ]
        indexes = [
            models.Index(fields=["task", "id"], name="audit_executionlog_task"),
            models.Index(F("at").desc(), F("id").desc(), name="audit_executionlog_at"),
            # Transitions are everywhere in the order of time; the other kinds may be rare or absent.
            models.Index(
                "kind",
                F("at").desc(),
                F("id").desc(),
                name="audit_executionlog_kind",
                condition=~Q(kind=LogKind.TRANSITION),
            ),
            # As that of the tasks: for the sealer.
            models.Index(fields=["xid", "id"], name="audit_executionlog_xid"),
        ]

    def __str__(self) -> str:
        what = f"{self.from_status or 'new'} → {self.to_status}" if self.to_status else self.action or self.kind
        return f"{what} ({self.actor})"
