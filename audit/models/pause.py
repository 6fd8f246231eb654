"""The pause queue: work that waits, with its plan, its reason and the time it may go on."""

from __future__ import annotations

from collections.abc import Collection

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext_lazy as _

from audit.models.fields import JSONField
from audit.models.querysets.pause import PauseQueueManager
from audit.models.saving import FencedSave
from audit.models.task import Task
from audit.status import PauseReason
from audit.values import validation
from audit.verbs.entry import PauseQueueEntryVerbs

__all__ = ["PauseQueueEntry"]


class PauseQueueEntry(PauseQueueEntryVerbs, FencedSave):
    """A paused task's place in the queue. It exists exactly while the task is paused.

    An entry is due when it is not held and `due_at` has passed. The database keeps entry and task together, whatever
    SQL moves the task: leaving `paused` removes the entry, and entering it makes one. Its history is in the log.
    """

    id = models.BigAutoField(primary_key=True)
    task = models.OneToOneField(Task, on_delete=models.DO_NOTHING, related_name="pause_entry", verbose_name=_("task"))
    work_plan = JSONField(_("work plan"), null=True, blank=True)
    reason = models.TextField(
        _("reason"),
        choices=PauseReason,
        default=PauseReason.MANUAL_PAUSE,
        db_default=PauseReason.MANUAL_PAUSE,
    )
    note = models.TextField(_("note"), blank=True, default="", db_default="")
    # The name of the `Event` that is waited for.
    event = models.TextField(_("event"), blank=True, default="", db_default="")
    paused_by = models.TextField(_("paused by"), blank=True, default="", db_default="")
    paused_at = models.DateTimeField(_("paused at"), db_default=Now(), editable=False)
    resume_after = models.DateTimeField(_("resume after"), null=True, blank=True, db_default=None)
    # NOT NULL, kept by a trigger: a nullable due time cannot be found through an index in order.
    due_at = models.DateTimeField(_("due at"), db_default=Now(), editable=False)
    held = models.BooleanField(_("held"), default=True, db_default=True)
    priority = models.SmallIntegerField(_("priority"), default=3, db_default=3)
    claimed_by = models.TextField(_("claimed by"), blank=True, default="", db_default="")
    claim_token = models.UUIDField(_("claim token"), null=True, blank=True, db_default=None)
    lease_expires_at = models.DateTimeField(_("lease expires at"), null=True, blank=True, db_default=None)
    attempt = models.IntegerField(_("attempt"), default=0, db_default=0)
    actor = models.TextField(_("actor"), blank=True, db_default="")
    revision = models.IntegerField(_("revision"), db_default=1, editable=False)

    objects = PauseQueueManager()

    class Meta:
        db_table = "audit_pause_queue"
        verbose_name = _("pause queue entry")
        verbose_name_plural = _("pause queue")
        constraints = [
            models.CheckConstraint(name="audit_pause_queue_reason_known", condition=Q(reason__in=PauseReason.values)),
            models.CheckConstraint(name="audit_pause_queue_priority_range", condition=Q(priority__range=(1, 5))),
            models.CheckConstraint(
                name="audit_pause_queue_due_follows",
                condition=Q(due_at=Coalesce("resume_after", "paused_at")),
            ),
            models.CheckConstraint(
                name="audit_pause_queue_moments_readable",
                condition=Q(
                    paused_at__gte=validation.EARLIEST,
                    paused_at__lt=validation.LATEST,
                    due_at__gte=validation.EARLIEST,
                    due_at__lt=validation.LATEST,
                )
                & (
                    Q(lease_expires_at__isnull=True)
                    | Q(lease_expires_at__gte=validation.EARLIEST, lease_expires_at__lt=validation.LATEST)
                ),
            ),
            # The time of what awaits an approval is a deadline, and never lets it go on by itself.
            models.CheckConstraint(
                name="audit_pause_queue_approval_held",
                condition=~Q(reason=PauseReason.AWAITING_APPROVAL) | Q(held=True),
            ),
            models.CheckConstraint(
                name="audit_pause_queue_event_awaited",
                condition=Q(event="") | Q(reason=PauseReason.AWAITING_EVENT),
            ),
            models.CheckConstraint(
                name="audit_pause_queue_no_json_null",
                condition=~Q(work_plan=models.Value(None, models.JSONField())),
            ),
        ]
        indexes = [
            models.Index(fields=["priority", "due_at", "id"], name="audit_pause_queue_claim", condition=Q(held=False)),
            # For pages that list the queue by time (`listed`). `id > 0` is true of every row, and keeps the claim
            # from it: with statistics that know of few due rows it would look better than the claim's own index,
            # and then cost as much as all that are due.
            models.Index(fields=["due_at", "id"], name="audit_pause_queue_free", condition=Q(held=False, id__gt=0)),
            models.Index(fields=["due_at", "id"], name="audit_pause_queue_held", condition=Q(held=True)),
            models.Index(
                fields=["due_at", "id"], name="audit_pause_queue_leased", condition=Q(claim_token__isnull=False)
            ),
            models.Index(fields=["paused_at", "id"], name="audit_pause_queue_paused"),
            models.Index(fields=["event", "id"], name="audit_pause_queue_event", condition=~Q(event="")),
            # What resumes by time alone, and waits that time out, however much that waits for capacity is due.
            models.Index(
                fields=["priority", "due_at", "id"],
                name="audit_pause_queue_timed",
                condition=Q(held=False, reason__in=(PauseReason.MANUAL_PAUSE, PauseReason.AWAITING_EVENT)),
            ),
            models.Index(
                fields=["due_at", "id"],
                name="audit_pause_queue_deadline",
                condition=Q(reason=PauseReason.AWAITING_APPROVAL, resume_after__isnull=False),
            ),
        ]

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """Check the constraints; Django takes NULL in a JSON column for JSON's null, which one of them refuses."""
        unplanned = {"work_plan"} if self.work_plan is None else set()
        super().validate_constraints({*(exclude or ()), *unplanned})

    def __str__(self) -> str:
        return f"{self.task_id} paused: {self.reason}"
