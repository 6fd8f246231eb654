"""The ledger: leaves, tiles, head, checkpoints, epochs, verifications, and what keeps them append-only."""

import datetime

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.fields.json
import django.db.models.functions.comparison
import django.db.models.functions.datetime
import django.db.models.functions.text
import django.db.models.lookups
from django.db import migrations, models

import audit.ids
import audit.models.fields
from audit.sql import read


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_rules")]

    operations = [
        migrations.CreateModel(
            name="LedgerTile",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "level", "index", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("level", models.SmallIntegerField(verbose_name="level")),
                ("index", models.BigIntegerField(verbose_name="index")),
                ("data", models.BinaryField(verbose_name="hashes")),
            ],
            options={
                "verbose_name": "ledger tile",
                "verbose_name_plural": "ledger tiles",
                "db_table": "audit_ledger_tile",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="LedgerCheckpoint",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("epoch", models.IntegerField(verbose_name="epoch")),
                ("size", models.BigIntegerField(verbose_name="size")),
                ("root", models.BinaryField(verbose_name="root")),
                ("note", models.TextField(verbose_name="note")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="created at"
                    ),
                ),
            ],
            options={
                "verbose_name": "checkpoint",
                "verbose_name_plural": "checkpoints",
                "db_table": "audit_ledger_checkpoint",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(fields=("epoch", "size"), name="audit_ledger_checkpoint_size"),
                    models.CheckConstraint(
                        condition=models.Q(("epoch__gte", 1), ("size__gt", 0)), name="audit_ledger_checkpoint_grown"
                    ),
                    models.CheckConstraint(
                        condition=django.db.models.lookups.Exact(django.db.models.functions.text.Length("root"), 32),
                        name="audit_ledger_checkpoint_root_long",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("created_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("created_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                        ),
                        name="audit_ledger_checkpoint_moment_readable",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerEpoch",
            fields=[
                ("number", models.IntegerField(primary_key=True, serialize=False, verbose_name="number")),
                ("origin", models.TextField(verbose_name="origin")),
                ("size", models.BigIntegerField(verbose_name="size")),
                ("previous", models.TextField(verbose_name="previous checkpoint")),
                ("reason", models.TextField(verbose_name="reason")),
                ("actor", models.TextField(verbose_name="actor")),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                ("row_version", models.SmallIntegerField(verbose_name="row version")),
            ],
            options={
                "verbose_name": "epoch",
                "verbose_name_plural": "epochs",
                "db_table": "audit_ledger_epoch",
                "default_permissions": ("view",),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("number__gte", 2), ("size__gte", 0), models.Q(("reason", ""), _negated=True)
                        ),
                        name="audit_ledger_epoch_reasoned",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("started_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("started_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                        ),
                        name="audit_ledger_epoch_moment_readable",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerHead",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("epoch", models.IntegerField(db_default=1, verbose_name="epoch")),
                ("size", models.BigIntegerField(db_default=0, verbose_name="size")),
                ("frontier", models.BinaryField(db_default=b"", verbose_name="frontier")),
                ("low_xid", audit.models.fields.XidField(db_default=0, verbose_name="low-water mark")),
                ("system_identifier", models.TextField(db_default="", verbose_name="system identifier")),
                ("sealed_at", models.DateTimeField(db_default=None, null=True, verbose_name="sealed at")),
            ],
            options={
                "verbose_name": "ledger head",
                "verbose_name_plural": "ledger head",
                "db_table": "audit_ledger_head",
                "default_permissions": (),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("epoch__gte", 1), ("id", 1), ("size__gte", 0)), name="audit_ledger_head_one"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("sealed_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("sealed_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                        ),
                        name="audit_ledger_head_moment_readable",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerLeaf",
            fields=[
                ("index", models.BigIntegerField(primary_key=True, serialize=False, verbose_name="index")),
                ("task_id", models.UUIDField(blank=True, db_default=None, null=True, verbose_name="task")),
                ("log_id", models.BigIntegerField(blank=True, db_default=None, null=True, verbose_name="log row")),
                ("epoch", models.IntegerField(blank=True, db_default=None, null=True, verbose_name="epoch")),
                ("salt", models.BinaryField(verbose_name="salt")),
                ("leaf_hash", models.BinaryField(verbose_name="leaf hash")),
            ],
            options={
                "verbose_name": "ledger leaf",
                "verbose_name_plural": "ledger leaves",
                "db_table": "audit_ledger_leaf",
                "default_permissions": ("view",),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("index__gte", 0),
                            models.Q(
                                models.Q(("epoch__isnull", True), ("log_id__isnull", True), ("task_id__isnull", False)),
                                models.Q(("epoch__isnull", True), ("log_id__isnull", False), ("task_id__isnull", True)),
                                models.Q(("epoch__isnull", False), ("log_id__isnull", True), ("task_id__isnull", True)),
                                _connector="OR",
                            ),
                        ),
                        name="audit_ledger_leaf_one_row",
                    ),
                    models.CheckConstraint(
                        condition=django.db.models.lookups.Exact(django.db.models.functions.text.Length("salt"), 16),
                        name="audit_ledger_leaf_salt_long",
                    ),
                    models.CheckConstraint(
                        condition=django.db.models.lookups.Exact(
                            django.db.models.functions.text.Length("leaf_hash"), 32
                        ),
                        name="audit_ledger_leaf_hash_long",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("task_id__isnull", False)),
                        fields=("task_id",),
                        name="audit_ledger_leaf_task",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("log_id__isnull", False)), fields=("log_id",), name="audit_ledger_leaf_log"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("epoch__isnull", False)), fields=("epoch",), name="audit_ledger_leaf_epoch"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerVerification",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                (
                    "finished_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="finished at"
                    ),
                ),
                (
                    "verdict",
                    models.TextField(
                        choices=[("intact", "intact"), ("tampering", "tampering"), ("unchecked", "could not check")],
                        verbose_name="verdict",
                    ),
                ),
                ("size", models.BigIntegerField(verbose_name="size")),
                ("unsealed", models.BigIntegerField(verbose_name="unsealed rows")),
                ("oldest_unsealed", models.DateTimeField(null=True, verbose_name="oldest unsealed row")),
                ("report", audit.models.fields.JSONField(verbose_name="report")),
                ("actor", models.TextField(blank=True, db_default="", verbose_name="actor")),
            ],
            options={
                "verbose_name": "verification",
                "verbose_name_plural": "integrity",
                "db_table": "audit_ledger_verification",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(
                        models.OrderBy(models.F("finished_at"), descending=True), name="audit_ledger_verification_last"
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("verdict__in", ["intact", "tampering", "unchecked"])),
                        name="audit_ledger_verification_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("finished_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("finished_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                            ("oldest_unsealed__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("oldest_unsealed__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                            ("started_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("started_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                        ),
                        name="audit_ledger_verification_moments_readable",
                    ),
                ],
            },
        ),
        *(
            migrations.RunSQL(forwards, backwards)
            for forwards, backwards in (read(rule) for rule in ("ledger_guard_v1", "verification_stamp_v1"))
        ),
    ]
