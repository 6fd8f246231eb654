"""How handlers are declared, found and chosen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test.utils import modify_settings

from audit import handler
from audit.exceptions import AuditError, InvalidValue
from audit.worker import handlers


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, handlers.Handler]:
    made: dict[str, handlers.Handler] = {}
    monkeypatch.setattr(handlers, "_registry", made)
    return made


def _plain(run: Any) -> None:
    pass


async def _coroutine(run: Any) -> None:
    pass


def _generator(run: Any) -> Iterator[int]:
    yield 1


def test_a_handler_is_the_function_itself(registry: dict[str, handlers.Handler]) -> None:
    assert handler("deploy", labels=["gpu"], max_attempts=3, timeout=timedelta(minutes=1))(_plain) is _plain
    made = registry["deploy"]
    assert (made.function, made.labels, made.max_attempts, made.timeout) == (_plain, {"gpu"}, 3, 60.0)
    assert made.isolation == "process"
    handler("other")(_coroutine)
    assert registry["other"].isolation == "async"


def test_two_handlers_of_one_action_are_refused() -> None:
    handler("deploy")(_plain)
    handler("deploy")(_plain)  # its module was loaded again
    with pytest.raises(AuditError, match=r"'deploy': .*_plain and .*_coroutine"):
        handler("deploy")(_coroutine)


@pytest.mark.parametrize(
    ("options", "function", "error", "message"),
    [
        ({"labels": "gpu"}, _plain, InvalidValue, "labels: must be a list"),
        ({"max_attempts": 0}, _plain, InvalidValue, "max_attempts"),
        ({"timeout": 0}, _plain, InvalidValue, "timeout: must be seconds or a timedelta, positive"),
        ({"timeout": True}, _plain, InvalidValue, "timeout"),
        ({"backoff": float("nan")}, _plain, InvalidValue, "backoff"),
        ({"isolation": "fork"}, _plain, InvalidValue, "process, thread, async"),
        ({"isolation": "thread"}, _coroutine, InvalidValue, "needs a plain function"),
        ({"isolation": "async"}, _plain, InvalidValue, "needs a coroutine function"),
        ({"isolation": "thread", "timeout": 1}, _plain, InvalidValue, "cannot end a thread"),
        ({}, _generator, TypeError, "generator function _generator"),
        ({}, dict, TypeError, "takes a function"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], function: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        handler("deploy", **options)(function)


def test_an_action_is_needed() -> None:
    with pytest.raises(TypeError, match=r'@handler\("action"\), not @handler'):
        handler(_plain)  # type: ignore[arg-type]


def test_the_last_failure_is_final_and_waits_double(registry: dict[str, handlers.Handler]) -> None:
    handler("deploy")(_plain)
    assert registry["deploy"].delay(1) is None
    handler("again", max_attempts=100, backoff=10, max_backoff=1000)(_plain)
    made = registry["again"]
    for failures, longest in ((1, 10), (2, 20), (3, 40), (8, 1000), (99, 1000)):
        waits = {made.delay(failures) for _ in range(20)}
        assert len(waits) > 1  # jitter
        assert all(timedelta(seconds=longest / 2) <= each <= timedelta(seconds=longest) for each in waits)
    assert made.delay(100) is None


def test_a_worker_chooses_by_action_and_label(registry: dict[str, handlers.Handler]) -> None:
    with pytest.raises(AuditError, match=r"^There is no handler: .* audit_handlers\.py of an installed app"):
        handlers.choose({}, None, [])
    handler("plain")(_plain)
    handler("heavy", labels=["gpu", "big"])(_plain)
    chosen, lacking = handlers.choose(registry, None, ["gpu"])
    assert (chosen.keys(), lacking) == ({"plain"}, {"heavy": {"big"}})
    chosen, lacking = handlers.choose(registry, ["heavy"], ["gpu", "big", "more"])
    assert (chosen.keys(), lacking) == ({"heavy"}, {})
    with pytest.raises(InvalidValue, match="there are handlers for: heavy, plain"):
        handlers.choose(registry, ["depoly"], [])
    with pytest.raises(InvalidValue, match="heavy: big, gpu"):
        handlers.choose(registry, ["heavy"], [])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os\nfrom audit import handlr\n", r"broken/audit_handlers\.py, line 2: ImportError: .*handlr"),
        ("def f(:\n", r"SyntaxError: .*\(audit_handlers\.py, line 1\)"),
    ],
)
def test_handlers_that_cannot_be_imported_are_named(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").touch()
    (tmp_path / "broken" / "audit_handlers.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with modify_settings(INSTALLED_APPS={"append": "broken"}), pytest.raises(AuditError, match=message):
        handlers.discover()
    sys.modules.pop("broken", None)
