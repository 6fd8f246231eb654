"""The pages under other admin themes: readable and usable with django-unfold, jazzmin and grappelli."""

import sys
from datetime import timedelta

import pytest
from django.conf import settings

from audit.admin.shared import paging
from audit.events import emit_event
from audit.ledger.verify import keep
from audit.models import Task
from tests.support.agents import agent
from tests.support.browser import COLOURS, serving, settled, violations, visiting
from tests.support.factories import claimed, requested, task_in
from tests.support.ledger import verified
from tests.support.pages import AGENTS, EVENTS, LOG, OVERVIEW, QUEUE, STATISTICS, TASKS, past

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

# The app's config that leaves `admin.site` of this process alone.
APPS = {"stock": [], "unfold": ["unfold.apps.BasicAppConfig"], "jazzmin": ["jazzmin"], "grappelli": ["grappelli"]}
INTEGRITY = "/admin/audit/ledgerverification/"
WIDE = {"width": 1440, "height": 1000}
PHONE = {"width": 390, "height": 844}

# Where style is lost: shapes without a colour, parts without a place, text that is cut or stands outside.
LOST = """() => {
    const lost = [];
    const styled = element => getComputedStyle(element);
    for (const element of document.querySelectorAll("#audit :is(.audit-part, .audit-time rect)"))
        if (["rgb(0, 0, 0)", "none"].includes(styled(element).fill))
            lost.push("black: " + element.getAttribute("class"));
    for (const element of document.querySelectorAll("#audit :is(.audit-pill, .audit-dot, .audit-button)"))
        if (styled(element).backgroundColor === "rgba(0, 0, 0, 0)") lost.push("bare: " + element.className);
    for (const element of document.querySelectorAll("#audit :is(h1, .audit-rows th, .audit-fields dt, p, small, time)"))
        if (parseFloat(styled(element).fontSize) < 10.5) lost.push("tiny: " + element.outerHTML.slice(0, 80));
    for (const element of document.querySelectorAll("#audit :is(button, .audit-button, .audit-tool)"))
        if (element.scrollWidth > element.clientWidth + 1 && styled(element).display !== "inline")
            lost.push("cut: " + element.outerHTML.slice(0, 80));
    for (const table of document.querySelectorAll("#audit .audit-rows"))
        if (table.getBoundingClientRect().right > table.parentElement.getBoundingClientRect().right + 1)
            lost.push("wide: " + table.className);
    if (document.documentElement.scrollWidth > window.innerWidth + 1) lost.push("the page scrolls sideways");
    for (const element of document.querySelectorAll("#audit .audit-hidden"))
        if (element.getBoundingClientRect().width > 2) lost.push("shown: " + element.outerHTML.slice(0, 80));
    return [...new Set(lost)];
}"""


@pytest.fixture(params=APPS)
def theme(request, transactional_db):
    """Serve the pages on an admin site under a theme; the address, and the theme's name."""
    if request.param != "stock":
        pytest.importorskip(request.param, reason="the extra `themes` is not installed")
    sys.modules.pop("tests.support.themed_urls", None)
    apps = [*APPS[request.param], *settings.INSTALLED_APPS]
    with serving(INSTALLED_APPS=apps, THEME=request.param, ROOT_URLCONF="tests.support.themed_urls") as base:
        yield base, request.param


def _tasks() -> Task:
    past(3, summary="broken", status="failed", services=["auth", "dns"], outcome={"error_type": "NoSpaceLeft"})
    past(4)
    requested()
    task_in("paused")
    task = claimed(task_in("approved"))
    task.log("run playbook", duration_ms=812, output_summary="changed=4", detail={"host": "n1"})
    task.suggest("pin the version", reason="it broke", actor="carol")
    task.fail(TimeoutError("no answer"), outcome={"rows": 12})
    keep(verified(), "default", "cli:ops")
    agent("w1", cpu=0.5, actions=[f"deploy.{number}" for number in range(12)], labels=["gpu"])
    agent("w2.eu-west-1.compute.internal:4312").withdraw()
    for number in range(12):
        past(1, action=f"action-{number:02}", every=timedelta(hours=1))
    emit_event("build-41", {"commit": "1f0c7a"}, actor="ci")
    return task


def _running() -> dict[str, str]:
    """The pages about what runs, with work that is paused and work that was asked to stop."""
    paused = claimed(task_in("approved", summary="Publish", plan={"steps": ["build", "publish"]}), worker="w1")
    paused.pause(event="build-42", work_plan={"steps": ["ask", "publish"]}, resume_after=timedelta(hours=1), note="so")
    stopping = claimed(task_in("approved", summary="Reindex"), worker="w1")
    stopping.log("copy", detail={"success": False})
    stopping.request_cancel(reason="the window closes", actor="maria")
    return {
        OVERVIEW: "Overview",
        AGENTS: "Agents",
        EVENTS: "Events",
        STATISTICS: "Statistics",
        f"{TASKS}{paused.pk}/change/": "Publish",
        f"{TASKS}{stopping.pk}/change/": "Reindex",
    }


def _pages(task: Task) -> dict[str, str]:
    return {
        TASKS: "Task audit trail",
        f"{TASKS}{task.pk}/change/": "Deploy Uptime Kuma",
        QUEUE: "Pause queue",
        LOG: "Execution log",
        INTEGRITY: "Integrity",
    }


