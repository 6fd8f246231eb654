"""What Django's own conventions promise of a model and a command holds here."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.forms import modelform_factory
from rest_framework import serializers

from audit.ids import uuid7
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import Status
from tests.support.commands import outcome, record, run
from tests.support.factories import task_in
from tests.support.ledger import sealed

pytestmark = pytest.mark.django_db(transaction=True)


def test_every_row_passes_full_clean() -> None:
    for status in Status.values:
        task_in(status)
    record(timedelta(days=400))
    Task.objects.request("a")
    sealed()
    for model in (Task, ExecutionLog, PauseQueueEntry):
        assert model.objects.exists()
        for row in model.objects.all():
            row.full_clean()


@pytest.mark.parametrize("model", [Task, PauseQueueEntry, ExecutionLog])
def test_a_form_does_not_ask_for_what_the_database_fills(model: Any) -> None:
    form = modelform_factory(model, fields="__all__")
    asked = {name for name, field in form.base_fields.items() if field.required}
    # What has a default is filled in already, and no serializer requires it.
    assert {name for name in asked if not model._meta.get_field(name).has_default()} <= {
        *("action", "task", "reason", "kind")
    }
    assert not {"created_at", "recorded_at", "at", "paused_at", "row_version", "db_role"} & form.base_fields.keys()


def test_a_serializer_does_not_ask_for_what_the_database_fills() -> None:
    required = {"action", "task", "reason", "kind"}
    task_in("paused")
    for model in (Task, PauseQueueEntry, ExecutionLog):
        meta = type("Meta", (), {"model": model, "fields": "__all__"})
        serializer = type(f"Of{model.__name__}", (serializers.ModelSerializer,), {"Meta": meta})
        assert {name for name, field in serializer().fields.items() if field.required} <= required, model
        assert json.dumps(serializer(model.objects.first()).data, default=str)
    meta = type("Meta", (), {"model": Task, "fields": "__all__"})
    serializer = type("OfTask", (serializers.ModelSerializer,), {"Meta": meta})
    given = serializer(data={"action": "deploy"})
    assert given.is_valid(), given.errors
    assert given.save().status == "pending"


def test_a_fixture_of_the_trail_is_refused_in_one_line(tmp_path: Path) -> None:
    for status in ("completed", "paused"):
        task_in(status)
    file = tmp_path / "trail.json"
    call_command("dumpdata", "audit", output=str(file))
    for what in ("audit", "audit.task", "audit.pausequeueentry"):
        call_command("dumpdata", what, output=str(file))
        with pytest.raises(CommandError, match=r"^loaddata cannot load the audit trail: .* audit_import") as raised:
            call_command("loaddata", str(file))
        assert "\n" not in str(raised.value)
    call_command("dumpdata", exclude=["audit"], output=str(file))
    call_command("loaddata", str(file), verbosity=0)


def _listed(**options: Any) -> list[str]:
    out, _ = run("audit_list", format="json", **options)
    return [each["id"] for each in json.loads(out)]


def test_a_command_takes_by_keyword_what_the_shell_takes(tmp_path: Path) -> None:
    old, new = record(timedelta(hours=3)), record(timedelta(minutes=1))
    both = [str(new), str(old)]
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert _listed(since="all") == both
    assert _listed(since="all", limit=1) == _listed(since="all", limit="1") == both[:1]
    assert _listed(since=timedelta(hours=1)) == _listed(since="1h") == _listed(since=hour_ago) == both[:1]
    assert _listed(status="completed") == _listed(status=["completed"]) == _listed(status=Status.COMPLETED) == both
    assert _listed(id=new) == _listed(id=str(new)) == both[:1]
    assert _listed(before=new, since="all") == both[1:]
    assert _listed(action=("deploy", "other")) == both
    out, _ = run("audit_tail", lines=1, format="json")
    assert [each["id"] for each in json.loads(out)] == both[:1]
    run("audit_export", output=str(tmp_path / "all.jsonl"))
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 2
    run("audit_export", output=tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "all.jsonl").read_text()
    task = task_in("paused")
    assert outcome("audit_queue", "defer", task.pk, "--until", "1h")[0] == 0
    run("audit_queue", "defer", task.pk, until="2h", actor="alice")
    run("audit_queue", "defer", task.pk, until="3h")
    assert PauseQueueEntry.objects.get().due_at > datetime.now(UTC) + timedelta(hours=2, minutes=50)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("audit_list", {"limit": 0}),
        ("audit_list", {"limit": "many"}),
        ("audit_list", {"format": "xml"}),
        ("audit_list", {"status": "nonsense"}),
        ("audit_list", {"database": "nowhere"}),
        ("audit_tail", {"lines": -1}),
        ("audit_stats", {"top": 1.5}),
        ("audit_seal", {"batch": 0}),
    ],
)
def test_a_keyword_is_refused_as_the_shell_refuses_it(command: str, options: dict[str, Any]) -> None:
    [name] = options
    with pytest.raises(CommandError, match=f"^argument (-n/)?--{name}: ") as raised:
        call_command(command, **options)
    assert raised.value.returncode == 2


def test_an_unknown_id_by_keyword_is_none() -> None:
    assert _listed(id=uuid7()) == []
