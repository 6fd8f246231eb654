"""Django's settings in the processes of a benchmark: one database, named in the environment."""

import json
import os

_given = json.loads(os.environ["BENCHMARK_SETTINGS"])

SECRET_KEY = "only for benchmarks"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": _given["database"]}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.postgres", *_given["apps"]]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
globals().update(_given["settings"])
