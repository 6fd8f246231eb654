"""A small project with the app installed runs its own tests, in processes of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

import audit

Run = Callable[..., subprocess.CompletedProcess[str]]

_HOST = Path(__file__).parent.parent / "support" / "hostproject"
_REFUSAL = "an audit table is never truncated"


@pytest.fixture
def run(tmp_path: Path, db: None) -> Run:
    """Run a command of Python in a copy of the host project, on this test's server, in databases of its own."""
    project = tmp_path / "host project"
    shutil.copytree(_HOST, project, ignore=shutil.ignore_patterns("__pycache__"))
    parameters = connection.get_connection_params()
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "TEST": {"NAME": f"{connection.settings_dict['NAME']}_host"},
        **{key.upper(): str(parameters[key]) for key in ("host", "port", "user", "password") if parameters.get(key)},
    }
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DJANGO_SETTINGS_MODULE", "PYTEST_ADDOPTS", "PYTHONPATH") and not name.startswith("COV_CORE")
    }

    # The tree that is tested, wherever the distribution is installed from.
    inherited["PYTHONPATH"] = str(Path(audit.__file__).parent.parent)

    def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env=inherited | {"HOST_DATABASE": json.dumps(database)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )

    return _run


_PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
_UNITTEST = ("manage.py", "test", "--noinput")
_ROUTED = pytest.mark.parametrize(
    "environment", [pytest.param({}, id="one-database"), pytest.param({"HOST_ROUTED": "1"}, id="routed")]
)


@_ROUTED
def test_pytest(run, environment):
    ended = run(*_PYTEST, **environment)
    assert ended.returncode == 0, ended.stdout
    assert "30 passed" in ended.stdout


@_ROUTED
def test_manage_test(run, environment):
    ended = run(*_UNITTEST, **environment)
    assert ended.returncode == 0, ended.stdout
    assert "Ran 16 tests" in ended.stdout


def test_manage_test_in_parallel(run):
    # Spawned workers inherit nothing; forked ones would get the wrapped flush from their parent.
    ended = run(*_UNITTEST, "--parallel", "2", HOST_START_METHOD="spawn")
    assert ended.returncode == 0, ended.stdout
    assert "Ran 16 tests" in ended.stdout


@_ROUTED
def test_pytest_without_migrations(run, environment):
    ended = run(*_PYTEST, "--no-migrations", **environment)
    assert ended.returncode == 0, ended.stdout
    assert "30 passed" in ended.stdout


@_ROUTED
def test_manage_test_without_migrations(run, environment):
    ended = run(*_UNITTEST, HOST_UNMIGRATED="1", **environment)
    assert ended.returncode == 0, ended.stdout
    assert "Ran 16 tests" in ended.stdout


def test_without_migrations_a_clone_has_the_rules_too(run):
    ended = run(*_UNITTEST, "--parallel", "2", HOST_UNMIGRATED="1", HOST_START_METHOD="spawn")
    assert ended.returncode == 0, ended.stdout


def test_without_migrations_and_runner_the_checks_name_each_rule(run):
    ended = run(
        *_UNITTEST,
        "shop.tests.RolledBackTests",
        HOST_UNMIGRATED="1",
        HOST_TEST_RUNNER="django.test.runner.DiscoverRunner",
    )
    assert ended.returncode == 1
    assert "audit.E011" in ended.stdout


def test_without_the_plugin_pytest_fails(run):
    ended = run(*_PYTEST, "-p", "no:audit", "-k", "test_transaction")
    assert ended.returncode == 1
    assert _REFUSAL in ended.stdout


def test_without_the_runner_only_the_mixin_helps(run):
    plain = "django.test.runner.DiscoverRunner"
    ended = run(*_UNITTEST, "shop.tests.FlushedTests", HOST_TEST_RUNNER=plain)
    assert ended.returncode == 1
    assert _REFUSAL in ended.stdout
    assert 'TEST_RUNNER = "audit.testing.runner.AuditDiscoverRunner"' in ended.stdout
    ended = run(*_UNITTEST, "shop.tests.MixedInTests", "shop.tests.RolledBackTests", HOST_TEST_RUNNER=plain)
    assert ended.returncode == 0, ended.stdout


def test_the_plugin_harms_no_project_without_django(tmp_path):
    """One that never sets Django up, and one that has it but not the app, and none but a warning would fail."""
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_plain(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('audit')\n"
        "    assert 'django' not in sys.modules\n"
    )
    (tmp_path / "test_other.py").write_text(
        "import django\n"
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes'])\n"
        "django.setup()\n"
        "from django.test import TransactionTestCase\n"
        "def test_other():\n"
        "    assert TransactionTestCase._fixture_teardown.__module__ == 'django.test.testcases'\n"
        "    assert not hasattr(TransactionTestCase._fixture_teardown, '__wrapped__')\n"
    )
    for name in ("test_plain.py", "test_other.py"):
        ended = subprocess.run(
            [sys.executable, "-W", "error", *_PYTEST, "-p", "no:django", name],
            cwd=tmp_path,
            env={key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "1 passed" in ended.stdout
