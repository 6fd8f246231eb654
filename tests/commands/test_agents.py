"""`audit_agents` and `audit_resume`."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from audit.agents.draining import drain, undrain
from audit.agents.presence import Presence
from audit.context import actor
from audit.exceptions import InvalidValue
from audit.management.commands import audit_agents
from audit.models import Agent, PauseQueueEntry, Task
from audit.status import AgentState, Status
from tests.support.agents import agent, approved, due_now, short_entry, silent
from tests.support.commands import ESCAPED, HOSTILE, any_width, lines_of, outcome, run
from tests.support.factories import claimed
from tests.support.preloaded import Popen


@pytest.mark.django_db
def test_an_empty_registry_says_so() -> None:
    assert run("audit_agents", "list") == ("", "No agent is registered.\n")
    assert lines_of("audit_agents", "list") == []


@pytest.mark.django_db
def test_the_list_shows_states_and_last_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    any_width(monkeypatch)
    agent("w1", slots=1, cpu=0.25, memory=0.5, actions=["deploy"], labels=["gpu"])
    agent("w2", cpu=None)
    agent("w3")
    claimed(approved(), "w1")
    silent("w3", 3 * 3600)
    out, _ = run("audit_agents", "list")
    head, _, first, second, third = out.splitlines()
    assert head.split()[:4] == ["Agent", "State", "Running", "Seen"]
    assert first.split()[:3] == ["w1", "busy", "1/1"]
    assert first.split()[-7:] == ["25%", "50%", "-", "-", "deploy", "gpu", "-"]
    assert second.split()[1:3] == ["available", "0/4"]
    assert " 0%" not in second
    assert third.split()[1] == "offline"
    assert "3 h 00 m" in third
    [busy] = lines_of("audit_agents", "list", "--state", "busy")
    assert (busy["agent"], busy["running"], busy["slots"]) == ("w1", 1, 1)
    assert busy["reading"]["memory"] == 0.5
    assert busy["reading"]["gpu"] is None
    assert run("audit_agents", "list", "--state", "stale")[1] == "No agent matches.\n"


@pytest.mark.django_db
def test_names_are_shown_harmlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    any_width(monkeypatch)
    agent(HOSTILE)
    assert ESCAPED in run("audit_agents", "list")[0]
    assert ESCAPED in run("audit_agents", "undrain", HOSTILE)[0]


@pytest.mark.django_db
def test_draining_keeps_who_and_why_until_undrained() -> None:
    agent("w1")
    out, _ = run("audit_agents", "drain", "w1", "--reason", "new disks", "--actor", "alice")
    assert out == "w1: draining, not confirmed yet, 0 running\n"
    before = Agent.objects.get()
    assert (before.drain_reason, before.drain_requested_by) == ("new disks", "alice")
    run("audit_agents", "drain", "w1", "--reason", "again", "--actor", "bob")
    assert Agent.objects.get().drain_requested_at == before.drain_requested_at
    assert Agent.objects.get().drain_reason == "new disks"
    [shown] = lines_of("audit_agents", "undrain", "w1")
    assert (shown["state"], shown["drain_reason"], shown["drain_requested_at"]) == (AgentState.AVAILABLE, "", None)
    assert run("audit_agents", "drain", "w1", "--reason", "x")[0]
    assert Agent.objects.get().drain_requested_by.startswith("cli:")


@pytest.mark.django_db
def test_an_agent_confirms_with_a_sign_of_life_or_is_gone() -> None:
    presence = Presence("w1")
    presence.register()
    out, err = run("audit_agents", "drain", "w1", "--reason", "new disks")
    assert out == "w1: draining, not confirmed yet, 0 running\n"
    assert "--wait waits for that" in err
    [shown] = lines_of("audit_agents", "list")
    assert shown["drain_confirmed"] is False
    presence.beat()
    again, quiet = run("audit_agents", "drain", "w1", "--reason", "again")
    assert (again, quiet) == ("w1: draining, 0 running\n", "")
    [shown] = lines_of("audit_agents", "list")
    assert shown["drain_confirmed"] is True
    agent("w2")
    silent("w2", 3 * 3600)
    assert run("audit_agents", "drain", "w2", "--reason", "x") == ("w2: draining, 0 running\n", "")
    agent("w3")
    Agent.objects.filter(name="w3").update(stopped_at=Now())
    assert run("audit_agents", "drain", "w3", "--reason", "x", "--wait") == ("w3: draining, 0 running\n", "")


@pytest.mark.django_db
def test_waiting_ends_when_nothing_runs_and_when_somebody_undrains(monkeypatch: pytest.MonkeyPatch) -> None:
    presence = Presence("w1")
    presence.register()
    [task] = [claimed(approved(), "w1")]
    looks: list[str] = []

    def later(seconds: float) -> None:
        [presence.beat, task.complete][len(looks)]()
        looks.append("looked")

    monkeypatch.setattr(audit_agents.time, "sleep", later)
    out, err = run("audit_agents", "drain", "w1", "--reason", "new disks", "--wait")
    assert out == "w1: draining, 0 running\n"
    assert err == "w1: waiting until it confirms.\nw1: waiting for 1 task.\n"
    undrain("w1")
    monkeypatch.setattr(audit_agents.time, "sleep", lambda seconds: undrain("w1"))
    code, out, err = outcome("audit_agents", "drain", "w1", "--reason", "x", "--wait")
    assert (code, out) == (1, "")
    assert "w1 was undrained meanwhile" in err


@pytest.mark.django_db
def test_waiting_ends_when_the_agent_leaves_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    presence = Presence("host:1")
    presence.register()
    monkeypatch.setattr(audit_agents.time, "sleep", lambda seconds: presence.forget())
    out, err = run("audit_agents", "drain", "host:1", "--reason", "new disks", "--wait")
    assert out == ""
    assert err.endswith("host:1: stopped, and no longer registered.\n")


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [["undrain", "w9"], ["drain", "w9", "--reason", "x"]])
def test_an_agent_that_is_not_there_is_named(arguments: list[str]) -> None:
    code, out, err = outcome("audit_agents", *arguments)
    assert (code, out) == (2, "")
    assert "w9" in err
    assert "audit_agents list" in err


@pytest.mark.django_db
def test_draining_in_python_names_the_actor() -> None:
    agent("w1")
    with actor("alice"):
        assert drain("w1", reason="new disks").drain_requested_by == "alice"
    assert undrain("w1").drain_requested_at is None
    with pytest.raises(InvalidValue, match="reason"):
        drain("w1", reason=" ")


@pytest.mark.django_db
def test_resume_makes_one_pass() -> None:
    agent(slots=2)
    entries = [short_entry() for _ in range(3)]
    assert run("audit_resume") == ("Resumed 2 tasks.\n", "")
    assert run("audit_resume") == (
        "",
        "1 task is due, and no agent has room; audit_agents shows what is free.\n",
    )
    claimed(Task.objects.get(pk=entries[0].task_id), "w9").complete()
    assert lines_of("audit_resume", "--limit", "1") == [
        {"task_id": str(entries[2].task_id), "action": "deploy", "priority": 3}
    ]
    assert run("audit_resume") == ("", "Nothing is due.\n")


@pytest.mark.django_db(transaction=True)
def test_resume_goes_on_until_stopped() -> None:
    environment = os.environ | {"AUDIT_TEST_DB_NAME": "", "DJANGO_SETTINGS_MODULE": "tests.settings"}
    code = (
        "import django; from django.conf import settings;"
        f" settings.DATABASES['default']['NAME'] = {connection.settings_dict['NAME']!r}; django.setup();"
        " from django.core.management import execute_from_command_line as run;"
        " run(['manage.py', 'audit_resume', '--loop', '--interval', '1', '--format', 'jsonl'])"
    )
    process = Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        entries = []
        deadline = time.monotonic() + 240
        for _ in range(2):
            # Due in one step: what is due by itself may be gone before anything more is done to it.
            task = approved()
            entries.append(task.pause(reason="insufficient_capacity", resume_after=timedelta(hours=1)))
            due_now()
            while PauseQueueEntry.objects.exists():
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert [json.loads(line)["task_id"] for line in out.splitlines()] == [str(each.task_id) for each in entries]
    assert "until stopped" in err
    assert Task.objects.filter(status=Status.APPROVED).count() == 2


@pytest.mark.django_db
def test_a_database_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    from audit.process.signals import StopRequest

    passes: list[Any] = []

    def fails(self: Any, limit: int) -> list[Any]:
        passes.append(limit)
        raise OperationalError("the server is gone\nDETAIL")

    monkeypatch.setattr("audit.pausing.PauseManager.resume_due", fails)
    monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.close", lambda self: None)

    def wait(self: StopRequest, seconds: float) -> bool:
        assert 1.0 <= seconds <= 2.0
        if len(passes) == 2:
            self.request()
        return True

    monkeypatch.setattr(StopRequest, "wait", wait)
    _, err = run("audit_resume", "--loop", "--interval", "2", "--limit", "7")
    assert passes == [7, 7]
    assert err.count("The database cannot be used: the server is gone. Trying again.") == 2
