"""Who uses the server, counted by locks; and the process that stops it when the last user is gone.

Note: counting by locks. Every user process holds a shared ``flock`` on ``users.lock`` for as long as it
lives. The kernel drops it however the process ends, so no list of pids can go stale. Whoever starts or stops
the server holds ``start.lock`` alone, and nobody joins without it; so "I hold start.lock and could lock
users.lock exclusively" means that nobody uses the server and nobody can arrive. Forked children share the
lock of their parent and keep it until both are gone; for that reason the shared lock is only ever closed,
never unlocked.

A user that leaves in an orderly way stops the server itself when it was the last one. The watcher is for the
others: it waits for the exclusive lock and then does the same. It is started with the server, and again by
the next user when somebody killed it.

This file also runs as a script, isolated from any environment, so it imports only the standard library.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Locks", "is_stopping", "main", "postmaster_pid", "recorded_pid", "runs", "stop"]

_STOP_TIMEOUT_S = 120.0
_TRIES = 3000  # ten seconds, in which a busy machine lets the watcher go on


class Locks:
    """The three lock files of one server.

    Args:
        directory: where they lie; must exist.
        name: prefix of the files, so that servers of different versions do not share them.
        owner: uid and gid for the files that are created, None for those of this process.
        create: whether to make files that are missing.
    """

    def __init__(
        self, directory: Path, name: str, owner: tuple[int, int] | None = None, *, create: bool = True
    ) -> None:
        self.directory = directory
        self.name = name
        self._flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self.owner = owner

    def _open(self, kind: str) -> int:
        path = self.directory / f"{self.name}.{kind}.lock"
        # Never inherited by programs that this process runs: they are no users.
        fd = os.open(path, self._flags, 0o600)
        if self.owner is not None and os.fstat(fd).st_uid != self.owner[0]:
            os.fchown(fd, *self.owner)
        return fd

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Hold the right to start or stop the server, waiting for it."""
        fd = self._open("start")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            # Unlocked, not only closed: a child forked by another thread meanwhile must not keep it.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def join(self) -> int:
        """Become a user; to be called while ``starting``. Returns the descriptor to close when leaving."""
        fd = self._open("users")
        fcntl.flock(fd, fcntl.LOCK_SH)
        return fd

    def wait_until_unused(self) -> None:
        """Return when there was a moment without users."""
        fd = self._open("users")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)

    def unused(self) -> bool:
        """Whether nobody uses the server; the answer stays true while ``starting`` is held."""
        fd = self._open("users")
        try:
            # When the last user closes it, the watcher may have the lock for a moment: alone, unlike a user.
            for _ in range(_TRIES):
                if self._locked(fd, fcntl.LOCK_EX):
                    return True
                if self._locked(fd, fcntl.LOCK_SH):
                    return self._locked(fd, fcntl.LOCK_EX)
                time.sleep(0.003)
            return False
        finally:
            os.close(fd)

    @staticmethod
    def _locked(fd: int, kind: int) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return True
        return False

    def watch(self) -> int | None:
        """Become the watcher: the descriptor that makes this process it, or None when there is one."""
        fd = self._open("watcher")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd


def recorded_pid(data: Path) -> int | None:
    """The pid in ``postmaster.pid``, whether or not that process still lives."""
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def runs(pid: int, data: Path) -> bool:
    """Whether ``pid`` is a living postmaster of ``data``, no zombie and no stranger with a recycled pid."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if not Path("/proc/self/cmdline").exists():
        return True
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True
    with contextlib.suppress(OSError):
        return words[1:2] == [b"-D"] and Path(os.fsdecode(words[2])).samefile(data)
    return os.fsencode(data) in words


def postmaster_pid(data: Path) -> int | None:
    """The pid of the server that runs in ``data``, or None."""
    pid = recorded_pid(data)
    return pid if pid is not None and runs(pid, data) else None


def is_stopping(data: Path) -> bool:
    """Whether the server in ``data`` was asked to end; after ``smart`` it waits until its sessions do."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()[7].strip() == "stopping"
    except (OSError, IndexError):
        return False


def stop(data: Path, mode: str = "fast") -> bool:
    """Stop the server of ``data`` and wait for its end.

    Args:
        data: its data directory.
        mode: ``fast`` (ends sessions, then shuts down cleanly) or ``immediate`` (as after a crash).

    Returns:
        False when it is still running after two minutes.
    """
    pid = postmaster_pid(data)
    if pid is None:
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while runs(pid, data):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _watch(locks: Locks, data: Path, watching: int) -> None:
    while True:
        locks.wait_until_unused()
        with locks.starting():
            if locks.unused() and stop(data):
                # Before the next user may start: it must see that it needs a new watcher.
                os.close(watching)
                return


def _start(program: dict[str, Any]) -> int:
    """Start the postmaster as a session of its own; returns its pid."""
    with Path(program["log"]).open("ab") as log:
        identity: dict[str, Any] = {}
        if program["account"] is not None:
            uid, gid = program["account"]
            os.fchown(log.fileno(), uid, gid)
            identity = {"user": uid, "group": gid, "extra_groups": []}
        process = subprocess.Popen(  # noqa: S603 - our own program
            program["argv"],
            env=program["env"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            **identity,
        )
    return process.pid


def main(argument: str) -> int:
    """Start a server if asked to, and leave a watcher in the background.

    Args:
        argument: JSON with ``locks`` (directory, name, owner), ``data``, and ``program`` (argv, env, log,
            account) or null. The pid of the started program is printed.
    """
    order = json.loads(argument)
    directory, name, owner = order["locks"]
    locks = Locks(Path(directory), name, tuple(owner) if owner else None)
    os.umask(0o077)
    if order["program"] is not None:
        print(_start(order["program"]), flush=True)  # noqa: T201 - the answer to the caller
    watching = locks.watch()
    if watching is None or os.fork() != 0:
        # The fork makes postmaster and watcher orphans: whoever started them need not wait for them.
        os._exit(0)
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    # A user that removes the directory after leaving must not find it made again.
    with contextlib.suppress(FileNotFoundError):
        _watch(Locks(Path(directory), name, create=False), Path(order["data"]), watching)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
