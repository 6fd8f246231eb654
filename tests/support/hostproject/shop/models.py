"""Orders that are shipped by audited work."""

from uuid import UUID

from django.db import models

from audit.models import Task


class Order(models.Model):
    """An order; the task that ships it may live in another database, so it is not a foreign key."""

    name = models.TextField()
    task_id = models.UUIDField(null=True)

    def __str__(self) -> str:
        return self.name

    def ship(self) -> UUID:
        """Ship it, and record that."""
        task = Task.objects.request("ship", summary=self.name, actor="shop")
        task.approve(actor="shop")
        [task] = Task.objects.claim(worker="shop")
        task.complete({"success": True})
        self.task_id = task.pk
        self.save()
        return task.pk
