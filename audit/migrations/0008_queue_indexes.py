"""One index for each thing that pages of the pause queue ask for, so that none of them reads what the others show.

What is free and what is held lie apart, in place of one index of both. Made CONCURRENTLY, as in 0004.
"""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("audit", "0007_ledger_indexes")]

    operations = [
        AddIndexConcurrently(
            "pausequeueentry",
            models.Index(
                fields=["due_at", "id"], name="audit_pause_queue_free", condition=Q(("held", False), ("id__gt", 0))
            ),
        ),
        AddIndexConcurrently(
            "pausequeueentry",
            models.Index(fields=["due_at", "id"], name="audit_pause_queue_held", condition=Q(held=True)),
        ),
        AddIndexConcurrently(
            "pausequeueentry",
            models.Index(
                fields=["due_at", "id"], name="audit_pause_queue_leased", condition=Q(claim_token__isnull=False)
            ),
        ),
        AddIndexConcurrently(
            "pausequeueentry", models.Index(fields=["paused_at", "id"], name="audit_pause_queue_paused")
        ),
        RemoveIndexConcurrently("pausequeueentry", "audit_pause_queue_listed"),
    ]
