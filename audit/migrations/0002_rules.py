"""The rules of the tasks, their log and the pause queue, enforced by the database, and their storage settings."""

from django.db import migrations

from audit.sql import read

_RULES = (
    "actor_named_v1",
    "task_write_v1",
    "task_delete_v1",
    "task_plan_v1",
    "task_replan_v1",
    "task_queue_v1",
    "task_log_v1",
    "log_write_v1",
    "log_guard_v1",
    "entry_write_v1",
    "entry_follow_v1",
    "event_write_v1",
    "truncate_v1",
    "event_guard_v1",
    "storage_v1",
)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_tables")]

    operations = [migrations.RunSQL(forwards, backwards) for forwards, backwards in (read(rule) for rule in _RULES)]
