"""Decisions on stale pages, sent twice, and by two people at once: who was first, and that nobody waits for ever."""

import contextlib
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from audit.admin.decide import view as deciding
from audit.decisions import Decision
from audit.models import Task
from tests.support.deciding import URL, messages_of, sent, token
from tests.support.factories import entry_of, log_of, requested, task_in, unchanged
from tests.support.pages import client_of, text_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("decision", Decision.values)
def test_a_stale_page_is_reported_so_and_changes_nothing(decider: Client, decision: str) -> None:
    task = task_in("paused" if Decision(decision).on_entry else "pending")
    form = sent(decision, task, until=(timezone.localtime() + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M"))
    if Decision(decision).on_entry:
        entry_of(task).resume(actor="bob")
    else:
        task.approve(actor="bob")
    with unchanged(task):
        # On the way to the confirmation …
        asked = decider.post(URL, {**form, "confirmed": []})
        assert "It changed since you opened it: now approved, by bob. Nothing was done." in text_of(asked)
        assert "audit-reason" not in asked.content.decode()
        # … and after it.
        response = decider.post(URL, form)
        assert messages_of(decider, response) == [
            "warning: “Deploy Uptime Kuma”: It changed since you opened it: now approved, by bob. Nothing was done."
        ]


def test_sent_twice_it_is_done_once(decider: Client) -> None:
    task = requested()
    form = sent("approve", task)
    assert messages_of(decider, decider.post(URL, form)) == ["success: “Deploy Uptime Kuma”: approved."]
    with unchanged(task):
        [message] = messages_of(decider, decider.post(URL, form))
    assert message == (
        "warning: “Deploy Uptime Kuma”: It changed since you opened it: now approved, by you. Nothing was done."
    )
    # The same item twice in one form is one item.
    other = requested()
    assert messages_of(decider, decider.post(URL, sent("approve", other, other))) == [
        "success: “Deploy Uptime Kuma”: approved."
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("decision", ["approve", "resume", "hold", "cancel"])
def test_two_who_decide_at_once_make_one_decision(decision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The second one waits for the first, however slow that is.
    monkeypatch.setattr(deciding, "_PATIENCE", timedelta(minutes=2))
    task = task_in("paused" if Decision(decision).on_entry else "pending")
    if decision == "hold":
        entry_of(task).defer(timedelta(hours=1), actor="w")
    clients = [client_of("decider"), client_of("superuser")]
    form, before = sent(decision, task), len(log_of(task))
    barrier, messages = threading.Barrier(2), []

    def go(client: Client) -> None:
        try:
            barrier.wait(120)
            messages.append(messages_of(client, client.post(URL, form)))
        finally:
            connection.close()

    threads = [threading.Thread(target=go, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    levels = sorted(message.split(":")[0] for [message] in messages)
    assert levels == ["success", "warning"]
    [late] = [message for [message] in messages if message.startswith("warning")]
    assert re.search(r"now \w+, by (decider|superuser)\. Nothing was done\.", late)
    added = log_of(task)[before:]
    assert len(added) == (1 if decision == "cancel" else 2)
    assert len({actor for *_rest, actor in added}) == 1
    assert sum(kind == "transition" for kind, *_rest in added) == (0 if decision == "hold" else 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("atomic", [False, True], ids=["each", "ATOMIC_REQUESTS"])
def test_two_who_decide_about_many_in_another_order_do_not_block_each_other(
    atomic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ATOMIC_REQUESTS the locks of a request are held to its end: order alone saves it from a deadlock."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    tasks = [requested(summary=f"number {number}") for number in range(6)]
    clients = [client_of("decider"), client_of("superuser")]
    items = [token(each) for each in tasks]
    forms = [sent("approve", *items), sent("reject", *reversed(items))]
    results: list[HttpResponse] = []
    both = threading.Barrier(2)
    original = deciding.decide

    def slowly(*args: Any, **options: Any) -> Task:
        task = original(*args, **options)
        # Whoever has a first lock lets the other have one too, if there is one to have.
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)
        return task

    def go(client: Client, form: dict[str, Any]) -> None:
        try:
            results.append(client.post(URL, form))
        finally:
            connection.close()

    monkeypatch.setattr(deciding, "decide", slowly)
    threads = [threading.Thread(target=go, args=pair) for pair in zip(clients, forms, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(results) == 2
    assert not [page for page in results if page.status_code == 200 and "Try again" in text_of(page)]
    for task in tasks:
        task.refresh_from_db()
        assert task.status in ("approved", "rejected")
        assert sum(kind == "transition" for kind, *_rest in log_of(task)) == 2


@pytest.mark.django_db(transaction=True)
def test_a_task_that_somebody_else_holds_is_not_waited_for_for_ever(
    decider: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "_PATIENCE", timedelta(milliseconds=200))
    task = requested()
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1 FROM audit_task WHERE id = %s FOR UPDATE", [task.pk])
        with unchanged(task):
            [message] = messages_of(decider, decider.post(URL, sent("approve", task)))
        assert message.startswith("warning: “Deploy Uptime Kuma”: Somebody else is changing it at this moment")
    finally:
        other.rollback()
        other.close()
