"""Deciding as a person does it, by keyboard and with a mouse, in a real browser."""

import re

import pytest

from audit.models import ExecutionLog, Task
from tests.support.browser import violations, visiting
from tests.support.factories import entry_of, requested, task_in
from tests.support.pages import QUEUE, TASKS

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WIDE = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 900}


@pytest.fixture
def page(live_server, browser):
    with visiting(browser, live_server.url, "decider") as page:
        yield page


def _chosen(page) -> int:
    return page.locator(".audit-rows .audit-pick input:checked").count()


def test_rows_are_chosen_by_key_approved_with_a_reason_and_the_list_is_back(page) -> None:
    tasks = [requested(summary=f"number {number}") for number in range(4)]
    tasks[3].approve(actor="bob")
    page.goto(f"{page.base}{TASKS}?status=pending")
    chosen_text = page.locator(".audit-picked")
    assert chosen_text.inner_text() == "With the chosen:"
    page.keyboard.press("x")
    assert _chosen(page) == 0
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("x")
    assert (_chosen(page), chosen_text.inner_text()) == (2, "Chosen: 2")
    assert page.locator(".audit-pick-all input").evaluate("box => box.indeterminate")
    # In a box the key is a letter.
    page.keyboard.press("/")
    page.keyboard.type("x")
    assert (_chosen(page), page.locator("#audit-q").input_value()) == (2, "x")
    page.click("button[value=approve]")
    page.wait_for_url("**/decide/")
    assert page.locator("h1").inner_text() == "Approve 2 tasks?"
    assert page.locator(".audit-cards .audit-json").first.is_visible()
    with page.expect_navigation():
        page.click(".audit-reason button")
    assert page.locator(".audit-error").inner_text() == "Give a reason; it stays in the record."
    page.wait_for_function("document.activeElement.id === 'id_reason'")
    page.keyboard.type("both looked at")
    page.click(".audit-reason button")
    page.wait_for_url(f"**{TASKS}?status=pending")
    assert "2 tasks approved." in page.locator(".messagelist").inner_text()
    assert page.locator(".audit-title").all_inner_texts() == ["number 0"]
    assert ExecutionLog.objects.filter(output_summary="both looked at", actor="decider").count() == 2
    assert Task.objects.filter(status="approved", decided_by="decider").count() == 2


def test_after_a_click_on_a_box_the_keys_go_on(page) -> None:
    for number in range(3):
        requested(summary=f"number {number}")
    page.goto(f"{page.base}{TASKS}?status=pending")
    first = page.locator(".audit-rows .audit-pick input").first
    first.check()
    page.keyboard.press("x")
    assert _chosen(page) == 0
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "number 2"
    first.focus()
    page.keyboard.press("?")
    assert page.locator(".audit-keys dl").is_visible()
    first.focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "audit-q"


def test_keys_are_switched_off_and_stay_so(page) -> None:
    requested(summary="the one")
    page.goto(page.base + TASKS)
    page.locator(".audit-keys summary").press("Enter")
    switch = page.get_by_label("Use these keys")
    assert switch.is_checked()
    switch.press("Space")
    for address in (page.base + TASKS, page.base + QUEUE, page.base + TASKS):
        for key in "jx/?":
            page.keyboard.press(key)
        assert page.evaluate("document.activeElement.matches('.audit-title, #audit-q')") is False
        assert _chosen(page) == 0
        page.goto(address)
        assert not page.locator(".audit-keys dl").is_visible()
    page.locator(".audit-keys summary").press("Enter")
    assert not switch.is_checked()
    switch.press("Space")
    page.reload()
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "the one"


def test_the_box_of_all_says_none_some_or_all_and_is_not_there_for_one_row(page) -> None:
    task_in("paused")
    page.goto(page.base + QUEUE)
    page.locator(".audit-rows .audit-pick input").check()
    assert not page.locator(".audit-pick-all").is_visible()
    task_in("paused")
    page.goto(page.base + QUEUE)
    state = "box => [box.checked, box.indeterminate]"
    box, rows = page.locator(".audit-pick-all input"), page.locator(".audit-rows .audit-pick input")
    assert box.evaluate(state) == [False, False]
    rows.first.check()
    assert box.evaluate(state) == [False, True]
    rows.last.check()
    assert box.evaluate(state) == [True, False]
    rows.first.uncheck()
    rows.last.uncheck()
    assert box.evaluate(state) == [False, False]


