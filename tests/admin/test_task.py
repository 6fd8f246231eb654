"""The page of a task, and the parts it is drawn with."""

import json
import re
from datetime import UTC, datetime, timedelta
from datetime import timezone as dt_timezone

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from audit.admin.shared.jsontree import LIMIT, tree
from audit.admin.shared.wording import ago, moment, shown, size, span
from audit.admin.task.columns import COLUMNS, DOCUMENTS
from audit.admin.task.timeline import segments, spent, timeline
from audit.models import PauseQueueEntry, Task
from tests.support.factories import claimed, finished, requested, sql, task_in
from tests.support.pages import HOSTILE, asking, past, text_of


def _url(task) -> str:
    return reverse("admin:audit_task_change", args=[task.pk])


@pytest.mark.django_db
def test_the_page_costs_four_questions_at_the_most_however_long_the_log_is(viewer) -> None:
    task = claimed(task_in("approved"))
    for number in range(30):
        task.log(f"step {number}")
        Task.objects.request("child", parent=task.pk, actor="x")
    task.pause(note="waits")
    with asking() as asked:
        text = text_of(viewer.get(_url(task)))
    assert len(asked.data) == 4
    assert "step 29" in text
    assert "waits" in text
    for each in asked.data:
        assert not re.search(r"\bDISTINCT\b|\bOFFSET\b|COUNT\(\*\)", each), each


@pytest.mark.django_db
def test_the_story_is_reported_in_order_with_both_names_of_who_did_it(viewer) -> None:
    task = requested(summary="Deploy Uptime Kuma", actor="alice")
    task.approve(actor="bob")
    task = claimed(task, "orch-1")
    task.log("run playbook", duration_ms=812, output_summary="changed=4", detail={"host": "n1"})
    task.suggest("pin the version", actor="carol")
    task.fail(TimeoutError("no answer"), outcome={"rows": 12})
    task.note("looked at it", actor="maria")
    text = text_of(viewer.get(_url(task)))
    story = [
        "Pending",
        "alice",
        "Approved",
        "bob",
        "Executing",
        "orch-1",
        "Step 1",
        "run playbook",
        "changed=4",
        "pin the version",
        "carol",
        "Failed",
        "looked at it",
        "maria",
    ]
    at = text.index("Timeline")
    for each in story:
        at = text.index(each, at)
    assert "TimeoutError no answer" in text
    assert "took 812 ms" in text
    role = Task.objects.get(pk=task.pk).execution_log.first().db_role
    assert text.count(f"role {role}") >= 7


@pytest.mark.django_db
def test_a_long_log_is_cut_and_the_page_says_where_the_rest_is(viewer, monkeypatch) -> None:
    for module in ("log_rows", "page"):
        monkeypatch.setattr(f"audit.admin.task.{module}.LOG_ROWS", 4)
    task = claimed(task_in("approved"))
    for number in range(10):
        task.log(f"step {number}")
    response = viewer.get(_url(task))
    assert "There is more" in text_of(response)
    assert "step 9" not in text_of(response)
    assert f"?task={task.pk}" in response.content.decode()
    assert "<svg viewBox" not in response.content.decode()


@pytest.mark.django_db
def test_a_task_leads_to_its_parent_its_children_and_its_correlation(viewer) -> None:
    parent = requested(summary="parent", correlation_id="batch & 7")
    child = requested(summary="child", parent=parent.pk)
    html = viewer.get(_url(parent)).content.decode()
    assert _url(child) in html
    assert "?correlation_id=batch+%26+7" in html
    assert _url(parent) in viewer.get(_url(child)).content.decode()


@pytest.mark.django_db
def test_a_person_who_asked_for_a_stop_is_reported_that_it_is_on_its_way(viewer) -> None:
    task = claimed(task_in("approved"))
    task.request_cancel(actor="bob")
    assert "asked this work to stop" in text_of(viewer.get(_url(task)))


@pytest.mark.django_db
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_text_everywhere_on_the_page(viewer, value) -> None:
    document = {value: [value, {value: value}]}
    task = requested(
        action=value[:90],
        summary=value * 20,
        services=[value],
        actor=value,
        plan=document,
        correlation_id=value,
        suggestions=[value],
        estimated_resources=document,
    )
    task.approve(actor=value)
    task = claimed(task, value)
    task.log(value, output_summary=value, detail=document)
    task.fail(outcome={"error_type": value, "output_summary": value, value: value}, resources=document)
    response = viewer.get(_url(task))
    html = response.content.decode()
    assert response.status_code == 200
    assert "<script>alert" not in html
    assert "<b onmouseover" not in html
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x07\x1b\x7f]", html)
    assert "{{ 7|add:7 }}" in html or value != HOSTILE["quotes"]


