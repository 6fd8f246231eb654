"""Files that are there whole or not at all, and still there after the power fails."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["create", "replace"]


def create(path: Path, content: str | bytes, *, mode: int = 0o600) -> None:
    """Write a new file, on disk when this returns.

    Args:
        path: where nothing is yet.
        content: what it shall hold; text as UTF-8.
        mode: its permissions, as far as the umask leaves them.

    Raises:
        FileExistsError: something is there; it is left alone.
        OSError: it cannot be written; nothing is left behind.
    """
    unfinished = _unfinished(path)
    _write(unfinished, content, mode)
    try:
        # A link is made whole or not at all, and never in place of something else; a file opened with O_EXCL could
        # be left half-written.
        os.link(unfinished, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        unfinished.unlink()
    _sync_folder(path.parent)


def replace(path: Path, content: str | bytes, *, mode: int = 0o600) -> None:
    """Write a file, or exchange what it holds at once; on disk when this returns.

    Of several writers at once each writes whole, and the last one stays.

    Args:
        path: the file.
        content: what it shall hold; text as UTF-8.
        mode: its permissions, as far as the umask leaves them.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    unfinished = _unfinished(path)
    _write(unfinished, content, mode)
    try:
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _unfinished(path: Path) -> Path:
    # By chance, not by process number: writers in two containers may have the same.
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")


def _write(path: Path, content: str | bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