def test_all_of_a_page_are_chosen_at_once_and_no_longer(page) -> None:
    for _ in range(3):
        task_in("paused")
    page.goto(page.base + QUEUE)
    page.check(".audit-pick-all input")
    assert (_chosen(page), page.locator(".audit-picked").inner_text()) == (3, "Chosen: 3")
    page.locator(".audit-rows .audit-pick input").first.uncheck()
    assert not page.locator(".audit-pick-all input").is_checked()
    page.locator(".audit-pick-all input").check()
    page.locator(".audit-pick-all input").uncheck()
    assert _chosen(page) == 0
    # The buttons stay where they are while nothing is chosen, and in sight while something is.
    position = "form => getComputedStyle(form).position"
    assert page.locator("#audit-decide").evaluate(position) == "static"
    page.locator(".audit-rows .audit-pick input").first.check()
    assert page.locator("#audit-decide").evaluate(position) == "sticky"


def test_a_row_that_gets_the_focus_is_not_behind_the_buttons(page) -> None:
    for number in range(30):
        requested(summary=f"number {number}")
    page.set_viewport_size({"width": 390, "height": 700})
    page.goto(f"{page.base}{TASKS}?status=pending")
    page.locator(".audit-rows .audit-pick input").first.check()
    for _ in range(20):
        page.keyboard.press("Tab")
        under = page.evaluate(
            "() => { const box = document.activeElement.getBoundingClientRect();"
            " const bar = document.getElementById('audit-decide').getBoundingClientRect();"
            " const inside = document.activeElement.closest('.audit-rows');"
            " return Boolean(inside) && box.bottom > bar.top && box.top < bar.bottom; }"
        )
        assert not under


def test_paused_work_is_deferred_from_its_page_to_a_time_somebody_picks(page) -> None:
    task = task_in("paused")
    page.goto(f"{page.base}{TASKS}{task.pk}/change/")
    page.click("#audit-decide button[value=defer]")
    page.wait_for_url("**/decide/")
    page.fill("#id_until", "2100-05-06T07:08")
    page.fill("#id_reason", "after the release")
    page.click(".audit-reason button")
    page.wait_for_url(f"**{task.pk}/change/")
    assert "Due 6 May 2100 07:08:00" in page.locator(".messagelist").inner_text()
    assert entry_of(task).due_at.isoformat() == "2100-05-06T07:08:00+00:00"
    assert "after the release" in page.locator(".audit-timeline").inner_text()


def test_without_script_it_all_works_too(live_server, browser) -> None:
    task = requested()
    with visiting(browser, live_server.url, "decider", java_script_enabled=False) as page:
        page.goto(page.base + TASKS)
        # A switch for keys that nobody listens to, and bars that no key reaches: the table has their links.
        page.locator(".audit-keys summary").click()
        assert not page.get_by_label("Use these keys").is_visible()
        page.locator(".audit-data summary").press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.href") == page.locator(".audit-bar").first.evaluate(
            "bar => bar.href.baseVal && new URL(bar.href.baseVal, document.baseURI).href"
        )
        page.keyboard.press("Enter")
        page.wait_for_url("**until=*")
        page.goto(page.base + TASKS)
        assert not page.locator(".audit-pick-all").is_visible()
        page.locator(".audit-rows .audit-pick input").check()
        page.click("button[value=reject]")
        page.fill("#id_reason", "no")
        page.click(".audit-reason button")
        page.wait_for_url(f"**{TASKS}")
    task.refresh_from_db()
    assert (task.status, task.outcome["output_summary"]) == ("rejected", "no")


@pytest.mark.slow
def test_every_page_of_a_decision_is_accessible_and_no_wider_than_the_screen(live_server, browser) -> None:
    requested(summary="mine " + "long" * 40, actor="decider")
    late = requested(summary="late")
    for note in ("", "long" * 100):
        task_in("approved").pause(note=note, actor="w")
    with visiting(browser, live_server.url, "decider", viewport=WIDE) as page:

        def sends(button: str) -> None:
            with page.expect_navigation():
                page.click(button)

        def look(where: str) -> None:
            for scheme, size in (("dark", PHONE), ("light", WIDE)):
                page.emulate_media(color_scheme=scheme)
                page.set_viewport_size(size)
                assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], where
                assert violations(page, "#content") == [], where

        page.goto(page.base + QUEUE)
        page.check(".audit-pick-all input")
        look("queue")
        sends("button[value=defer]")
        look("defer")
        page.fill("#id_until", "2001-01-01T00:00")
        sends(".audit-reason button")
        look("errors")
        page.goto(f"{page.base}{TASKS}?status=pending&status=approved")
        page.check(".audit-pick-all input")
        look("list")
        sends("button[value=approve]")
        look("confirmation")
        assert page.locator(".audit-own").count() == 1
        late.approve(actor="bob")
        page.fill("#id_reason", "x")
        sends(".audit-reason button")
        look("result")
        assert re.search("1 done, 1 not", page.locator("h1").inner_text())
        page.goto(f"{page.base}{TASKS}{late.pk}/change/")
        look("task")
        page.goto(f"{page.base}{TASKS}decide/")
        look("nothing to see")
