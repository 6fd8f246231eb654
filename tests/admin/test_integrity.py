"""The Integrity page, the seal badge and the proof of a task: what was stored is shown, and nothing else."""

import json
import re
import shlex
import subprocess
import sys
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection, connections
from django.test import Client, override_settings
from django.urls import path, reverse
from django.utils import timezone

from audit.admin import register
from audit.admin.integrity.page import LedgerVerificationAdmin
from audit.admin.integrity.reports import FINDINGS
from audit.admin.shared.findings import LABELS
from audit.admin.task.proof import MOST_LOG_ROWS
from audit.ledger.seal import begin_epoch
from audit.ledger.tlog import proof
from audit.ledger.tlog.note import generate
from audit.ledger.verify import keep, keep_unchecked
from audit.ledger.verify.findings import Code
from audit.models import ExecutionLog, LedgerCheckpoint, LedgerLeaf, LedgerVerification, PauseQueueEntry, Task
from tests.support.factories import sql, task_in
from tests.support.ledger import KEY, behind_the_guards, finish, sealed, verified
from tests.support.pages import HOSTILE, LOG, TASKS, asking, client_of, inline_code, text_of

pytestmark = pytest.mark.django_db
# What reads from a snapshot of its own, verifications and proofs, needs a connection without a transaction.
apart = pytest.mark.django_db(transaction=True)

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = "/admin/audit/ledgerverification/"
TRUSTED = {"LEDGER_VERIFIERS": [str(KEY.verifier)]}

ops = admin.AdminSite(name="ops")
register(ops)
bare = admin.AdminSite(name="bare")
for model in (Task, ExecutionLog, PauseQueueEntry):
    bare.register(model, type(admin.site.get_model_admin(model)))
urlpatterns = [path("admin/", admin.site.urls), path("ops/", ops.urls), path("bare/", bare.urls)]


def stored(**given: Any) -> LedgerVerification:
    """A verification as a hand could have stored it."""
    now = timezone.now()
    values = {
        "started_at": now,
        "finished_at": now,
        "verdict": "intact",
        "size": 0,
        "unsealed": 0,
        "oldest_unsealed": None,
        "report": {},
        "actor": "cli:ops",
    }
    return LedgerVerification.objects.create(**{**values, **given})


def kept() -> LedgerVerification:
    """Verify now, and store the result."""
    return keep(verified(), "default", "cli:ops")


def badges(client: Client, url: str = TASKS) -> dict[Any, str]:
    """State of each row's seal, by the row's id."""
    return {row["id"]: row["seal"].state for row in client.get(url).context_data["rows"]}


def page_of(task: Task, page: str = "change") -> str:
    return reverse(f"admin:audit_task_{page}", args=[task.pk])


# The page


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
    assert "Oldest of these waited" in facts
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


def ahead() -> str:
    """A checkpoint of a tree that goes on from this one, as if a backup had been restored since."""
    from audit.ledger.tlog import checkpoint

    newest = LedgerCheckpoint.objects.latest("id")
    wanted = checkpoint.Checkpoint(origin=KEY.name, size=newest.size + 7, root=b"\7" * 32)
    return str(checkpoint.sign(wanted, KEY))


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


# Badges


@apart
def test_a_badge_claims_what_a_stored_verification_found_and_no_more(viewer: Client) -> None:
    live = task_in("executing")
    [task] = finish(1)
    assert badges(viewer) == {live.pk: "live", task.pk: "unsealed"}
    # Nothing is said of a row that was not sealed when it was verified.
    kept()
    sealed()
    assert badges(viewer) == {live.pk: "live", task.pk: "sealed"}
    kept()
    assert badges(viewer) == {live.pk: "live", task.pk: "verified"}
    [later] = finish(1)
    sealed()
    assert badges(viewer) == {live.pk: "live", task.pk: "verified", later.pk: "sealed"}
    # Its log rows are sealed one by one.
    rows = {row["id"]: row["seal"].state for row in viewer.get(f"{LOG}?task={live.pk}").context_data["rows"]}
    assert set(rows.values()) == {"verified"}


@pytest.mark.parametrize("verdict", ["tampering", "unchecked"])
def test_a_verification_that_did_not_end_well_makes_nothing_verified(viewer: Client, verdict: str) -> None:
    [task] = finish(1)
    size = sealed().size
    stored(verdict=verdict, size=size, report={"findings": [{"code": "guard_off", "message": "x"}]})
    assert badges(viewer) == {task.pk: "unclear" if verdict == "tampering" else "sealed"}
    text = text_of(viewer.get(page_of(task)))
    assert "Sealed" in text
    assert "Sealed and verified" not in text


