"""Settings of the workers of tests: with the app of handlers; `AUDIT_WORKER_DB` names the database."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.support.handling"]
DATABASES["default"].update(json.loads(os.environ.get("AUDIT_WORKER_DB", "{}")))
AUDIT = json.loads(os.environ.get("AUDIT_WORKER_AUDIT", "{}"))
