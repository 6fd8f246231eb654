"""Settings of workers that run the tasks of `tests.support.tasking`; `AUDIT_TASKS_OPTIONS` are the backend's."""

import json
import os

import django

from tests.support.worker_settings import *  # noqa: F403
from tests.support.worker_settings import INSTALLED_APPS

if django.VERSION < (6, 0):
    INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks"]
INSTALLED_APPS = [*INSTALLED_APPS, "tests.support.tasking"]
TASKS = {
    "default": {
        "BACKEND": "audit.contrib.django_tasks.AuditBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": json.loads(os.environ.get("AUDIT_TASKS_OPTIONS", "{}")),
    },
    "bulk": {"BACKEND": "audit.contrib.django_tasks.AuditBackend", "QUEUES": []},
}