@apart
def test_a_verification_that_could_not_check_says_why_and_takes_no_finding_back(viewer: Client) -> None:
    changed, fine = finish(2)
    sealed()
    with behind_the_guards():
        sql("UPDATE audit_task SET summary = 'other' WHERE id = %s", [changed.pk])
    kept()
    before = badges(viewer)
    assert before == {changed.pk: "failed", fine.pk: "unclear"}
    keep_unchecked("default", "cli:ops", timezone.now(), "/kept: there is no such directory")
    text = text_of(viewer.get(PAGE))
    assert "Could not check" in text
    assert "as verified" not in text
    assert "/kept: there is no such directory" in text
    assert badges(viewer) == before
    assert [row["id"] for row in viewer.get(f"{TASKS}?seal=failed").context_data["rows"]] == [changed.pk]


@apart
def test_only_what_the_report_names_failed(viewer: Client) -> None:
    changed, logged, fine = (finish(1)[0] for _ in range(3))
    sealed()
    step = ExecutionLog.objects.filter(task_id=logged.pk).order_by("id").first()
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve' WHERE id = %s", [changed.pk])
        sql("UPDATE audit_executionlog SET actor = 'eve' WHERE id = %s", [step.pk])
    kept()
    expected = {changed.pk: "failed", logged.pk: "failed", fine.pk: "unclear"}
    assert badges(viewer) == expected
    rows = {row["id"]: row["seal"].state for row in viewer.get(LOG).context_data["rows"]}
    assert {key for key, state in rows.items() if state == "failed"} == {step.pk}
    text = text_of(viewer.get(page_of(logged)))
    assert "Verification failed: Row changed." in text
    assert "perhaps not what was recorded" in text
    assert "perhaps not what was recorded" not in text_of(viewer.get(page_of(fine)))
    # The view of them, and its words in the search box.
    links = {str(link.label): link.url for link in viewer.get(TASKS).context_data["views"]}
    for url in (links["Integrity problems"], "?q=seal:failed"):
        assert set(badges(viewer, TASKS + url)) == {changed.pk, logged.pk}
    assert "seal is not a state" not in text_of(viewer.get(f"{TASKS}?seal=failed"))
    assert "use failed" in text_of(viewer.get(f"{TASKS}?seal=whole"))
    # Only the newest verification counts.
    stored(size=10**6)
    assert set(badges(viewer).values()) == {"verified"}
    assert badges(viewer, f"{TASKS}?seal=failed") == {}


def test_an_unsealed_task_that_was_put_in_behind_the_sealer_failed(viewer: Client) -> None:
    [task] = finish(1)
    stored(verdict="tampering", report={"findings": [{"code": "row_inserted", "message": "x", "task": str(task.pk)}]})
    assert badges(viewer) == {task.pk: "failed"}


@apart
def test_a_badge_has_words_beside_its_sign(viewer: Client) -> None:
    task_in("executing")
    finish(1)
    sealed()
    kept()
    finish(1)
    html = viewer.get(TASKS).content.decode()
    for sign, words in (("–", "not finished"), ("✓", "verified"), ("○", "not sealed yet")):  # noqa: RUF001
        assert f'<span aria-hidden="true">{sign}</span><span class="audit-seal-words">{words}</span>' in html


@apart
def test_the_page_of_a_task_says_where_it_stands(viewer: Client) -> None:
    [task] = finish(1)
    assert "Not sealed yet" in text_of(viewer.get(page_of(task)))
    sealed()
    kept()
    leaf = LedgerLeaf.objects.get(task_id=task.pk).index
    finish(1)
    sealed()
    text = text_of(viewer.get(page_of(task)))
    assert "Sealed and verified just now" in text
    assert f"Leaf {leaf}, covered by the checkpoint of " in text
    live = task_in("executing")
    assert "Sealed" not in text_of(viewer.get(page_of(live))).partition("Timeline")[0]


@apart
def test_the_checkpoint_named_is_the_first_of_the_leafs_own_epoch(viewer: Client) -> None:
    finish(1)
    sealed()
    begin_epoch("default", [KEY], left_behind=ahead(), reason="restored", actor="carol")
    [task] = finish(1)
    sealed()
    finish(1)
    sealed()
    leaf = LedgerLeaf.objects.get(task_id=task.pk).index
    covering = LedgerCheckpoint.objects.filter(epoch=2, size__gt=leaf).earliest("size")
    where = viewer.get(page_of(task)).context_data["seal"].where
    assert covering.created_at.strftime("%H:%M:%S") in where


