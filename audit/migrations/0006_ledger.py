"""The ledger: leaves, tiles, head, checkpoints, epochs, verifications, and what keeps them append-only."""

import django.db.models.functions.datetime
import django.db.models.functions.text
import django.db.models.lookups
from django.db import migrations, models

import audit.models.fields
from audit.sql import read


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0005_decide_permission"),
    ]

    operations = [
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
                ("salt", models.BinaryField(verbose_name="salt")),
            ],
            options={
                "verbose_name": "epoch",
                "verbose_name_plural": "epochs",
                "db_table": "audit_ledger_epoch",
                "default_permissions": ("view",),
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
            },
        ),
        migrations.CreateModel(
            name="LedgerLeaf",
            fields=[
                ("index", models.BigIntegerField(primary_key=True, serialize=False, verbose_name="index")),
                ("task_id", models.UUIDField(blank=True, db_default=None, null=True, verbose_name="task")),
                ("log_id", models.BigIntegerField(blank=True, db_default=None, null=True, verbose_name="log row")),
                ("epoch", models.IntegerField(blank=True, db_default=None, null=True, verbose_name="epoch")),
                ("leaf_hash", models.BinaryField(verbose_name="leaf hash")),
            ],
            options={
                "verbose_name": "ledger leaf",
                "verbose_name_plural": "ledger leaves",
                "db_table": "audit_ledger_leaf",
                "default_permissions": ("view",),
            },
        ),
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
            },
        ),
        migrations.AddConstraint(
            model_name="ledgercheckpoint",
            constraint=models.UniqueConstraint(fields=("epoch", "size"), name="audit_ledger_checkpoint_size"),
        ),
        migrations.AddConstraint(
            model_name="ledgercheckpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(("epoch__gte", 1), ("size__gt", 0)), name="audit_ledger_checkpoint_grown"
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgercheckpoint",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.Exact(django.db.models.functions.text.Length("root"), 32),
                name="audit_ledger_checkpoint_root_long",
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerepoch",
            constraint=models.CheckConstraint(
                condition=models.Q(("number__gte", 2), ("size__gte", 0), models.Q(("reason", ""), _negated=True)),
                name="audit_ledger_epoch_told",
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerhead",
            constraint=models.CheckConstraint(
                condition=models.Q(("epoch__gte", 1), ("id", 1), ("size__gte", 0)), name="audit_ledger_head_one"
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerleaf",
            constraint=models.CheckConstraint(
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
        ),
        migrations.AddConstraint(
            model_name="ledgerleaf",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.Exact(django.db.models.functions.text.Length("leaf_hash"), 32),
                name="audit_ledger_leaf_hash_long",
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerleaf",
            constraint=models.UniqueConstraint(
                condition=models.Q(("task_id__isnull", False)), fields=("task_id",), name="audit_ledger_leaf_task"
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerleaf",
            constraint=models.UniqueConstraint(
                condition=models.Q(("log_id__isnull", False)), fields=("log_id",), name="audit_ledger_leaf_log"
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerleaf",
            constraint=models.UniqueConstraint(
                condition=models.Q(("epoch__isnull", False)), fields=("epoch",), name="audit_ledger_leaf_epoch"
            ),
        ),
        migrations.AddIndex(
            model_name="ledgerverification",
            index=models.Index(
                models.OrderBy(models.F("finished_at"), descending=True), name="audit_ledger_verification_last"
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerverification",
            constraint=models.CheckConstraint(
                condition=models.Q(("verdict__in", ["intact", "tampering", "unchecked"])),
                name="audit_ledger_verification_known",
            ),
        ),
        migrations.RunSQL(*read("guard_ledger_v1")),
    ]
