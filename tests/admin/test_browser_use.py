"""The browser's pages as people use them: with a mouse, with keys, on a narrow screen."""

import csv
import json
import re
from datetime import timedelta

import pytest

from audit.ledger.verify import keep
from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support.browser import visiting
from tests.support.factories import requested, sql, task_in
from tests.support.ledger import behind_the_guards, finish, sealed, verified
from tests.support.pages import LOG, QUEUE, TASKS, client_of, past

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

INTEGRITY = "/admin/audit/ledgerverification/"

WIDE = {"width": 1440, "height": 1000}


def _verify() -> None:
    keep(verified(), "default", "cli:ops")


def _titles(page) -> list[str]:
    return page.locator(".audit-title").all_inner_texts()


def _total(page) -> int:
    return int(page.locator(".audit-total strong").inner_text().replace(",", ""))


def _focus(page, what: str) -> str:
    return page.evaluate(f"document.activeElement.{what}")


# Looking


def test_a_person_logs_in_and_is_where_the_link_led(transactional_db, browser, base) -> None:
    client_of("viewer")
    past(1, summary="the one")
    with visiting(browser, base, "anonymous") as page:
        page.goto(f"{base}{TASKS}?since=7d&status=completed")
        page.fill("#id_username", "viewer")
        page.fill("#id_password", "pw")
        page.press("#id_password", "Enter")
        page.wait_for_url(f"**{TASKS}?since=7d&status=completed")
        assert _titles(page) == ["the one"]
        assert page.locator("#audit-decide, .audit-pick").count() == 0


def test_facets_narrow_the_list_and_chips_widen_it_again(page) -> None:
    past(4, summary="fine")
    past(3, summary="broken", status="failed", services=["auth"], outcome={"error_type": "TimeoutError"})
    past(2, summary="lost", status="failed", services=["dns"], outcome={"error_type": "OSError"})
    page.goto(page.base + TASKS)
    side = page.locator(".audit-side")
    assert (_total(page), page.locator(".audit-chips").count()) == (9, 0)
    side.get_by_role("link", name="Failed").click()
    page.wait_for_url("**status=failed*")
    assert (_total(page), set(_titles(page))) == (5, {"broken", "lost"})
    side.get_by_role("link", name="auth").click()
    page.wait_for_url("**service=auth*")
    assert (_total(page), set(_titles(page))) == (3, {"broken"})
    chips = page.locator(".audit-chips a")
    assert [" ".join(text.split()[:2]) for text in chips.all_inner_texts()] == [
        "status Failed",
        "service auth",
        "Clear all",
    ]
    chips.first.click()
    page.wait_for_url(lambda url: "status=" not in url)
    assert set(_titles(page)) == {"broken"}
    page.get_by_role("link", name="Clear all").click()
    page.wait_for_url(lambda url: "service=" not in url)
    assert _total(page) == 9
    page.locator(".audit-legend a", has_text="Completed").click()
    page.wait_for_url("**status=completed*")
    assert set(_titles(page)) == {"fine"}


def test_tokens_in_the_search_box_are_a_filter(page) -> None:
    past(2, summary="fine")
    past(1, summary="broken invoice", status="failed")
    page.goto(page.base + TASKS)
    page.keyboard.press("/")
    page.keyboard.type("status:failed invoice")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=*")
    assert _titles(page) == ["broken invoice"]


def test_a_bar_zooms_into_its_stretch_of_time(page) -> None:
    past(40, every=timedelta(minutes=30))
    page.goto(f"{page.base}{TASKS}?since=24h")
    bars = page.locator(".audit-bar")
    many, bar = bars.count(), bars.nth(3)
    label = bar.get_attribute("aria-label")
    bar.click()
    page.wait_for_url("**until=*")
    assert _total(page) == sum(map(int, re.findall(r"Completed (\d+)", label)))
    page.go_back()
    page.wait_for_url("**since=24h")
    # The same by keys; the chart is one stop of the tab key.
    page.locator(".audit-bar[tabindex='0']").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    assert page.locator(".audit-bar[tabindex='0']").count() == 1
    assert _focus(page, "getAttribute('aria-label')") == bars.nth(many - 2).get_attribute("aria-label")
    page.keyboard.press("Enter")
    page.wait_for_url("**until=*")
    assert 1 <= _total(page) < 40


def test_pages_go_forward_and_back(page) -> None:
    past(110)
    page.goto(page.base + TASKS)
    seen = [_titles(page)]
    for _ in range(2):
        with page.expect_navigation():
            page.click("a[rel=next]")
        seen.append(_titles(page))
    assert [text for titles in seen for text in titles] == [f"task {number}" for number in range(110)]
    assert page.locator("a[rel=next]").count() == 0
    with page.expect_navigation():
        page.click("a[rel=prev]")
    assert _titles(page) == seen[1]
    with page.expect_navigation():
        page.get_by_role("link", name="First page").click()
    assert _titles(page) == seen[0]


def test_keys_go_through_the_rows_and_tell_what_they_do(page) -> None:
    past(3)
    page.goto(page.base + TASKS)
    page.keyboard.press("/")
    assert _focus(page, "id") == "audit-q"
    page.keyboard.type("jk?")
    assert page.locator("#audit-q").input_value() == "jk?"
    page.keyboard.press("Escape")
    for key, title in [("j", "task 0"), ("j", "task 1"), ("j", "task 2"), ("j", "task 2"), ("k", "task 1")]:
        page.keyboard.press(key)
        assert _focus(page, "textContent") == title
    keys = page.locator(".audit-keys")
    page.keyboard.press("?")
    assert keys.locator("dl").is_visible()
    page.keyboard.press("?")
    assert not keys.locator("dl").is_visible()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/change/")
    assert page.locator("h1").inner_text() == "task 0"


