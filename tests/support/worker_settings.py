"""Settings of the workers of tests: with the app of handlers; `AUDIT_WORKER_DB` names the database."""

import json
import os
import sys

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

# Without what the admin imports for its pages: no worker shows one, and each starts several interpreters.
_ADMIN = {"django.contrib.admin": "django.contrib.admin.apps.SimpleAdminConfig"}
INSTALLED_APPS = [*(_ADMIN.get(each, each) for each in INSTALLED_APPS), "tests.support.handling"]
DATABASES["default"].update(json.loads(os.environ.get("AUDIT_WORKER_DB", "{}")))
# A machine that runs tests is busy, and a worker that is short of capacity claims nothing.
AUDIT = {"CAPACITY_GATE": None} | json.loads(os.environ.get("AUDIT_WORKER_AUDIT", "{}"))

if "AUDIT_WORKER_CLOCK" in os.environ:
    import datetime

    import time_machine

    # Every clock of the process that says what time it is; not those that only measure how long something takes.
    _ahead = datetime.timedelta(seconds=float(os.environ["AUDIT_WORKER_CLOCK"]))
    time_machine.travel(datetime.datetime.now(datetime.UTC) + _ahead).start()

if "AUDIT_WORKER_BROKEN" in os.environ and sys.argv[0] == "-c":
    raise ImportError(os.environ["AUDIT_WORKER_BROKEN"])
