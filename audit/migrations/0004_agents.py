"""The registry of agents and their readings, which are no part of the trail."""

import datetime

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0003_ledger"),
    ]

    operations = [
        migrations.CreateModel(
            name="Agent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.TextField(unique=True, verbose_name="name")),
                (
                    "actions",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        blank=True,
                        db_default=[],
                        default=list,
                        size=None,
                        verbose_name="actions",
                    ),
                ),
                (
                    "labels",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        blank=True,
                        db_default=[],
                        default=list,
                        size=None,
                        verbose_name="labels",
                    ),
                ),
                ("slots", models.IntegerField(db_default=1, default=1, verbose_name="slots")),
                ("instance", models.UUIDField(verbose_name="instance")),
                ("host", models.TextField(blank=True, db_default="", default="", verbose_name="host")),
                ("pid", models.IntegerField(blank=True, db_default=None, null=True, verbose_name="process id")),
                ("version", models.TextField(blank=True, db_default="", default="", verbose_name="version")),
                (
                    "registered_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                        verbose_name="registered at",
                    ),
                ),
                (
                    "heartbeat_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                        verbose_name="heartbeat at",
                    ),
                ),
                (
                    "drain_requested_at",
                    models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="drain requested at"),
                ),
                (
                    "drain_requested_by",
                    models.TextField(blank=True, db_default="", default="", verbose_name="drain requested by"),
                ),
                ("drain_reason", models.TextField(blank=True, db_default="", default="", verbose_name="drain reason")),
                ("stopped_at", models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="stopped at")),
            ],
            options={
                "verbose_name": "agent",
                "verbose_name_plural": "agents",
                "db_table": "audit_agent",
                "permissions": [("drain_agent", "Can drain agents")],
                "default_permissions": ("view",),
                "indexes": [
                    django.contrib.postgres.indexes.GinIndex(fields=["labels", "actions"], name="audit_agent_able_gin")
                ],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("name", ""), _negated=True), name="audit_agent_named"),
                    models.CheckConstraint(condition=models.Q(("slots__gte", 1)), name="audit_agent_slots_positive"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("drain_requested_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            (
                                "drain_requested_at__lt",
                                datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC),
                            ),
                            ("heartbeat_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("heartbeat_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                            ("registered_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("registered_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                            ("stopped_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("stopped_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                        ),
                        name="audit_agent_moments_readable",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ResourceMetric",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="at"
                    ),
                ),
                ("source", models.TextField(verbose_name="source")),
                ("cpu", models.FloatField(blank=True, db_default=None, null=True, verbose_name="CPU in use")),
                ("memory", models.FloatField(blank=True, db_default=None, null=True, verbose_name="memory in use")),
                ("gpu", models.FloatField(blank=True, db_default=None, null=True, verbose_name="GPU in use")),
                (
                    "gpu_memory",
                    models.FloatField(blank=True, db_default=None, null=True, verbose_name="GPU memory in use"),
                ),
                ("cpu_count", models.FloatField(blank=True, db_default=None, null=True, verbose_name="CPUs")),
                (
                    "memory_bytes_total",
                    models.BigIntegerField(blank=True, db_default=None, null=True, verbose_name="memory (bytes)"),
                ),
                (
                    "gpu_memory_bytes_total",
                    models.BigIntegerField(blank=True, db_default=None, null=True, verbose_name="GPU memory (bytes)"),
                ),
                (
                    "agent",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="metrics",
                        to="audit.agent",
                        verbose_name="agent",
                    ),
                ),
            ],
            options={
                "verbose_name": "reading",
                "verbose_name_plural": "readings",
                "db_table": "audit_resource_metric",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(
                        models.F("agent"),
                        models.OrderBy(models.F("at"), descending=True),
                        models.OrderBy(models.F("id"), descending=True),
                        name="audit_resource_metric_agent",
                    ),
                    models.Index(fields=["at"], name="audit_resource_metric_at"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("cpu__isnull", True), models.Q(("cpu__gte", 0), ("cpu__lte", 1)), _connector="OR"
                            ),
                            models.Q(
                                ("memory__isnull", True),
                                models.Q(("memory__gte", 0), ("memory__lte", 1)),
                                _connector="OR",
                            ),
                            models.Q(
                                ("gpu__isnull", True), models.Q(("gpu__gte", 0), ("gpu__lte", 1)), _connector="OR"
                            ),
                            models.Q(
                                ("gpu_memory__isnull", True),
                                models.Q(("gpu_memory__gte", 0), ("gpu_memory__lte", 1)),
                                _connector="OR",
                            ),
                        ),
                        name="audit_resource_metric_ratios",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("cpu_count__isnull", True),
                                models.Q(("cpu_count__gt", 0), ("cpu_count__lt", 1000000000.0)),
                                _connector="OR",
                            ),
                            models.Q(
                                ("memory_bytes_total__isnull", True), ("memory_bytes_total__gt", 0), _connector="OR"
                            ),
                            models.Q(
                                ("gpu_memory_bytes_total__isnull", True),
                                ("gpu_memory_bytes_total__gt", 0),
                                _connector="OR",
                            ),
                        ),
                        name="audit_resource_metric_totals_positive",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                        ),
                        name="audit_resource_metric_moment_readable",
                    ),
                ],
            },
        ),
    ]
