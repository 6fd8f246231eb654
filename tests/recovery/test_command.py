"""`audit_recover`: what it prints, how it ends, and that it goes on until it is stopped."""

import json
import signal
import sys
import time
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from audit.models import Task
from audit.process.signals import StopRequest
from audit.status import Status
from tests.support.commands import run
from tests.support.factories import requested, sql, task_in, unchanged
from tests.support.holding import held
from tests.support.preloaded import Popen

pytestmark = pytest.mark.django_db


def _left():
    task = task_in(Status.EXECUTING)
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 second' WHERE id = %s", [task.pk])
    return task


def test_it_says_what_it_did_and_what_it_would_do(capsys):
    task = _left()
    with unchanged(task):
        call_command("audit_recover", "--dry-run")
    assert capsys.readouterr().out == f"1 task whose lease had run out\n  {task.pk}\n"
    call_command("audit_recover")
    assert capsys.readouterr().out == "1 task whose lease had run out\n"
    call_command("audit_recover")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "There is nothing to recover.\n")


def test_it_makes_passes_until_nothing_is_left(capsys):
    first, second, *_ = [_left().pk for _ in range(5)]
    call_command("audit_recover", "--dry-run", "--limit", "2")
    assert capsys.readouterr().out == f"2 tasks or more whose lease had run out\n  {first}\n  {second}\n"
    call_command("audit_recover", "--limit", "2")
    assert capsys.readouterr().out == "5 tasks whose lease had run out\n"


def test_json_names_the_tasks(capsys):
    task = _left()
    call_command("audit_recover", "--format", "json")
    found = json.loads(capsys.readouterr().out)
    assert (found["leases"], found["total"], found["dry_run"], found["events"]) == ([str(task.pk)], 1, False, [])


def test_the_work_of_one_worker(capsys):
    mine = task_in(Status.EXECUTING)
    call_command("audit_recover", "--worker", "orch-2")
    assert "nothing to recover" in capsys.readouterr().err
    call_command("audit_recover", "--worker", "orch-1")
    assert capsys.readouterr().out == "1 task left executing by that worker\n"
    assert Task.objects.get(pk=mine.pk).status == "approved"


@pytest.mark.parametrize("options", [["--limit", "0"], ["--interval", "x"], ["--worker", ""], ["--database", "x"]])
def test_bad_options(options):
    with pytest.raises(CommandError):
        call_command("audit_recover", *options)


def test_a_loop_that_only_looks_is_none():
    with pytest.raises(CommandError, match="exclude each other") as caught:
        call_command("audit_recover", "--loop", "--dry-run")
    assert caught.value.returncode == 2


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_loop_recovers_what_comes_later_and_stops_at_a_signal(tmp_path):
    code = (
        "import os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "import django; from django.conf import settings\n"
        f"settings.DATABASES['default']['NAME'] = {connection.settings_dict['NAME']!r}\n"
        "django.setup(); from django.core.management import call_command\n"
        "call_command('audit_recover', '--loop', '--interval', '1')\n"
    )
    process = Popen([sys.executable, "-c", code])
    try:
        for _ in range(2):
            task = requested(approve_before=None)
            sql("UPDATE audit_task SET approve_before = now() WHERE id = %s", [task.pk])
            until = time.monotonic() + 60
            while Task.objects.get(pk=task.pk).status != "rejected":
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("command", "made"), [("audit_recover", "_passes"), ("audit_resume", "_pass")])
def test_a_loop_waits_between_two_passes(command, made, monkeypatch):
    happened, begun, enter = [], [], StopRequest.__enter__

    def remembered(stop):
        begun.append(stop)
        return enter(stop)

    def one(*_arguments):
        happened.append("pass")
        begun[-1].requested = happened.count("pass") == 3
        return []

    def wait(_stop, seconds):
        assert 10 <= seconds <= 30
        happened.append("wait")

    monkeypatch.setattr(StopRequest, "wait", wait)
    monkeypatch.setattr(StopRequest, "__enter__", remembered)
    monkeypatch.setattr(f"audit.management.commands.{command}.Command.{made}", one)
    run(command, "--loop", "--interval", "20")
    assert happened[:5] == ["pass", "wait", "pass", "wait", "pass"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("command", "status"), [("audit_recover", "rejected"), ("audit_resume", "approved")])
def test_a_loop_gives_up_an_answer_that_does_not_come(command, status, monkeypatch):
    expired, paused = requested(), task_in("approved")
    sql("UPDATE audit_task SET approve_before = now() WHERE id = %s", [expired.pk])
    paused.pause(resume_after=timedelta(microseconds=1))
    monkeypatch.setattr(f"audit.management.commands.{command}.PASS_SECONDS", 0.3)
    monkeypatch.setattr(StopRequest, "wait", lambda self, seconds: self.request())
    with held(status):
        _, err = run(command, "--loop")
    assert "The database cannot be used: canceling statement due to user request. Trying again." in err
    assert [Task.objects.get(pk=each.pk).status for each in (expired, paused)] == ["pending", "paused"]
    run(command)
    assert Task.objects.filter(status=status).count() == 1
