"""Settings of the tests: the example project's, on a server of their own whose data may be lost.

DATABASE_URL runs them on that server instead. AUDIT_TEST_DB_NAME names the test database, so that several
test runs can share a server.
"""

import os
import sys

from auditproj.settings import *  # noqa: F403
from auditproj.settings import AUDIT_HOME, DATABASES
from tests.support import memory

SECRET_KEY = "only for tests"
AUDIT = {}  # no keys of a demo that ran here
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

_memory = memory.directory() if "pytest" in sys.modules or memory.VARIABLE in os.environ else None
if DATABASES["default"]["ENGINE"] == "auditproj.embedded":
    DATABASES["default"]["EMBEDDED"] = {
        "home": _memory / "pg" if _memory else AUDIT_HOME,
        "name": "tests",
        # A killed server loses nothing, a machine without power may. Commits stay synchronous: tests kill
        # servers.
        "options": {
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "max_wal_size": "1GB" if _memory else "4GB",
        },
    }
if os.environ.get("AUDIT_TEST_DB_NAME"):
    DATABASES["default"]["TEST"] = {"NAME": os.environ["AUDIT_TEST_DB_NAME"]}
# A second database on the same server, created for the tests that name it: imports, routers.
DATABASES["other"] = DATABASES["default"] | {
    "TEST": {"NAME": f"{os.environ.get('AUDIT_TEST_DB_NAME') or 'test_' + DATABASES['default']['NAME']}_other"}
}
