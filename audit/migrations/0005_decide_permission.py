"""The permission to decide about tasks; a row of Django's, no schema."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_search_indexes")]

    operations = [
        migrations.AlterModelOptions(
            name="task",
            options={
                "permissions": [("decide_task", "Can approve, reject and resume tasks")],
                "verbose_name": "task",
                "verbose_name_plural": "tasks",
            },
        )
    ]
