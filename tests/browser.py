"""A real browser on a live server; where there is none, its tests are skipped and say so."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections

from tests.pages import client_of
from tests.users import until

__all__ = ["browsing"]

_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
_QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextmanager
def browsing(base: str, kind: str, **options: Any) -> Iterator[Any]:
    """Open a page of headless Chromium as one of the people of `tests.pages.client_of`.

    What the page logs as an error, or throws, fails the test.

    Args:
        base: the live server's address; the page has it as `base`.
        kind: whose session the browser has.
        options: of Playwright's `new_context`, such as `viewport` and `color_scheme`.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    # Playwright runs a loop in this thread, which Django would take for asynchronous code.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    client = client_of(kind)
    with playwright.sync_playwright() as started:
        if not chromium and not os.path.exists(started.chromium.executable_path):  # noqa: PTH110 - a str either way
            pytest.skip("no Chromium is installed; CHROMIUM may name one")
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
        try:
            browser = started.chromium.launch(executable_path=chromium, args=_QUIET)
            context = browser.new_context(**options)
            for name, cookie in client.cookies.items():
                context.add_cookies([{"name": name, "value": cookie.value, "url": base}])
            page = context.new_page()
            page.base = base
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            yield page
            browser.close()
            assert errors == []
        finally:
            # A running loop has connections of its own, which nobody would close; the server's threads need a moment
            # to notice that the browser has left.
            until(_alone, seconds=5)
            connections.close_all()
            if before is None:
                os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
            else:
                os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


def _alone() -> bool:
    """Whether nobody is connected but this thread, inside and outside of the loop."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        [(count,)] = cursor.fetchall()
    return bool(count <= 2)
