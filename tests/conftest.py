"""Fixtures that every test may use."""

from collections.abc import Callable, Iterator

import pytest

from auditproj.embedded.server import Server
from tests import servers


@pytest.fixture
def throwaway_server() -> Iterator[Callable[..., Server]]:
    """Make running servers that vanish after the test; see :func:`tests.servers.throwaway` for the
    arguments."""
    with servers.several() as make:
        yield make