def test_badges_cost_one_bounded_question(viewer: Client) -> None:
    tasks = finish(5)
    sealed()
    stored(
        verdict="tampering",
        report={"findings": [{"code": "row_deleted", "message": "x", "task": str(tasks[0].pk)}] * 1_000},
    )
    with asking() as asked:
        viewer.get(TASKS)
    assert len(asked.data) == 4
    assert sum("audit_ledger_leaf" in each for each in asked.data) == 1
    with asking() as asked:
        viewer.get(page_of(tasks[0]))
    assert len(asked.data) == 4


# Proofs


@apart
def test_a_proof_is_downloaded_and_holds_offline(viewer: Client, tmp_path: Path) -> None:
    [task] = finish(1)
    with override_settings(AUDIT=TRUSTED):
        assert "Download proof" not in text_of(viewer.get(page_of(task)))
    sealed()
    with override_settings(AUDIT=TRUSTED):
        assert page_of(task, "proof") in viewer.get(page_of(task)).content.decode()
        response = viewer.get(page_of(task, "proof"))
    assert response.status_code == 200
    assert response["Content-Disposition"] == f'attachment; filename="{task.pk}.tlog-proof"'
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    checked = proof.check(response.content.decode(), [KEY.verifier])
    assert checked.task_id == task.pk
    assert len(checked.log) == ExecutionLog.objects.filter(task_id=task.pk).count()
    # The page names what checks it.
    file = tmp_path / f"{task.pk}.tlog-proof"
    file.write_bytes(response.content)
    with override_settings(AUDIT=TRUSTED):
        html = viewer.get(page_of(task)).content.decode()
    install, command = unescape(
        re.search(r"How to check the proof.*?<pre>(.*?)</pre>", html, re.DOTALL)[1]
    ).splitlines()
    assert install.endswith("--no-deps django-task-audit")
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "audit.ledger"]
    ran = subprocess.run(
        [sys.executable, "-P", *words[1:]], cwd=tmp_path, env={"PYTHONPATH": str(CHECKOUT)}, check=True
    )
    assert ran.returncode == 0
    # The connection is as it was.
    assert not connection.in_atomic_block
    assert sql("SHOW statement_timeout") != [("1500ms",)]


@apart
def test_without_keys_there_is_a_hint_and_no_button(viewer: Client) -> None:
    [task] = finish(1)
    sealed()
    text = text_of(viewer.get(page_of(task)))
    assert "Download proof" not in text
    assert "No proof to download" in text
    response = viewer.get(page_of(task, "proof"))
    assert response.status_code == 409
    assert "names no key" in text_of(response)


@apart
def test_what_cannot_be_proven_says_why(viewer: Client, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.AUDIT = TRUSTED
    live = task_in("executing")
    [task] = finish(1)

    def answer(of: Task) -> str:
        response = viewer.get(page_of(of, "proof"))
        assert response.status_code == 409
        assert "attachment" not in response.headers.get("Content-Disposition", "")
        return text_of(response)

    assert "Nothing is sealed yet" in answer(task)
    sealed()
    assert "it is sealed when it has finished" in answer(live)
    with monkeypatch.context() as patched:
        patched.setattr("audit.admin.task.proof.MOST_LOG_ROWS", 2)
        assert "more than 2 rows" in answer(task)
    settings.AUDIT = {"LEDGER_VERIFIERS": [str(generate("example.org/other").verifier)]}
    assert "would not hold" in answer(task)
    settings.AUDIT = {"LEDGER_VERIFIERS": ["no key"]}
    assert "There is no proof" in answer(task)
    settings.AUDIT = TRUSTED
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve' WHERE id = %s", [task.pk])
    assert "was changed after it was sealed" in answer(task)
    assert viewer.get(f"{TASKS}nonsense/proof/").status_code == 404
    assert viewer.get(f"{TASKS}00000000-0000-7000-8000-000000000000/proof/").status_code == 404
    assert MOST_LOG_ROWS > 100


@apart
def test_a_proof_needs_the_permission_to_view_tasks(settings: Any) -> None:
    settings.AUDIT = TRUSTED
    [task] = finish(1)
    sealed()
    url = page_of(task, "proof")
    assert client_of("anonymous").get(url).status_code == 302
    assert client_of("staff").get(url).status_code == 403
    assert client_of("blind").get(url).status_code == 403
    for kind in ("viewer", "decider", "superuser"):
        client = client_of(kind)
        assert client.get(url).status_code == 200
        assert client.post(url).status_code == 405


@apart
def test_a_proof_comes_out_where_every_request_is_a_transaction(viewer: Client, settings: Any) -> None:
    settings.AUDIT = TRUSTED
    [task] = finish(1)
    sealed()
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        response = viewer.get(page_of(task, "proof"))
        assert viewer.get(PAGE).status_code == 200
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert proof.check(response.content.decode(), [KEY.verifier]).task_id == task.pk


# Where it is


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
