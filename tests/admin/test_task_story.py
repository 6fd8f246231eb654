"""The page of a task: its timeline and its suggestions."""

import re
from datetime import UTC, datetime, timedelta
from datetime import timezone as dt_timezone

import pytest
from django.urls import reverse
from django.utils import timezone

from audit.admin.shared.wording import moment
from audit.admin.task.timeline import timeline
from audit.models import Task
from tests.support.factories import claimed, finished, requested, sql, task_in
from tests.support.pages import past, text_of


def _url(task) -> str:
    return reverse("admin:audit_task_change", args=[task.pk])


def _cards(response) -> list[str]:
    html = response.content.decode()
    start = html.find('class="audit-suggestions"')
    if start < 0:
        return []
    part = html[start : html.index("</ol>", start)]
    return [" ".join(re.sub(r"<[^>]+>", " ", each).split()) for each in part.split("<li ")[1:]]


@pytest.mark.django_db
def test_suggestions_are_cards_and_what_came_after_the_end_says_so(viewer) -> None:
    task = claimed(task_in("approved", suggestions=[]))
    task.suggest("pin the version", reason="it moved twice", actor="orch-1")
    task.complete({"success": True})
    task.suggest("retry later", reason="the mirror sleeps", actor="maria")
    [first, second] = _cards(viewer.get(_url(task)))
    assert "pin the version" in first
    assert "Reason it moved twice" in first
    assert str(timezone.now().year) not in first
    assert "after the end" not in first
    assert moment(task.finished_at, timezone.now())[:6] in first
    assert "retry later" in second
    assert "Reason the mirror sleeps" in second
    assert "after the end" in second
    assert "maria" in second
    row = task.execution_log.last()
    assert f'href="#log-{row.pk}"' in viewer.get(_url(task)).content.decode()


@pytest.mark.django_db
def test_what_the_end_replaced_is_a_card_from_the_log(viewer) -> None:
    task = claimed(task_in("approved", suggestions=[]))
    task.suggest("first idea", actor="orch-1")
    task.complete({"success": True}, suggestions=[{"suggestion": "second idea", "created_at": "whenever"}])
    cards = _cards(viewer.get(_url(task)))
    assert [("second idea" in each, "first idea" in each) for each in cards] == [(True, False), (False, True)]
    assert "whenever" in cards[0]
    assert not any("after the end" in each for each in cards)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "document",
    [
        ["just words"],
        [{"suggestion": 5}],
        [{"suggestion": "a", "reason": {"b": 1}}],
        [{"suggestion": "a", "more": "kept"}],
        [{"suggestion": "a"}, None],
    ],
)
def test_suggestions_of_another_form_are_a_document(viewer, document) -> None:
    task = requested(suggestions=document)
    response = viewer.get(_url(task))
    assert _cards(response) == []
    assert 'aria-label="Suggestions"' in response.content.decode()


@pytest.mark.django_db
def test_why_it_was_paused_and_why_it_failed_stand_in_the_timeline(viewer) -> None:
    task = claimed(task_in("approved"))
    task.pause(reason="insufficient_capacity", note="no room on n1", actor="orch-1")
    task.fail(TimeoutError("no answer"), actor="maria")
    said = {each.title: each.action for each in viewer.get(_url(task)).context_data["timeline"]}
    assert said["Paused"] == "Insufficient capacity: no room on n1"
    assert said["Failed"] == "TimeoutError"


