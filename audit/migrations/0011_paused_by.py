"""Raw SQL that pauses a task pauses it under its role, whatever name it writes into `paused_by`."""

from django.db import migrations

from audit.sql import read


class Migration(migrations.Migration):
    dependencies = [("audit", "0010_readable")]

    operations = [
        migrations.RunSQL(*reversed(read("stamp_entry_v2"))),
        migrations.RunSQL(*read("stamp_entry_v3")),
    ]
