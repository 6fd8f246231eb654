"""audit_tail: the newest tasks, and following as a process that restarts of the server and signals meet."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, ProgrammingError, connection, connections
from psycopg import errors

from audit.models import Task
from auditproj.embedded.server import Server
from tests.support.factories import claimed, requested, sql, task_in
from tests.support.pages import past
from tests.support.preloaded import Popen
from tests.support.preloaded import run as run_process
from tests.support.servers import database_settings
from tests.support.users import until


def run(*argv: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("audit_tail", *argv, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


# The newest tasks


@pytest.mark.django_db
def test_the_newest_tasks_stand_last() -> None:
    past(15)
    out, err = run("--lines", "3")
    assert err == ""
    assert re.findall(r"task \d+", out) == ["task 2", "task 1", "task 0"]
    assert "Was" not in out
    assert re.findall(r"task \d+", run()[0]) == [f"task {number}" for number in range(9, -1, -1)]


@pytest.mark.django_db
def test_filters_are_those_of_every_command() -> None:
    past(2, status="failed", summary="wrong")
    past(2, services=["dns"], summary="needle")
    assert run("--service", "dns", "--search", "NEEDLE")[0].count("needle") == 2
    assert "last 30d" in run("--search", "outcome.exit_code:1")[1]
    assert run("--status", "rejected")[1] == "No tasks match.\n"
    assert run("--lines", "0") == ("", "")


@pytest.mark.django_db
def test_nothing_yet() -> None:
    assert run() == ("", "No tasks yet. Task.objects.request(…) makes one.\n")


@pytest.mark.django_db
def test_json_is_every_column_and_no_change() -> None:
    [key] = past(1, outcome={"exit_code": 0})
    [shown] = json.loads(run("--format", "json")[0])
    assert (shown["id"], shown["outcome"], shown["change"], shown["ran_s"]) == (str(key), {"exit_code": 0}, None, 3)
    assert {field.attname for field in Task._meta.concrete_fields} < shown.keys()


@pytest.mark.django_db
def test_what_never_ends_is_no_document() -> None:
    with pytest.raises(CommandError, match="Give --format jsonl") as caught:
        run("--follow", "--format", "json")
    assert caught.value.returncode == 2


@pytest.mark.django_db
def test_text_that_a_terminal_would_obey_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    requested(summary="x\x1b[31m\u202e\r\nTotal: 0")
    assert r"x\x1b[31m\u202e\r\nTotal: 0" in run()[0]


@pytest.mark.django_db
@pytest.mark.parametrize("width", ["60", "100", "200"])
def test_an_id_is_shown_as_far_as_commands_take_it(monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    [key] = past(1)
    monkeypatch.setenv("COLUMNS", width)
    [shown] = re.findall(r"\b[0-9a-f]{8}-\S*", run()[0])
    assert str(key).startswith(shown)
    assert "\u2026" not in shown
    call_command("audit_show", shown, stdout=io.StringIO())


@pytest.mark.parametrize(
    "argv",
    [("--lines", "-1"), ("--lines", "x"), ("--interval", "0"), ("--interval", "nan"), ("--interval", "x")],
)
def test_bad_options_are_named(argv: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match=re.escape(repr(argv[1]))):
        run(argv[0] + "=" + argv[1])


# Following


class _Process:
    """A running audit_tail, and the lines it has printed."""

    def __init__(self, database: dict[str, Any], *argv: str) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.support.managing",
            json.dumps(database),
            "audit_tail",
            "--follow",
            *argv,
        ]
        environment = {**os.environ, "COLUMNS": "0"}
        self.process = Popen(
            [*command, "--interval", "0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            ignored=(),  # else it would inherit what nohup ignores
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self.readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err)),
        ]
        for reader in self.readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))

    def shows(self, text: str) -> bool:
        return until(lambda: any(text in line for line in [*self.out, *self.err]))

    def ends(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(120)
        for reader in self.readers:
            reader.join()
        return code


@contextmanager
def _following(*argv: str, database: dict[str, Any] | None = None) -> Iterator[_Process]:
    running = _Process(database or {"NAME": connection.settings_dict["NAME"]}, *argv)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        for reader in running.readers:
            reader.join()
        running.process.stdout.close()
        running.process.stderr.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_goes_on_with_what_happens_and_ends_in_good_order(number: int) -> None:
    requested(summary="the first")
    with _following("--lines", "5") as tail:
        assert tail.shows("the first")
        task = claimed(task_in("approved", summary="the second"))
        assert tail.shows("executing")
        task.fail("it broke")
        assert tail.shows("failed")
        assert tail.ends(number) == 0
    shown = [re.split(r"  +", line)[1:4:1] for line in tail.out if "the second" in line]
    assert [(was, status) for was, status, _id in shown] == [
        ("new", "pending"),
        ("pending", "approved"),
        ("approved", "executing"),
        ("executing", "failed"),
    ]
    assert sum("the first" in line for line in tail.out) == 1
    assert tail.err == []


@pytest.mark.django_db(transaction=True)
def test_statuses_are_reported_of_when_they_are_reached() -> None:
    with _following("--status", "failed", "--service", "db", "--lines", "0", "--format", "jsonl") as tail:
        requested(summary="not followed")
        # It has begun when it holds a connection.
        assert until(lambda: _others() > 0)
        for services in (["db"], ["web"]):
            # It may take more than one look until it has begun.
            assert until(lambda services=services: _fail(services) and (tail.out != [] or services == ["web"]))
        assert tail.ends(signal.SIGTERM) == 0
    shown = [json.loads(line) for line in tail.out]
    assert {each["change"]["to_status"] for each in shown} == {"failed"}
    assert {each["change"]["from_status"] for each in shown} == {"executing"}
    assert {tuple(each["services_touched"]) for each in shown} == {("db",)}


def _fail(services: list[str]) -> bool:
    task_in("failed", services=services)
    return True


def _others() -> int:
    [(count,)] = sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return int(count)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_is_cut_comes_back_and_nothing_is_left_out() -> None:
    requested(summary="the first")
    with _following() as tail:
        assert tail.shows("the first")
        for number in range(3):
            sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            requested(summary=f"meanwhile {number}")
            assert tail.shows(f"meanwhile {number}")
        assert tail.ends(signal.SIGTERM) == 0
    assert any("is lost; trying again" in line for line in tail.err)
    assert any("Connected again; nothing is left out." in line for line in tail.err)
    assert [sum(f"meanwhile {number}" in line for line in tail.out) for number in range(3)] == [1, 1, 1]


@pytest.mark.django_db(transaction=True)
def test_a_reader_that_leaves_ends_it_without_a_word() -> None:
    requested(summary="the first")
    database = json.dumps({"NAME": connection.settings_dict["NAME"]})
    command = [sys.executable, "-m", "tests.support.managing", database, "audit_tail", "--follow"]
    running = Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert any("the first" in line for line in iter(running.stdout.readline, ""))
        # Nothing happens that it could try to write.
        running.stdout.close()
        assert running.wait(120) == 0
        assert running.stderr.read() == ""
    finally:
        running.kill()
        running.wait()
        running.stderr.close()


@pytest.fixture
def unblocked(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("unblocked")
def test_it_survives_a_restart_of_the_server(throwaway_server: Callable[..., Server]) -> None:
    server = throwaway_server()
    settings = database_settings(server, "postgres")
    connections.databases["again"] = connections.configure_settings({"default": {}, "again": settings})["again"]
    try:
        call_command("migrate", database="again", verbosity=0)
        tasks = Task.objects.using("again")
        tasks.request("work", summary="before", actor="alice")
        with _following(database=settings) as tail:
            assert tail.shows("before")
            connections["again"].close()
            server.stop("immediate")
            assert tail.shows("is lost; trying again")
            server.ensure()
            tasks.request("work", summary="after", actor="alice")
            assert tail.shows("after")
            assert tail.shows("Connected again")
            assert tail.ends(signal.SIGINT) == 0
        assert sum("before" in line for line in tail.out) == 1
    finally:
        connections["again"].close()
        del connections["again"], connections.databases["again"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OperationalError, "longer than the database allows"),
        (ProgrammingError, "its tables are missing"),
    ],
)
def test_missing_tables_and_a_time_limit_are_no_lost_connection(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], shown: str
) -> None:
    def look(self: object) -> Any:
        cause = errors.QueryCanceled() if error is OperationalError else errors.UndefinedTable()
        raise error("no") from cause

    monkeypatch.setattr("audit.reading.following.Follower.look", look)
    with pytest.raises(CommandError, match=shown) as caught:
        run("--follow", "--interval", "0.1")
    assert caught.value.returncode == 2


def test_a_database_that_is_not_there_ends_it() -> None:
    settings = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": "1", "NAME": "x", "USER": "x"}
    command = [sys.executable, "-m", "tests.support.managing", json.dumps(settings), "audit_tail", "--follow"]
    done = run_process(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr
