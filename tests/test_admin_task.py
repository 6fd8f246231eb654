"""The page of a task, and the parts it is drawn with."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from audit.admin import task as page_of_task
from audit.admin.jsontree import LIMIT, tree
from audit.admin.timeline import segments
from audit.admin.wording import ago, moment, shown, size, span
from audit.models import Task
from tests.factories import claimed, finished, requested, task_in
from tests.pages import HOSTILE, asking, client_of, past, text_of


@pytest.fixture
def viewer():
    return client_of("viewer")


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
    for sql in asked.data:
        assert not re.search(r"\bDISTINCT\b|\bOFFSET\b|COUNT\(\*\)", sql), sql


@pytest.mark.django_db
def test_the_story_is_told_in_order_with_both_names_of_who_did_it(viewer) -> None:
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
    assert task.row_hash.hex() in text


@pytest.mark.django_db
def test_a_long_log_is_cut_and_the_page_says_where_the_rest_is(viewer, monkeypatch) -> None:
    monkeypatch.setattr(page_of_task, "LOG_ROWS", 4)
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
    assert "?correlation=batch+%26+7" in html
    assert _url(parent) in viewer.get(_url(child)).content.decode()


@pytest.mark.django_db
def test_a_person_who_asked_for_a_stop_is_told_that_it_is_on_its_way(viewer) -> None:
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
        summary="s" * 1_000_000,
        services=[f"service-{n}" for n in range(10_000)],
        plan={"x": "y" * 2_000_000},
        suggestions=[{"a": n} for n in range(20_000)],
    )
    response = viewer.get(_url(task))
    assert response.status_code == 200
    assert len(response.content) < 600_000
    text = text_of(response)
    assert "+9800" in text
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


# The parts


def test_time_in_status_is_divided_as_the_log_tells_it() -> None:
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
    told = [(part.status, part.start, part.width, part.span) for part in segments(log, task, start)]
    assert told == [
        ("pending", "0.00", "200.00", "10m 00s"),
        ("approved", "200.00", "200.00", "10m 00s"),
        ("executing", "400.00", "600.00", "30m 00s"),
    ]
    # Recorded afterwards: one transition, and the task's own stamps.
    told = [(part.status, part.width) for part in segments([row(90, "completed")], task, start)]
    assert told == [("pending", "400.00"), ("executing", "600.00")]
    assert segments([], {**task, "started_at": None, "finished_at": start}, start) == []


@pytest.mark.parametrize(
    ("value", "told"),
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
def test_spans(value, told) -> None:
    assert span(timedelta(seconds=value)) == told
    assert span(None) == "—"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "just now"),
        (9, "just now"),
        (42, "42s ago"),
        (125, "2m ago"),
        (7300, "2h ago"),
        (200_000, "2d ago"),
        (-1, "just now"),
        (-8, "in 8s"),
        (-7300, "in 2h"),
    ],
)
def test_distances_from_now(seconds, told) -> None:
    now = timezone.now()
    assert ago(now - timedelta(seconds=seconds), now) == told


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
