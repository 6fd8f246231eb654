"""Waits for answers that do not come are ended, each of them, and nothing else is."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.backends.postgresql.base import DatabaseWrapper

from audit.leases import wakeup
from audit.leases.wakeup import Listener
from audit.statements import answers
from audit.statements.answers import answered_within, end_wait
from audit.statements.connections import LIVENESS, Destination
from audit.worker import clerk as clerk_module
from audit.worker.clerk import Clerk
from tests.support.factories import requested, sql
from tests.support.holding import server_session
from tests.support.proxy import network
from tests.support.worker import eventually

pytestmark = pytest.mark.django_db(transaction=True)

_ASK = "SELECT 1 FROM audit_task FOR UPDATE"


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    requested()
    with server_session() as other, other.transaction():
        other.execute("SELECT 1 FROM audit_task FOR UPDATE")
        yield


def _ask() -> str:
    try:
        sql("SET lock_timeout = '60s'")  # a wait that nobody ends says something else
        sql(_ASK)
    except OperationalError as error:
        return str(error).partition("\n")[0]
    return "answered"


_ENDED = "canceling statement due to user request"


def test_each_wait_of_a_block_is_ended() -> None:
    with _locked(), answered_within(0.3, connections["default"]):
        assert [_ask(), _ask()] == [_ENDED, _ENDED]
    assert _ask() == "answered"
    sql("RESET lock_timeout")


def test_each_wait_of_a_request_of_the_clerk_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clerk_module, "ANSWER_SECONDS", 0.3)
    said: list[Any] = []
    clerk = Clerk("default", lambda call: call(), print)
    with _locked():
        clerk.give(lambda: [_ask(), _ask()], lambda result, problem: said.append(problem or result))

        def looked() -> bool:
            clerk.look()
            return bool(said)

        eventually(looked)
    assert said == [[_ENDED, _ENDED]]
    assert clerk.end(60)


def test_a_wait_that_is_over_is_not_ended() -> None:
    class Asked:
        closed = False
        cancelled = threading.Event()

        def cancel_safe(self, timeout: float) -> None:
            self.closed = True  # the connection broke
            self.cancelled.set()

    raw = Asked()
    end_wait(raw, lambda: False)
    assert not raw.cancelled.wait(0.5)
    end_wait(raw, lambda: True)
    assert raw.cancelled.wait(60)


def test_a_listener_whose_answer_is_swallowed_connects_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup, "_CHECK_SECONDS", 1.0)
    monkeypatch.setattr(wakeup, "_ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(answers, "_CANCEL_SECONDS", 1.0)
    woken = threading.Semaphore(0)
    there = Destination.of(connections["default"], **LIVENESS)
    with network() as net:
        through = dataclasses.replace(there, kind=DatabaseWrapper, settings=there.settings | net.settings)
        monkeypatch.setattr(wakeup, "own", lambda using: through.connect)
        listener = Listener("default", ["deploy"], woken.release, name="w", nudged=lambda: None)
        try:
            assert woken.acquire(timeout=60), "it listens"
            net.swallow()
            net.mend()  # those that were open stay silent
            assert woken.acquire(timeout=60), "it listens again"
        finally:
            listener.end()
