"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from importlib import import_module
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from auditproj.embedded.server import Server
from tests.support import memory, servers
from tests.support.flushing import flush_what_was_written

if TYPE_CHECKING:
    from django.test import Client

    from tests.support.attacked import Base


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `tests/reading/test_scale.py` be asked for a large database."""
    parser.addoption("--rows", type=int, default=50_000, help="tasks in the database of reading/test_scale.py (50000)")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Let `-n logical` have four workers on two cores: tests with processes of their own mostly wait for them."""
    cores = yield
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return cores
    return cores + max(min(cores, 2), cores // 2)


_PROCESSES = ("tests/worker/", "tests/project/")


def pytest_configure(config: pytest.Config) -> None:
    """Keep xdist to the order of `pytest_collection_modifyitems`; its own begins with the files of the most tests.

    The flush after transactional tests becomes the quick one, and workers get what is compiled already.
    """
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
        if not hasattr(config, "workerinput"):
            memory.share_compiled()
    flush_what_was_written()


def _marked(tests: list[pytest.Item], marker: str) -> int:
    return sum(each.get_closest_marker(marker) is not None for each in tests)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Let each worker import another part of the tests first.

    Where no compiled tests are kept, pytest rewrites the asserts of each file, which takes 12 s for all. The workers
    find what another one compiled, instead of all four compiling the same file at the same moment.
    """
    config = session.config
    if not hasattr(config, "workerinput"):
        return
    folders = [config.rootpath / argument for argument in config.args]
    files = sorted({file for folder in folders for file in folder.rglob("test_*.py")})
    worker, workers = int(config.workerinput["workerid"].removeprefix("gw")), config.workerinput["workercount"]
    first = len(files) * worker // workers
    for file in files[first:] + files[:first]:
        # The collection reports what cannot be imported.
        with suppress(Exception, pytest.skip.Exception):
            import_module(".".join(file.relative_to(config.rootpath).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exclude the collected tests from garbage collection; they stay to the end anyway."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Spread the files whose tests mostly wait for processes over those that keep the processor busy.

    Those with most tests in a browser take longest and come first, though not at once. None comes among the last, so
    that at the end no worker runs a slow file while the others have nothing to do. Without workers the files keep the
    order in which they were named.
    """
    if not hasattr(config, "workerinput"):
        return
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    browsing = sorted(
        (name for name in files if _marked(files[name], "browser")), key=lambda name: -_marked(files[name], "browser")
    )
    processes = [
        name
        for name, tests in files.items()
        if name not in browsing and (name.startswith(_PROCESSES) or _marked(tests, "slow"))
    ]
    waiting = [name for pair in zip_longest(browsing, processes) for name in pair if name]
    busy = sorted(files.keys() - waiting, key=lambda name: (-len(files[name]), name))
    step = 0.6 * len(busy) / max(len(waiting), 1)
    places = {name: number for number, name in enumerate(busy)} | {
        name: number * step for number, name in enumerate(waiting)
    }
    items[:] = [each for name in sorted(files, key=lambda name: (places[name], name)) for each in files[name]]


# xdist sets it for its workers; what commands print would depend on how the tests are run.
os.environ.pop("COLUMNS", None)

# A busy machine makes a strategy slow, and neither it nor the test wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def throwaway_server() -> Iterator[Callable[..., Server]]:
    """Make running servers that vanish after the test; see :func:`tests.support.servers.throwaway` for the
    arguments."""
    with servers.several() as make:
        yield make


@pytest.fixture
def viewer(db: None) -> Client:
    """A browser of somebody who may look at everything."""
    from tests.support.pages import client_of

    return client_of("viewer")


@pytest.fixture
def decider(db: None) -> Client:
    """A browser of somebody who may look and decide."""
    from tests.support.pages import client_of

    return client_of("decider")


@pytest.fixture(scope="session")
def sealed_base(django_db_blocker: Any) -> Iterator[Base]:
    """A sealed database, made once; see :mod:`tests.support.attacked`."""
    from tests.support import attacked

    with django_db_blocker.unblock(), attacked.base() as made:
        yield made


@pytest.fixture
def victim(sealed_base: Base, django_db_blocker: Any) -> Iterator[Base]:
    """Let the default connection lead to a sealed database of the test's own."""
    from tests.support.attacked import copied

    with django_db_blocker.unblock(), copied(f"{sealed_base.name}_copy", sealed_base.name):
        yield sealed_base
