"""Exports are bounded per person and in all, and those that nobody reads are ended: pages keep their connections."""

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from audit.admin.shared import export_limits
from audit.admin.shared.export import INCOMPLETE
from audit.admin.shared.export_limits import IN_ALL, PER_USER, Patience, Slot, TooManyExports, TooSlow
from tests.support.pages import TASKS, client_of, past
from tests.support.preloaded import Popen

EXPORT = f"{TASKS}export/?since=all&format=jsonl"
_ROWS, _ROW_BYTES = 160, 200_000  # together more than the buffers of a connection hold


def _eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


class _Site:
    """A server process, and what is asked of it."""

    def __init__(self, port: int, stack: contextlib.ExitStack) -> None:
        self._port = port
        self._stack = stack

    def ask(self, client: Client, path: str = EXPORT) -> socket.socket:
        """Ask for a page and read nothing of the answer."""
        made = self._stack.enter_context(socket.socket())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(60)
        made.connect(("127.0.0.1", self._port))
        cookies = "; ".join(f"{name}={cookie.value}" for name, cookie in client.cookies.items())
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookies}\r\nConnection: close\r\n\r\n"
        made.sendall(head.encode())
        return made

    def answer(self, client: Client, path: str = EXPORT) -> http.client.HTTPResponse:
        """Ask for a page and read the head of the answer."""
        answer = self._stack.enter_context(http.client.HTTPResponse(self.ask(client, path)))
        answer.begin()
        return answer


@contextlib.contextmanager
def _sites(count: int, *numbers: str) -> Iterator[list[_Site]]:
    command = [sys.executable, "-m", "tests.support.site", connection.settings_dict["NAME"], *numbers]
    processes = [Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(count)]
    try:
        with contextlib.ExitStack() as stack:
            ports = [process.stdout.readline() for process in processes if process.stdout is not None]
            assert all(ports), "the server did not start"
            yield [_Site(int(port), stack) for port in ports]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        _eventually(lambda: _connections() == 0, "the server's connections stay")


def _status(made: socket.socket) -> int:
    """The status of an answer that is read up to its head."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = made.recv(1)
        assert piece, head
        head += piece
    return int(head.split()[1])


def _exports() -> int:
    """How many other sessions read the tasks inside a transaction that waits for its client."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND state LIKE 'idle in transaction%'"
        )
        [(count,)] = cursor.fetchall()
    return int(count)


def _connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        [(count,)] = cursor.fetchall()
    return int(count)


@pytest.mark.django_db(transaction=True)
def test_slow_readers_hold_few_connections_and_pages_are_had_beside_them() -> None:
    past(_ROWS, plan={"x": "y" * _ROW_BYTES})
    people = [client_of(kind) for kind in ("viewer", "decider", "changer", "superuser")]
    with _sites(1, "IN_ALL=5") as [site]:
        opened = [site.ask(people[0]) for _ in range(20)]
        statuses = sorted(_status(each) for each in opened)
        assert statuses == [200] * PER_USER + [429] * (20 - PER_USER)
        _eventually(lambda: _exports() == PER_USER, "the exports do not wait for their readers")
        opened += [site.ask(client) for client in people[1:] for _ in range(5)]
        statuses = sorted(_status(each) for each in opened[20:])
        assert statuses == [200] * 3 + [429] * 12
        _eventually(lambda: _connections() == _exports() == 5, "other connections stay open")
        for client in people:
            answer = site.answer(client, TASKS)
            assert answer.status == 200
            assert b"deploy" in answer.read()
        refused = site.answer(people[0])
        assert refused.status == 429
        assert refused.getheader("Retry-After") == "30"
        assert b"2 of one person may run at once, 5 in all" in refused.read()
        # A reader who leaves makes room.
        for each in opened:
            each.close()
        _eventually(lambda: _exports() == 0, "exports of readers who left stay")
        whole = site.answer(people[0])
        assert whole.status == 200
        assert whole.read().count(b"\n") == _ROWS


@pytest.mark.django_db(transaction=True)
def test_an_export_that_nobody_reads_gives_its_connection_back_and_ends_incomplete() -> None:
    past(_ROWS, plan={"x": "y" * _ROW_BYTES})
    client = client_of("viewer")
    with _sites(1, "IDLE_MS=500") as [site]:
        slow = site.ask(client)
        assert _status(slow) == 200
        _eventually(lambda: _exports() == 1, "the export does not wait for its reader")
        _eventually(lambda: _connections() == 0, "the export of a reader that does not read is not ended")
        body = b""
        while piece := slow.recv(1 << 20):
            body += piece
        last = body.rstrip(b"\n").splitlines()[-1].decode()
        assert f"{last}\n".startswith(INCOMPLETE.partition("{")[0])
        assert 0 < body.count(b"\n") < _ROWS
    with _sites(1) as [patient]:  # a busy machine can keep a reader who does read waiting for longer
        assert patient.answer(client).read().count(b"\n") == _ROWS


@pytest.mark.django_db(transaction=True)
def test_processes_share_the_bounds() -> None:
    past(_ROWS, plan={"x": "y" * _ROW_BYTES})
    viewer, other = client_of("viewer"), client_of("decider")
    with _sites(2, "IN_ALL=3") as [first, second]:
        opened = [first.ask(viewer) for _ in range(PER_USER)]
        assert [_status(each) for each in opened] == [200] * PER_USER
        _eventually(lambda: _exports() == PER_USER, "the exports do not wait for their readers")
        assert _status(second.ask(viewer)) == 429
        opened.append(second.ask(other))
        assert _status(opened[-1]) == 200
        _eventually(lambda: _exports() == 3, "the export does not wait for its reader")
        assert _status(second.ask(other)) == _status(first.ask(other)) == 429


def test_a_place_is_given_back_once_also_when_it_is_forgotten() -> None:
    kept = [Slot("a") for _ in range(PER_USER)]
    with pytest.raises(TooManyExports):
        Slot("a")
    kept[0].leave()
    kept[0].leave()
    kept.append(Slot("a"))
    with pytest.raises(TooManyExports):
        Slot("a")
    del kept[-1]
    kept.append(Slot("a"))
    others = [Slot(f"b{number}") for number in range(IN_ALL - PER_USER)]
    with pytest.raises(TooManyExports):
        Slot("c")
    for each in [*kept, *others]:
        each.leave()
    assert not export_limits._running


def test_a_reader_who_takes_a_little_now_and_then_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    slow = Patience()
    for _ in range(2):  # the first minute is anybody's
        slow.begin(1_000)
        now += 30
        slow.end()
    slow.begin(1_000)
    now += 29
    with pytest.raises(TooSlow):
        slow.end()
    steady = Patience()
    for _ in range(1_000):
        steady.begin(64 * 1024)
        now += 3.9
        steady.end()


@pytest.mark.django_db
def test_an_export_of_a_slow_reader_ends_incomplete(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.admin.shared.export._PIECE", 1)
    monkeypatch.setattr(export_limits, "_GRACE_S", -1)
    monkeypatch.setattr(export_limits, "_SLOWEST_BYTES_PER_S", 10**12)
    past(3)
    sent: list[str] = []
    with pytest.raises(TooSlow):
        sent.extend(piece.decode() for piece in viewer.get(EXPORT).streaming_content)
    assert "".join(sent).splitlines()[-1] + "\n" == INCOMPLETE.format(rows=1)
