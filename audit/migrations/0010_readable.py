"""Moments that Python can read in the ledger, too; what never changes of a pause entry, in every role."""

from datetime import UTC, datetime

from django.db import migrations, models
from django.db.models import Q

from audit.sql import read

_EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)


def _readable(model: str, name: str, *columns: str) -> migrations.AddConstraint:
    bounds = [(f"{column}__gte", _EARLIEST) for column in columns] + [(f"{column}__lt", _LATEST) for column in columns]
    return migrations.AddConstraint(model, models.CheckConstraint(name=name, condition=Q(*sorted(bounds))))


class Migration(migrations.Migration):
    dependencies = [("audit", "0009_decided_by")]

    operations = [
        _readable("ledgercheckpoint", "audit_ledger_checkpoint_moment_readable", "created_at"),
        _readable("ledgerepoch", "audit_ledger_epoch_moment_readable", "started_at"),
        _readable("ledgerhead", "audit_ledger_head_moment_readable", "sealed_at"),
        _readable(
            "ledgerverification",
            "audit_ledger_verification_moments_readable",
            "started_at",
            "finished_at",
            "oldest_unsealed",
        ),
        migrations.RunSQL(*read("stamp_verification_v1")),
        migrations.RunSQL(*reversed(read("stamp_entry_v1"))),
        migrations.RunSQL(*read("guard_entry_v1")),
        migrations.RunSQL(*read("stamp_entry_v2")),
    ]
