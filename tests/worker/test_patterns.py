"""Actions that end in `*`: claims, handlers, agents and notifications that mean all that begin so."""

from __future__ import annotations

from typing import Any

import pytest

from audit import handler
from audit.agents.presence import Presence
from audit.agents.survey import survey
from audit.exceptions import InvalidValue
from audit.leases.wakeup import Listener
from audit.models import Agent, Task
from audit.pausing import PauseManager
from audit.values.patterns import covering, matching
from audit.worker import handlers
from tests.support.agents import agent
from tests.support.worker import approved, eventually


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, handlers.Handler]:
    made: dict[str, handlers.Handler] = {}
    monkeypatch.setattr(handlers, "_registry", made)
    return made


def _one(run: Any) -> None:
    pass


def _two(run: Any) -> None:
    pass


def test_what_covers_an_action() -> None:
    assert covering("ab") == ["ab", "ab*", "a*", "*"]


@pytest.mark.django_db
def test_claims() -> None:
    names = ("task:a", "task:b", "task@a", "task", "a%b", "aXb", "a_b", "a\\b", "other")
    made = {each: approved(each) for each in names}

    def claimed(*actions: str) -> set[str]:
        found = Task.objects.claim("w", 100, actions=actions)
        for each in found:
            each.release()
        assert {each.pk for each in Task.objects.filter(matching(actions))} == {each.pk for each in found}
        assert {each.pk for each in found} == {made[each.action].pk for each in found}
        return {each.action for each in found}

    assert claimed("task:*") == {"task:a", "task:b"}
    assert claimed("task:*", "other") == {"task:a", "task:b", "other"}
    assert claimed("task:a") == {"task:a"}
    assert claimed("a%*") == {"a%b"}
    assert claimed("a_*") == {"a_b"}
    assert claimed("a\\*") == {"a\\b"}
    assert claimed("*") == set(names)
    assert claimed("none*") == set()


def test_the_closest_handler_runs(registry: dict[str, handlers.Handler]) -> None:
    handler("task:*")(_one)
    handler("task:mail.*")(_two)
    handler("task:mail.exact")(_one)
    found = handlers.registered()
    runs = {each: found[each].function for each in ("task:", "task:x", "task:mail.x", "task:mail.exact")}
    assert runs == {"task:": _one, "task:x": _one, "task:mail.x": _two, "task:mail.exact": _one}
    assert "task:x" in found
    assert "task" not in found
    assert found.get("task") is None
    with pytest.raises(KeyError, match="task"):
        _ = found["task"]


def test_choosing_by_patterns(registry: dict[str, handlers.Handler]) -> None:
    handler("task:*")(_one)
    handler("deploy:web")(_two)
    handler("deploy:db", labels=["db"])(_two)
    found = handlers.registered()

    def chosen(*actions: str) -> dict[str, Any]:
        made, _ = handlers.choose(found, actions, ["db"])
        return {name: each.function for name, each in made.items()}

    assert chosen("task:mail.*") == {"task:mail.*": _one}
    assert chosen("task:mail.send") == {"task:mail.send": _one}
    assert chosen("task:*") == {"task:*": _one}
    assert chosen("deploy:*") == {"deploy:web": _two, "deploy:db": _two}
    assert chosen("*") == {"task:*": _one, "deploy:web": _two, "deploy:db": _two}
    for unknown in ("tasks:*", "deploy", "deploy:web*x"):
        with pytest.raises(InvalidValue, match="has no handler"):
            chosen(unknown)


@pytest.mark.django_db
def test_agents_that_name_patterns_are_able() -> None:
    Presence("w1", actions=["task:*", "deploy"], labels=[], slots=1, using="default").register()
    for action, able in (("task:x", True), ("task:", True), ("deploy", True), ("task", False), ("deploy:x", False)):
        assert Agent.objects.able(action).exists() is able
        [surveyed] = survey("default")
        assert surveyed.able(action) is able


@pytest.mark.django_db
def test_short_work_is_paused_by_patterns() -> None:
    agent(cpu=0.95)
    task = approved("task:x")
    approved("other")
    assert [each.task_id for each in PauseManager().pause_short(actions=["task:*"])] == [task.pk]


@pytest.mark.django_db(transaction=True)
def test_a_listener_hears_what_its_patterns_cover() -> None:
    heard: list[str] = []
    listener = Listener("default", ["task:*"], lambda: heard.append("woken"), name="w1", nudged=lambda: None)
    try:
        eventually(lambda: heard)  # it looks once when it has connected
        heard.clear()
        approved("other")
        approved("task:x")
        eventually(lambda: heard)
        assert heard == ["woken"]
    finally:
        listener.end()
        eventually(lambda: listener._connection.connection is None)
