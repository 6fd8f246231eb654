"""What the tests in a browser share."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.settings import MIDDLEWARE
from tests.support.browser import chromium, serving, visiting

WIDE = {"width": 1440, "height": 1000}


@pytest.fixture(scope="module")
def browser(django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    """Chromium, started once for the tests of a file: its loop is in the way of asynchronous tests elsewhere."""
    with django_db_blocker.unblock(), chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def base(browser):
    with serving(MIDDLEWARE=["tests.support.browser.self_only", *MIDDLEWARE]) as url:
        yield url


@pytest.fixture
def page(transactional_db, browser, base):
    with visiting(browser, base, "decider", viewport=WIDE) as page:
        yield page
