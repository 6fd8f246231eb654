"""The wheel: everything a project needs to use the app, and nothing of the example project or the tests."""

import configparser
import os
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.db import connection

CHECKOUT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.skipif(
    find_spec("hatchling") is None,
    reason="hatchling, which builds it, is not installed: pip install -e '.[lint]'",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout
    [path] = folder.glob("*.whl")
    return path


def _read(wheel: Path, ending: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(f".dist-info/{ending}")]
        return archive.read(name).decode()


def test_holds_all_of_audit_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"audit"}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "audit"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    tracked = {name for name in listed.stdout.splitlines() if (CHECKOUT / name).exists()}
    assert tracked <= names
    assert "audit/py.typed" in names
    for folder, ending in (("sql", ".sql"), ("templates", ".html"), ("static", ".css"), ("migrations", ".py")):
        assert any(name.startswith(f"audit/{folder}/") and name.endswith(ending) for name in names), folder
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".po~"))]


def test_metadata(wheel):
    plugins = configparser.ConfigParser()
    plugins.read_string(_read(wheel, "entry_points.txt"))
    assert dict(plugins["pytest11"]) == {"audit": "audit.testing.plugin"}
    metadata = HeaderParser().parsestr(_read(wheel, "METADATA"))
    needed = [each for each in metadata.get_all("Requires-Dist") if "extra ==" not in each]
    known = {"cryptography", "django", "psycopg", "psutil", "pydantic", "rich"}
    assert {each.split(">")[0] for each in needed} == known
    assert metadata["License-Expression"] == "MIT"
    assert "MIT License" in _read(wheel, "licenses/LICENSE")


@pytest.mark.django_db
def test_in_a_project_of_ones_own(wheel, tmp_path):
    """The first five steps of the README, with the wheel in place of an installation."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    parameters = connection.get_connection_params()
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": f"{connection.settings_dict['NAME']}_own",
        **{key.upper(): parameters[key] for key in ("host", "port", "user", "password") if parameters.get(key)},
    }

    def run(*command: str) -> str:
        ended = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
            | {"PYTHONPATH": str(site)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    run("-m", "django", "startproject", "mine", str(tmp_path))
    settings = tmp_path / "mine" / "settings.py"
    text = settings.read_text().replace(
        "INSTALLED_APPS = [", 'INSTALLED_APPS = [\n    "django.contrib.postgres",\n    "audit",'
    )
    settings.write_text(f"{text}\nDATABASES = {{'default': {database!r}}}\n")
    assert str(site) in run("-c", "import audit; print(audit.__file__)")
    _outside_transaction(f'CREATE DATABASE "{database["NAME"]}"')
    try:
        run("manage.py", "migrate", "--verbosity", "0")
        assert "no issues" in run("manage.py", "check", "--database", "default")
        assert "hello" in run("manage.py", "audit_record", "--service", "db", "--", "echo", "hello")
        assert "completed" in run("manage.py", "audit_list")
    finally:
        _outside_transaction(f'DROP DATABASE "{database["NAME"]}" WITH (FORCE)')


def _outside_transaction(statement: str) -> None:
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute(statement)
    finally:
        other.close()
