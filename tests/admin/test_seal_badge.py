"""The seal badge claims what a stored verification found, and no more."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from audit.ledger.seal import begin_epoch
from audit.ledger.verify import keep_unchecked
from audit.models import ExecutionLog, LedgerCheckpoint, LedgerLeaf
from tests.support.factories import sql, task_in
from tests.support.ledger import KEY, behind_the_guards, finish, sealed
from tests.support.pages import LOG, TASKS, asking, text_of
from tests.support.verifications import PAGE, ahead, apart, kept, page_of, stored

pytestmark = pytest.mark.django_db


def badges(client: Client, url: str = TASKS) -> dict[Any, str]:
    """State of each row's seal, by the row's id."""
    return {row["id"]: row["seal"].state for row in client.get(url).context_data["rows"]}


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
