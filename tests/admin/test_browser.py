"""Every page of the browser is accessible: on a phone, in the dark, on paper, under a strict policy."""

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
from audit.models import Task
from audit.pausing import PauseManager
from tests.settings import MIDDLEWARE
from tests.support.agents import agent, approved
from tests.support.browser import serving, settled, violations, visiting
from tests.support.factories import claimed, requested, sql, task_in
from tests.support.ledger import behind_the_guards, finish, sealed, verified
from tests.support.pages import AGENTS, EVENTS, HOSTILE, LOG, OVERVIEW, QUEUE, STATISTICS, TASKS, past

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

INTEGRITY = "/admin/audit/ledgerverification/"

WIDE = {"width": 1440, "height": 1000}
PHONE = {"width": 390, "height": 844}
# Tables that reach into what stands beside them.
TOO_WIDE = """[...document.querySelectorAll("#content .audit-rows")]
    .filter(table => table.getBoundingClientRect().right > table.parentElement.getBoundingClientRect().right + 1)
    .map(table => table.className)"""


def _verify() -> None:
    keep(verified(), "default", "cli:ops")


def _focus(page, what: str) -> str:
    return page.evaluate(f"document.activeElement.{what}")


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
        # The same layout, and nothing to paint: half the time.
        page.evaluate("document.documentElement.style.visibility = 'hidden'")
        cards = []
        for width in range(320, 1920, 60):
            page.set_viewport_size({"width": width, "height": 900})
            reaches, too_wide, card = page.evaluate(f"""[document.documentElement.scrollWidth, {TOO_WIDE},
                getComputedStyle(document.querySelector('.audit-rows')).display == 'block']""")
            assert (reaches <= width, too_wide) == (True, []), width
            cards.append(card)
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
