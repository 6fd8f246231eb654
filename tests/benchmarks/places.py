"""The server of a benchmark, its databases, and pgbench."""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from auditproj.embedded.server import Server
from tests.benchmarks.measure import Rate
from tests.support.servers import database_settings, throwaway

__all__ = ["Place", "scratch"]

# Durable, as a server of one's own is. No vacuum or checkpoint comes of itself into the middle of a measurement:
# tables are vacuumed when they are filled, and a checkpoint ends every round.
_OPTIONS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "4GB",
    "max_connections": "500",  # of a hundred idle workers
}


_NOTHING = "SELECT;"
_ENDING = 30
"""Seconds within which the server's processes for pgbench end after it."""


class Place:
    """A running server and what a benchmark does with it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._starts: dict[tuple[str, int], float] = {}

    def environment(
        self,
        database: str,
        apps: Sequence[str] = ("audit",),
        options: Mapping[str, object] | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> dict[str, str]:
        """The environment of a process that works on a database through `tests.benchmarks.settings`.

        Args:
            database: its name.
            apps: Django apps to install.
            options: the OPTIONS of Django's connection.
            settings: more of Django's settings.
        """
        found = database_settings(self._server, database) | {"OPTIONS": options or {}}
        given = {"database": found, "apps": apps, "settings": settings or {}}
        return os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
            "BENCHMARK_SETTINGS": json.dumps(given),
        }

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """Connect plainly, in autocommit."""
        return psycopg.connect(dbname=database, autocommit=True, **self._server.connection_parameters())

    def create(self, database: str, template: str = "template0") -> None:
        """Make a database, as a copy of another one; nobody may be connected to that."""
        with self.connect("postgres") as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(database), sql.Identifier(template))
            )

    def checkpoint(self) -> None:
        """Write out what the round has dirtied."""
        with self.connect("postgres") as connection:
            connection.execute("CHECKPOINT")

    def cpu(self) -> float:
        """Seconds of CPU that all processes of the server have used so far, or had when they ended."""
        postmaster = psutil.Process(self._server.postmaster_pid())
        used = 0.0
        for process in postmaster.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                used += sum(process.cpu_times()[:2])
        return used + sum(postmaster.cpu_times()[:4])

    def _processes(self) -> set[int]:
        return {process.pid for process in psutil.Process(self._server.postmaster_pid()).children()}

    def pgbench(
        self,
        database: str,
        script: str,
        *,
        clients: int,
        times: int,
        warm: int = 0,
        durable: bool = True,
        prepared: bool = True,
    ) -> Rate:
        """Run a script with pgbench and return how often all clients together got through it.

        Args:
            database: where.
            script: pgbench's language; `:i` counts a client's runs from 1, `:client_id` the `:clients` from 0.
            clients: connections, each busy all the time.
            times: runs of each client.
            warm: runs of each client before those; not counted, but for the CPU.
            durable: whether commits wait for the disk.
            prepared: whether statements are prepared once, or planned each time as psycopg does by default.
        """
        parameters = self._server.connection_parameters()
        programs = self._server.place.binaries.bin
        with tempfile.TemporaryDirectory(prefix="audit-benchmark-") as folder:
            path = Path(folder) / "script.sql"
            path.write_text(f"\\set i :i + 1\n{script}\n")
            command = [
                str(programs / "pgbench"),
                *("-n", "-M", "prepared" if prepared else "simple", "-D", "i=0", "-D", f"clients={clients}"),
                *("-c", str(clients), "-j", str(min(2, clients)), "-t", str(warm + times), "-f", str(path)),
                *("--log", "--log-prefix", str(Path(folder) / "runs")),
                *("-h", parameters["host"], "-p", parameters["port"], "-U", parameters["user"], database),
            ]
            environment = os.environ | {"PGOPTIONS": f"-c synchronous_commit={'on' if durable else 'off'}"}
            others, began = self._processes(), self.cpu() + _children()
            result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            until = time.monotonic() + _ENDING
            while self._processes() - others:  # a process that ends is counted twice, or not at all
                if time.monotonic() > until:
                    raise RuntimeError(f"processes {self._processes() - others} of the server are not pgbench's")
                time.sleep(0.02)
            used = self.cpu() + _children() - began
            if result.returncode != 0 or "ERROR" in result.stderr:
                raise RuntimeError(f"pgbench: {result.stderr[-2000:]}")
            rate = _rate((line.split() for log in Path(folder).glob("runs.*") for line in log.open()), warm)
        if script != _NOTHING:
            used -= self._connecting(database, clients)
        return Rate(rate, clients * (warm + times) / max(used, 0.01))

    def _connecting(self, database: str, clients: int) -> float:
        """Seconds of CPU that clients of pgbench take to come and go, which the other subjects have behind them."""
        key = (database, clients)
        if key not in self._starts:
            found = [self.pgbench(database, _NOTHING, clients=clients, times=1).cpu for _ in range(3)]
            self._starts[key] = clients / statistics.median(found)
        return self._starts[key]


def _children() -> float:
    """Seconds of CPU that ended child processes of this one have used."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def _rate(lines: Iterator[list[str]], warm: int) -> float:
    """Sum over clients the runs a second, from pgbench's log: client, run, microseconds, script, end in s and µs."""
    ends: dict[str, list[tuple[float, float]]] = {}
    for client, _, taken, _, seconds, micros, *_ in lines:
        ends.setdefault(client, []).append((int(seconds) + int(micros) / 1e6, int(taken) / 1e6))
    total = 0.0
    for runs in ends.values():
        counted = sorted(runs)[warm:]
        first_end, first_taken = counted[0]
        total += len(counted) / (counted[-1][0] - first_end + first_taken)
    return total


@contextmanager
def scratch() -> Iterator[Place]:
    """A durable server that lives for one run, in the directory for temporary files (TMPDIR chooses the disk)."""
    with throwaway(options=_OPTIONS) as server:
        yield Place(server)
