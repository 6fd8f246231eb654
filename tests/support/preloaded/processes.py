"""Processes that are started as forks where that can be."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.preloaded.request import OF_ENDS, Request, dispose, is_open
from tests.support.preloaded.servers import ENVIRONMENT, USUAL, server_for

__all__ = ["Popen", "for_shells", "run"]

_AS_USUAL = {
    **dict.fromkeys(("executable", "preexec_fn", "gid", "gids", "uid")),
    "close_fds": True,
    "restore_signals": True,
    "shell": False,
    "umask": -1,
}
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


class Popen(subprocess.Popen):
    """A process, started as a fork where that can be."""

    def __init__(
        self, words: Sequence[str], *, ignored: Sequence[int] | None = None, forks: bool = False, **options: Any
    ) -> None:
        """Start it.

        Args:
            words: the program and its arguments.
            ignored: those of SIGINT, SIGHUP and SIGTERM that the process ignores from the start; when left out, those
                that this process ignores, as always.
            forks: whether it starts its own Python children in this way too. Then it has one child more.
            options: of `subprocess.Popen`.
        """
        self._ignored = ignored
        self._forks = forks
        super().__init__(words, **options)

    def _execute_child(self, *given: Any) -> None:
        asked = inspect.signature(super()._execute_child).bind(*given).arguments
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        if not _can_fork(asked) or (server := server_for(environment)) is None:
            if self._ignored is not None:
                asked["preexec_fn"] = lambda: dispose(OF_ENDS, self._ignored)
            super()._execute_child(*asked.values())
            return
        pipes = asked["p2cread"], asked["c2pwrite"], asked["errwrite"]
        wanted = {target: target if pipe == -1 else pipe for target, pipe in enumerate(pipes)}
        wanted |= {each: each for each in asked["pass_fds"]}
        wanted = {target: descriptor for target, descriptor in wanted.items() if is_open(descriptor)}
        request = Request(
            words=list(asked["args"]),
            cwd=os.fspath(asked["cwd"] or Path.cwd()),
            environment=environment,
            targets=list(wanted),
            ignored=_ignored_here() if self._ignored is None else tuple(self._ignored),
            new_session=asked["start_new_session"],
            group=asked["process_group"],
            forks=self._forks,
        )
        try:
            self.pid = server.start(request, list(wanted.values()))
            self._child_created = True
        finally:
            self._close_pipe_fds(*(asked[name] for name in _PIPES))


def run(
    words: Sequence[str],
    *,
    input: str | bytes | None = None,  # noqa: A002 - as `subprocess.run` has it
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a program to its end; arguments, return and errors are those of `subprocess.run`."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options["stdout"] = options["stderr"] = subprocess.PIPE
    with Popen(words, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(words, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def for_shells() -> list[str]:
    """Return the words that stand for `python` where a shell starts it."""
    server = server_for(ENVIRONMENT | {"DJANGO_SETTINGS_MODULE": USUAL}) if sys.platform == "linux" else None
    return server.words if server else [sys.executable]


def _can_fork(asked: dict[str, Any]) -> bool:
    """Whether a call of `Popen` asks for nothing that a fork lacks."""
    words = asked["args"]
    return (
        sys.platform == "linux"
        and isinstance(words, list | tuple)
        and len(words) > 1
        and words[0] == sys.executable
        and (words[1] in ("-m", "-c") or words[1].endswith(".py"))
        and all(asked[name] == value for name, value in _AS_USUAL.items())
    )


def _ignored_here() -> tuple[int, ...]:
    # Python ignores these two, and a child does not.
    own = (signal.SIGPIPE, signal.SIGXFSZ)
    return tuple(n for n in signal.valid_signals() if n not in own and signal.getsignal(n) == signal.SIG_IGN)
