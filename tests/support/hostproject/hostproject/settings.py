"""As startproject leaves them, with the app added. HOST_DATABASE is the `DATABASES` entry, as JSON."""

import json
import os

SECRET_KEY = "only for tests"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "audit",
    "shop",
]
_DATABASE = json.loads(os.environ["HOST_DATABASE"])
# With HOST_UNMIGRATED test databases are made from the models.
if os.environ.get("HOST_UNMIGRATED"):
    _DATABASE["TEST"]["MIGRATE"] = False
DATABASES = {"default": _DATABASE}
# With HOST_ROUTED the audit tables live in a database of their own.
if os.environ.get("HOST_ROUTED"):
    DATABASES["trail"] = _DATABASE | {"TEST": _DATABASE["TEST"] | {"NAME": f"{_DATABASE['TEST']['NAME']}_trail"}}
    DATABASE_ROUTERS = ["hostproject.routers.TrailRouter"]
# Each flush gives content types other ids than the serialized ones have: a limit of Django's serialized_rollback.
TEST_NON_SERIALIZED_APPS = ["django.contrib.contenttypes"]
ROOT_URLCONF = "shop.urls"
STATIC_URL = "static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEST_RUNNER = os.environ.get("HOST_TEST_RUNNER", "audit.testing.runner.AuditDiscoverRunner")
