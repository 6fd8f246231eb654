"""Checkpoints in a directory: what was signed, out of reach of whoever owns the database."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.exceptions import AuditError
from audit.ledger import git_commit
from audit.ledger.tlog import files
from audit.ledger.tlog.damage import examine

__all__ = ["MAX_BYTES", "CannotExport", "Exported", "Exports"]

_SUFFIX = ".checkpoint"
_NAME = re.compile(rf"([0-9]+)-([0-9]+){re.escape(_SUFFIX)}")
_ATTRIBUTES = ".gitattributes"
_AS_IT_IS = f"*{_SUFFIX} -text"
MAX_BYTES = 1024 * 1024
"""The largest file that may be a checkpoint."""


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
    problem: str = ""
    """Why it could not be read."""

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
        git: commit each new file in the git work tree that the directory is in, without running anything that the
            repository's configuration names.
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

    @property
    def made(self) -> bool:
        """Whether the directory was not there before."""
        return self.directory in self._made

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
                raise CannotExport(path, _other(_read(path), text)) from None
        except OSError as error:
            raise CannotExport(path, f"cannot be written: {error.strerror}") from None
        if self._git:
            self._commit()
        return True

    def read(self) -> Iterator[Exported]:
        """Read every checkpoint, in the order of signing. One that cannot be read says why.

        Raises:
            CannotExport: the directory cannot be read.
        """
        for name in sorted(self._names()):
            path = self.directory / name
            try:
                yield Exported(path=path, text=_read(path))
            except CannotExport as error:
                yield Exported(path=path, text="", problem=error.problem)

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
                yield from (entry.name for entry in entries if entry.name.endswith(_SUFFIX))
        except OSError as error:
            raise CannotExport(self.directory, f"cannot be read: {error.strerror}") from None

    def _commit(self) -> None:
        """Commit every checkpoint that is not committed as it is, those of runs that failed to included."""
        try:
            self._keep_bytes()
            git_commit.commit(self.directory, f"*{_SUFFIX}", _ATTRIBUTES)
        except git_commit.GitError as error:
            raise CannotExport(self.directory, str(error)) from None
        except OSError as error:
            raise CannotExport(self.directory / _ATTRIBUTES, f"cannot be written: {error.strerror}") from None

    def _keep_bytes(self) -> None:
        """Tell git to change no line end in a checkpoint, in any clone."""
        path = self.directory / _ATTRIBUTES
        if path.is_symlink():  # what it leads to would be committed
            raise CannotExport(path, "is a link; put a file in its place, or take it away")
        said = _read(path) if path.exists() else ""
        if _AS_IT_IS not in said.splitlines():
            said += "" if not said or said.endswith("\n") else "\n"
            content = f"{said}{_AS_IT_IS}\n".encode("utf-8", "surrogateescape")
            files.replace(path, content, mode=0o644)


def _other(kept: str, text: str) -> str:
    """Say what is kept in the place of a text."""
    found = examine(kept.encode("utf-8", "surrogateescape"))
    if found.causes and (found.text is None or found.text.startswith(text)):
        return f"the checkpoint that is kept here is damaged: {found}. Take it away; nothing was written"
    return "another checkpoint of this size is kept here; nothing was written"


def _read(path: Path) -> str:
    try:
        # A pipe under that name would be waited for, and a device never end.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CannotExport(path, "is not a regular file")
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CannotExport(path, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise CannotExport(path, f"is not a checkpoint: it has more than {MAX_BYTES} bytes")
    return data.decode("utf-8", "surrogateescape")
