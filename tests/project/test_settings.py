"""Settings of the example project: safe defaults, all from the environment, errors that keep secrets."""

import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.utils import OperationalError

from auditproj import environment
from tests.support import servers
from tests.support.users import CHECKOUT

SECRET = "hush-hush"


def _run(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout with these variables and no other that settings read."""
    kept = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH"}}
    return subprocess.run(
        [sys.executable, *argv],
        cwd=CHECKOUT,
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def _show(*names: str, **variables: str) -> list[str]:
    """Values of settings in a new process."""
    shown = ", ".join(f"settings.{name}" for name in names)
    program = f"from django.conf import settings\nfor value in ({shown},): print(repr(value))"
    result = _run("-c", program, DJANGO_SETTINGS_MODULE="auditproj.settings", **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    "argv",
    [
        ("manage.py", "help"),
        ("manage.py", "help", "migrate"),
        ("manage.py", "check"),
        ("-c", "import auditproj.settings, auditproj.embedded.base, auditproj.wsgi"),
    ],
    ids=["help", "help-migrate", "check", "import"],
)
def test_what_needs_no_database_starts_and_writes_nothing(argv: tuple[str, ...], tmp_path: Path) -> None:
    result = _run(*argv, AUDIT_HOME=str(tmp_path / "home"), DJANGO_SETTINGS_MODULE="auditproj.settings")
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "home").exists()


def test_defaults_are_safe(tmp_path: Path) -> None:
    names = "DEBUG", "ALLOWED_HOSTS", "TIME_ZONE", "USE_TZ", "X_FRAME_OPTIONS", "SECURE_PROXY_SSL_HEADER"
    assert _show(*names, AUDIT_HOME=str(tmp_path / "home")) == [
        "False",
        "['localhost', '127.0.0.1', '[::1]']",
        "'UTC'",
        "True",
        "'DENY'",
        "None",
    ]
    [database] = _show("DATABASES['default']['ENGINE']", AUDIT_HOME=str(tmp_path / "home"))
    assert database == "'auditproj.embedded'"


def test_everything_comes_from_the_environment() -> None:
    assert _show(
        *(
            "DEBUG",
            "ALLOWED_HOSTS",
            "SECRET_KEY",
            "SESSION_COOKIE_SECURE",
            "CSRF_TRUSTED_ORIGINS",
            "STATIC_ROOT",
        ),
        DEBUG="yes",
        ALLOWED_HOSTS="a.example, b.example",
        SECRET_KEY="$HOME is where",
        HTTPS="1",
        CSRF_TRUSTED_ORIGINS="https://a.example",
        STATIC_ROOT="/srv/static",
    ) == [
        "True",
        "['a.example', 'b.example']",
        "'$HOME is where'",
        "True",
        "['https://a.example']",
        "'/srv/static'",
    ]


def test_verifier_keys_come_from_the_environment_or_from_the_demo(tmp_path: Path) -> None:
    home = tmp_path / "home"
    name = "AUDIT['LEDGER_VERIFIERS']"
    assert _show(name, AUDIT_HOME=str(home)) == ["[]"]
    home.mkdir()
    (home / "ledger-verifier-key").write_text("a+b+c\n")
    assert _show(name, AUDIT_HOME=str(home)) == ["['a+b+c']"]
    assert _show(name, AUDIT_HOME=str(home), AUDIT_LEDGER_VERIFIERS="x+y+z, u+v+w") == ["['x+y+z', 'u+v+w']"]


def test_a_flag_that_is_neither_yes_nor_no_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUG", "maybe")
    with pytest.raises(ImproperlyConfigured, match="DEBUG is 'maybe'; it should be 1 or 0"):
        environment.flag("DEBUG", default=False)
    monkeypatch.setenv("DEBUG", "Off")
    assert environment.flag("DEBUG", default=True) is False


def test_the_secret_key_is_random_private_and_kept(tmp_path: Path) -> None:
    home = tmp_path / "home"
    [first] = _show("SECRET_KEY", AUDIT_HOME=str(home))
    assert len(first) > 50
    assert stat.S_IMODE((home / "secret-key").stat().st_mode) == 0o600
    assert _show("SECRET_KEY", AUDIT_HOME=str(home)) == [first]
    [other] = _show("SECRET_KEY", AUDIT_HOME=str(tmp_path / "other"))
    assert other != first


def test_processes_that_make_the_secret_key_at_once_agree(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(environment._kept_key, [tmp_path / "home" / "secret-key"] * 16, chunksize=1)
    assert len(set(keys)) == 1
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["secret-key"]


def test_where_the_secret_key_cannot_be_kept_it_is_random(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keys = {str(environment.secret_key(tmp_path / "file")) for _ in range(2)}
    assert len(keys) == 2
    assert min(map(len, keys)) > 50


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"mysql://me:{SECRET}@db/audit", "has the scheme 'mysql', but this project needs PostgreSQL"),
        (f"sqlite:///{SECRET}", "has the scheme 'sqlite'"),
        (f"postgis://me:{SECRET}@db/audit", "has the scheme 'postgis'"),
        (SECRET, "is not a URL"),
        (f"{SECRET}://db/audit", "is not a URL|has the scheme"),
        (f"me:{SECRET}://db/audit", "is not a URL"),
        (f"postgresql://me:{SECRET}@db", "lacks the name of a database"),
        (f"postgresql://me:{SECRET}@db/", "lacks the name of a database"),
        (f"postgresql://me:{SECRET}@db:five/audit", "cannot be read"),
        (f"postgresql://me:{SECRET}#{SECRET}@db/audit", "cannot be read"),
        (f"postgresql://me:{SECRET}/{SECRET}@db/audit", "cannot be read"),
        (f"postgresql://me:{SECRET}@[::1/audit", "cannot be read"),
    ],
)
def test_a_url_that_is_no_good_is_refused_without_its_password(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match=message) as caught:
        environment.database(Path("unused"))
    if "scheme 'hush" not in str(caught.value):
        assert SECRET not in str(caught.value)
    assert "postgresql://USER:PASSWORD@HOST:5432/NAME" in str(caught.value)
    assert "unset DATABASE_URL" in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_good_url_is_read_with_its_escapes_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://m%40e:p%23%2F%20ss@db.example:6543/my%20audit?sslmode=require&conn_max_age=60"
    monkeypatch.setenv("DATABASE_URL", url)
    assert environment.database(Path("unused")) == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "my audit",
        "USER": "m@e",
        "PASSWORD": "p#/ ss",
        "HOST": "db.example",
        "PORT": 6543,
        "CONN_MAX_AGE": 60,
        "OPTIONS": {"sslmode": "require", "connect_timeout": 10},
    }


def test_an_unusable_url_is_one_message_at_the_command_line() -> None:
    result = _run("manage.py", "migrate", DATABASE_URL=f"oracle://me:{SECRET}@db/audit")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: DATABASE_URL has the scheme 'oracle'")
    assert result.stderr.count("\n") == 1
    assert SECRET not in result.stderr


def test_an_unreachable_server_is_one_message_at_the_command_line() -> None:
    result = _run("manage.py", "migrate", DATABASE_URL=f"postgresql://me:{SECRET}@127.0.0.1:1/audit")
    assert result.returncode == 2
    assert "The server of DATABASE_URL, host '127.0.0.1', port 1, cannot be used" in result.stderr
    assert "unset it to use the embedded PostgreSQL" in result.stderr
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stderr
    result = _run("manage.py", "migrate", "--traceback", DATABASE_URL="postgresql://me@127.0.0.1:1/audit")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_errors_of_statements_are_not_explained_away() -> None:
    class _CauseError(Exception):
        sqlstate = "40P01"

    error = OperationalError("deadlock detected")
    error.__cause__ = _CauseError()
    assert environment.explain(error) is None
    assert environment.explain(ValueError("no")) is None


def test_a_url_of_a_real_server_is_used() -> None:
    with servers.throwaway() as server:
        url = f"postgresql://audit@/{server.place.sockets}/postgres"
        program = (
            "import django; django.setup()\nfrom django.db import connection\n"
            "with connection.cursor() as cursor:\n"
            "    cursor.execute('SELECT current_database(), version()')\n    print(cursor.fetchone())"
        )
        result = _run("-c", program, DATABASE_URL=url, DJANGO_SETTINGS_MODULE="auditproj.settings")
    assert "('postgres', 'PostgreSQL 18." in result.stdout, result.stderr


def test_the_server_for_tests_is_not_that_of_the_demo() -> None:
    [entry] = _show("DATABASES['default']")
    demo = eval(entry, {"PosixPath": Path})
    program = "from tests.settings import DATABASES as d\nprint(repr(d['default']))"
    tests = eval(_run("-c", program, AUDIT_TEST_DB_NAME="test_mine").stdout, {"PosixPath": Path})
    assert tests["EMBEDDED"].get("name", "main") != demo["EMBEDDED"].get("name", "main")
    assert "options" not in demo["EMBEDDED"], "the demo is durable"
    assert tests["EMBEDDED"]["options"]["fsync"] == "off"
    assert "synchronous_commit" not in tests["EMBEDDED"]["options"]
    assert tests["TEST"] == {"NAME": "test_mine"}


@pytest.mark.django_db  # closing a file's response looks after connections that other tests have left
def test_static_files_are_served_without_debug(client, settings) -> None:
    settings.ROOT_URLCONF = "auditproj.urls"
    assert settings.DEBUG is False
    response = client.get("/static/admin/css/base.css")
    assert response.status_code == 200
    assert b"".join(response.streaming_content)
    response.close()
    assert client.get("/static/../settings.py").status_code == 400
    assert client.get("/static/absent.css").status_code == 404
    response = client.get("/")
    assert (response.status_code, response["Location"]) == (302, "/admin/")
