"""Take the pictures of the README from a running demo: `python docs/images/make.py ADDRESS USER PASSWORD`.

Needs `pip install playwright pillow` and Chromium; ADDRESS is the one that `manage.py demo` prints. Let it run for some
minutes first, so that work has been paused, resumed, sealed and verified.
"""

import io
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin

from PIL import Image
from playwright.sync_api import Page, sync_playwright

_SIZE = {"width": 1280, "height": 860}


def main(address: str, user: str, password: str) -> None:
    """Write list and task, light and dark, beside this file."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=_SIZE)
        page.goto(address)
        page.fill("#id_username", user)
        page.fill("#id_password", password)
        page.press("#id_password", "Enter")
        page.wait_for_selector(".audit-title")
        # Without the admin's list of apps beside it.
        page.evaluate("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
        end = datetime.now(UTC) - timedelta(hours=2)
        page.goto(f"{address}?since={end - timedelta(days=5):%Y-%m-%dT%H:%M:%SZ}&until={end:%Y-%m-%dT%H:%M:%SZ}")
        _take(page, "list")
        # Commands that print nothing of the machine they run on.
        page.goto(f"{address}?status=completed&action=await-build")
        for task in page.locator(".audit-title").evaluate_all("links => links.map(link => link.getAttribute('href'))"):
            page.goto(urljoin(address, task))
            if page.locator(".audit-timeline .x-paused").count() and page.locator(".audit-seal.s-verified").count():
                break
        _take(page, "task")
        browser.close()


def _take(page: Page, name: str) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)  # links change their colour slowly
        picture = Image.open(io.BytesIO(page.screenshot()))
        picture.save(Path(__file__).with_name(f"{name}-{scheme}.webp"), quality=80, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