@pytest.mark.django_db
def test_work_that_was_recorded_afterwards_says_its_own_moments_first(viewer) -> None:
    created = timezone.now() - timedelta(days=3)
    minutes = {"decided_at": 1, "started_at": 2, "finished_at": 3}
    stamps = {name: created + timedelta(minutes=count) for name, count in minutes.items()}
    [key] = past(1, created_at=created, status="failed", decided_by="bob", claimed_by="orch-1", **stamps)
    moments = viewer.get(_url(Task(pk=key))).context_data["timeline"]
    assert [(each.title, each.since_start, each.gap) for each in moments[:4]] == [
        ("Pending", "", ""), ("Approved", "+1m 00s", "1m 00s"), ("Executing", "+2m 00s", "1m 00s"),
        ("Failed", "+3m 00s", "1m 00s"),
    ]  # fmt: skip
    assert [(each.who, each.source) for each in moments[:4]] == [
        ("alice", later := "reported later, not witnessed"), ("bob", later), ("orch-1", later), ("", later),
    ]  # fmt: skip
    assert {each.anchor for each in moments[:4]} == {""}
    assert f"bob · {later}" in text_of(viewer.get(_url(Task(pk=key))))
    [recorded] = moments[4:]
    assert (recorded.title, recorded.who, recorded.since_start) == ("Recorded as failed", "orch-1", "")
    assert recorded.anchor
    assert recorded.gap.startswith("2d 23h")
    html = viewer.get(_url(Task(pk=key))).content.decode()
    assert 'id=""' not in html
    # What took no time stands once.
    [key] = past(1, created_at=created, started_at=None, finished_at=created)
    moments = viewer.get(_url(Task(pk=key))).context_data["timeline"]
    assert [each.title for each in moments] == ["Completed", "Recorded as completed"]
    # Who rejects decides, and that is its end.
    [key] = past(1, created_at=created, started_at=None, status="rejected", decided_at=stamps["decided_at"])
    moments = viewer.get(_url(Task(pk=key))).context_data["timeline"]
    assert [each.title for each in moments] == ["Pending", "Rejected", "Recorded as rejected"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "titles", "said"),
    [
        # A review is a moment of its own, and no approval.
        ({"decided_at": 4}, ["Pending", "Executing", "Completed", "Decided", "Recorded as completed"], ""),
        ({}, ["Pending", "Executing", "Completed", "Recorded as completed"], "Decided by bob; when was not reported"),
        # No moment stands for what took no time before the end.
        ({"decided_at": 3}, ["Pending", "Executing", "Completed", "Decided", "Recorded as completed"], ""),
        ({"decided_at": 3, "started_at": 3}, ["Pending", "Completed", "Recorded as completed"], "Decided by bob"),
        ({"decided_at": 1}, ["Pending", "Approved", "Executing", "Completed", "Recorded as completed"], ""),
    ],
)
def test_work_that_was_recorded_afterwards_names_who_decided(viewer, given, titles, said) -> None:
    created = timezone.now() - timedelta(days=3)
    minutes = {"started_at": 2, "finished_at": 3} | given
    stamps = {name: created + timedelta(minutes=count) for name, count in minutes.items()}
    [key] = past(1, created_at=created, decided_by="bob", **stamps)
    moments = viewer.get(_url(Task(pk=key))).context_data["timeline"]
    assert [each.title for each in moments] == titles
    assert moments[-1].action == said
    if not said:
        [decided] = [each for each in moments if each.title in ("Approved", "Decided")]
        assert (decided.who, decided.source) == ("bob", "reported later, not witnessed")


@pytest.mark.django_db
def test_a_rejected_task_says_so_once(viewer) -> None:
    task = requested()
    task.reject(reason="not now", actor="bob")
    assert viewer.get(_url(task)).context_data["banner"]["kind"] == ""
    listed = viewer.get("/admin/audit/task/").content.decode()
    assert "audit-type" not in listed
    sql(
        "UPDATE audit_task SET status = 'rejected', outcome = %s WHERE id = %s",
        ['{"error_type": "Policy"}', requested().pk],
    )
    assert "Policy" in viewer.get("/admin/audit/task/").content.decode()


@pytest.mark.django_db
def test_many_and_long_suggestions_make_a_bounded_page(viewer) -> None:
    task = requested(suggestions=[{"suggestion": f"{n} " + "s" * 500} for n in range(110)])
    response = viewer.get(_url(task))
    assert len(_cards(response)) == 50
    assert "60 more are not shown" in text_of(response)
    done = finished(suggestions=[])
    done.suggest("t" * 5000, reason="r" * 5000, actor="x")
    done.suggest("u" * 1900, reason="v" * 5000, actor="x")
    cards = _cards(viewer.get(_url(done)))
    assert [len(each) < 4500 for each in cards] == [True] * len(cards)
    assert "t" * 2000 + "…" in cards[1]


@pytest.mark.django_db
def test_the_timeline_shows_the_date_where_it_changes(viewer) -> None:
    task = task_in("approved")
    now = timezone.now()
    rows = [
        {"at": at, "kind": "note", "id": number}
        for number, at in enumerate(
            datetime(2026, 3, day, hour, 30, tzinfo=UTC) for day, hour in [(1, 9), (1, 22), (1, 23), (3, 9)]
        )
    ]
    empty = dict.fromkeys(("output", "who", "role", "action", "duration_ms", "detail_text", "detail_length"))
    rows = [{**empty, **row, "output_length": 0} for row in rows]
    story = {"created_at": rows[0]["at"]}
    year = "" if timezone.localtime(now).year == 2026 else "2026 "
    assert [each.at for each in timeline(rows, story, now)] == [
        f"1 Mar {year}09:30:00",
        "22:30:00",
        "23:30:00",
        f"3 Mar {year}09:30:00",
    ]
    # Days are those of the page.
    with timezone.override(dt_timezone(timedelta(hours=1))):
        assert [each.at for each in timeline(rows, story, now)][1:3] == ["23:30:00", f"2 Mar {year}00:30:00"]
    first = task.execution_log.first()
    assert moment(first.at, now) in text_of(viewer.get(_url(task)))
