"""What the tests in a browser share."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import chromium


@pytest.fixture(scope="module")
def browser(django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    """Chromium, started once for the tests of a file: its loop is in the way of asynchronous tests elsewhere."""
    with django_db_blocker.unblock(), chromium() as browser:
        yield browser
