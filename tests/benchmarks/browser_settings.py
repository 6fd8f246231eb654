"""Settings of the browser's benchmark: those of a benchmark, with an admin site."""

from tests.benchmarks.settings import *  # noqa: F403
from tests.benchmarks.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    *INSTALLED_APPS,
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# Signed cookies and one connection, so that what is measured is the pages.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
DATABASES["default"]["CONN_MAX_AGE"] = None
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.benchmarks.browser_site"
STATIC_URL = "static/"
