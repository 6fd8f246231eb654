"""What the system checks and a project without the framework hear."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import checks
from django.db import connection
from django.utils import timezone

from audit.agents.presence import Presence
from audit.contrib.django_tasks.checks import check_workers
from audit.contrib.django_tasks.configured import configured
from audit.models import Task

pytestmark = pytest.mark.django_db

_ROOT = Path(__file__).parents[2]
_WITHOUT = """
import sys

for name in ("django.tasks", "django_tasks"):
    sys.modules[name] = None
import importlib.util

found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("django.tasks", "django_tasks") else found(name, *rest)
import os

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.support.worker_settings"
import django

django.setup()
from audit.worker.handlers import discover

assert "echo" in discover()
assert not any(each.startswith("task") for each in discover())
from audit.contrib.django_tasks import AuditBackend
"""


def test_a_database_that_is_not_postgresql(tasks, monkeypatch) -> None:
    backend = tasks.add.get_backend()
    assert backend.check() == []
    monkeypatch.setattr(connection, "vendor", "sqlite")
    [error] = backend.check()
    assert (error.id, error.level) == ("audit.E040", checks.ERROR)
    assert "'default'" in error.msg
    assert "sqlite" in error.msg


def test_an_app_that_is_not_installed(tasks, monkeypatch) -> None:
    monkeypatch.setattr("django.apps.apps.is_installed", lambda name: name != "audit")
    [error] = tasks.add.get_backend().check()
    assert (error.id, error.level) == ("audit.E041", checks.ERROR)


def test_work_that_nobody_runs(tasks) -> None:
    def found() -> list[str]:
        return [each.id for each in check_workers(None, databases=["default"])]

    assert found() == []
    tasks.add.enqueue(1)
    assert found() == []  # it may be picked up in a moment
    row = Task.objects.request("task@mail:x", available_at=timezone.now() - timedelta(minutes=5))
    assert found() == []  # it waits for its approval
    row.approve()
    assert found() == ["audit.W019"]
    assert check_workers(None, databases=["other"]) == []
    assert check_workers(None) == []
    Presence("w1", actions=["task:*"], labels=[], slots=1, using="default").register()
    assert found() == ["audit.W019"]
    Presence("w2", actions=["task@*"], labels=[], slots=1, using="default").register()
    assert found() == []


def test_projects_with_other_backends(tasks, settings) -> None:
    assert configured() == ["default", "bulk"]
    row = Task.objects.request("task:x", available_at=timezone.now() - timedelta(minutes=5))
    row.approve()
    settings.TASKS = {"default": {"BACKEND": "nowhere.Backend"}, "other": {}}
    assert configured() == []
    assert check_workers(None, databases=["default"]) == []


def test_a_project_without_the_framework() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT], cwd=_ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    [last] = done.stderr.strip().splitlines()[-1:]
    assert "ImproperlyConfigured: audit.contrib.django_tasks needs Django's Tasks framework" in last
    assert "pip install django-tasks" in last
