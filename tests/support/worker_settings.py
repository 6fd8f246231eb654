"""Settings of the workers of tests: with the app of handlers; `AUDIT_WORKER_DB` names the database."""

import json
import os
import sys

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.support.handling"]
DATABASES["default"].update(json.loads(os.environ.get("AUDIT_WORKER_DB", "{}")))
# A machine that runs tests is busy, and a worker that is short of capacity claims nothing.
AUDIT = {"CAPACITY_GATE": None} | json.loads(os.environ.get("AUDIT_WORKER_AUDIT", "{}"))

if "AUDIT_WORKER_CLOCK" in os.environ:
    import time

    _ahead = float(os.environ["AUDIT_WORKER_CLOCK"])
    _real = time.time
    time.time = lambda: _real() + _ahead

if "AUDIT_WORKER_BROKEN" in os.environ and sys.argv[0] == "-c":
    raise ImportError(os.environ["AUDIT_WORKER_BROKEN"])
