"""Raw SQL that decides a task decides it under its role, whatever name it writes into `decided_by`."""

from django.db import migrations

from audit.sql import read


class Migration(migrations.Migration):
    dependencies = [("audit", "0008_queue_indexes")]

    operations = [
        migrations.RunSQL(*reversed(read("stamp_task_v1"))),
        migrations.RunSQL(*read("stamp_task_v2")),
    ]
