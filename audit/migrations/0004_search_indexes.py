"""Indexes of what pages and commands look for: words, error types, and the rarer kinds of log rows.

Made CONCURRENTLY: nobody's writes wait. If one cannot be made (the server stops, a lock times out), drop what
`\\d audit_task` and `\\d audit_executionlog` show of these three indexes, and migrate again.
"""

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, Func, Q, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Left
from django.db.models.lookups import IsNull

_ERROR_TYPE = Left(KeyTextTransform("error_type", "outcome"), 200)
_WORDS = Func(
    Func(
        Func(
            F("action"),
            Left("summary", 4000),
            Left("correlation_id", 500),
            Coalesce(Left(KeyTextTransform("output_summary", "outcome"), 4000), Value("")),
            template="(%(expressions)s)",
            arg_joiner=" || ' ' || ",
            output_field=TextField(),
        ),
        Value("<>&@/:.-_+~=?#"),
        Value("              "),
        function="translate",
        output_field=TextField(),
    ),
    template="to_tsvector('simple', %(expressions)s)",
    output_field=TextField(),
)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("audit", "0003_storage")]

    operations = [
        AddIndexConcurrently("task", GinIndex(_WORDS, name="audit_task_words")),
        AddIndexConcurrently(
            "task",
            models.Index(
                _ERROR_TYPE,
                F("created_at").desc(),
                name="audit_task_error_type",
                condition=Q(IsNull(_ERROR_TYPE, False)),
            ),
        ),
        AddIndexConcurrently(
            "executionlog",
            models.Index(
                "kind",
                F("at").desc(),
                F("id").desc(),
                name="audit_executionlog_kind",
                condition=~Q(kind="transition"),
            ),
        ),
    ]