@pytest.mark.parametrize("address", [TASKS, LOG])
def test_on_a_narrow_screen_the_filter_unfolds_above_the_rows(page, address) -> None:
    past(50)
    page.goto(page.base + address)
    fold, choices = page.locator(".audit-fold"), page.locator(".audit-filter")
    assert not fold.is_visible()
    assert choices.is_visible()
    for width in (390, 1100):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(page.base + address)
        assert not choices.is_visible()
        assert fold.bounding_box()["height"] >= 24
        assert fold.bounding_box()["y"] < 844
        fold.click()
        assert choices.is_visible()
        assert choices.bounding_box()["y"] < page.locator(".audit-rows").bounding_box()["y"]
        fold.press("Space")
        assert not choices.is_visible()


def test_json_folds_by_mouse_and_by_key(page) -> None:
    task = requested(plan={"steps": [{"run": "pull"}, {"run": "restart"}], "risk": "low"})
    page.goto(f"{page.base}{TASKS}{task.pk}/change/")
    plan = page.get_by_label("Plan", exact=True)
    steps = plan.locator("li", has_text="steps").first.locator("summary").first
    assert plan.get_by_text("restart").is_visible()
    steps.click()
    assert not plan.get_by_text("restart").is_visible()
    assert "2 items" in steps.inner_text()
    steps.press("Enter")
    assert plan.get_by_text("restart").is_visible()
    plan.locator("summary").first.click()
    assert not plan.get_by_text("risk").is_visible()


def test_an_export_is_what_the_filter_finds_on_all_its_pages(page, tmp_path) -> None:
    past(5, summary="fine")
    failed = past(60, summary="broken", status="failed")
    page.goto(f"{page.base}{TASKS}?status=failed&since=7d")
    files = {}
    for label in ("CSV", "JSONL"):
        with page.expect_download() as download:
            page.locator(".audit-export a", has_text=label).click()
        files[label] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[label])
    with files["CSV"].open(encoding="utf-8-sig", newline="") as stream:
        assert {row["id"] for row in csv.DictReader(stream)} == {str(key) for key in failed}
    lines = files["JSONL"].read_text().splitlines()
    assert {json.loads(line)["id"] for line in lines} == {str(key) for key in failed}


def test_the_way_from_a_finding_to_the_row_that_was_changed(page) -> None:
    bad, _ = finish(2)
    sealed()
    _verify()
    page.goto(page.base + INTEGRITY)
    assert page.locator(".audit-verdict .audit-pill").inner_text() == "Intact"
    with behind_the_guards():
        sql("UPDATE audit_task SET summary = 'rewritten' WHERE id = %s", [bad.pk])
    _verify()
    page.reload()
    assert page.locator(".audit-verdict .audit-pill").inner_text() == "Tampering"
    page.locator(".audit-findings .audit-title").first.click()
    page.wait_for_url(f"**/{bad.pk}/change/")
    assert page.locator(".audit-seal.s-failed").first.is_visible()
    with page.expect_download() as download:
        page.goto(page.base + INTEGRITY)
        page.locator(".audit-checkpoints a[download]").first.click()
    assert "— example.org/audit" in download.value.path().read_text()


# Deciding; by keys, without script and of several kinds in test_decide_browser.py


def test_a_task_is_approved_from_its_page_and_who_comes_later_is_reported(page, browser) -> None:
    task = requested(summary="Deploy it")
    address = f"{page.base}{TASKS}{task.pk}/change/"
    page.goto(address)
    with visiting(browser, page.base, "superuser", viewport=WIDE) as late:
        late.goto(address)
        page.click("button[value=approve]")
        page.fill("#id_reason", "looks right")
        page.click(".audit-reason button")
        page.wait_for_url(address)
        assert "approved" in page.locator(".messagelist").inner_text()
        assert "looks right" in page.locator(".audit-timeline").inner_text()
        with late.expect_navigation():
            late.click("button[value=reject]")
        text = late.locator(".audit-items").inner_text()
        assert "It changed since you opened it: now approved, by decider. Nothing was done." in text
        assert late.locator("#id_reason").count() == 0
    task.refresh_from_db()
    assert (task.status, task.decided_by) == ("approved", "decider")
    assert set(ExecutionLog.objects.filter(task=task).values_list("actor", flat=True)) == {"alice", "decider"}


def test_several_are_rejected_and_paused_work_is_resumed_with_a_reason(page) -> None:
    for number in range(3):
        requested(summary=f"number {number}")
    paused = task_in("paused", summary="asleep")
    page.goto(f"{page.base}{TASKS}?status=pending")
    page.check(".audit-pick-all input")
    page.click("button[value=reject]")
    page.fill("#id_reason", "not today")
    page.click(".audit-reason button")
    page.wait_for_url("**status=pending")
    assert "3 tasks rejected." in page.locator(".messagelist").inner_text()
    assert _titles(page) == []
    rejected = Task.objects.filter(status="rejected", decided_by="decider")
    assert [task.outcome["output_summary"] for task in rejected] == ["not today"] * 3
    page.goto(page.base + QUEUE)
    page.locator(".audit-rows .audit-pick input").check()
    page.click("button[value=resume]")
    page.fill("#id_reason", "go on")
    page.click(".audit-reason button")
    page.wait_for_url(f"**{QUEUE}")
    assert page.get_by_text("Nothing is paused").is_visible()
    paused.refresh_from_db()
    assert (paused.status, PauseQueueEntry.objects.count()) == ("approved", 0)
