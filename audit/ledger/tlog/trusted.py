"""Files that only root and the account of this process could have written, whatever links lead to them.

A key is believed because of who could put it there. A link is as good as whoever owns it, and whoever may write in a
directory can exchange what is in it. Kubernetes mounts a secret as links inside a directory of root; those pass.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Collection
from pathlib import Path

__all__ = ["Untrusted", "open_trusted"]

_MAX_LINKS = 40


class Untrusted(ValueError):
    """Another user could have written a file: `problem` says how."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


def open_trusted(path: Path, owners: Collection[int] = ()) -> int:
    """Open a file for reading, if nobody but root and this process's account could have put it there.

    Args:
        path: the file, or a link that leads to it.
        owners: ids of further users who are trusted.

    Returns:
        A descriptor of the regular file; the caller closes it.

    Raises:
        Untrusted: the file, a link to it, or the directory that holds one of them belongs to another user or can be
            written by one; or it is not a regular file.
        OSError: it cannot be opened.
    """
    trusted = {0, os.geteuid(), *owners}
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode):
            raise Untrusted(f"{path} is not a regular file")
        last = _followed(path, trusted)
        if (last.st_dev, last.st_ino) != (opened.st_dev, opened.st_ino):
            raise Untrusted(f"{path} was exchanged while it was read")
        _check_owner(opened, f"{path}", trusted)
        if opened.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Untrusted(f"{path} can be written by others (mode {stat.S_IMODE(opened.st_mode):o})")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _followed(path: Path, trusted: Collection[int]) -> os.stat_result:
    """Follow a path link by link, each of them and its directory checked; what the file at its end is."""
    place, rest, links = Path.cwd(), list(path.parts), 0
    found = place.stat()
    while rest:
        holder, name = place, rest.pop(0)
        place = holder.parent if name == ".." else holder / name
        found = place.lstat()
        link = stat.S_ISLNK(found.st_mode)
        if link or not rest:
            _check_holder(holder, trusted)
        if link:
            _check_owner(found, f"the link {place}", trusted)
            links += 1
            if links > _MAX_LINKS:
                raise Untrusted(f"{path} is reached through more than {_MAX_LINKS} links")
            rest = [*place.readlink().parts, *rest]
            place = holder
    return found


def _check_holder(holder: Path, trusted: Collection[int]) -> None:
    found = holder.stat()
    _check_owner(found, f"the directory {holder}", trusted)
    # A sticky directory keeps everybody from what is not theirs.
    others = stat.S_IWOTH if _is_alone(found) else stat.S_IWGRP | stat.S_IWOTH
    if found.st_mode & others and not found.st_mode & stat.S_ISVTX:
        raise Untrusted(f"the directory {holder} can be written by others (mode {stat.S_IMODE(found.st_mode):o})")


def _is_alone(found: os.stat_result) -> bool:
    """Whether a directory's group is the one that many systems make for its owner alone, with a umask of 002."""
    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    return bool(found.st_uid) and group.gr_gid == owner.pw_gid and group.gr_name == owner.pw_name and not group.gr_mem


def _check_owner(found: os.stat_result, what: str, trusted: Collection[int]) -> None:
    if found.st_uid not in trusted:
        raise Untrusted(f"{what} belongs to another user (id {found.st_uid}), who could exchange it")
