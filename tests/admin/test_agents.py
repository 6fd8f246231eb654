"""The page of the agents: what it shows, what it never makes up, and draining."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.urls import reverse

from audit.admin.agents import page as agents_page
from audit.agents.draining import drain
from audit.agents.listing import MINUTES, history
from audit.models import Agent
from tests.support.agents import aged, agent, silent
from tests.support.factories import claimed, sql, task_in
from tests.support.pages import AGENTS, HOSTILE, asking, client_of, text_of

pytestmark = pytest.mark.django_db


def _drainer():
    client = client_of("staff")
    permissions = Permission.objects.filter(codename__in=["view_agent", "drain_agent"])
    User.objects.get(username="staff").user_permissions.set(permissions)
    return client


def _rows(response) -> dict[str, str]:
    parts = re.findall(r'<tr role="row" class="audit-agent">(.*?)</tr>', response.content.decode(), re.S)
    found = {}
    for part in parts:
        words = " ".join(re.sub(r"<[^>]*>", " ", part).split())
        found[words.split()[0]] = words
    return found


def test_an_agent_is_shown_with_its_state_its_load_and_what_runs_there(viewer) -> None:
    agent("w1", slots=2, cpu=0.5, memory=0.75)
    claimed(task_in("approved", summary="Rotate the key"), worker="w1")
    agent("w2")
    drain("w2", reason="kernel update", actor="maria")
    agent("w3")
    silent("w3", 45)
    agent("w4")
    silent("w4", 500)
    claimed(task_in("approved"), worker="w5")
    agent("w5", slots=1)
    rows = _rows(viewer.get(AGENTS))
    assert list(rows) == ["w1", "w2", "w3", "w4", "w5"]
    assert "Available" in rows["w1"]
    assert "1 of 2 slots" in rows["w1"]
    assert "Rotate the key" in rows["w1"]
    assert "50%" in rows["w1"]
    assert "75%" in rows["w1"]
    assert "Draining" in rows["w2"]
    assert "kernel update — maria" in rows["w2"]
    assert "Stale" in rows["w3"]
    assert re.search(r"seen (4[5-9]|[5-9]\d)\.\d s ago", rows["w3"])
    assert "Offline" in rows["w4"]
    assert "Busy" in rows["w5"]


def test_what_nobody_knows_is_unknown_and_never_nothing(viewer) -> None:
    agent("w1", cpu=None, memory=0.0)
    agent("w2", cpu=0.4)
    aged(60)
    agent("w3", cpu=0.4)
    sql("DELETE FROM audit_resource_metric WHERE agent_id = %s", [Agent.objects.get(name="w3").pk])
    agent("w4", cpu=0.3, memory=0.0)
    rows = _rows(viewer.get(AGENTS))
    assert rows["w1"].count("unknown") == 2, "a reading of a minute ago says nothing about now"
    assert rows["w2"].count("unknown") == 2
    assert " 40% " not in rows["w2"].partition("Last hour")[0]
    assert rows["w3"].count("unknown") == 2
    assert "no reading yet" in rows["w3"]
    assert "unknown" not in rows["w4"]
    assert "0%" in rows["w4"]


def test_a_lease_that_ran_out_stands_out_beside_its_agent(viewer) -> None:
    agent("w1")
    task = claimed(task_in("approved"), worker="w1")
    assert "lease ended" not in text_of(viewer.get(AGENTS))
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE audit_task DISABLE TRIGGER USER")
        cursor.execute("UPDATE audit_task SET lease_expires_at = now() - interval '1 s' WHERE id = %s", [task.pk])
    assert "lease ended" in _rows(viewer.get(AGENTS))["w1"]


def test_the_last_hour_is_drawn_by_the_minute_with_gaps_where_nobody_knows(viewer) -> None:
    agent("w1", cpu=0.2, memory=None)
    key = Agent.objects.get().pk
    sql(
        "INSERT INTO audit_resource_metric (agent_id, at, source, cpu) SELECT %s, now() - n * interval '1 minute', 'x',"
        " 0.5 FROM generate_series(30, 90) AS n",
        [key],
    )
    found = history("default", [key])[key]
    assert len(found["cpu"]) == MINUTES
    assert found["cpu"][-1] == 0.2
    assert found["cpu"][MINUTES - 25] is None
    assert found["cpu"][MINUTES - 40] == 0.5
    assert set(found["memory"]) == {None}
    html = viewer.get(AGENTS).content.decode()
    [drawing] = re.findall(r'<svg class="audit-spark".*?</svg>', html, re.S)
    assert "Last hour: CPU between 20% and 50%" in drawing
    assert "Memory" not in drawing
    [path] = re.findall(r' d="([^"]*)"', drawing)
    assert path.count("M") == 2


def test_agents_are_narrowed_by_state_and_name_and_paged(viewer, monkeypatch) -> None:
    monkeypatch.setattr(agents_page, "PAGE_SIZE", 2)
    for name in ("w1", "w2", "w3"):
        agent(name)
    silent("w2", 500)
    first = viewer.get(AGENTS)
    assert list(_rows(first)) == ["w1", "w2"]
    [link] = re.findall(r'rel="next" href="([^"]*)"', first.content.decode())
    assert list(_rows(viewer.get(AGENTS + link.replace("&amp;", "&")))) == ["w3"]
    assert list(_rows(viewer.get(f"{AGENTS}?state=offline"))) == ["w2"]
    assert list(_rows(viewer.get(f"{AGENTS}?agent=w3"))) == ["w3"]
    assert "No agent matches" in text_of(viewer.get(f"{AGENTS}?state=busy"))
    assert "There is no state zork" in text_of(viewer.get(f"{AGENTS}?state=zork"))
    assert viewer.get(f"{AGENTS}?agent=%00&after=%00").status_code == 200
    change = viewer.get(reverse("admin:audit_agent_change", args=[Agent.objects.get(name="w3").pk]))
    assert change.url == f"{AGENTS}?agent=w3"


def test_an_empty_registry_says_how_a_worker_registers(viewer) -> None:
    text = text_of(viewer.get(AGENTS))
    assert "No agent is registered" in text
    assert "manage.py audit_worker" in text


def test_the_page_asks_four_questions_however_many_agents_there_are(viewer) -> None:
    counts = set()
    for many in (2, 9):
        for number in range(many):
            agent(f"w{number}-{many}")
            claimed(task_in("approved"), worker=f"w{number}-{many}")
        with asking() as asked:
            assert viewer.get(AGENTS).status_code == 200
        counts.add(len(asked.data))
    assert counts == {4}


def test_draining_takes_a_reason_and_a_confirmation_and_undraining_a_confirmation() -> None:
    agent("w1")
    key, client = Agent.objects.get().pk, _drainer()
    url, back = f"{AGENTS}{key}/drain/", f"{AGENTS}?state=available"
    page = client.get(back)
    assert f'action="{url}"' in page.content.decode()
    asked = client.post(url, {"next": back})
    assert "takes no new work until somebody undrains it" in text_of(asked)
    assert Agent.objects.get().drain_requested_at is None
    without = client.post(url, {"next": back, "confirmed": "1", "reason": "  "})
    assert "Give a reason" in text_of(without)
    assert Agent.objects.get().drain_requested_at is None
    done = client.post(url, {"next": back, "confirmed": "1", "reason": "kernel\r\nupdate"})
    assert done.url == back
    drained = Agent.objects.get()
    assert (drained.drain_requested_by, drained.drain_reason) == ("staff", "kernel\nupdate")
    again = client.post(url, {"next": back})
    assert "It drains already" in text_of(again)
    url = f"{AGENTS}{key}/undrain/"
    assert "may claim work again" in text_of(client.post(url, {"next": back}))
    assert Agent.objects.get().drain_requested_at is not None
    assert client.post(url, {"next": "//evil.example/", "confirmed": "1"}).url == AGENTS
    assert Agent.objects.get().drain_requested_at is None
    assert client.post(f"{AGENTS}{key + 1}/drain/", {"confirmed": "1", "reason": "x"}).status_code == 404
    assert client.post(f"{AGENTS}zork/drain/", {}).status_code == 404


def test_who_may_only_look_is_offered_no_draining(viewer) -> None:
    agent("w1")
    html = viewer.get(AGENTS).content.decode()
    assert "/drain/" not in html
    assert viewer.post(f"{AGENTS}{Agent.objects.get().pk}/drain/", {"confirmed": "1", "reason": "x"}).status_code == 403
    assert Agent.objects.get().drain_requested_at is None


def test_hostile_names_are_shown_as_they_are(viewer) -> None:
    for name in HOSTILE.values():
        agent(name, labels=[name], actions=[name])
        drain(name, reason=name, actor=name)
    html = viewer.get(AGENTS).content.decode()
    assert "<script>alert" not in html
    assert "<b onmouseover" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html


def test_what_takes_too_long_is_left_out_and_the_agents_stay(viewer, monkeypatch) -> None:
    agent("w1")

    def slow(*args):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 20; SELECT pg_sleep(5)")

    monkeypatch.setattr("audit.admin.agents.page.history", slow)
    response = viewer.get(AGENTS)
    assert "took too long to read and was left out" in text_of(response)
    assert "w1" in _rows(response)
