"""What an import lets in, what it fills in, and how it ends."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import ProgrammingError, connection, connections

from audit.interchange import (
    Importer,
    Read,
    importing,
    json_lines,
)
from audit.models import PauseQueueEntry, Task
from tests.support.importing import AT, Run, both, line, reads


@pytest.mark.django_db
def test_live_tasks_stay_out_unless_asked_for() -> None:
    lines = [line(status=status) for status in ("pending", "approved", "executing", "paused", "rejected")]
    run = Run(lines)
    assert run.counts == (1, 0, 4)
    assert run.messages.startswith("f:1: status: is the status of a task that is not finished; --live")
    assert Run(lines, live=True).counts == (4, 1, 0)
    executing = Task.objects.get(status="executing")
    assert executing.claim_token
    entry = PauseQueueEntry.objects.get()
    assert entry.held
    assert not PauseQueueEntry.objects.due()


@pytest.mark.django_db
def test_failures_deadlines_and_the_event_waited_for_travel() -> None:
    deadline = AT + timedelta(days=1)
    lines = [
        line(status="paused", failures=3, pause_entry={"reason": "awaiting_event", "event": "build-42"}),
        line(status="pending", approve_before=deadline.isoformat()),
    ]
    assert Run(lines, live=True).counts == (2, 0, 0)
    assert Run(list(json_lines(Task.objects.all())), live=True).counts == (0, 2, 0)
    assert Task.objects.get(status="paused").failures == 3
    assert PauseQueueEntry.objects.get().event == "build-42"
    assert Task.objects.get(status="pending").approve_before == deadline


@pytest.mark.django_db
def test_a_sparse_pause_entry_is_filled_in() -> None:
    later = AT + timedelta(days=1)
    entry = {"reason": "awaiting_event", "resume_after": later.isoformat(), "held": False}
    lines = [line(status="paused", actor="ann", pause_entry=entry)]
    assert Run(lines, live=True).counts == (1, 0, 0)
    stored = PauseQueueEntry.objects.get()
    assert (stored.reason, stored.due_at, stored.held) == ("awaiting_event", later, False)
    assert Run(lines, live=True).counts == (0, 1, 0)
    entry["note"] = "other"
    run = Run(lines, live=True)
    assert run.counts == (0, 0, 1)
    assert "other content in: pause_entry.note" in run.messages


@pytest.mark.django_db
def test_stamps_are_kept_and_missing_ones_filled_in() -> None:
    moments = {
        name: (AT + timedelta(hours=hour)).isoformat()
        for hour, name in enumerate(("created_at", "available_at", "decided_at", "started_at", "finished_at"))
    }
    token = uuid4()
    given = line(**moments, claim_token=str(token), claimed_by="w", attempt=3, expiries=1, decided_by="bob", actor="a")
    assert Run([given, line()]).counts == (2, 0, 0)
    full, sparse = Task.objects.order_by("id")
    assert {name: getattr(full, name).isoformat() for name in moments} == moments
    assert (full.claim_token, full.claimed_by, full.attempt, full.expiries) == (token, "w", 3, 1)
    assert (full.decided_by, full.actor) == ("bob", "a")
    assert sparse.finished_at
    assert sparse.created_at
    assert sparse.actor.startswith("db:")
    assert full.recorded_at > AT + timedelta(days=1)
    assert Run([given, line(id=str(sparse.id))]).counts == (0, 2, 0)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"summary": "other"}, "summary"),
        ({"status": "failed"}, "status"),
        ({"services_touched": ["b", "a"]}, "services_touched"),
        ({"plan": None}, "plan"),
        ({"outcome": 12.5}, "outcome"),
        ({"created_at": AT.replace(microsecond=0).isoformat()}, "created_at"),
        ({"parent": str(uuid4())}, "parent"),
        ({"origin": {"revision": 5}}, "origin"),
        ({"actor": "mallory"}, "actor"),
    ],
)
def test_other_content_under_a_known_id_is_refused(change: dict[str, Any], name: str) -> None:
    first = line(services_touched=["a", "b"], plan={"a": 1}, outcome="X", created_at=AT.isoformat(), actor="ann")
    text = json.dumps(first).replace('"X"', "12.50")
    assert Run([text, text]).counts == (1, 1, 0)
    run = Run([json.dumps(first | change).replace('"X"', "12.50")])
    assert run.counts == (0, 0, 1)
    assert str(run.refusals[0]) == (
        f"f:1: id: is the id of a task that is already here, with other content in: {name} (got '{first['id']}')"
    )


@pytest.mark.django_db
def test_strict_is_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_ROWS_A_BATCH", 2)
    lines = [line() for _ in range(7)]
    run = Run([*lines, line(priority=9)], strict=True)
    assert run.counts == (0, 0, 1)
    assert not Task.objects.exists()
    assert Run(lines, strict=True).counts == (7, 0, 0)
    assert Task.objects.count() == 7


@pytest.mark.django_db
def test_a_dry_run_asks_the_database_and_keeps_nothing() -> None:
    bad = json.dumps(line(outcome="X")).replace('"X"', "1e200000")
    assert Run([line(), bad, line()], dry_run=True).counts == (2, 0, 1)
    assert Run([line(), line()], dry_run=True, strict=True).counts == (2, 0, 0)
    assert not Task.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(("strict", "stored"), [(False, 4), (True, 0)])
def test_an_interruption_leaves_whole_batches(monkeypatch: pytest.MonkeyPatch, strict: bool, stored: int) -> None:
    monkeypatch.setattr(importing, "_ROWS_A_BATCH", 2)

    def interrupted() -> Iterator[Read]:
        yield from reads(*(line() for _ in range(5)))
        raise KeyboardInterrupt

    importer = Importer(strict=strict)
    with pytest.raises(KeyboardInterrupt):
        importer.run(interrupted())
    assert importer.counts.stored == Task.objects.count() == stored


@pytest.mark.django_db
def test_batches_are_bounded_in_rows_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(importing, "_ROWS_A_BATCH", 4)
    monkeypatch.setattr(importing, "_CHARACTERS_A_BATCH", 1000)
    importer = Importer(on_batch=lambda counts: seen.append(counts.stored))
    importer.run(reads(*(line() for _ in range(6)), *(line(plan="x" * 600) for _ in range(3))))
    assert seen == [4, 8, 9]


@pytest.mark.django_db
def test_a_database_without_the_tables_is_no_refusal() -> None:
    importer = Importer()

    def elsewhere(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        return execute("SELECT * FROM nowhere", None, many, context)

    with pytest.raises(ProgrammingError, match="nowhere"), connection.execute_wrapper(elsewhere):
        importer.run(reads(line()))
    assert importer.counts.refused == 0


@pytest.mark.django_db
def test_redaction_masks_outcomes_and_logs_and_keeps_plans_and_numbers() -> None:
    log = [
        {
            "at": AT.isoformat(),
            "kind": "transition",
            "detail": {"password": "hush", "work_plan": {"password": "needed"}, "n": "NUMBER"},
            "output_summary": "password=hush",
        },
        {"at": AT.isoformat(), "kind": "note", "detail": None},
    ]
    origin = {"log": log, "origin": {"log": log}}
    text = json.dumps(line(plan={"password": "needed"}, outcome={"password": "hush", "n": "NUMBER"}, origin=origin))
    text = text.replace('"NUMBER"', "12.50")
    assert Run([text], redact=True).counts == (1, 0, 0)
    [stored] = json_lines(Task.objects.all())
    assert "hush" not in stored
    assert stored.count("needed") == 3
    assert stored.count("12.50") == 3
    assert Run([text]).counts == (0, 0, 1)
    assert Run([line(origin=None), line(origin={}), line(outcome=None)], redact=True).counts == (3, 0, 0)
    deep = json.dumps(line(outcome="X")).replace('"X"', "[" * 4000 + "]" * 4000)
    assert "too deep" in Run([deep], redact=True).messages


@both
def test_the_alias_is_the_routers_choice_or_the_callers() -> None:
    given = line()
    assert Run([given], using="other").counts == (1, 0, 0)
    assert not Task.objects.exists()
    assert connections["other"].alias == Task.objects.using("other").get()._state.db
    assert Run([given]).counts == (1, 0, 0)
