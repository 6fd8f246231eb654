"""A web server whose clock is hours off shows every lease, due time and age as the database's clock has it."""

import re
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from audit.models import Task
from tests.support.agents import agent
from tests.support.deciding import URL, form_of, messages_of, sent
from tests.support.factories import claimed, entry_of, requested, task_in
from tests.support.pages import (
    AGENTS,
    EVENTS,
    LOG,
    OVERVIEW,
    QUEUE,
    STATISTICS,
    TASKS,
    client_of,
    ids_in,
    past,
    text_of,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[-7, 7], ids=["behind", "ahead"])
def wrong_clock(request):
    """Let this process think that it is hours earlier or later; the database does not."""
    with time_machine.travel(timezone.now() + timedelta(hours=request.param), tick=True):
        yield timedelta(hours=request.param)


def _page(task: Task) -> str:
    return f"{TASKS}{task.pk}/change/"


def test_a_lease_lasts_by_the_databases_clock(viewer, wrong_clock) -> None:
    agent("w1")
    task = claimed(task_in("approved"), worker="w1", lease=timedelta(minutes=50))
    for url in (_page(task), f"{TASKS}?since=all", OVERVIEW, AGENTS):
        text = text_of(viewer.get(url))
        assert "lease ended" not in text, url
        assert "lease of its worker ended" not in text, url
    assert re.search(r"ends in (49|50)m", text_of(viewer.get(_page(task))))


def test_what_is_due_is_due_by_the_databases_clock(viewer, wrong_clock) -> None:
    due, later = (task_in("approved", summary=name) for name in ("is due", "is later"))
    due.pause(reason="insufficient_capacity", resume_after=timedelta(microseconds=1))
    later.pause(reason="insufficient_capacity", resume_after=timedelta(hours=2, minutes=5))
    assert ids_in(viewer.get(f"{QUEUE}?state=due")) == [str(due.pk)]
    assert ids_in(viewer.get(f"{QUEUE}?state=waiting")) == [str(later.pk)]
    assert ids_in(viewer.get(f"{QUEUE}?state=overdue")) == []
    assert "in 2h" in text_of(viewer.get(QUEUE))
    assert "(in 2h" in text_of(viewer.get(_page(later)))
    assert "It is due since" in text_of(viewer.get(_page(due)))
    sent_rows = b"".join(viewer.get(f"{QUEUE}export/?state=due&format=jsonl").streaming_content).decode()
    assert str(due.pk) in sent_rows
    assert str(later.pk) not in sent_rows


def test_a_deadline_passes_by_the_databases_clock(viewer, wrong_clock) -> None:
    task = task_in("approved")
    task.pause(reason="awaiting_approval", resume_after=timedelta(hours=3, minutes=1))
    assert "(in 3h" in text_of(viewer.get(_page(task)))
    # A request's deadline is a moment that the caller writes.
    with time_machine.travel(timezone.now() - wrong_clock, tick=True):
        asked = requested(approve_before=timezone.now() + timedelta(hours=3, minutes=1))
    assert "(in 3h" in text_of(viewer.get(_page(asked)))
    assert "in 3h" in text_of(viewer.get(OVERVIEW))


def test_lists_and_figures_look_back_from_the_databases_clock(viewer, wrong_clock) -> None:
    new = requested(summary="made now")
    with time_machine.travel(timezone.now() - wrong_clock, tick=True):
        past(1, summary="of some hours ago", every=timedelta(hours=3))
    assert ids_in(viewer.get(f"{TASKS}?since=1h")) == [str(new.pk)]
    assert len(ids_in(viewer.get(f"{TASKS}?since=24h"))) == 2
    page = viewer.get(f"{TASKS}?since=1h")
    assert page.context_data["chart"].value.total == 1
    facts = {str(fact.label): fact.value for fact in viewer.get(f"{STATISTICS}?since=1h").context_data["facts"]}
    assert facts["Tasks"] == "1"
    assert "just now" in text_of(page)
    assert "just now" in text_of(viewer.get(LOG))
    assert "in -" not in text_of(viewer.get(EVENTS))


def test_people_defer_by_the_databases_clock(wrong_clock) -> None:
    client = client_of("decider")
    task = task_in("paused")
    with time_machine.travel(timezone.now() - wrong_clock, tick=True):
        right = timezone.localtime()
    form = form_of(client.get(_page(task)), "audit-decide") | {"decision": "defer"}
    asked = client.post(URL, form)
    [offered] = re.findall(
        r'type="datetime-local"[^>]*value="([^"]*)"|value="([^"]*)"[^>]*type="datetime-local"', asked.content.decode()
    ) or [("", "")]
    offered = "".join(offered)
    hours = {(right + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M") for minutes in (59, 60, 61, 62)}
    assert offered in hours
    gone = (right - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M")
    assert "That time is past" in text_of(client.post(URL, sent("defer", task, until=gone)))
    ahead = right + timedelta(minutes=30)
    answer = client.post(URL, sent("defer", task, until=ahead.strftime("%Y-%m-%dT%H:%M")))
    assert messages_of(client, answer)[0].startswith("success: ")
    assert entry_of(task).due_at == ahead.replace(second=0, microsecond=0)
