"""Every block of Python, SQL and shell in README and docs runs, or says why it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connections

from tests.support.documents import CHECKOUT, PAGES, RUNS, Place, blocks
from tests.support.preloaded import for_shells

# Blocks that no test runs, a page. A block that can run must run: think before you raise a number.
NOT_RUN = {
    "ARCHITECTURE.md": 1,
    "CONTRIBUTING.md": 1,
    "README.md": 1,
    "docs/benchmarks.md": 1,
    "docs/browser.md": 2,
    "docs/ledger-format.md": 1,
    "docs/ledger.md": 3,
    "docs/recording.md": 2,
    "docs/tutorial-worker.md": 3,
    "docs/tutorial.md": 4,
    "docs/witness.md": 1,
}

LANGUAGES = {*RUNS, "text", "json", "ini", "toml", "html", "yaml", "crontab"}

# Tests of the format find its examples by their fences, which have no language.
BARE = {"docs/ledger-format.md"}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_counted(page: str) -> None:
    found = list(blocks(PAGES[page].read_text(encoding="utf-8")))
    unknown = [
        f"{page}:{each.line}: {each.language!r}"
        for each in found
        if each.language not in LANGUAGES and (each.language or page not in BARE)
    ]
    assert not unknown, "a block names its language, `text` if it is none"
    excused = [f"{page}:{each.line}: {each.excuse}" for each in found if each.language in RUNS and each.excuse]
    assert len(excused) == NOT_RUN.get(page, 0), excused
    for each in found:
        assert not each.runner or (CHECKOUT / each.runner).is_file(), each.runner


def test_no_page_is_counted_that_is_not_there() -> None:
    assert NOT_RUN.keys() <= PAGES.keys()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    page: str = request.param
    monkeypatch.chdir(tmp_path)
    yield Place(page, tmp_path, for_shells())
    connections["default"].set_autocommit(True)


_WITH_CODE = [
    name
    for name, path in PAGES.items()
    if any(
        each.language in RUNS and not each.excuse and not each.runner
        for each in blocks(path.read_text(encoding="utf-8"))
    )
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", _WITH_CODE, indirect=True)
def test_the_blocks_of_a_page_run_in_order(place: Place) -> None:
    ran = 0
    for block in blocks(PAGES[place.page].read_text(encoding="utf-8")):
        if block.language in RUNS and not block.excuse and not block.runner:
            place.run(block)
            ran += 1
    assert ran


def test_a_block_that_fails_is_noticed(tmp_path: Path, django_db_blocker: object) -> None:
    text = "```python\nx = 1\n```\n\n<!-- run first:\ny = 2\n-->\n\n1. a\n\n   ```python\n   assert x == y\n   ```\n"
    first, hidden, last = blocks(text)
    assert (first.code, hidden.code, last.code) == ("x = 1\n", "y = 2\n", "assert x == y\n")
    place = Place("a.md", tmp_path)
    place.run(first)
    place.run(hidden)
    with pytest.raises(AssertionError) as caught:
        place.run(last)
    assert re.search(r"a\.md", str(caught.traceback[-1].path))
    assert caught.traceback[-1].lineno == last.line
    with pytest.raises(AssertionError, match="exit status 3"):
        place.shell("exit 3")
    assert place.shell("export A=b") == ""
    assert place.shell('echo "$A"') == "b\n"
