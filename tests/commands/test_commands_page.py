"""`docs/commands.md`, held to the commands: options, exit statuses, keys of the JSON, and lines that can be given."""

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class

from audit.models import Task
from tests.support.agents import agent, short_entry
from tests.support.commands import outcome, record
from tests.support.factories import task_in
from tests.support.ledger import VKEY, finish, sealer

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "commands.md").read_text(encoding="utf-8")
SECTIONS = {each.partition("\n")[0]: each for each in PAGE.split("\n## ")[1:]}
COMMANDS = sorted(name for name, app in get_commands().items() if app == "audit")
_DJANGO = {"version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color", "skip_checks"}


def _parser(name: str) -> argparse.ArgumentParser:
    return load_command_class("audit", name).create_parser("manage.py", name)


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _options(each)
        elif action.dest not in _DJANGO | {"help"}:
            yield action


def _rows(text: str) -> set[str]:
    """What stands in the first cells of its tables."""
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`(--?[\w-]+|[\w-]+)", cell)}


def test_every_command_has_a_section_and_nothing_else_has() -> None:
    assert sorted(SECTIONS) == ["The filters", *COMMANDS]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_there_and_none_that_is_not(name: str) -> None:
    options = list(_options(_parser(name)))
    known = {word for each in options for word in each.option_strings}
    here = {word for word in _rows(SECTIONS[name]) if re.match(r"--?\w", word)}
    filters = _rows(SECTIONS["The filters"]) if "(#the-filters)" in SECTIONS[name] else set()
    assert here | filters == known
    assert {str(each.metavar or each.dest) for each in options if not each.option_strings} <= set(
        re.findall(r"^\| `(.*?)` \|", SECTIONS[name], re.MULTILINE)
    )


def test_every_verb_stands_there() -> None:
    [verbs] = [each for each in _parser("audit_queue")._actions if isinstance(each, argparse._SubParsersAction)]
    assert verbs.choices.keys() <= _rows(SECTIONS["audit_queue"])
    [verbs] = [each for each in _parser("audit_decide")._actions if isinstance(each, argparse._SubParsersAction)]
    assert verbs.choices.keys() <= _rows(SECTIONS["audit_decide"])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_exit_statuses_are_those_of_the_help(name: str) -> None:
    command = load_command_class("audit", name)
    [shown] = re.findall(r"^Exit status: (.*)\.$", SECTIONS[name], re.MULTILINE)
    assert shown == command.exits or name == "audit_record"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_line_can_be_given(name: str) -> None:
    lines = re.findall(r"manage\.py (\w+)(.*)", SECTIONS[name])
    assert lines
    for given, rest in lines:
        assert given == name
        _parser(name).parse_args(shlex.split(re.split(r" [>|] ", rest)[0]))
    for line in re.findall(r"```crontab\n(.*)\n```", SECTIONS[name]):
        assert re.match(r"([\d*/]+ +){5}cd /srv/app && ", line)
        assert "%" not in line  # cron makes a line break of it


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_line_for_a_schedule_or_a_word_why_it_has_none(name: str) -> None:
    assert re.search(r"```crontab\n|^ExecStart=|Nobody schedules", SECTIONS[name], re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_with_json_has_an_example(name: str) -> None:
    formats = [each.choices or () for each in _options(_parser(name)) if each.dest == "format"]
    assert bool(examples(name)) == any("json" in each for each in formats)


@pytest.mark.django_db(transaction=True)
def test_what_runs_often_prints_nothing_while_nothing_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    sealer(monkeypatch)
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY]}
    finish(1)
    lines = [line for name in COMMANDS for line in re.findall(r"```crontab\n(.*)\n```", SECTIONS[name])]
    often = [re.split(r" [>|] ", line.partition("manage.py ")[2])[0] for line in lines if re.match(r"\*", line)]
    assert {"audit_recover", "audit_resume", "audit_seal", "audit_tiles"} <= {each.split()[0] for each in often}
    for each in often:  # the sealer before the tiles
        words = [str(tmp_path / word.rpartition("/")[2]) if word[0] == "/" else word for word in shlex.split(each)]
        assert outcome(*words) == (0, "", "")
        if "--verbosity" in words:
            assert outcome(*(word for word in words if word not in ("--verbosity", "0")))[2]


def examples(name: str) -> list[Any]:
    return [json.loads(each) for each in re.findall(r"```json\n(.*?)\n```", SECTIONS[name], re.DOTALL)]


def _json(*argv: object) -> Any:
    return json.loads(outcome(*argv, "--format", "json")[1])


@pytest.mark.django_db
def test_the_json_has_the_keys_of_the_examples() -> None:
    key = record(timedelta(minutes=5), status="failed", services=["kuma"], outcome={"error_type": "E"})
    [task] = examples("audit_list")[0]
    assert _json("audit_list")[0].keys() == task.keys()
    [more] = examples("audit_show")
    shown = _json("audit_show", key)
    assert shown.keys() == task.keys() | more.keys()
    assert (shown["seal"].keys(), shown["log"][0].keys()) == (more["seal"].keys(), more["log"][0].keys())
    assert _json("audit_tail")[0].keys() == task.keys() | {"change"}
    [stats] = examples("audit_stats")
    counted = _json("audit_stats", "--since", "1d")
    assert counted.keys() == stats.keys()
    for group in ("actions", "services", "error_types"):
        assert counted[group][0].keys() == stats[group][0].keys()
    [entry], [decision] = examples("audit_queue")
    paused = task_in("paused")
    assert _json("audit_queue")[0].keys() == entry.keys()
    assert _json("audit_queue", "resume", paused.pk)[0].keys() == decision.keys()
    assert Task.objects.get(pk=paused.pk).status == "approved"
    [decision] = examples("audit_decide")[0]
    pending = task_in("pending")
    assert _json("audit_decide", "approve", pending.pk, "--reason", "x")[0].keys() == decision.keys()


@pytest.mark.django_db
def test_the_json_about_agents_has_the_keys_of_the_example() -> None:
    [[example]] = examples("audit_agents")
    agent("w1", cpu=0.5)
    [listed] = _json("audit_agents", "list")
    assert (listed.keys(), listed["reading"].keys()) == (example.keys(), example["reading"].keys())
    assert _json("audit_agents", "drain", "w1", "--reason", "new disks").keys() == example.keys()


@pytest.mark.django_db
def test_the_json_about_upkeep_has_the_keys_of_the_examples() -> None:
    [[resumed]] = examples("audit_resume")
    agent("w1")
    entry = short_entry()
    [done] = _json("audit_resume")
    assert done.keys() == resumed.keys()
    assert done["task_id"] == str(entry.task_id)
    [recovered] = examples("audit_recover")
    left = task_in("executing")
    report = _json("audit_recover", "--worker", "orch-1")
    assert report.keys() == recovered.keys()
    assert (report["total"], report["restarted"]) == (1, [str(left.pk)])
