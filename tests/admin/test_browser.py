"""The browser's pages as people use them: with a mouse, with keys, on a phone, in the dark, under a strict policy."""

import csv
import json
import re
from datetime import timedelta

import django
import pytest
from django.conf import settings
from django.db import connection

from audit.admin.shared import paging
from audit.agents.draining import drain
from audit.events import emit_event
from audit.ledger.verify import keep
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.pausing import PauseManager
from tests.settings import MIDDLEWARE
from tests.support.agents import agent, approved
from tests.support.browser import serving, settled, violations, visiting
from tests.support.factories import claimed, requested, sql, task_in
from tests.support.ledger import behind_the_guards, finish, sealed, verified
from tests.support.pages import AGENTS, EVENTS, HOSTILE, LOG, OVERVIEW, QUEUE, STATISTICS, TASKS, client_of, past

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

INTEGRITY = "/admin/audit/ledgerverification/"

WIDE = {"width": 1440, "height": 1000}
PHONE = {"width": 390, "height": 844}
# Tables that reach into what stands beside them.
TOO_WIDE = """[...document.querySelectorAll("#content .audit-rows")]
    .filter(table => table.getBoundingClientRect().right > table.parentElement.getBoundingClientRect().right + 1)
    .map(table => table.className)"""


@pytest.fixture(scope="module")
def base(browser):
    with serving(MIDDLEWARE=["tests.support.browser.self_only", *MIDDLEWARE]) as url:
        yield url


@pytest.fixture
def page(transactional_db, browser, base):
    with visiting(browser, base, "decider", viewport=WIDE) as page:
        yield page


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


# Every kind of page: accessible, no wider than the screen, nothing blocked, nothing in the console


def _long() -> None:
    words = "long" * 60
    past(2, summary=words, action="a" * 90, services=["s" * 200, "t" * 90, "u"], requested_by=words, actor=words)
    past(2, status="failed", outcome={"error_type": "E" * 300, "output_summary": words})


def _worked() -> Task:
    task = claimed(task_in("approved", summary=HOSTILE["script"] + " " + "w" * 200), worker="orch-" * 20)
    task.log("pull", duration_ms=812, output_summary="x" * 500, detail={"k" * 90: ["v" * 400, 1, None]})
    task.suggest("more memory", reason="w" * 200)
    return task


def _address(task: Task) -> str:
    return f"{TASKS}{task.pk}/change/"


def _empty(page) -> str:
    return TASKS


def _list(page) -> str:
    _long()
    requested(summary=HOSTILE["bidi"], services=[HOSTILE["quotes"]])
    return f"{TASKS}?since=7d&status=zork"


def _all(page) -> str:
    past(6, every=timedelta(days=3))
    return f"{TASKS}?since=all&status=completed&service=billing"


def _nothing(page) -> str:
    past(1)
    return f"{TASKS}?status=rejected&service={'long' * 60}"


def _completed(page) -> str:
    task = _worked()
    task.complete({"ok": True, "text": "x" * 3000}, resources={"wall_s": 1.5})
    task.suggest("look again", reason="w" * 200)
    return _address(task)


def _failed(page) -> str:
    task = _worked()
    task.fail(MemoryError("m" * 300))
    return _address(task)


def _paused(page) -> str:
    task = _worked()
    task.pause(reason="manual_pause", work_plan={"left": ["push"]}, note="n" * 300)
    return _address(task)


def _pending(page) -> str:
    return _address(requested(summary="s" * 300))


def _confirm(page) -> str:
    page.goto(page.base + _pending(page))
    page.click("button[value=approve]")
    page.click(".audit-reason button")
    return ""


def _log(page) -> str:
    _worked()
    return LOG


def _queue(page) -> str:
    _paused(page)
    task_in("paused")
    return QUEUE


def _unverified(page) -> str:
    return INTEGRITY


def _intact(page) -> str:
    finish(2)
    sealed()
    _verify()
    return INTEGRITY


def _tampered(page) -> str:
    bad, _ = finish(2)
    sealed()
    with behind_the_guards():
        sql("UPDATE audit_task SET summary = %s WHERE id = %s", ["w" * 300, bad.pk])
    _verify()
    return INTEGRITY


def _verification(page) -> str:
    page.goto(page.base + _tampered(page))
    page.locator(".audit-verifications .audit-title").first.click()
    page.wait_for_url("**/change/")
    return ""


def _overview(page) -> str:
    _agents(page)
    requested()
    past(3, status="failed")
    task_in("paused")
    return OVERVIEW


def _agents(page) -> str:
    agent("orch-" * 20, slots=2, memory=None, gpu=0.9, labels=["l" * 90, "gpu"], actions=["deploy"])
    claimed(task_in("approved", summary="w" * 200), worker="orch-" * 20)
    agent("w2")
    drain("w2", reason="r" * 300, actor="maria")
    return AGENTS


def _events(page) -> str:
    emit_event("build-" + "4" * 190, {"k" * 90: ["v" * 400]}, actor="ci")
    claimed(task_in("approved")).pause(event="b" * 200)
    return f"{EVENTS}?name={'b' * 200}"


def _statistics(page) -> str:
    _long()
    past(40, every=timedelta(minutes=20))
    return f"{STATISTICS}?since=24h&action=deploy"


def _short(page) -> str:
    agent("orch-" * 20, cpu=0.95)
    entry = PauseManager().pause_for_capacity(approved("deploy", summary="s" * 200))
    return f"{TASKS}{entry.task_id}/change/"


