"""Storage settings of the tables that are updated often."""

from django.db import migrations

from audit.sql import read


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_guards")]

    operations = [migrations.RunSQL(*read("storage_v1"))]
