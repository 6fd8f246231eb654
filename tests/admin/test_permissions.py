"""Who may do what: every address of the app's admin pages, whoever asks, however they ask.

The addresses are read from the admin site itself, so that a new one is tested here from the day it exists: unless it is
named in `DECISIONS`, it must show nothing to people who may not look, and change nothing for anybody.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.http.response import HttpResponseBase
from django.test import Client, override_settings
from django.urls import URLPattern, URLResolver, path
from django.utils import timezone

from audit.admin import register
from audit.events import emit_event
from audit.models import Agent, Event, ExecutionLog, LedgerCheckpoint, LedgerVerification, PauseQueueEntry, Task
from tests.support.agents import agent
from tests.support.factories import snapshot, task_in
from tests.support.pages import client_of

pytestmark = pytest.mark.django_db

KINDS = ("anonymous", "staff", "viewer", "blind", "decider", "changer", "superuser")
LOOKERS = ("viewer", "decider", "changer", "superuser")
DECIDERS = ("decider", "changer", "superuser")
METHODS = ("get", "head", "options", "post", "put", "patch", "delete")
DECISIONS = {"task/decide/"}
# What changes something else than tasks, each with a permission of its own.
ACTS = {"agent/<str:object_id>/drain/", "agent/<str:object_id>/undrain/", "event/emit/"}

ops = admin.AdminSite(name="ops")
register(ops)
urlpatterns = [path("admin/", admin.site.urls), path("ops/", ops.urls)]


def _routes(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    for each in patterns:
        route = before + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from _routes(each.url_patterns, route)
        else:
            yield route


def addresses() -> list[str]:
    """Every address below `/admin/audit/`, as its pattern."""
    found = [route.removeprefix("audit/") for route in _routes(admin.site.get_urls()) if route.startswith("audit/")]
    assert {"task/", "executionlog/", "pausequeueentry/", "ledgerverification/", *DECISIONS, *ACTS} <= set(found)
    return found


def filled(route: str, site: str = "admin") -> str:
    """An address of something that exists."""
    paused = Task.objects.filter(status="paused").get()
    keys = {
        "task": str(paused.pk),
        "executionlog": str(ExecutionLog.objects.filter(task=paused).latest("id").pk),
        "pausequeueentry": str(PauseQueueEntry.objects.get(task=paused).pk),
        "ledgerverification": str(LedgerVerification.objects.get().pk),
        "agent": str(Agent.objects.get().pk),
        "event": str(Event.objects.first().pk),
        "ledgerverification/checkpoint": str(LedgerCheckpoint.objects.get().pk),
    }
    model = next(each for each in sorted(keys, reverse=True) if f"{route}/".startswith(f"{each}/"))
    url = re.sub(r"<(str|path|slug|uuid|int):\w+>", keys[model], route)
    assert "<" not in url, f"tell this test what to fill into {route}"
    asked = {"export/": "?format=jsonl", "newer/": f"?before=1_{'0' * 32 if model == 'task' else '0'}"}
    return f"/{site}/audit/{url}{asked.get(url.partition('/')[2], '')}"


def _body(response: HttpResponseBase) -> str:
    """All of what was answered, streamed or not."""
    return (response.getvalue() if response.streaming else response.content).decode()


def _sent(decision: str = "approve") -> dict[str, str]:
    """A confirmed decision that the database would carry out."""
    pending = Task.objects.filter(status="pending").get()
    item = f"{pending.pk.hex}.{pending.revision}"
    return {"decision": decision, "item": item, "confirmed": "1", "reason": "because", "name": "build-7"} | {
        "next": "/admin/audit/task/"
    }


def _state() -> object:
    return snapshot(*Task.objects.order_by("id").values_list("id", flat=True))


@pytest.fixture(autouse=True)
def two_tasks() -> None:
    task_in("pending")
    task_in("paused")
    agent("w1")
    emit_event("build-6")
    LedgerCheckpoint.objects.create(epoch=1, size=1, root=b"\0" * 32, note="not signed")
    now = timezone.now()
    LedgerVerification.objects.create(
        started_at=now,
        finished_at=now,
        verdict="intact",
        size=1,
        unsealed=0,
        report={"findings": [{"message": "Uptime Kuma"}]},
    )


def _asked() -> Iterator[Any]:
    """Every address with everybody in one test; an address that changes something, in a test for each person."""
    for route in addresses():
        if route in DECISIONS | ACTS:
            yield from (pytest.param(route, (kind,), id=f"{route}-{kind}") for kind in KINDS)
        else:
            yield pytest.param(route, KINDS, id=route)


@pytest.mark.parametrize(("route", "kinds"), [*_asked()])
def test_whoever_asks_however_they_ask(route: str, kinds: Sequence[str]) -> None:
    for kind in kinds:
        _asks_in_every_way(route, kind)


def _asks_in_every_way(route: str, kind: str) -> None:
    client, url, before = client_of(kind), filled(route), _state()
    for method in METHODS:
        response = getattr(client, method)(url, **({"data": _sent()} if method == "post" else {}))
        case = f"{method} {url} by {kind}: {response.status_code}"
        if kind == "anonymous":
            assert response.status_code == 302, case
            assert response.url.startswith("/admin/login/"), case
            assert _state() == before, case
        elif route in DECISIONS and method == "post" and kind in DECIDERS:
            assert (response.status_code, response.url) == (302, "/admin/audit/task/"), case
            assert Task.objects.filter(status="approved", decided_by=kind).exists()
            before = _state()
        elif route in ACTS and method == "post" and kind in ("changer", "superuser"):
            assert (response.status_code, response.url) == (302, "/admin/audit/task/"), case
        elif route in ACTS:
            assert response.status_code == (405 if kind in ("changer", "superuser") else 403), case
        elif route in DECISIONS:
            assert response.status_code == (405 if kind in DECIDERS else 403), case
            assert kind not in DECIDERS or response["Allow"] == "POST", case
        elif method in ("get", "head"):
            # The short address of a row only leads to its page, which asks for the permission.
            short = route.endswith(">/")
            # These tests live in a transaction, where no proof is to be had; who may look is told so.
            shown = (409,) if route.endswith("proof/") else (200, 301, 302)
            assert response.status_code in (shown if kind in LOOKERS or short else (403,)), case
        else:
            assert response.status_code in (403, 405), case
        if kind not in LOOKERS and method == "get":
            assert "Uptime Kuma" not in _body(response)
        elif route.endswith("export/") and method == "get":
            assert _body(response)
        assert _state() == before, case
    assert not LogEntry.objects.exists()
    if kind in KINDS[:5]:
        assert Agent.objects.get().drain_requested_at is None
        assert Event.objects.count() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_only_people_who_may_decide_see_buttons_and_check_boxes(kind: str) -> None:
    client = client_of(kind)
    for route in ("task/", "pausequeueentry/", "task/<str:object_id>/change/"):
        html = client.get(filled(route)).content.decode()
        content = html.partition('id="content"')[2]
        for part in ("audit-decide", 'class="audit-pick"', "csrfmiddlewaretoken", "<kbd>x</kbd>", "audit/decide.js"):
            expected = kind in DECIDERS and (
                part not in ('class="audit-pick"', "<kbd>x</kbd>") or "change" not in route
            )
            where = html if part.endswith("js") else content
            assert (part in where) == expected, (kind, route, part)


@pytest.mark.parametrize("taken", ["view_task", "decide_task"])
def test_both_permissions_are_needed_and_what_is_taken_counts_at_once(taken: str) -> None:
    from django.contrib.auth.models import User

    client = client_of("decider")
    user = User.objects.get(username="decider")
    user.user_permissions.remove(user.user_permissions.get(codename=taken))
    before = _state()
    for sent in (_sent(), {**_sent(), "confirmed": ""}, {}):
        response = client.post("/admin/audit/task/decide/", sent)
        assert response.status_code == 403
        assert "Uptime Kuma" not in response.content.decode()
    assert _state() == before
    assert "audit-decide" not in client.get("/admin/audit/pausequeueentry/").content.decode()


def test_people_who_are_no_staff_get_no_further_than_the_login() -> None:
    from django.contrib.auth.models import Permission, User

    user = User.objects.create_user("outsider", password="pw")
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="audit"))
    client = Client()
    client.force_login(user)
    before = _state()
    for route in addresses():
        for method in ("get", "post"):
            response = getattr(client, method)(filled(route), _sent())
            assert (response.status_code, response.url.split("?")[0]) == (302, "/admin/login/"), route
    assert _state() == before


def test_a_form_of_another_site_is_refused() -> None:
    from django.contrib.auth.models import User

    client_of("superuser")
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="superuser"))
    before = _state()
    for sent in (_sent(), {**_sent(), "csrfmiddlewaretoken": "x" * 32}):
        assert client.post("/admin/audit/task/decide/", sent).status_code == 403
    assert _state() == before
    page = client.get("/admin/audit/task/").content.decode()
    token = re.search(r'id="audit-decide".*?name="csrfmiddlewaretoken" value="(\w+)"', page, re.S)[1]
    confirmation = client.post("/admin/audit/task/decide/", {**_sent(), "csrfmiddlewaretoken": token, "reason": ""})
    assert confirmation.status_code == 200
    token = re.search(r'audit-reason.*?name="csrfmiddlewaretoken" value="(\w+)"', confirmation.content.decode(), re.S)[
        1
    ]
    assert client.post("/admin/audit/task/decide/", {**_sent(), "csrfmiddlewaretoken": token}).status_code == 302
    assert Task.objects.filter(status="approved").exists()


@override_settings(ROOT_URLCONF=__name__)
def test_it_all_works_on_an_admin_site_of_ones_own() -> None:
    client = client_of("decider")
    html = client.get(filled("task/", "ops")).content.decode()
    assert 'action="/ops/audit/task/decide/"' in html
    assert '<input type="hidden" name="next" value="/ops/audit/task/">' in html
    asked = {**_sent(), "next": "/ops/audit/task/?status=pending"}
    page = client.post("/ops/audit/task/decide/", {**asked, "reason": ""}).content.decode()
    assert 'action="/ops/audit/task/decide/"' in page
    assert 'href="/ops/audit/task/?status=pending"' in page
    assert '"/admin/' not in page
    # The way back of another site, also of this app, is not taken.
    response = client.post("/ops/audit/task/decide/", {**asked, "next": "/admin/audit/task/"})
    assert response.url == "/ops/audit/task/"
    assert Task.objects.filter(status="approved").exists()
    assert client.get("/ops/audit/task/decide/").status_code == 405
