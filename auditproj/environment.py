"""Reading settings from the environment; errors name the variable and the way out, never a secret."""

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import OperationalError
from django.utils.functional import SimpleLazyObject

from audit.ledger.tlog.trusted import Untrusted, open_trusted
from auditproj.embedded.errors import EmbeddedError

__all__ = ["database", "explain", "flag", "secret_key", "text", "verifiers", "words"]

_CONNECT_TIMEOUT_S = 10
_SCHEMES = ("postgres", "postgresql", "psql", "pgsql")
_WAY_OUT = (
    "Write it as postgresql://USER:PASSWORD@HOST:5432/NAME, with special characters in user and password "
    "percent-encoded, or unset DATABASE_URL to use the embedded PostgreSQL."
)


def text(name: str, default: str) -> str:
    """The variable as it is, or the default where it is unset or empty."""
    # Not Env.str: it takes a value that starts with a dollar sign for the name of another variable, so a
    # secret key that happens to start so would silently become the default.
    return os.environ.get(name) or default


def flag(name: str, *, default: bool) -> bool:
    """The variable as a yes or no.

    Raises:
        ImproperlyConfigured: it is neither.
    """
    value = text(name, "").strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    if not value:
        return default
    raise ImproperlyConfigured(f"{name} is {value!r}; it should be 1 or 0 (or true, false, yes, no, on, off).")


def words(name: str, default: list[str]) -> list[str]:
    """The variable as a list, separated by commas."""
    return [word.strip() for word in text(name, "").split(",") if word.strip()] or default


def database(home: Path) -> dict[str, Any]:
    """The ``DATABASES`` entry: the server of ``DATABASE_URL``, or the embedded one.

    Args:
        home: directory of the embedded server.

    Raises:
        ImproperlyConfigured: DATABASE_URL is malformed or is not about PostgreSQL.
    """
    url = text("DATABASE_URL", "").strip()
    if not url:
        return {"ENGINE": "auditproj.embedded", "NAME": "audit", "EMBEDDED": {"home": home}}
    # The URL may hold a password: messages quote its scheme at most, and no error is chained.
    scheme, separator, _ = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ImproperlyConfigured(f"DATABASE_URL is not a URL. {_WAY_OUT}")
    if scheme.lower() not in _SCHEMES:
        raise ImproperlyConfigured(
            f"DATABASE_URL has the scheme {scheme!r}, but this project needs PostgreSQL, which enforces its "
            f"rules. {_WAY_OUT}"
        )
    from environ import Env

    try:
        _ = urlsplit(url).port
        config: dict[str, Any] = Env.db_url_config(url)
    except ValueError:
        config = {}
    if not config.get("NAME"):
        raise ImproperlyConfigured(
            f"DATABASE_URL cannot be read: it lacks the name of a database, or its port is no number. {_WAY_OUT}"
        )
    # Nobody wants to wait two minutes for a host that does not answer.
    options = {"connect_timeout": _CONNECT_TIMEOUT_S, **config.get("OPTIONS", {})}
    return config | {"ENGINE": "django.db.backends.postgresql", "OPTIONS": options}


def explain(error: Exception) -> str | None:
    """What a terminal should show for an error in place of a traceback.

    Args:
        error: what ended a command.

    Returns:
        The message, or None for an error that is not about reaching the database or about settings.
    """
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    # An error of a statement has an SQLSTATE; one of connecting has none.
    if not isinstance(error, OperationalError) or getattr(error.__cause__, "sqlstate", None):
        return None
    message = str(error).strip()
    default = settings.DATABASES["default"]
    if default["ENGINE"] == "auditproj.embedded":
        return message
    host, port = default["HOST"] or "localhost", default["PORT"] or 5432
    return (
        f"The server of DATABASE_URL, host {host!r}, port {port}, cannot be used for database "
        f"{default['NAME']!r}:\n{message}\n"
        "Start that server or correct DATABASE_URL; or unset it to use the embedded PostgreSQL."
    )


def secret_key(home: Path) -> Any:
    """SECRET_KEY, or a random key kept in a private file, so that sessions survive a restart.

    The file is read or written when the key is first used, not when settings are imported. Where it cannot be
    written, the key lasts for this process.

    Args:
        home: directory for the file, made when missing.
    """
    return text("SECRET_KEY", "") or SimpleLazyObject(lambda: _kept_key(home / "secret-key"))


def verifiers(home: Path) -> list[str]:
    """Verifier keys of the ledger: those of AUDIT_LEDGER_VERIFIERS, separated by commas, or that of the demo.

    Args:
        home: directory of the demo's keys.

    Raises:
        ImproperlyConfigured: somebody else could have written that of the demo.
    """
    given = words("AUDIT_LEDGER_VERIFIERS", [])
    if given:
        return given
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return _trusted_text(home / "ledger-verifier-key").split()
    return []


def _kept_key(path: Path) -> str:
    from auditproj.embedded.places import keep_file, make_home

    key = secrets.token_urlsafe(48)
    with contextlib.suppress(OSError, UnicodeDecodeError, EmbeddedError):
        try:
            return _trusted_text(path).strip() or key
        except FileNotFoundError:
            owner, _ = make_home(path.parent)
        keep_file(path, key, owner)
        return _trusted_text(path, owner.uid).strip() or key
    return key


def _trusted_text(path: Path, *owners: int) -> str:
    """Read a file that nobody else can have written.

    Raises:
        ImproperlyConfigured: somebody could.
        OSError: it cannot be read.
    """
    try:
        # Whoever owns this code can make it do anything.
        descriptor = open_trusted(path, [Path(__file__).stat().st_uid, *owners])
    except Untrusted as error:
        raise ImproperlyConfigured(
            f"{error.problem}. See who did that; then take {path} away, or name another directory with AUDIT_HOME."
        ) from None
    with os.fdopen(descriptor, encoding="utf-8") as file:
        return file.read()
