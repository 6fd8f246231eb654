"""Settings of the example project: everything from the environment, with defaults that are safe on a laptop.

Variables: DATABASE_URL, AUDIT_HOME, SECRET_KEY, DEBUG, ALLOWED_HOSTS, CSRF_TRUSTED_ORIGINS, HTTPS,
BEHIND_PROXY, SERVE_STATIC, STATIC_ROOT, LOG_LEVEL, TIME_ZONE, DEMO_SHORT_AGENT, AUDIT_LEDGER_VERIFIERS (verifier
keys of the ledger, separated by commas; else that of the demo). `docs/embedded-postgresql.md` describes the first two.
"""

from pathlib import Path

from auditproj.environment import database, flag, secret_key, text, verifiers, words

BASE_DIR = Path(__file__).resolve().parent.parent
# Data of the embedded server, and the secret key; ignored by git.
AUDIT_HOME = Path(text("AUDIT_HOME", str(BASE_DIR / ".postgres")))

SECRET_KEY = secret_key(AUDIT_HOME)
DEBUG = flag("DEBUG", default=False)
ALLOWED_HOSTS = words("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])

DATABASES = {"default": database(AUDIT_HOME)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "audit",
    "auditproj",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "auditproj.urls"
WSGI_APPLICATION = "auditproj.wsgi.application"
ASGI_APPLICATION = "auditproj.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = text("TIME_ZONE", "UTC")
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = text("STATIC_ROOT", "") or None
# Django serves the few files of the admin itself, also with DEBUG off; turn it off where a proxy does that.
SERVE_STATIC = flag("SERVE_STATIC", default=True)

# The example project speaks HTTP on 127.0.0.1. Behind TLS, HTTPS=1 makes everything insist on it.
_HTTPS = flag("HTTPS", default=False)
CSRF_TRUSTED_ORIGINS = words("CSRF_TRUSTED_ORIGINS", [])
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = _HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if _HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if flag("BEHIND_PROXY", default=False) else None
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"audit": {"handlers": ["stderr"], "level": text("LOG_LEVEL", "INFO").upper()}},
}

# The app's own settings, with their defaults in audit/conf.py.
AUDIT: dict[str, object] = {
    "LEDGER_VERIFIERS": verifiers(AUDIT_HOME),
    # Of the demo: only work with an estimate asks for capacity, and what is paused is looked at again soon.
    "CAPACITY_GATE": "auditproj.demo.capacity.gate",
    "CAPACITY_BACKOFF_SECONDS": 5,
    "CAPACITY_BACKOFF_MAX_SECONDS": 40,
}
# The agent that the demo makes short of memory for half a minute of every minute and a half.
DEMO_SHORT_AGENT = text("DEMO_SHORT_AGENT", "orch-2")