def _ours(page) -> list[str]:
    """What the browser complained about in a file of ours; what a theme does wrong is not ours to say."""
    ours = [each for each in page.complaints if "/static/audit/" in each]
    page.complaints.clear()
    return ours


# As the themes' own switches do it; the others look at what the browser prefers.
_TURN = """scheme => {
    const root = document.documentElement;
    if (root.hasAttribute("data-bs-theme")) root.setAttribute("data-bs-theme", scheme);
    if (root.hasAttribute("x-data")) root.classList.toggle("dark", scheme === "dark");
}"""
# How bright the page is, and its text: the theme's own page and ours are both dark, or both light.
_BRIGHT = """() => ["--a-body-bg", "--a-body-fg"].map(name => {
    const probe = document.querySelector("#audit").appendChild(document.createElement("i"));
    probe.style.color = `var(${name})`;
    const colour = getComputedStyle(probe).color.match(/[0-9]+/g).slice(0, 3);
    probe.remove();
    return colour.reduce((sum, each) => sum + +each, 0);
})"""


def _dark(page) -> bool:
    ground, text = page.evaluate(_BRIGHT)
    return ground < text


def test_every_page_keeps_its_style(browser, theme, monkeypatch) -> None:
    base, name = theme
    # Lists are short, for axe takes its time with each row; one of each kind is among the first.
    monkeypatch.setattr(paging.read_page, "__defaults__", (14,))
    task = _tasks()
    with visiting(browser, base, "decider", viewport=WIDE) as page:
        for url, title in {**_pages(task), **_running()}.items():
            page.emulate_media(color_scheme="light")
            page.set_viewport_size(WIDE)
            page.goto(base + url)
            heading = page.locator("#audit h1")
            assert heading.is_visible()
            assert heading.inner_text().lower().startswith(title.lower())
            assert violations(page, "#audit") == [], (name, url)
            assert page.evaluate(LOST) == [], (name, url)
            assert not _dark(page)
            page.emulate_media(color_scheme="dark")
            page.evaluate(_TURN, "dark")
            assert violations(page, "#audit", COLOURS) == [], (name, url)
            assert page.evaluate(LOST) == [], (name, url)
            assert _dark(page)
            page.set_viewport_size(PHONE)
            settled(page)
            assert page.evaluate(LOST) == [], (name, url)
        assert _ours(page) == []


def test_a_list_begins_in_the_dark_where_its_reader_does(browser, theme) -> None:
    base, _name = theme
    past(3)
    with visiting(browser, base, "decider", viewport=WIDE, color_scheme="dark") as page:
        # jazzmin has a switch of its own, and begins with light.
        page.add_init_script("localStorage.setItem('jazzmin-theme-mode', 'dark')")
        page.goto(base + TASKS)
        settled(page)
        assert _dark(page)
        side, main = (page.locator(f"#audit {each}").bounding_box() for each in (".audit-side", ".audit-main"))
        assert side["x"] >= main["x"] + main["width"]
        assert page.locator("#audit .audit-chart svg").first.bounding_box()["height"] == pytest.approx(110, abs=1)
        assert _ours(page) == []


def test_a_phone_shows_cards_and_a_folded_filter(browser, theme) -> None:
    base, _name = theme
    _tasks()
    with visiting(browser, base, "decider", viewport=PHONE) as page:
        page.goto(base + TASKS)
        settled(page)
        assert page.evaluate(LOST) == []
        choices = page.locator("#audit .audit-filter")
        assert not choices.is_visible()
        page.locator("#audit .audit-fold").click()
        assert choices.is_visible()
        assert page.locator("#audit .audit-tasks thead").bounding_box()["width"] <= 2
        assert _ours(page) == []


def test_people_ask_executing_work_to_stop_by_key(browser, theme) -> None:
    base, _name = theme
    task = claimed(task_in("approved"))
    with visiting(browser, base, "decider", viewport=PHONE) as page:
        page.goto(f"{base}{TASKS}{task.pk}/change/")
        page.locator("#audit button[value=request_cancel]").press("Enter")
        page.wait_for_url("**/decide/**")
        assert violations(page, "#audit") == []
        assert page.evaluate(LOST) == []
        assert page.locator("#audit .audit-required").is_visible()
        page.locator("#audit textarea").press_sequentially("the window closes")
        page.locator("#audit .audit-submit button").press("Enter")
        page.wait_for_url("**/change/**")
        assert "decider asked this work to stop" in page.locator("#audit .audit-banner").inner_text()
        assert _ours(page) == []
    assert task.heartbeat()


def test_people_decide_under_a_theme(browser, theme) -> None:
    base, _name = theme
    task = requested()
    with visiting(browser, base, "decider", viewport=WIDE) as page:
        page.goto(f"{base}{TASKS}?status=pending")
        page.locator("#audit .audit-rows .audit-pick input").check()
        page.locator("#audit button[value=approve]").click()
        page.wait_for_url("**/decide/**")
        assert page.locator("#audit h1").inner_text() == "Approve this task?"
        assert violations(page, "#audit") == []
        assert page.evaluate(LOST) == []
        page.fill("#audit textarea", "looks right")
        with page.expect_navigation():
            page.locator("#audit .audit-submit button").click()
        assert _ours(page) == []
    task.refresh_from_db()
    assert (task.status, task.decided_by) == ("approved", "decider")
