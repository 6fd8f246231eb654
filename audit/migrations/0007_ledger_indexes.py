"""What the sealer looks through: tasks and log rows in the order of the transactions that wrote them.

Made CONCURRENTLY, as in 0004.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("audit", "0006_ledger")]

    operations = [
        AddIndexConcurrently(
            "task",
            models.Index(fields=["finished_xid", "id"], name="audit_task_xid", condition=Q(finished_xid__isnull=False)),
        ),
        AddIndexConcurrently("executionlog", models.Index(fields=["xid", "id"], name="audit_executionlog_xid")),
    ]
