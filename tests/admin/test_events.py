"""The page of the events: what was emitted, what is waited for, and emitting."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from audit.admin.events import page as events_page
from audit.events import MAX_PAYLOAD_BYTES, emit_event
from audit.models import Event, Task
from tests.support.factories import claimed, task_in
from tests.support.pages import EVENTS, HOSTILE, QUEUE, TASKS, asking, client_of, text_of

pytestmark = pytest.mark.django_db

EMIT = f"{EVENTS}emit/"


@pytest.fixture
def emitter(db):
    client = client_of("staff")
    permissions = Permission.objects.filter(codename__in=["view_event", "add_event", "view_pausequeueentry"])
    User.objects.get(username="staff").user_permissions.set(permissions)
    return client


def _waiting(name: str, **how) -> Task:
    task = claimed(task_in("approved"))
    task.pause(event=name, **how)
    return task


def test_events_are_listed_newest_first_and_found_by_name(viewer, monkeypatch) -> None:
    monkeypatch.setattr(events_page, "PAGE_SIZE", 2)
    for number in range(3):
        emit_event(f"build-{number}", {"commit": f"c{number}"}, actor="ci")
    first = viewer.get(EVENTS)
    assert re.findall(r"build-\d(?=</bdi></a>)", first.content.decode()) == ["build-2", "build-1"]
    assert "c2" in text_of(first)
    [link] = re.findall(r'rel="next" href="([^"]*)"', first.content.decode())
    assert re.findall(r"build-\d(?=</bdi></a>)", viewer.get(EVENTS + link).content.decode()) == ["build-0"]
    assert re.findall(r"build-\d(?=</bdi></a>)", viewer.get(f"{EVENTS}?name=build-1").content.decode()) == ["build-1"]
    assert "This event was not emitted yet" in text_of(viewer.get(f"{EVENTS}?name=zork"))
    assert "means nothing" in text_of(viewer.get(f"{EVENTS}?older=zork"))
    change = viewer.get(reverse("admin:audit_event_change", args=[Event.objects.get(name="build-1").pk]))
    assert change.url == f"{EVENTS}?name=build-1"


def test_without_events_the_page_says_how_one_is_emitted(viewer) -> None:
    assert 'emit_event("build-42"' in text_of(viewer.get(EVENTS))
    with asking() as asked:
        viewer.get(EVENTS)
    assert len(asked.data) == 2


def test_emitting_shows_what_it_lets_go_on_and_then_lets_it_go_on(emitter) -> None:
    task = _waiting("build-42")
    page = emitter.get(EVENTS).content.decode()
    assert 'href="?name=build-42#emit"' in page
    assert 'id="emit"' in emitter.get(f"{EVENTS}?name=build-42").content.decode()
    sent = {"name": "build-42", "payload": '{"commit": "1f0c7a"}', "next": EVENTS}
    asked = emitter.post(EMIT, sent)
    assert "1 task waits for it and becomes approved again." in text_of(asked)
    assert "1f0c7a" in text_of(asked)
    assert not Event.objects.exists()
    [payload] = re.findall(r'name="payload" value="([^"]*)"', asked.content.decode())
    assert payload.replace("&quot;", '"') == sent["payload"]
    assert emitter.post(EMIT, {**sent, "confirmed": "1"}).url == EVENTS
    event = Event.objects.get()
    assert (event.name, event.payload, event.emitted_by) == ("build-42", {"commit": "1f0c7a"}, "staff")
    task.refresh_from_db()
    assert task.status == "approved"


def test_the_first_emit_is_kept_and_a_later_one_says_so(emitter) -> None:
    emit_event("build-42", {"first": True}, actor="ci")
    asked = emitter.post(EMIT, {"name": "build-42"})
    assert "ci emitted it" in text_of(asked)
    page = emitter.post(EMIT, {"name": "build-42", "payload": "1", "confirmed": "1"}, follow=True)
    assert "was emitted before, by ci" in text_of(page)
    assert Event.objects.get().payload == {"first": True}


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"name": ""}, "Give the name of the event."),
        ({"name": " "}, "must not be empty"),
        ({"name": "n" * 201}, "200"),
        ({"name": "a\0b"}, "ull characters"),
        ({"payload": '{"commit": '}, "That is no JSON: Expecting value, in line 1 at character 11."),
        ({"payload": "[NaN]"}, ""),
        ({"payload": "[" * 100_000}, ""),
        ({"payload": f'"{"x" * MAX_PAYLOAD_BYTES}"'}, "store a reference"),
        ({"payload": '"\\u0000"'}, ""),
        ({"payload": "1" * 5000}, ""),
    ],
)
@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "1"}])
def test_what_is_no_event_is_refused_with_words_and_kept_to_go_on_from(emitter, sent, words, confirmed) -> None:
    page = emitter.post(EMIT, {"name": "build-42", "payload": "", **sent, **confirmed})
    assert page.status_code == 200
    assert words in text_of(page)
    assert "audit-error" in page.content.decode()
    assert not Event.objects.exists()


def test_who_may_only_look_is_offered_nothing_to_emit(viewer) -> None:
    _waiting("build-42")
    page = viewer.get(EVENTS)
    assert "build-42" in text_of(page)
    assert EMIT not in page.content.decode()
    assert "#emit" not in page.content.decode()
    assert viewer.post(EMIT, {"name": "build-42", "confirmed": "1"}).status_code == 403
    assert not Event.objects.exists()


def test_the_queue_and_the_task_lead_to_the_event(viewer) -> None:
    task = _waiting("build 42&x")
    for address in (QUEUE, f"{TASKS}{task.pk}/change/"):
        html = viewer.get(address).content.decode()
        assert f'href="{EVENTS}?name=build+42%26x"' in html
    assert "It waits for the event “build 42&x”." in text_of(viewer.get(f"{TASKS}{task.pk}/change/"))


def test_hostile_names_and_payloads_are_shown_as_they_are(emitter) -> None:
    for name in HOSTILE.values():
        emitter.post(EMIT, {"name": name.replace("\x07", "").replace("\x7f", ""), "payload": '"<script>x</script>"'})
        emit_event(name, {"<b>": name}, actor=name)
    html = emitter.get(EVENTS).content.decode()
    assert "<script>alert" not in html
    assert "<b onmouseover" not in html
    assert "\u202e" not in html