@pytest.mark.django_db
def test_documents_that_python_cannot_read_are_shown_as_text(viewer) -> None:
    task = requested()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_task SET plan = ('[' || repeat('9', 5000) || ']')::jsonb,"
            " estimated_resources = (repeat('[', 3000) || repeat(']', 3000))::jsonb,"
            " origin = NULL, suggestions = '\"just a string\"', actor = 'x', revision = revision + 1 WHERE id = %s",
            [task.pk],
        )
    response = viewer.get(_url(task))
    text = text_of(response)
    assert response.status_code == 200
    assert "9" * 900 in text
    assert "[" * 2000 in text
    assert "just a string" in text
    raw = viewer.get(reverse("admin:audit_task_raw", args=[task.pk]))
    assert b"9" * 5000 in raw.content


@pytest.mark.django_db
def test_huge_rows_make_a_bounded_page(viewer) -> None:
    task = requested(
        summary="s" * 16_384,
        services=[f"{n}-{'x' * 190}" for n in range(500)],
        plan={"x": "y" * 2_000_000},
        suggestions=[{"a": n} for n in range(20_000)],
    )
    response = viewer.get(_url(task))
    assert response.status_code == 200
    assert len(response.content) < 600_000
    text = text_of(response)
    assert "+300" in text
    assert "Only the beginning is shown" in text
    assert "1.9 MB" in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    "outcome", [None, [], "text", {"error_type": {"a": 1}, "output_summary": 5}, {"error_type": None}]
)
@pytest.mark.parametrize("status", ["failed", "rejected", "completed"])
def test_an_outcome_of_any_shape_makes_a_page_and_a_list(viewer, outcome, status) -> None:
    [key] = past(1, status=status, outcome=outcome)
    assert viewer.get(reverse("admin:audit_task_change", args=[key])).status_code == 200
    assert viewer.get("/admin/audit/task/").status_code == 200


@pytest.mark.django_db
def test_the_raw_row_is_the_row_with_its_documents_unchanged(viewer) -> None:
    task = requested()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_task SET plan = '{\"b\": 12.50, \"a\": 1e3}', actor = 'x', revision = revision + 1"
            " WHERE id = %s",
            [task.pk],
        )
    response = viewer.get(reverse("admin:audit_task_raw", args=[task.pk]))
    assert response["Content-Type"].startswith("application/json")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "12.50" in response.content.decode()
    row = json.loads(response.content)
    assert row["id"] == str(task.pk)
    assert row.keys() == {field.column for field in Task._meta.concrete_fields}


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["pending", "approved", "executing", "paused", "completed", "failed", "rejected"])
def test_every_status_has_a_page_with_a_time_bar(viewer, status) -> None:
    task = task_in(status)
    html = viewer.get(_url(task)).content.decode()
    assert f"audit-pill t-{status}" in html
    widths = [float(width) for width in re.findall(r'<rect class="f-\w+" x="[\d.]+" y="0" width="([\d.]+)"', html)]
    assert widths
    assert sum(widths) == pytest.approx(1000, abs=1)


@pytest.mark.django_db
def test_paused_work_says_why_until_when_who_has_it_and_what_remains(viewer) -> None:
    task = task_in("approved", plan={"steps": ["old plan"]})
    due = timezone.now() - timedelta(minutes=5)
    task.pause(
        reason="insufficient_capacity",
        work_plan={"left": ["push the image"], "ratio": 12.50},
        priority=1,
        resume_after=due,
        note="no memory",
        actor="orch-9",
    )
    text = text_of(viewer.get(_url(task)))
    card = text[text.index("In the pause queue") : text.index("Plan", text.index("push the image"))]
    for words in ("Insufficient capacity", "due since 5m", "no memory", "Paused byorch-9", "Priority1", "left:"):
        assert words in card, words
    assert "Claimed by" not in card
    [entry] = PauseQueueEntry.objects.claim(worker="orch-2", lease=timedelta(minutes=10))
    assert "Claimed byorch-2Leaseends in 9m" in text_of(viewer.get(_url(task)))
    PauseQueueEntry.objects.filter(pk=entry.pk).update(lease_expires_at=timezone.now() - timedelta(minutes=3))
    assert "Leaseended 3m ago" in text_of(viewer.get(_url(task)))
    other = task_in("paused")
    assert "It left no work plan" in text_of(viewer.get(_url(other)))


