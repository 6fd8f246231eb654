"""The page of a task: bounded, for every status, whatever the row holds."""

import json
import re
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from audit.admin.shared.wording import moment
from audit.admin.task.columns import COLUMNS, DOCUMENTS, completed
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
def test_a_large_work_plan_makes_a_bounded_page(viewer) -> None:
    task = task_in("approved")
    task.pause(work_plan={"x": "y" * 2_000_000}, actor="w")
    response = viewer.get(_url(task))
    assert len(response.content) < 200_000
    assert "1.9 MB" in text_of(response)
    assert "Only the beginning is shown" in text_of(response)


@pytest.mark.django_db
@pytest.mark.parametrize("change", ["finished_at = NULL", "finished_at = NULL, started_at = NULL", "status = 'paused'"])
def test_a_task_that_its_owner_has_forged_is_a_page_all_the_same(viewer, change) -> None:
    past(1, decided_at=timezone.now(), status="failed")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("ALTER TABLE audit_task DISABLE TRIGGER USER")
    sql(f"UPDATE audit_task SET {change}")
    assert viewer.get(_url(Task.objects.get())).status_code == 200


def test_the_page_knows_of_every_column_of_a_task() -> None:
    above = {"action", "summary", "status", "services_touched"}
    known = [*(column.name for column in COLUMNS), *DOCUMENTS, *above]
    assert sorted(known) == sorted(field.name for field in Task._meta.concrete_fields)


def test_a_column_without_a_label_of_its_own_has_that_of_the_model() -> None:
    left_out = {"correlation_id": "Correlation id", "created_at": "Created at", "attempt": "Attempt"}
    plain = [column for column in COLUMNS if column.name not in left_out]
    columns, documents = completed(plain, {name: label for name, label in DOCUMENTS.items() if name != "origin"})
    assert {column.name: str(column.label) for column in columns[len(plain) :]} == left_out
    written = {column.name: column.write for column in columns}
    assert all(written[column.name] == column.write for column in COLUMNS)
    assert list(documents) == list(DOCUMENTS)
    assert documents["origin"] == "Origin"


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
def test_a_finished_task_shows_that_it_can_no_longer_change(viewer) -> None:
    html = viewer.get(_url(finished())).content.decode()
    assert "<form" not in html[html.index('id="content"') :]
