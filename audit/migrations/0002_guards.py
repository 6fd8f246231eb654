"""The rules of the audit tables, enforced by the database: CHECKs and triggers."""

from django.db import migrations

from audit.sql import read

_RULES = (
    "invariants_v1",
    "guard_task_v1",
    "guard_truncate_v1",
    "guard_log_v1",
    "named_actor_v1",
    "stamp_task_v1",
    "stamp_log_v1",
    "chain_log_v1",
    "stamp_entry_v1",
    "queue_task_v1",
    "log_task_v1",
    "follow_entry_v1",
    "seal_task_v1",
    "seal_log_v1",
)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [migrations.RunSQL(forwards, backwards) for forwards, backwards in (read(rule) for rule in _RULES)]
