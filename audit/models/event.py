"""The events that paused work waits for: each name is emitted once."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Length, Now
from django.db.models.lookups import LessThanOrEqual
from django.utils.translation import gettext_lazy as _

from audit.models.fields import JSONField, readable
from audit.models.saving import Undeletable

__all__ = ["Event"]


class Event(Undeletable):
    """Something that has happened, under a name that happens once; append-only by the database.

    `audit.emit_event` makes them, and resumes whoever waits. `emitted_by` is claimed by the application, `db_role` is
    the session user that the database saw.
    """

    id = models.BigAutoField(primary_key=True)
    name = models.TextField(_("name"))
    payload = JSONField(_("payload"), null=True, blank=True)
    emitted_by = models.TextField(_("emitted by"), blank=True, default="", db_default="")
    emitted_at = models.DateTimeField(_("emitted at"), db_default=Now(), editable=False)
    db_role = models.TextField(_("database role"), blank=True, db_default="", editable=False)

    objects: ClassVar[models.Manager[Event]] = models.Manager()

    class Meta:
        db_table = "audit_event"
        default_permissions = ("view", "add")
        verbose_name = _("event")
        verbose_name_plural = _("events")
        constraints = [
            # A constraint, because the index of a unique text field would come with one for LIKE.
            models.UniqueConstraint(fields=["name"], name="audit_event_name"),
            models.CheckConstraint(name="audit_event_name_short", condition=LessThanOrEqual(Length("name"), 200)),
            models.CheckConstraint(name="audit_event_name_given", condition=~Q(name="")),
            models.CheckConstraint(
                name="audit_event_no_json_null", condition=~Q(payload=models.Value(None, models.JSONField()))
            ),
            models.CheckConstraint(name="audit_event_moment_readable", condition=readable("emitted_at")),
        ]

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """Check the constraints; Django takes NULL in a JSON column for JSON's null, which one of them refuses."""
        empty = {"payload"} if self.payload is None else set()
        super().validate_constraints({*(exclude or ()), *empty})

    def __str__(self) -> str:
        return self.name
