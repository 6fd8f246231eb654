"""Fixtures that every test may use."""

from collections.abc import Callable, Iterator

import pytest

from auditproj.embedded.server import Server
from tests import servers


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `tests/test_scale.py` be asked for a large database."""
    parser.addoption("--rows", type=int, default=50_000, help="tasks in the database of test_scale.py (50000)")


@pytest.fixture
def throwaway_server() -> Iterator[Callable[..., Server]]:
    """Make running servers that vanish after the test; see :func:`tests.servers.throwaway` for the
    arguments."""
    with servers.several() as make:
        yield make
