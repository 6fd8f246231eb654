"""The tables of tasks, their log, the pause queue and events, with their indexes."""

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


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Task",
            fields=[
                ("id", models.UUIDField(default=audit.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("action", models.CharField(max_length=100, verbose_name="action")),
                ("summary", models.TextField(blank=True, db_default="", default="", verbose_name="summary")),
                (
                    "status",
                    models.TextField(
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("executing", "Executing"),
                            ("paused", "Paused"),
                            ("completed", "Completed"),
                            ("failed", "Failed"),
                            ("rejected", "Rejected"),
                        ],
                        db_default="pending",
                        default="pending",
                        verbose_name="status",
                    ),
                ),
                ("priority", models.SmallIntegerField(db_default=3, default=3, verbose_name="priority")),
                (
                    "services_touched",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        blank=True,
                        db_default=[],
                        default=list,
                        size=None,
                        verbose_name="services touched",
                    ),
                ),
                ("plan", audit.models.fields.JSONField(blank=True, null=True, verbose_name="plan")),
                ("work_plan", audit.models.fields.JSONField(blank=True, null=True, verbose_name="work plan")),
                (
                    "estimated_resources",
                    audit.models.fields.JSONField(blank=True, null=True, verbose_name="estimated resources"),
                ),
                ("resources_used", audit.models.fields.JSONField(blank=True, null=True, verbose_name="resources used")),
                ("outcome", audit.models.fields.JSONField(blank=True, null=True, verbose_name="outcome")),
                ("suggestions", audit.models.fields.JSONField(blank=True, null=True, verbose_name="suggestions")),
                ("requested_by", models.TextField(blank=True, db_default="", default="", verbose_name="requested by")),
                ("decided_by", models.TextField(blank=True, db_default="", verbose_name="decided by")),
                ("parent", models.UUIDField(blank=True, db_default=None, null=True, verbose_name="parent")),
                (
                    "correlation_id",
                    models.TextField(blank=True, db_default="", default="", verbose_name="correlation id"),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="created at"
                    ),
                ),
                (
                    "recorded_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="recorded at"
                    ),
                ),
                ("available_at", models.DateTimeField(blank=True, db_default=None, verbose_name="available at")),
                (
                    "approve_before",
                    models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="approve before"),
                ),
                ("decided_at", models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="decided at")),
                ("started_at", models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="started at")),
                (
                    "finished_at",
                    models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="finished at"),
                ),
                (
                    "executing_ms",
                    models.BigIntegerField(db_default=None, editable=False, verbose_name="executing (ms)"),
                ),
                ("paused_ms", models.BigIntegerField(db_default=None, editable=False, verbose_name="paused (ms)")),
                ("claimed_by", models.TextField(blank=True, db_default="", verbose_name="claimed by")),
                ("claim_token", models.UUIDField(blank=True, db_default=None, null=True, verbose_name="claim token")),
                (
                    "lease_expires_at",
                    models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="lease expires at"),
                ),
                ("attempt", models.IntegerField(db_default=0, default=0, verbose_name="attempt")),
                ("expiries", models.IntegerField(db_default=0, default=0, verbose_name="expiries")),
                ("failures", models.IntegerField(db_default=0, default=0, verbose_name="failures")),
                (
                    "on_expiry",
                    models.TextField(
                        choices=[("requeue", "Back to approved"), ("fail", "Failed")],
                        db_default="requeue",
                        default="requeue",
                        verbose_name="on expiry",
                    ),
                ),
                (
                    "cancel_requested_at",
                    models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="cancel requested at"),
                ),
                ("actor", models.TextField(blank=True, db_default="", verbose_name="actor")),
                ("revision", models.IntegerField(db_default=1, editable=False, verbose_name="revision")),
                (
                    "status_was",
                    models.TextField(db_default=None, editable=False, null=True, verbose_name="status before"),
                ),
                (
                    "status_since",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                        verbose_name="in this status since",
                    ),
                ),
                ("origin", audit.models.fields.JSONField(blank=True, null=True, verbose_name="origin")),
                (
                    "row_version",
                    models.SmallIntegerField(db_default=None, editable=False, null=True, verbose_name="row version"),
                ),
                (
                    "finished_xid",
                    audit.models.fields.XidField(
                        db_default=None, editable=False, null=True, verbose_name="finished xid"
                    ),
                ),
            ],
            options={
                "verbose_name": "task",
                "verbose_name_plural": "tasks",
                "db_table": "audit_task",
                "permissions": [("decide_task", "Can approve, reject and resume tasks")],
                "indexes": [
                    django.contrib.postgres.indexes.GinIndex(
                        fields=["services_touched"], name="audit_task_services_gin"
                    ),
                    models.Index(
                        models.F("status"),
                        models.OrderBy(models.F("created_at"), descending=True),
                        name="audit_task_status_created",
                    ),
                    models.Index(
                        models.OrderBy(models.F("created_at"), descending=True),
                        models.OrderBy(models.F("id"), descending=True),
                        name="audit_task_created",
                    ),
                    models.Index(
                        models.OrderBy(models.F("finished_at"), descending=True),
                        condition=models.Q(("status__in", ("completed", "failed", "rejected"))),
                        name="audit_task_finished",
                    ),
                    models.Index(
                        condition=models.Q(("status", "approved")),
                        fields=["priority", "available_at", "id"],
                        name="audit_task_claim",
                    ),
                    models.Index(
                        condition=models.Q(("approve_before__isnull", False), ("status", "pending")),
                        fields=["approve_before", "id"],
                        name="audit_task_approve_before",
                    ),
                    models.Index(
                        condition=models.Q(("status", "executing")), fields=["id"], name="audit_task_executing"
                    ),
                    models.Index(condition=models.Q(("status", "paused")), fields=["id"], name="audit_task_paused"),
                    models.Index(
                        condition=models.Q(("correlation_id", ""), _negated=True),
                        fields=["correlation_id"],
                        name="audit_task_correlation",
                    ),
                    models.Index(
                        models.F("action"),
                        models.OrderBy(models.F("created_at"), descending=True),
                        name="audit_task_action",
                    ),
                    models.Index(
                        models.F("requested_by"),
                        models.OrderBy(models.F("created_at"), descending=True),
                        name="audit_task_requested_by",
                    ),
                    models.Index(
                        models.F("decided_by"),
                        models.OrderBy(models.F("created_at"), descending=True),
                        condition=models.Q(("decided_by", ""), _negated=True),
                        name="audit_task_decided_by",
                    ),
                    models.Index(
                        models.F("actor"),
                        models.OrderBy(models.F("created_at"), descending=True),
                        name="audit_task_actor",
                    ),
                    models.Index(
                        condition=models.Q(("parent__isnull", False)), fields=["parent"], name="audit_task_parent"
                    ),
                    django.contrib.postgres.indexes.GinIndex(
                        models.Func(
                            models.Func(
                                models.Func(
                                    models.F("action"),
                                    django.db.models.functions.text.Left("summary", 4000),
                                    django.db.models.functions.text.Left("correlation_id", 500),
                                    django.db.models.functions.comparison.Coalesce(
                                        django.db.models.functions.text.Left(
                                            django.db.models.fields.json.KeyTextTransform("output_summary", "outcome"),
                                            4000,
                                        ),
                                        models.Value(""),
                                    ),
                                    arg_joiner=" || ' ' || ",
                                    output_field=models.TextField(),
                                    template="(%(expressions)s)",
                                ),
                                models.Value("<>&@/:.-_+~=?#"),
                                models.Value("              "),
                                function="translate",
                                output_field=models.TextField(),
                            ),
                            output_field=models.TextField(),
                            template="to_tsvector('simple', %(expressions)s)",
                        ),
                        name="audit_task_words",
                    ),
                    models.Index(
                        django.db.models.functions.text.Left(
                            django.db.models.fields.json.KeyTextTransform("error_type", "outcome"), 200
                        ),
                        models.OrderBy(models.F("created_at"), descending=True),
                        condition=models.Q(
                            django.db.models.lookups.IsNull(
                                django.db.models.functions.text.Left(
                                    django.db.models.fields.json.KeyTextTransform("error_type", "outcome"), 200
                                ),
                                False,
                            )
                        ),
                        name="audit_task_error_type",
                    ),
                    models.Index(
                        condition=models.Q(("finished_xid__isnull", False)),
                        fields=["finished_xid", "id"],
                        name="audit_task_xid",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PauseQueueEntry",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("work_plan", audit.models.fields.JSONField(blank=True, null=True, verbose_name="work plan")),
                (
                    "reason",
                    models.TextField(
                        choices=[
                            ("insufficient_capacity", "Insufficient capacity"),
                            ("manual_pause", "Paused by hand"),
                            ("awaiting_approval", "Awaiting approval"),
                            ("awaiting_event", "Awaiting an event"),
                        ],
                        db_default="manual_pause",
                        default="manual_pause",
                        verbose_name="reason",
                    ),
                ),
                ("note", models.TextField(blank=True, db_default="", default="", verbose_name="note")),
                ("event", models.TextField(blank=True, db_default="", default="", verbose_name="event")),
                ("paused_by", models.TextField(blank=True, db_default="", default="", verbose_name="paused by")),
                (
                    "paused_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="paused at"
                    ),
                ),
                (
                    "resume_after",
                    models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="resume after"),
                ),
                (
                    "due_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="due at"
                    ),
                ),
                ("held", models.BooleanField(db_default=True, default=True, verbose_name="held")),
                ("priority", models.SmallIntegerField(db_default=3, default=3, verbose_name="priority")),
                ("claimed_by", models.TextField(blank=True, db_default="", default="", verbose_name="claimed by")),
                ("claim_token", models.UUIDField(blank=True, db_default=None, null=True, verbose_name="claim token")),
                (
                    "lease_expires_at",
                    models.DateTimeField(blank=True, db_default=None, null=True, verbose_name="lease expires at"),
                ),
                ("attempt", models.IntegerField(db_default=0, default=0, verbose_name="attempt")),
                ("actor", models.TextField(blank=True, db_default="", verbose_name="actor")),
                ("revision", models.IntegerField(db_default=1, editable=False, verbose_name="revision")),
                (
                    "task",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="pause_entry",
                        to="audit.task",
                        verbose_name="task",
                    ),
                ),
            ],
            options={
                "verbose_name": "pause queue entry",
                "verbose_name_plural": "pause queue",
                "db_table": "audit_pause_queue",
                "indexes": [
                    models.Index(
                        condition=models.Q(("held", False)),
                        fields=["priority", "due_at", "id"],
                        name="audit_pause_queue_claim",
                    ),
                    models.Index(
                        condition=models.Q(("held", False), ("id__gt", 0)),
                        fields=["due_at", "id"],
                        name="audit_pause_queue_free",
                    ),
                    models.Index(
                        condition=models.Q(("held", True)), fields=["due_at", "id"], name="audit_pause_queue_held"
                    ),
                    models.Index(
                        condition=models.Q(("claim_token__isnull", False)),
                        fields=["due_at", "id"],
                        name="audit_pause_queue_leased",
                    ),
                    models.Index(fields=["paused_at", "id"], name="audit_pause_queue_paused"),
                    models.Index(
                        condition=models.Q(("event", ""), _negated=True),
                        fields=["event", "id"],
                        name="audit_pause_queue_event",
                    ),
                    models.Index(
                        condition=models.Q(("held", False), ("reason__in", ("manual_pause", "awaiting_event"))),
                        fields=["priority", "due_at", "id"],
                        name="audit_pause_queue_timed",
                    ),
                    models.Index(
                        condition=models.Q(("reason", "awaiting_approval"), ("resume_after__isnull", False)),
                        fields=["due_at", "id"],
                        name="audit_pause_queue_deadline",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "reason__in",
                                ["insufficient_capacity", "manual_pause", "awaiting_approval", "awaiting_event"],
                            )
                        ),
                        name="audit_pause_queue_reason_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("priority__range", (1, 5))), name="audit_pause_queue_priority_range"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("due_at", django.db.models.functions.comparison.Coalesce("resume_after", "paused_at"))
                        ),
                        name="audit_pause_queue_due_follows",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("due_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("due_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                            ("paused_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("paused_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                            models.Q(
                                ("lease_expires_at__isnull", True),
                                models.Q(
                                    ("lease_expires_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                                    (
                                        "lease_expires_at__lt",
                                        datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC),
                                    ),
                                ),
                                _connector="OR",
                            ),
                        ),
                        name="audit_pause_queue_moments_readable",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("reason", "awaiting_approval"), _negated=True), ("held", True), _connector="OR"
                        ),
                        name="audit_pause_queue_approval_held",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("event", ""), ("reason", "awaiting_event"), _connector="OR"),
                        name="audit_pause_queue_event_awaited",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("work_plan", models.Value(None, models.JSONField())), _negated=True),
                        name="audit_pause_queue_no_json_null",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ExecutionLog",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="at"
                    ),
                ),
                (
                    "kind",
                    models.TextField(
                        choices=[
                            ("transition", "Transition"),
                            ("step", "Step"),
                            ("note", "Note"),
                            ("suggestion", "Suggestion"),
                        ],
                        verbose_name="kind",
                    ),
                ),
                (
                    "from_status",
                    models.TextField(
                        blank=True,
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("executing", "Executing"),
                            ("paused", "Paused"),
                            ("completed", "Completed"),
                            ("failed", "Failed"),
                            ("rejected", "Rejected"),
                        ],
                        db_default=None,
                        null=True,
                        verbose_name="from status",
                    ),
                ),
                (
                    "to_status",
                    models.TextField(
                        blank=True,
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("executing", "Executing"),
                            ("paused", "Paused"),
                            ("completed", "Completed"),
                            ("failed", "Failed"),
                            ("rejected", "Rejected"),
                        ],
                        db_default=None,
                        null=True,
                        verbose_name="to status",
                    ),
                ),
                ("revision", models.IntegerField(blank=True, db_default=None, null=True, verbose_name="revision")),
                ("actor", models.TextField(blank=True, db_default="", verbose_name="actor")),
                ("db_role", models.TextField(blank=True, db_default="", editable=False, verbose_name="database role")),
                ("attempt", models.IntegerField(blank=True, db_default=None, null=True, verbose_name="attempt")),
                (
                    "step_number",
                    models.IntegerField(blank=True, db_default=None, null=True, verbose_name="step number"),
                ),
                ("action", models.TextField(blank=True, db_default="", default="", verbose_name="action")),
                (
                    "duration_ms",
                    models.BigIntegerField(blank=True, db_default=None, null=True, verbose_name="duration (ms)"),
                ),
                (
                    "output_summary",
                    models.TextField(blank=True, db_default="", default="", verbose_name="output summary"),
                ),
                ("detail", audit.models.fields.JSONField(blank=True, null=True, verbose_name="detail")),
                ("row_version", models.SmallIntegerField(db_default=None, editable=False, verbose_name="row version")),
                ("xid", audit.models.fields.XidField(db_default=None, editable=False, verbose_name="xid")),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="execution_log",
                        to="audit.task",
                        verbose_name="task",
                    ),
                ),
            ],
            options={
                "verbose_name": "execution log row",
                "verbose_name_plural": "execution log",
                "db_table": "audit_executionlog",
                "indexes": [
                    models.Index(fields=["task", "id"], name="audit_executionlog_task"),
                    models.Index(
                        models.OrderBy(models.F("at"), descending=True),
                        models.OrderBy(models.F("id"), descending=True),
                        name="audit_executionlog_at",
                    ),
                    models.Index(
                        models.F("kind"),
                        models.OrderBy(models.F("at"), descending=True),
                        models.OrderBy(models.F("id"), descending=True),
                        condition=models.Q(("kind", "transition"), _negated=True),
                        name="audit_executionlog_kind",
                    ),
                    models.Index(fields=["xid", "id"], name="audit_executionlog_xid"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("kind", "transition")),
                        fields=("task", "revision"),
                        name="audit_executionlog_transition",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.TextField(verbose_name="name")),
                ("payload", audit.models.fields.JSONField(blank=True, null=True, verbose_name="payload")),
                ("emitted_by", models.TextField(blank=True, db_default="", default="", verbose_name="emitted by")),
                (
                    "emitted_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name="emitted at"
                    ),
                ),
                ("db_role", models.TextField(blank=True, db_default="", editable=False, verbose_name="database role")),
            ],
            options={
                "verbose_name": "event",
                "verbose_name_plural": "events",
                "db_table": "audit_event",
                "default_permissions": ("view", "add"),
                "constraints": [
                    models.UniqueConstraint(fields=("name",), name="audit_event_name"),
                    models.CheckConstraint(
                        condition=django.db.models.lookups.LessThanOrEqual(
                            django.db.models.functions.text.Length("name"), 200
                        ),
                        name="audit_event_name_short",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("name", ""), _negated=True), name="audit_event_name_given"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("payload", models.Value(None, models.JSONField())), _negated=True),
                        name="audit_event_no_json_null",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("emitted_at__gte", datetime.datetime(1, 1, 2, 0, 0, tzinfo=datetime.UTC)),
                            ("emitted_at__lt", datetime.datetime(9999, 12, 31, 0, 0, tzinfo=datetime.UTC)),
                        ),
                        name="audit_event_moment_readable",
                    ),
                ],
            },
        ),
    ]