@pytest.mark.django_db
@pytest.mark.django_db
def test_a_failed_step_is_red_and_steps_of_later_attempts_name_theirs(viewer) -> None:
    task = claimed(task_in("approved"))
    task.log("copy about.html", detail={"success": False, "error_type": "TimeoutError"})
    task.log("copy index.html", detail={"success": True})
    task.release()
    [again] = Task.objects.filter(pk=task.pk).claim("orch-2")
    again.log("copy about.html")
    html = viewer.get(_url(task)).content.decode()
    steps = re.findall(
        r'<li[^>]*class="k-step">.*?audit-dot t-(\w+)".*?<strong class="x-(\w+)">(.*?)</strong>', html, re.S
    )
    assert steps == [
        ("failed", "failed", "Step 1 failed"),
        ("step", "step", "Step 2"),
        ("step", "step", "Step 3, attempt 2"),
    ]


@pytest.mark.django_db
def test_paused_work_is_decided_at_the_top_and_says_since_when_and_why(decider) -> None:
    task = task_in("approved")
    task.pause(note="no room at night", actor="w1")
    html = decider.get(_url(task)).content.decode()
    assert html.count('id="audit-decide"') == 1
    assert html.index('id="audit-decide"') < html.index('id="audit-waits"') < html.index('id="audit-timeline"')
    [waits] = re.findall(r'<section class="audit-card audit-waits".*?</section>', html, re.S)
    assert "Paused just now by w1" in waits
    assert "no room at night" in waits


def test_a_large_work_plan_makes_a_bounded_page(viewer) -> None:
    task = task_in("approved")
    task.pause(work_plan={"x": "y" * 2_000_000}, actor="w")
    response = viewer.get(_url(task))
    assert len(response.content) < 200_000
    assert "1.9 MB" in text_of(response)
    assert "Only the beginning is shown" in text_of(response)


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
@pytest.mark.parametrize("change", ["finished_at = NULL", "finished_at = NULL, started_at = NULL", "status = 'paused'"])
def test_a_task_that_its_owner_has_forged_is_a_page_all_the_same(viewer, change) -> None:
    past(1, decided_at=timezone.now(), status="failed")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("ALTER TABLE audit_task DISABLE TRIGGER USER")
    sql(f"UPDATE audit_task SET {change}")
    assert viewer.get(_url(Task.objects.get())).status_code == 200


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


def test_the_page_knows_of_every_column_of_a_task() -> None:
    above = {"action", "summary", "status", "services_touched"}
    known = [*(column.name for column in COLUMNS), *DOCUMENTS, *above]
    assert sorted(known) == sorted(field.name for field in Task._meta.concrete_fields)


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["pending", "executing", "failed"])
def test_all_fields_are_all_plain_columns(viewer, status) -> None:
    task = task_in(status, parent=requested().pk, correlation_id="batch-7")
    task.refresh_from_db()
    text = text_of(viewer.get(_url(task)))
    fields = text[text.index("All fields") :]
    shown_elsewhere = {"action", "summary", "status", "services_touched", *DOCUMENTS}
    now = timezone.now()
    for field in task._meta.concrete_fields:
        value = getattr(task, field.attname)
        if field.name in shown_elsewhere or value in (None, ""):
            continue
        if isinstance(value, datetime):
            value = moment(value, now)
        elif isinstance(value, bytes | memoryview):
            value = bytes(value).hex()
        elif field.choices:
            value = task.get_on_expiry_display()
        assert str(value) in fields, field.name


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


# The parts