def _missing(page) -> str:
    return f"{TASKS}zork/change/"


KINDS = [_empty, _list, _all, _nothing, _completed, _failed, _paused, _pending, _confirm, _log, _queue, _missing]
KINDS += [_unverified, _intact, _tampered, _verification, _overview, _agents, _events, _statistics, _short]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_every_page_is_accessible_fits_a_phone_and_breaks_no_policy(page, kind, monkeypatch) -> None:
    # Lists are short, for axe takes its time with each row.
    monkeypatch.setattr(paging.read_page, "__defaults__", (4,))
    address = kind(page)
    if address:
        answer = page.goto(page.base + address)
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        if answer.status == 404:
            page.complaints.clear()
    page.wait_for_load_state()
    assert page.locator("#content.audit .audit-page").is_visible()
    for scheme, size in (("light", WIDE), ("dark", PHONE)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.evaluate(TOO_WIDE) == []
        assert violations(page) == []


@pytest.mark.parametrize("sidebar", ["true", "false"], ids=["beside the sidebar", "alone"])
def test_lists_fit_at_every_width_and_get_no_narrower_by_more_room(page, sidebar) -> None:
    _long()
    past(2, status="failed", outcome={"error_type": "InsufficientResources"}, services=["gateway", "payments"])
    past(2, started_at=None, status="rejected", requested_by="policy:low-risk", actor="policy:low-risk")
    task_in("paused")
    _worked()
    _agents(page)
    _events(page)
    page.goto(page.base + TASKS)
    page.evaluate(f"localStorage.setItem('django.admin.navSidebarIsOpen', '{sidebar}')")
    for address in (TASKS, LOG, QUEUE, AGENTS, EVENTS):
        page.goto(page.base + address)
        cards = []
        for width in range(320, 1920, 60):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, width
            assert page.evaluate(TOO_WIDE) == [], width
            cards.append(page.evaluate("getComputedStyle(document.querySelector('.audit-rows')).display == 'block'"))
        # From some width on it is a table, and cards no more.
        assert cards == sorted(cards, reverse=True)
        assert cards[0]
        assert not cards[-1]


def test_a_page_that_took_too_long_is_accessible_too(page, monkeypatch) -> None:
    past(1)

    def slow(*_args: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)")

    monkeypatch.setattr("audit.admin.tasks.page.read_page", slow)
    assert page.goto(page.base + TASKS).status == 503
    page.complaints.clear()
    assert page.get_by_text("choose a shorter range of time").is_visible()
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert violations(page) == []


@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django has a policy with nonces from 6.0 on")
def test_pages_work_under_djangos_own_policy_with_a_nonce(transactional_db, browser) -> None:
    from django.utils.csp import CSP

    # Nonces are in the admin's pages, and so in ours, from 6.1 on.
    trusted = [CSP.NONCE] if django.VERSION >= (6, 1) else [CSP.NONCE, CSP.SELF]
    policy = {"default-src": [CSP.NONE], "img-src": [CSP.SELF], "connect-src": [CSP.SELF], "form-action": [CSP.SELF]}
    policy |= {"script-src": trusted, "style-src": trusted}
    [engine] = settings.TEMPLATES
    processors = [*engine["OPTIONS"]["context_processors"], "django.template.context_processors.csp"]
    paused = task_in("paused")
    past(3)
    with (
        serving(
            MIDDLEWARE=["django.middleware.csp.ContentSecurityPolicyMiddleware", *MIDDLEWARE],
            TEMPLATES=[{**engine, "OPTIONS": {**engine["OPTIONS"], "context_processors": processors}}],
            SECURE_CSP=policy,
        ) as base,
        visiting(browser, base, "decider", viewport=WIDE) as page,
    ):
        for address in (TASKS, LOG, QUEUE, INTEGRITY, _address(paused)):
            header = page.goto(base + address).headers["content-security-policy"]
            assert header.startswith("default-src 'none'; ")
            ours = page.locator("script[src*='/audit/'], link[href*='/audit/']")
            assert ours.count() >= 2
            if django.VERSION >= (6, 1):
                [nonce] = set(re.findall(r"'nonce-([^']+)'", header))
                assert set(ours.evaluate_all("tags => tags.map(tag => tag.nonce)")) == {nonce}
        page.goto(base + TASKS)
        page.keyboard.press("j")
        assert "audit-title" in _focus(page, "className")
        assert page.locator(".audit-live").is_visible()


def test_the_chosen_range_stays_readable_under_the_mouse(page) -> None:
    page.goto(page.base + TASKS)
    chosen = page.locator(".audit-ranges [aria-current]")
    colours = "each => [getComputedStyle(each).color, getComputedStyle(each).backgroundColor]"
    before = chosen.evaluate(colours)
    chosen.hover()
    settled(page)
    assert chosen.evaluate(colours) == before
    assert before[0] != before[1]


def test_paper_shows_what_was_recorded_and_nothing_to_click(page) -> None:
    page.goto(page.base + _list(page))
    page.emulate_media(media="print")
    page.set_viewport_size(WIDE)
    assert page.locator(".audit-rows tbody tr").first.is_visible()
    for gone in ("#nav-sidebar", ".audit-side", ".audit-search", ".audit-export"):
        assert not page.locator(gone).first.is_visible()
    assert page.locator("#content").bounding_box()["width"] > WIDE["width"] - 120
