"""Checkpoints in a directory: what was signed, out of reach of whoever owns the database."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.exceptions import AuditError
from audit.ledger import files

__all__ = ["CannotExport", "Exported", "Exports"]

_SUFFIX = ".checkpoint"


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


class Exports:
    """A directory of checkpoints, one file each, never overwritten.

    Files are named `<epoch>-<size>.checkpoint` with leading zeros, so that their order is the order of signing.

    Args:
        directory: where they are.
        git: commit each new file in the git work tree that the directory is in.
        make: make the directory if it is not there. Who only reads says no: a name that was mistyped would otherwise
            be a new, empty directory, in which nothing contradicts the database.

    Raises:
        CannotExport: the directory cannot be made, is not there, or is something else.
    """

    def __init__(self, directory: Path, *, git: bool = False, make: bool = True) -> None:
        self.directory = directory
        self._git = git
        if not make:
            if not directory.is_dir():
                raise CannotExport(directory, "there is no such directory; audit_seal --checkpoints DIR makes it")
            return
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotExport(directory, f"no directory for checkpoints: {error.strerror}") from None

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
                        self._commit(path)  # an earlier run may have failed to
                    return False
                raise CannotExport(path, "another checkpoint of this size is kept here; nothing was written") from None
        except OSError as error:
            raise CannotExport(path, f"cannot be written: {error.strerror}") from None
        if self._git:
            self._commit(path)
        return True

    def read(self) -> Iterator[Exported]:
        """Read every checkpoint, in the order of signing.

        Raises:
            CannotExport: a file cannot be read.
        """
        for path in sorted(self.directory.glob(f"*{_SUFFIX}")):
            yield Exported(path=path, text=_read(path))

    def newest(self) -> Exported | None:
        """Read the checkpoint that was signed last; None when there is none."""
        names = sorted(self.directory.glob(f"*{_SUFFIX}"))
        return Exported(path=names[-1], text=_read(names[-1])) if names else None

    def _commit(self, path: Path) -> None:
        if not self._run_git(path, "status", "--porcelain", "--", path.name):
            return
        self._run_git(path, "add", "--", path.name)
        self._run_git(path, "commit", "--quiet", "--message", f"Checkpoint {path.stem}", "--", path.name)

    def _run_git(self, path: Path, *arguments: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - git, with our own arguments
                ["git", *arguments],  # noqa: S607 - whichever the sealer's account uses
                cwd=self.directory,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise CannotExport(path, f"git cannot be run: {error.strerror}") from None
        if done.returncode:
            raise CannotExport(path, f"git {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise CannotExport(path, f"cannot be read: {error.strerror}") from None
