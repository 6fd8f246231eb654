"""Whose files are believed: keys, verifier keys and the secret key, and the links that lead to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from audit.ledger.tlog import keys, trusted
from audit.ledger.tlog.errors import InvalidKey
from audit.ledger.tlog.note import generate
from auditproj import environment

KEY = generate("example.org/audit")
ME = os.geteuid()
MALLORY = 64_023


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, int], None]]:
    """Let a file, link or directory belong to somebody else, also where this process may not give it away."""
    given: dict[tuple[int, int], int] = {}

    def give(path: Path, uid: int) -> None:
        found = os.lstat(path)
        given[found.st_dev, found.st_ino] = uid

    def owned_by(look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def seen(*args: Any, **kwargs: Any) -> os.stat_result:
            found = look(*args, **kwargs)
            uid = given.get((found.st_dev, found.st_ino), found.st_uid)
            return os.stat_result((*found[:4], uid, *found[5:]))

        return seen

    for name in ("stat", "lstat", "fstat"):
        monkeypatch.setattr(os, name, owned_by(getattr(os, name)))
    yield give
    monkeypatch.undo()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A key in a directory of its own."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    keys.write(home / "key", KEY)
    return home / "key"


def kubernetes(file: Path, mode: int = 0o400) -> Path:
    """What a mounted secret looks like: links inside a directory in which everybody may write, and nobody delete."""
    mount = file.parent / "mount"
    (mount / "..2026_05_03").mkdir(parents=True)
    (mount / "..2026_05_03" / "key").write_bytes(file.read_bytes())
    (mount / "..2026_05_03" / "key").chmod(mode)
    (mount / "..data").symlink_to("..2026_05_03")
    (mount / "key").symlink_to("..data/key")
    mount.chmod(0o1777)
    return mount / "key"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o660, 0o622, 0o666])
def test_a_key_that_others_could_have_written_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(InvalidKey, match=rf"{file} can be written by others \(mode {mode:o}\)"):
        keys.read(file)


def test_a_key_of_somebody_else_is_refused(file: Path, owned: Callable[[Path, int], None]) -> None:
    owned(file, MALLORY)
    with pytest.raises(InvalidKey, match=rf"{file} belongs to another user \(id {MALLORY}\)"):
        keys.read(file)
    assert keys.read(file, [MALLORY]) == (KEY,)


def test_a_key_of_root_is_read_through_its_group_by_others_alone(
    file: Path, owned: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (file, file.parent):
        owned(each, 0)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    file.chmod(0o440)
    assert keys.read(file) == (KEY,)
    for mode in (0o444, 0o450):
        file.chmod(mode)
        with pytest.raises(InvalidKey, match="can be read by others"):
            keys.read(file)
    file.chmod(0o440)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(InvalidKey, match="can be read by others"):
        keys.read(file)


def test_links_are_followed_where_all_are_ours(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "relative").symlink_to(Path("home", "..", "home", "key"))
    (tmp_path / "folder").symlink_to("home")
    for path in ("link", "relative", "folder/key"):
        assert keys.read(tmp_path / path) == (KEY,)
    monkeypatch.chdir(file.parent)
    assert keys.read(Path("key")) == (KEY,)
    assert keys.read(Path("../link")) == (KEY,)
    assert keys.read(kubernetes(file)) == (KEY,)


@pytest.mark.parametrize("what", ["link", "folder/key", "mount/key", "mount/..data"])
def test_a_planted_link_is_refused(
    file: Path, tmp_path: Path, what: str, owned: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "folder").symlink_to("home")
    kubernetes(file)
    (tmp_path / "mount").symlink_to("home/mount")
    planted = tmp_path / what.removesuffix("/key") if what.startswith("folder") else tmp_path / what
    read = tmp_path / what.replace("..data", "key")
    assert keys.read(read) == (KEY,)
    owned(planted, MALLORY)
    with pytest.raises(InvalidKey, match=rf"the link .*{planted.name} belongs to another user"):
        keys.read(read)


@pytest.mark.parametrize("planted", ["file", "link", "link to a directory"])
def test_what_lies_where_others_may_write_is_refused(
    file: Path, tmp_path: Path, planted: str, owned: Callable[[Path, int], None]
) -> None:
    path, holder = file, file.parent
    if planted != "file":
        holder = tmp_path / "other"
        holder.mkdir()
        to_folder = planted == "link to a directory"
        link = holder / "link"
        link.symlink_to(file.parent if to_folder else file)
        path = link / "key" if to_folder else link
    for mode in (0o777, 0o770 if ME == 0 else 0o707):
        holder.chmod(mode)
        with pytest.raises(InvalidKey, match=rf"directory .*{holder.name} can be written by others \(mode {mode:o}\)"):
            keys.read(path)
    holder.chmod(0o1777)
    assert keys.read(path) == (KEY,)
    holder.chmod(0o700)
    owned(holder, MALLORY)
    with pytest.raises(InvalidKey, match=r"directory .* belongs to another user"):
        keys.read(path)


def test_a_group_of_its_owner_alone_may_write_in_a_directory(
    file: Path, monkeypatch: pytest.MonkeyPatch, owned: Callable[[Path, int], None]
) -> None:
    owned(file.parent, 4711)
    file.parent.chmod(0o775)
    gid = file.parent.stat().st_gid
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(trusted.pwd, "getpwuid", lambda uid: os_entry(pw_name="alice", pw_gid=gid))
    monkeypatch.setattr(trusted.grp, "getgrgid", lambda gid: os_entry(gr_name="alice", gr_gid=gid, gr_mem=[]))
    owned(file, 4711)
    assert keys.read(file) == (KEY,)
    for group in ({"gr_name": "alice", "gr_mem": ["mallory"]}, {"gr_name": "staff", "gr_mem": []}):
        monkeypatch.setattr(trusted.grp, "getgrgid", lambda gid, group=group: os_entry(gr_gid=gid, **group))
        with pytest.raises(InvalidKey, match="can be written by others"):
            keys.read(file)


def os_entry(**values: Any) -> Any:
    return type("Entry", (), values)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(InvalidKey, match="is not a regular file"):
        keys.read(tmp_path / "pipe")
    with pytest.raises(InvalidKey, match="is not a regular file"):
        keys.read(tmp_path)
    with pytest.raises(OSError, match="Too many levels"):
        keys.read(tmp_path / "round")


def test_a_file_that_is_exchanged_while_it_is_opened_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look = os.open

    def exchange(*arguments: Any) -> int:
        descriptor = look(*arguments)
        file.rename(file.with_name("old"))
        file.with_name("old").with_suffix(".new").write_text(KEY.secret())
        file.with_name("old").with_suffix(".new").rename(file)
        file.chmod(0o600)
        return descriptor

    monkeypatch.setattr(os, "open", exchange)
    with pytest.raises(InvalidKey, match="was exchanged while it was read"):
        keys.read(file)


# The example project

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "verifiers": ("ledger-verifier-key", environment.verifiers),
    "secret key": ("secret-key", lambda home: [environment._kept_key(home / "secret-key")]),
}


@pytest.mark.parametrize("reader", READERS)
def test_the_example_project_believes_no_file_of_others(
    file: Path, reader: str, owned: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUDIT_LEDGER_VERIFIERS", raising=False)
    name, read = READERS[reader]
    home = file.parent
    (home / name).write_text("a+b+c\n")
    (home / name).chmod(0o644)
    assert read(home) == ["a+b+c"]
    (home / name).chmod(0o664)
    with pytest.raises(ImproperlyConfigured, match=rf"{home / name} can be written by others .*AUDIT_HOME"):
        read(home)
    (home / name).chmod(0o644)
    owned(home / name, MALLORY)
    with pytest.raises(ImproperlyConfigured, match="belongs to another user"):
        read(home)


@pytest.mark.parametrize("reader", READERS)
def test_the_example_project_follows_no_planted_link_and_reads_a_mounted_secret(
    file: Path, tmp_path: Path, reader: str, owned: Callable[[Path, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUDIT_LEDGER_VERIFIERS", raising=False)
    name, read = READERS[reader]
    file.write_text("a+b+c\n")
    link = kubernetes(file, 0o444).rename(file.parent / "mount" / name)
    assert read(link.parent) == ["a+b+c"]
    owned(link, MALLORY)
    with pytest.raises(ImproperlyConfigured, match=rf"the link {link} belongs to another user"):
        read(link.parent)