def test_time_in_status_is_divided_as_the_log_says_it() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def row(minutes, to):
        return {"at": start + timedelta(minutes=minutes), "to_status": to, "kind": "transition"}

    log = [row(0, "pending"), row(10, "approved"), row(20, "executing"), row(50, "completed")]
    task = {
        "created_at": start,
        "started_at": row(20, "")["at"],
        "finished_at": row(50, "")["at"],
        "status": "completed",
    }
    stretches = [(part.status, part.start, part.width, part.span) for part in segments(log, task, start)]
    assert stretches == [
        ("pending", "0.00", "200.00", "10m 00s"),
        ("approved", "200.00", "200.00", "10m 00s"),
        ("executing", "400.00", "600.00", "30m 00s"),
    ]
    again = [*log[:3], row(25, "paused"), row(35, "approved"), row(36, "executing"), row(50, "completed")]
    assert [(part.status, part.span) for part in spent(segments(again, task, start))] == [
        ("pending", "10m 00s"),
        ("approved", "11m 00s"),
        ("executing", "19m 00s"),
        ("paused", "10m 00s"),
    ]
    # Recorded afterwards: one transition, and the task's own stamps.
    for decided, expected in (
        (None, [("pending", "400.00"), ("executing", "600.00")]),
        (5, [("pending", "100.00"), ("approved", "300.00"), ("executing", "600.00")]),
        (30, [("pending", "400.00"), ("executing", "600.00")]),  # reviewed while it ran
    ):
        stamped = {**task, "decided_at": None if decided is None else start + timedelta(minutes=decided)}
        stretches = [(part.status, part.width) for part in segments([row(90, "completed")], stamped, start)]
        assert stretches == expected
    bare = {**task, "decided_at": None, "started_at": None, "finished_at": start}
    assert segments([], bare, start) == []


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0 ms"),
        (0.8123, "812 ms"),
        (0.9996, "1.0 s"),
        (49.23, "49.2 s"),
        (59.97, "1m 00s"),
        (437, "7m 17s"),
        (3599.7, "1h 00m"),
        (7260, "2h 01m"),
        (86400 * 3 + 4 * 3600, "3d 04h"),
        (-5, "\u22125.0 s"),
    ],
)
def test_spans(value, written) -> None:
    assert span(timedelta(seconds=value)) == written
    assert span(None) == "—"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "just now"),
        (9, "just now"),
        (42, "42s ago"),
        (125, "2m ago"),
        (7300, "2h ago"),
        (200_000, "2d ago"),
        (-1, "just now"),
        (-8, "in 8s"),
        (-125, "in 2m"),
        (-7300, "in 2h 01m"),
        (-10_720, "in 2h 58m"),
        (-200_000, "in 2d 07h"),
    ],
)
def test_distances_from_now(seconds, written) -> None:
    now = timezone.now()
    assert ago(now - timedelta(seconds=seconds), now) == written


def test_moments_carry_the_year_when_it_is_another() -> None:
    now = datetime(2026, 11, 24, 5, tzinfo=UTC)
    assert moment(datetime(2026, 11, 23, 5, 12, 42, tzinfo=UTC), now) == "23 Nov 05:12:42"
    assert moment(datetime(2025, 11, 23, 5, 12, 42, tzinfo=UTC), now) == "23 Nov 2025 05:12:42"
    for edge in (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)):
        assert moment(edge, now)


def test_sizes() -> None:
    assert [size(count) for count in (0, 1023, 1024, 12_900_000)] == ["0 B", "1023 B", "1.0 KB", "12.3 MB"]


def test_foreign_text_is_cut_and_its_invisible_characters_are_named() -> None:
    assert shown("abc", 2) == "ab…"
    assert shown(None) == ""
    assert shown("a\u202eb\x00c\x1b") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+001B⟩"
    assert shown("naïve 漢字 👩\u200d💻 line\nnext\tone") == "naïve 漢字 👩\u200d💻 line\nnext\tone"


def test_a_tree_keeps_the_digits_of_numbers_and_escapes_everything() -> None:
    text = (
        '{"<b>": [12.50, 1e400, 123456789012345678901234567890, true, null, "\\u003cscript\\u003e&"], "e": {}, "l": []}'
    )
    html = str(tree(text, len(text)).html)
    for kept in (
        "12.50",
        "1e400",
        "123456789012345678901234567890",
        ">true<",
        ">null<",
        "&lt;script&gt;&amp;",
        "&lt;b&gt;",
    ):
        assert kept in html
    assert "<b>" not in html
    assert html.count("<details") == html.count("</details>") == 2
    assert html.count("<ul>") == html.count("</ul>")


@pytest.mark.parametrize(
    "text", ["[" * 50 + "]" * 50, json.dumps(list(range(5000))), '{"a": tru', "[" * 3000 + "]" * 3000]
)
def test_what_cannot_be_folded_is_text_with_a_note(text) -> None:
    drawn = tree(text, len(text))
    assert drawn.html is None
    assert drawn.text == text
    assert drawn.note


def test_long_texts_fold_and_tell_their_length() -> None:
    text = json.dumps({"log": "line one\n" + "x" * 500, "short": "y" * 200})
    html = str(tree(text, len(text)).html)
    assert "509 characters" in html
    assert "200 characters" not in html
    cut = tree(("[" + "1," * LIMIT)[:LIMIT], LIMIT * 2 + 1)
    assert cut.html is None
    assert "raw JSON has all of it" in cut.note


@pytest.mark.django_db
def test_a_finished_task_shows_that_it_can_no_longer_change(viewer) -> None:
    html = viewer.get(_url(finished())).content.decode()
    assert "<form" not in html[html.index('id="content"') :]
