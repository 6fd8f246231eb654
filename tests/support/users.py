"""Processes that use an embedded server, to be started, killed and counted by tests."""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from auditproj.embedded.places import wheel_binaries
from auditproj.embedded.server import Server
from auditproj.embedded.watcher import postmaster_pid

__all__ = [
    "CHECKOUT",
    "ORDINARY",
    "User",
    "controldata",
    "needs_root",
    "ordinary_python",
    "query",
    "running",
    "until",
    "workplace",
]

CHECKOUT = Path(__file__).resolve().parent.parent.parent
_NOBODY = pwd.getpwnam("nobody")
ORDINARY = {"user": _NOBODY.pw_uid, "group": _NOBODY.pw_gid, "extra_groups": []}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes accounts, which only root may")

# A user of the server in the home argv[1]: it tells the server's pid, and leaves when its input ends.
_PROGRAM = """
import sys
from pathlib import Path
import psycopg
from auditproj.embedded.server import Server
server = Server(home=Path(sys.argv[1]), options=dict(fsync="off"))
server.ensure()
connection = psycopg.connect(dbname="audit", autocommit=True, **server.connection_parameters())
print(server.postmaster_pid(), flush=True)
{then}
sys.stdin.read()
"""


class User:
    """A process that uses the server in ``home``.

    Args:
        home: as for ``Server``.
        then: Python that it runs once it is connected.
        python: the interpreter; further arguments go to ``subprocess.Popen``.
    """

    def __init__(self, home: Path, then: str = "", python: str = sys.executable, **options: Any) -> None:
        path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        options.setdefault("env", {**os.environ, "PYTHONPATH": path})
        self.process = subprocess.Popen(
            [python, "-c", _PROGRAM.format(then=then), str(home)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def __enter__(self) -> "User":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def server(self) -> int:
        """Wait until it is connected; the pid of the server."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return int(line)

    def dismiss(self) -> None:
        """Let it end in the orderly way, without waiting for that."""
        self.process.stdin.close()
        self.process.stdin = None

    def leave(self) -> str:
        """Let it end in the orderly way, and wait for it; what it said on stderr."""
        _, errors = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, errors
        return errors

    def kill(self) -> None:
        """SIGKILL where it still runs, and wait for its end and that of its pipes."""
        if self.process.poll() is None:
            self.process.kill()
        if not self.process.stdout.closed:
            self.process.communicate(timeout=120)


@contextlib.contextmanager
def workplace(suffix: str = "") -> Iterator[Path]:
    """A new directory that every account may enter, unlike pytest's ``tmp_path``.

    Args:
        suffix: path below it, made too.
    """
    top = Path(tempfile.mkdtemp(prefix="audit-test-"))
    try:
        top.chmod(0o711)
        folder = top
        for part in Path(suffix).parts:
            folder /= part
            folder.mkdir(mode=0o711)
        yield folder
    finally:
        shutil.rmtree(top)


def until(condition: Callable[[], bool], seconds: float = 120) -> bool:
    """Whether the condition comes true in time."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > seconds:
            return False
        time.sleep(min(max(waited / 10, 0.01), 0.1))
    return True


def running(home: Path) -> int | None:
    """The pid of the server in ``home``, or None."""
    return postmaster_pid(home.resolve() / "main-18" / "data")


def controldata(home: Path) -> str:
    """The state of the cluster at rest, e.g. ``shut down``."""
    data = home / "main-18" / "data"
    answer = subprocess.run([wheel_binaries().bin / "pg_controldata", data], capture_output=True, text=True, check=True)
    [state] = re.findall(r"cluster state: +(.*)", answer.stdout)
    return state


def query(server: Server, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement in a session of its own; its rows, if it has any."""
    with psycopg.connect(dbname="audit", autocommit=True, **server.connection_parameters()) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def ordinary_python() -> tuple[str, dict[str, str]]:
    """An interpreter that an ordinary account can run, and its environment; skips where there is none."""
    packages = Path(psycopg.__file__).parent.parent
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{CHECKOUT}:{packages}",
            "HOME": "/nonexistent",
        }
        command = [candidate, "-c", "import auditproj.embedded.server, django, environ"]
        with contextlib.suppress(OSError):
            if subprocess.run(command, env=environment, cwd="/", check=False, **ORDINARY).returncode == 0:
                return candidate, environment
    pytest.skip(f"no {version} that the account nobody can run")
