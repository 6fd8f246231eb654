"""The Integrity page: what was stored is shown, and nothing else."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client, override_settings
from django.urls import path, reverse
from django.utils import timezone

from audit.admin import register
from audit.admin.integrity.page import LedgerVerificationAdmin
from audit.admin.integrity.reports import FINDINGS
from audit.admin.shared.findings import LABELS
from audit.ledger.seal import begin_epoch
from audit.ledger.verify.findings import Code
from audit.models import ExecutionLog, LedgerVerification, PauseQueueEntry, Task
from tests.support.factories import sql
from tests.support.ledger import KEY, behind_the_guards, finish, sealed
from tests.support.pages import HOSTILE, LOG, TASKS, asking, client_of, inline_code, text_of
from tests.support.verifications import PAGE, TRUSTED, ahead, apart, kept, page_of, stored

pytestmark = pytest.mark.django_db

ops = admin.AdminSite(name="ops")
register(ops)
bare = admin.AdminSite(name="bare")
for model in (Task, ExecutionLog, PauseQueueEntry):
    bare.register(model, type(admin.site.get_model_admin(model)))
urlpatterns = [path("admin/", admin.site.urls), path("ops/", ops.urls), path("bare/", bare.urls)]


def test_nothing_sealed_and_nothing_verified(viewer: Client) -> None:
    text = text_of(viewer.get(PAGE))
    assert "Nothing was ever verified" in text
    assert "audit_keygen NAME" in text
    assert "manage.py audit_verify" in text
    assert "Nothing was sealed yet" in text
    finish(1)
    sealed()
    text = text_of(viewer.get(PAGE))
    assert "Nothing was ever verified" in text
    assert "audit_keygen" not in text
    assert "intact" not in text.lower()


@apart
def test_an_intact_ledger(viewer: Client) -> None:
    finish(3)
    size = sealed().size
    finish(1)
    kept()
    response = viewer.get(PAGE)
    text = text_of(response)
    last = response.context_data["last"]
    assert (last.label, last.tone, last.findings, last.first) == ("Intact", "completed", [], None)
    facts = {fact.label: fact.value for fact in last.facts}
    assert facts["By"] == "cli:ops"
    assert facts["Leaves read"] == facts["of them signed"] == str(size)
    assert facts["Tasks"] == "3"
    assert int(facts["Log rows"]) == size - 3
    assert int(facts["Not sealed then"]) > 0
    assert "the oldest, then" in facts
    assert "are not sealed yet" in text
    assert "No external checkpoint was given" in text
    assert "never verified" not in text
    assert KEY.name in text
    assert not inline_code(response)


@apart
def test_what_came_after_the_verification_is_said(viewer: Client) -> None:
    finish(1)
    then = sealed().size
    kept()
    finish(2)
    now = sealed().size
    text = text_of(viewer.get(PAGE))
    assert f"{now - then} leaves were added since and never verified: {then} then, {now} in the newest" in text
    assert "old." not in text


def test_a_verification_of_more_leaves_than_are_signed_now_is_alarming(viewer: Client) -> None:
    finish(1)
    size = sealed().size
    stored(size=size + 5)
    assert "the ledger was cut or set back" in text_of(viewer.get(PAGE))


def test_an_old_verification_stands_out(viewer: Client) -> None:
    stored(finished_at=timezone.now() - timedelta(days=3, hours=4), started_at=timezone.now() - timedelta(days=4))
    text = text_of(viewer.get(PAGE))
    assert "The last verification is 3d 04h old." in text
    assert "3d ago" in text


@apart
def test_tampering_with_a_task_and_with_a_log_row_leads_there(viewer: Client) -> None:
    changed, other = finish(1, summary="Deploy the changed one")[0], finish(1, summary="Deploy another")[0]
    finish(1)
    sealed()
    step = ExecutionLog.objects.filter(task_id=other.pk).order_by("id").first()
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve' WHERE id = %s", [changed.pk])
        sql("UPDATE audit_executionlog SET actor = 'eve' WHERE id = %s", [step.pk])
    verification = kept()
    response = viewer.get(PAGE)
    last = response.context_data["last"]
    assert (last.label, last.tone) == ("Tampering", "failed")
    assert [row.finding.code for row in last.findings] == ["row_tampered", "row_tampered"]
    assert {row.url for row in last.findings} == {
        page_of(changed),
        reverse("admin:audit_executionlog_change", args=[step.pk]),
    }
    assert last.first == last.findings[0]
    text = text_of(response)
    assert "First bad row: Deploy the changed one : Row changed" in text or f"log row {step.pk}" in text
    assert "Deploy the changed one" in text
    assert f"Deploy another (log row {step.pk})" in text
    assert viewer.get(reverse("admin:audit_executionlog_change", args=[step.pk])).url.endswith(f"#log-{step.pk}")
    # The page of that very verification, and its report.
    assert "First bad row" in text_of(viewer.get(f"{PAGE}{verification.pk}/change/"))
    report = viewer.get(f"{PAGE}{verification.pk}/report/")
    assert report["Content-Type"].startswith("application/json")
    assert report.json()["counts"] == {"row_tampered": 2}


def test_who_may_not_see_tasks_sees_no_names_of_tasks_in_findings() -> None:
    [task] = finish(1, summary="Secret name")
    stored(verdict="tampering", report={"findings": [{"code": "row_deleted", "message": "gone", "task": str(task.pk)}]})
    client = client_of("staff")
    permission = Permission.objects.get(content_type__app_label="audit", codename="view_ledgerverification")
    User.objects.get(username="staff").user_permissions.set([permission])
    text = text_of(client.get(PAGE))
    assert "gone" in text
    assert "Secret name" not in text


def test_epochs_say_why(viewer: Client) -> None:
    finish(1)
    sealed()
    assert "Epochs" not in text_of(viewer.get(PAGE))
    left_behind = ahead()
    begin_epoch("default", [KEY], left_behind=left_behind, reason="restored after the <b>fire</b>", actor="carol")
    text = text_of(viewer.get(PAGE))
    assert "Epoch 2, from leaf" in text
    assert "restored after the <b>fire</b>" in text
    assert "carol" in text
    assert f"{KEY.name}/epoch/2" in text


@apart
def test_earlier_verifications_and_checkpoints_are_paged_and_bounded(viewer: Client) -> None:
    for number in range(25):
        stored(finished_at=timezone.now() - timedelta(hours=number), actor=f"run {number:02}")
    for _ in range(12):
        finish(1)
        sealed()
    response = viewer.get(PAGE)
    assert len(response.context_data["verifications"]) == 20
    assert len(response.context_data["checkpoints"]) == 10
    text = text_of(response)
    assert "run 19" in text
    assert "run 20" not in text
    second = viewer.get(PAGE + response.context_data["older"])
    assert [row["actor"] for row in second.context_data["verifications"]] == [f"run {n}" for n in range(20, 25)]
    assert second.context_data["last"].actor == "run 00"
    assert "means nothing" in text_of(viewer.get(f"{PAGE}?after=nonsense"))


def test_a_checkpoint_is_shown_and_downloaded_as_it_was_signed(viewer: Client) -> None:
    finish(1)
    note = sealed().note
    [row] = viewer.get(PAGE).context_data["checkpoints"]
    assert (row["text"], row["signers"]) == (note, [KEY.name])
    response = viewer.get(row["url"])
    assert response.content.decode() == note
    assert "attachment" in response["Content-Disposition"]
    for absent in ("0", "x", "9" * 30, "²"):
        assert viewer.get(f"{PAGE}checkpoint/{absent}/note/").status_code == 404
        assert viewer.get(f"{PAGE}{absent}/change/").status_code == 404
        assert viewer.get(f"{PAGE}{absent}/report/").status_code == 404


def test_the_page_asks_at_most_six_bounded_questions(viewer: Client) -> None:
    counts = set()
    for _ in range(3):
        tasks = finish(4)
        sealed()
        found = [{"code": "row_deleted", "message": "x", "task": str(task.pk)} for task in tasks]
        found += [{"code": "row_deleted", "message": "x", "log": log} for log in (1, 2)]
        stored(verdict="tampering", report={"findings": found, "counts": {"row_deleted": 6}})
        with asking() as asked:
            assert viewer.get(PAGE).status_code == 200
        counts.add(len(asked.data))
        for statement in asked.data:
            assert "OFFSET" not in statement
            assert "COUNT(" not in statement.upper()
            assert "LIMIT" in statement or "ANY(" in statement, statement
    assert counts == {6}
    url = f"{PAGE}{LedgerVerification.objects.latest('id').pk}/change/"
    with asking() as asked:
        viewer.get(url)
    assert len(asked.data) == 2


@apart
def test_a_panel_that_takes_too_long_is_left_out(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    sealed()
    kept()

    def slow(using: str) -> None:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT pg_sleep(10)")

    monkeypatch.setattr("audit.admin.shared.panels.PANEL_MS", 50)
    for name in ("newest", "read_head", "read_checkpoints", "read_epochs"):
        with monkeypatch.context() as patched:
            patched.setattr(f"audit.admin.integrity.page.{name}", slow)
            response = viewer.get(PAGE)
            assert response.status_code == 200
            if name == "newest":
                assert "Nothing was ever verified" not in text_of(response)
            if name != "read_head":
                assert "took too long" in text_of(response)


HOSTILE_REPORTS: list[Any] = [
    [],
    "text",
    {"findings": None, "counts": [], "covered": "x", "not_covered": {}, "signed": "many"},
    {"findings": [None, 1, "x", [], {}], "counts": {"x": True, "y": -1, "z": 2}, "not_covered": [None, 3, ["x"]]},
    {"findings": [{"code": 5, "task": "no uuid", "log": "1; DROP", "leaf": 10**30, "message": ["x"]}]},
    {"findings": [{"code": HOSTILE["script"], "task": 7, "log": -1, "message": HOSTILE["quotes"]}]},
    {"findings": [{"code": "x" * 5_000, "message": "y" * 400_000, "log": "9" * 40}]},
    {"findings": [{"code": "row_deleted", "message": HOSTILE["bidi"], "task": "00000000-0000-7000-8000-00000000000z"}]},
]


@pytest.mark.parametrize("report", HOSTILE_REPORTS)
@pytest.mark.parametrize("verdict", ["tampering", "unchecked", "intact"])
def test_a_report_of_any_shape_is_no_error_and_is_text(viewer: Client, report: Any, verdict: str) -> None:
    finish(1)
    sealed()
    verification = stored(verdict=verdict, report=report, actor=HOSTILE["script"], size=5)
    for url in (PAGE, f"{PAGE}{verification.pk}/change/", TASKS, LOG, f"{TASKS}?seal=failed"):
        response = viewer.get(url)
        assert response.status_code == 200, url
        assert not inline_code(response)
        assert "<script>alert" not in response.content.decode()
        assert "\u202e" not in response.content.decode()
    assert json.loads(viewer.get(f"{PAGE}{verification.pk}/report/").content) == report


def test_more_findings_than_a_page_shows(viewer: Client) -> None:
    found = [{"code": "leaf_gap", "message": f"gap {n}", "leaf": n} for n in range(FINDINGS + 7)]
    stored(verdict="tampering", report={"findings": found, "counts": {"leaf_gap": 5_000}})
    response = viewer.get(PAGE)
    assert len(response.context_data["last"].findings) == FINDINGS
    assert f"{5_000 - FINDINGS} more" in text_of(response)


def test_every_code_has_a_label() -> None:
    assert set(LABELS) == set(Code)


@override_settings(ROOT_URLCONF=__name__)
def test_on_admin_sites_of_ones_own(viewer: Client, settings: Any) -> None:
    settings.AUDIT = TRUSTED
    [task] = finish(1)
    sealed()
    stored(verdict="tampering", report={"findings": [{"code": "row_deleted", "message": "x", "task": str(task.pk)}]})
    assert isinstance(ops.get_model_admin(LedgerVerification), LedgerVerificationAdmin)
    html = viewer.get("/ops/audit/ledgerverification/").content.decode()
    assert "/ops/audit/ledgerverification/checkpoint/" in html
    assert f"/ops/audit/task/{task.pk}/change/" in html
    page = viewer.get(f"/ops/audit/task/{task.pk}/change/").content.decode()
    assert f'href="/ops/audit/task/{task.pk}/proof/"' in page
    assert 'href="/ops/audit/ledgerverification/"' in page
    assert '"/admin/' not in html.partition('id="content"')[2]
    # A site that has the tasks alone.
    assert "ledgerverification" not in viewer.get(f"/bare/audit/task/{task.pk}/change/").content.decode()


def test_the_admin_index_calls_it_integrity(viewer: Client) -> None:
    assert ">Integrity</a>" in viewer.get("/admin/").content.decode()
    assert "Integrity" in text_of(viewer.get(PAGE))


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_pages_read_the_alias_they_are_given(settings: Any) -> None:
    viewer = client_of("viewer")
    [task] = finish(1)
    sealed()
    settings.AUDIT = {"BROWSER_USING": "other", **TRUSTED}
    assert "Nothing was ever verified" in text_of(viewer.get(PAGE))
    assert "Nothing was sealed yet" in text_of(viewer.get(PAGE))
    assert viewer.get(page_of(task, "proof")).status_code == 404
    settings.AUDIT = {"BROWSER_USING": "default", **TRUSTED}
    assert KEY.name in text_of(viewer.get(PAGE))
