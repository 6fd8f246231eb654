"""A real browser on a live server; where there is none, its tests are skipped and say so."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.test import override_settings

from tests.support.pages import client_of
from tests.support.users import until

__all__ = ["COLOURS", "WCAG", "chromium", "self_only", "serving", "settled", "violations", "visiting"]

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
"""The rules of axe-core for WCAG 2.2, levels A and AA."""

COLOURS = ["color-contrast", "link-in-text-block"]
"""Those of them that see colours; a page that differs in nothing else needs no other."""

# The first needs a third less CPU than the whole of Chromium.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# No page lives long enough to earn back what V8's optimising compilers take.
_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--js-flags=--no-opt"]
_QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
_POLICY = "; ".join(
    f"{what} 'self'" for what in ("default-src", "base-uri", "form-action", "frame-ancestors", "object-src")
)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start headless Chromium, with a profile that is thrown away; skips the tests where there is none.

    The executable is what CHROMIUM names, else the first of chromium-headless-shell, chromium, chromium-browser and
    google-chrome, else Playwright's own; nothing is ever downloaded.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    # Playwright runs a loop in this thread, which Django would take for asynchronous code.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    with playwright.sync_playwright() as started:
        if not path and not os.path.exists(started.chromium.executable_path):  # noqa: PTH110 - a str either way
            pytest.skip("no Chromium is installed; CHROMIUM may name one")
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
        try:
            browser = started.chromium.launch(executable_path=path, args=_QUIET)
            yield browser
            browser.close()
        finally:
            # A running loop has connections of its own, which nobody would close; the server's threads need a moment
            # to notice that the browser has left.
            until(_alone, seconds=30)
            connections.close_all()
            if before is None:
                os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
            else:
                os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@contextmanager
def visiting(browser: Any, base: str, kind: str, **options: Any) -> Iterator[Any]:
    """Open a page as one of the people of `tests.support.pages.client_of`.

    Whatever the page throws, and what the browser complains about in its console (a script of ours, a file that is
    not there, something that a Content-Security-Policy refused), fails the test.

    Args:
        browser: what `chromium` gave.
        base: the live server's address; the page has it as `base`.
        kind: whose session the browser has.
        options: of Playwright's `new_context`, such as `viewport` and `color_scheme`.

    Returns:
        The page; its `complaints` may be emptied by a test that expects some.
    """
    client = client_of(kind)
    context = browser.new_context(reduced_motion="reduce", **options)
    try:
        for name, cookie in client.cookies.items():
            context.add_cookies([{"name": name, "value": cookie.value, "url": base}])
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.base = base
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))

        def hear(message: Any) -> None:
            # A page that answers with an error, or a server that was stopped, is what a test meant; a file is not.
            meant = message.text.startswith("Failed to load resource") and "/static/" not in message.location["url"]
            if message.type == "error" and not meant:
                page.complaints.append(f"{message.text} ({message.location['url']})")

        page.on("console", hear)
        yield page
        assert page.complaints == [], page.complaints
    finally:
        context.close()


@contextmanager
def serving(**changes: Any) -> Iterator[str]:
    """Run a live server with other settings than those of the tests, also such as are read once, at its start."""
    from pytest_django.live_server_helper import LiveServer

    with override_settings(**changes):
        server = LiveServer("localhost")
        try:
            yield server.url
        finally:
            server.stop()


def self_only(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A middleware: nothing but files of the site itself may be loaded, and nothing inline may run."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = _POLICY
        return response

    return answer


# A transition begins with the frame after a change, and what slides may set off another one: each frame is looked at.
# The promise of an animation's end is not used: it can stay open for ever if the window changes its size.
_STILL = """async () => {
    const frame = () => new Promise(requestAnimationFrame);
    const moves = each => each.playState !== "finished" && each.effect.getComputedTiming().endTime !== Infinity;
    const began = performance.now();
    for (let still = 0; still < 3; still++) {
        await frame();
        const moving = document.getAnimations().filter(moves);
        if (moving.length || document.querySelector("body.hold-transition")) still = -1;
        if (performance.now() - began > 60000)
            throw new Error(`still moving after a minute: ${moving.map(each => each.effect.target?.outerHTML)}`);
    }
}"""


def settled(page: Any) -> None:
    """Wait until nothing on a page moves: links fade, bars grow, sidebars slide, and AdminLTE holds that back at first.

    What is on the way has nobody's colour and nobody's place.
    """
    page.evaluate(_STILL)


# axe-core parses the same few colours thousands of times, which is a third of its time.
_REMEMBER = """;{
    const color = axe.commons.color.Color.prototype, parse = color.parseString, known = new Map();
    color.parseString = function (text) {
        if (!known.has(text)) {
            parse.call(this, text);
            known.set(text, [this.r, this.g, this.b, this.alpha]);
        }
        [this.r, this.g, this.b, this.alpha] = known.get(text);
        return this;
    };
}
null"""
_FIND = """async ([where, rules]) => {
    const found = await axe.run(where, {runOnly: rules, resultTypes: ["violations"]});
    return found.violations.map(({id, nodes: [{html, failureSummary}]}) =>
        [id, html.slice(0, 200), failureSummary.slice(0, 200)]);
}"""


def violations(page: Any, where: str = "html", rules: list[str] = WCAG) -> list[list[str]]:
    """Ask axe-core about a page; the rule, the first element and what is wrong with it.

    Args:
        page: of Playwright.
        where: a CSS selector of the elements to look at, with all that is in them.
        rules: axe-core's tags or names of rules.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    settled(page)
    if page.evaluate("!window.axe"):
        page.evaluate(axe.axe_script + _REMEMBER)
    found: list[list[str]] = page.evaluate(_FIND, [where, rules])
    return found


def _alone() -> bool:
    """Whether nobody is connected but this thread, inside and outside of the loop."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        [(count,)] = cursor.fetchall()
    return bool(count <= 2)
