"""Checkpoints in a directory: what was signed, out of reach of whoever owns the database."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from audit.exceptions import AuditError
from audit.ledger.tlog import files, keys

__all__ = ["CannotExport", "Exported", "Exports"]

_SUFFIX = ".checkpoint"
_NAME = re.compile(rf"([0-9]+)-([0-9]+){re.escape(_SUFFIX)}")
_GIT_SECONDS = 60.0
_MAX_BYTES = 1024 * 1024


class CannotExport(AuditError):
    """A checkpoint could not be put where it should be kept: `path`, `problem`."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A checkpoint as it was found."""

    path: Path
    text: str

    @property
    def place(self) -> tuple[int, int] | None:
        """Its epoch and size, as its name has them; None for a name that nothing here wrote."""
        named = _NAME.fullmatch(self.path.name)
        return (int(named[1]), int(named[2])) if named else None


class Exports:
    """A directory of checkpoints, one file each, never overwritten.

    Files are named `<epoch>-<size>.checkpoint` with leading zeros, so that their order is the order of signing.

    Args:
        directory: where they are.
        git: commit each new file in the git work tree that the directory is in. Git runs without hooks and never sees
            where the signing key is.
        make: make the directory if it is not there. Who only reads says no: a name that was mistyped would otherwise
            be a new, empty directory, in which nothing contradicts the database.

    Raises:
        CannotExport: the directory cannot be made, is not there, or is something else.
    """

    def __init__(self, directory: Path, *, git: bool = False, make: bool = True) -> None:
        self.directory = directory
        self._git = git
        self._made: list[Path] = []
        if not make:
            if not directory.is_dir():
                raise CannotExport(directory, "there is no such directory; audit_seal --checkpoints DIR makes it")
            return
        self._made = [each for each in (directory, *directory.parents) if not each.exists()]
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotExport(directory, f"no directory for checkpoints: {error.strerror}") from None

    def unmake(self) -> None:
        """Remove the directory if it was made here and nothing was kept in it."""
        with contextlib.suppress(OSError):
            for each in self._made:
                each.rmdir()

    def path(self, epoch: int, size: int) -> Path:
        """Name the file of a checkpoint."""
        return self.directory / f"{epoch:04d}-{size:020d}{_SUFFIX}"

    def write(self, epoch: int, size: int, text: str) -> bool:
        """Keep a checkpoint, on disk when this returns.

        Returns:
            Whether it was new; False when it is kept already.

        Raises:
            CannotExport: it could not be written, or another text is kept under its name.
        """
        path = self.path(epoch, size)
        try:
            try:
                files.create(path, text, mode=0o644)
            except FileExistsError:
                if _read(path).startswith(text):  # perhaps with a witness's signature at its end
                    if self._git:
                        self._commit()  # an earlier run may have failed to
                    return False
                raise CannotExport(path, "another checkpoint of this size is kept here; nothing was written") from None
        except OSError as error:
            raise CannotExport(path, f"cannot be written: {error.strerror}") from None
        if self._git:
            self._commit()
        return True

    def read(self) -> Iterator[Exported]:
        """Read every checkpoint, in the order of signing.

        Raises:
            CannotExport: a file cannot be read.
        """
        for name in sorted(self._names()):
            path = self.directory / name
            yield Exported(path=path, text=_read(path))

    def newest(self) -> Exported | None:
        """Read the checkpoint that was signed last; None when there is none.

        Raises:
            CannotExport: the directory or the file cannot be read.
        """
        name = max(self._names(), default=None)
        if name is None:
            return None
        path = self.directory / name
        return Exported(path=path, text=_read(path))

    def _names(self) -> Iterator[str]:
        try:
            with os.scandir(self.directory) as entries:
                yield from (each.name for each in entries if each.name.endswith(_SUFFIX))
        except OSError as error:
            raise CannotExport(self.directory, f"cannot be read: {error.strerror}") from None

    def _commit(self) -> None:
        """Commit every checkpoint that is not committed as it is, those of runs that failed to included."""
        ours = f":(glob)*{_SUFFIX}"
        changed = self._run_git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ours)
        # Each entry is two letters, a space and the path from the work tree's root. What is gone stays in git.
        names = [entry[3:].rpartition("/")[2] for entry in changed.split("\0") if entry]
        names = [name for name in names if (self.directory / name).exists()]
        if not names:
            return
        listed = ("--pathspec-from-file=-", "--pathspec-file-nul")
        paths = "\0".join(f":(literal){name}" for name in names)
        self._run_git("add", *listed, given=paths)
        what = names[0].removesuffix(_SUFFIX) if len(names) == 1 else f"{len(names)} checkpoints"
        message = f"Checkpoint {what}" if len(names) == 1 else what
        self._run_git("commit", "--quiet", "--message", message, *listed, given=paths)

    def _run_git(self, command: str, *arguments: str, given: str = "") -> str:
        try:
            process = subprocess.Popen(  # noqa: S603 - git, with our own arguments
                # No hooks: whatever the repository brings would run as the sealer.
                ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", command, *arguments],  # noqa: S607 - whichever the sealer's account uses
                cwd=self.directory,
                env=_without_keys(os.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="surrogateescape",
                process_group=0,
            )
        except OSError as error:
            raise CannotExport(self.directory, f"git cannot be run: {error.strerror}") from None
        with process:
            try:
                out, err = process.communicate(given, timeout=_GIT_SECONDS)
            except BaseException as error:
                # With what it started, which may hold its output open: a program that signs, and waits for a password.
                os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise CannotExport(
                        self.directory, f"git {command} took longer than {_GIT_SECONDS:g} s, and was ended"
                    ) from None
                raise
        if process.returncode:
            raise CannotExport(self.directory, f"git {command} failed: {err.strip() or out.strip()}")
        return out


def _without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """What a program that is not the sealer may know of the sealer's environment."""
    ours = (keys.KEY_VARIABLE, keys.FILE_VARIABLE)
    return {name: value for name, value in environment.items() if name not in ours} | {"GIT_TERMINAL_PROMPT": "0"}


def _read(path: Path) -> str:
    try:
        # A pipe under that name would be waited for, and a device never end.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CannotExport(path, "is no regular file")
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CannotExport(path, f"cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise CannotExport(path, f"is no checkpoint: it has more than {_MAX_BYTES} bytes")
    return data.decode("utf-8", "surrogateescape")
