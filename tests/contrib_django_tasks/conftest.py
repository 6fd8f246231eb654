"""What the tests of the tasks backend share."""

import importlib
from types import ModuleType

import pytest

_BACKEND = "audit.contrib.django_tasks.AuditBackend"


@pytest.fixture
def tasks(settings) -> ModuleType:
    """The task functions, with the backend configured in this process, too."""
    settings.TASKS = {
        "default": {"BACKEND": _BACKEND, "QUEUES": ["default", "mail"]},
        "bulk": {"BACKEND": _BACKEND, "QUEUES": []},
    }
    return importlib.import_module("tests.support.tasking.tasks")
