"""`save()` and `delete()`, with the refusals of the database as readable errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, models, router, transaction
from django.db.models.expressions import DatabaseDefault

from audit.context import get_actor
from audit.exceptions import AppendOnly, AuditError, StaleTask

__all__ = ["FencedSave", "Undeletable"]


class Undeletable(models.Model):
    """`delete()` that raises the refusal of the database as a readable error."""

    class Meta:
        abstract = True

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Ask the database to delete. It always refuses.

        Raises:
            AppendOnly: an IntegrityError, as the database gave it.
        """
        try:
            return super().delete(using=using, keep_parents=keep_parents)
        except IntegrityError as error:
            hint = "History stays; a task that should not run is rejected."
            raise AppendOnly(self._meta.db_table, "DELETE", hint) from error.__cause__


class FencedSave(models.Model):
    """`save()` of an existing row that succeeds only if nobody changed the row since it was read."""

    if TYPE_CHECKING:
        # Fields of `Task` and `PauseQueueEntry`, which mix this in.
        actor: Any
        revision: Any
        _read_revision: int

    class Meta:
        abstract = True

    def save(self, **options: Any) -> None:
        """Insert a new row, or update the row if it is still as this instance was read.

        The actor is the `actor` block's name, else `db:` and the database role. Prefer the verbs: each is one statement
        with its own conditions.

        Raises:
            StaleTask: the row has changed since; nothing is saved.
            AuditError: `revision` was left out when the row was read, so that cannot be known.
            django.db.IntegrityError: the database refused, with SQLSTATE 23001 for a rule of this app.
        """
        # asave() names every option, the alias as None.
        using = options["using"] = options.get("using") or router.db_for_write(type(self), instance=self)
        if self._state.adding:
            if isinstance(self.actor, DatabaseDefault):
                self.actor = get_actor()
            super().save(**options)
            return
        fields = options.get("update_fields")
        if fields is not None and not fields:
            return  # as Django: there is nothing to save
        if "revision" in self.get_deferred_fields():
            # Loaded now, it would be that of the row as it is.
            raise AuditError("save() needs the revision that was read: load `revision` too, or use a verb.")
        read = self.revision
        if fields is not None:
            options["update_fields"] = {*fields, "revision", "actor"}
        actor, self.actor = self.actor, get_actor()
        self.revision = read + 1
        self._read_revision = read
        try:
            with transaction.atomic(using=using):
                super().save(**(options | {"force_update": True}))
        except BaseException:
            self.revision, self.actor = read, actor
            raise
        finally:
            del self._read_revision
        self.refresh_from_db(using=using)

    def _do_update(self, base_qs: Any, using: Any, *args: Any, **kwargs: Any) -> Any:
        """Fence Django's own UPDATE by the revision that was read."""
        read = getattr(self, "_read_revision", None)
        if read is None:  # a fixture is loaded: Django saves the row as it is
            return super()._do_update(base_qs, using, *args, **kwargs)
        updated = super()._do_update(base_qs.filter(revision=read), using, *args, **kwargs)
        if not updated:
            current = base_qs.using(using).filter(pk=self.pk).values_list("revision", flat=True).first()
            if current is not None:
                task_id = getattr(self, "task_id", None)
                raise StaleTask(task_id or self.pk, read, current, entry=task_id is not None)
        return updated
