"""What `--help` says about each command: every option, its default, examples and the exit codes."""

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, get_commands, load_command_class

COMMANDS = sorted(name for name, app in get_commands().items() if app == "audit")
# Django's own.
_DJANGO = {"version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color", "skip_checks"}


def _parser(name: str) -> argparse.ArgumentParser:
    return load_command_class("audit", name).create_parser("manage.py", name)


def _with_verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _with_verbs(each)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_and_what_it_is_without(name: str) -> None:
    for parser in _with_verbs(_parser(name)):
        assert parser.description, parser.prog
        for action in parser._actions:
            if action.dest in _DJANGO or isinstance(action, argparse._SubParsersAction):
                continue
            assert action.help, (parser.prog, action.dest)
            if action.default not in (None, False, [], "", argparse.SUPPRESS) and action.option_strings:
                default = f"{action.default:g}" if isinstance(action.default, float) else str(action.default)
                assert f"default {default}" in action.help, (parser.prog, action.dest, action.help)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_value_is_broken_at_its_hyphens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in range(60, 130):
        monkeypatch.setenv("COLUMNS", str(columns))
        for parser in _with_verbs(_parser(name)):
            _, _, options = parser.format_help().partition("options:")
            assert not re.search(r"[a-z0-9]-\n {10,}", options.partition("Examples:")[0])


@pytest.mark.parametrize("name", COMMANDS)
def test_exit_codes_are_reported(name: str) -> None:
    for parser in _with_verbs(_parser(name)):
        shown = " ".join(parser.format_help().split())
        assert "Exit status: 0" in shown or "the exit status pass through" in shown, parser.prog


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_stand_in_the_help_and_can_be_given(name: str) -> None:
    command = load_command_class("audit", name)
    assert command.examples
    for parser in _with_verbs(command.create_parser("manage.py", name)):
        assert all(f"\n  manage.py {example}\n" in parser.format_help() for example in command.examples)
    for example in command.examples:
        first, *words = shlex.split(re.split(r" [>|] ", example)[0])
        assert first == name
        _parser(name).parse_args(words)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["audit_list", "--services", "x"], "unrecognized arguments: --services x; did you mean --service?"),
        (["audit_list", "--correlation_id", "x"], "did you mean --correlation-id?"),
        (["audit_queue", "hold", "1", "--reasons", "x"], "did you mean --reason?"),
        (["audit_list", "--xyzzy"], "unrecognized arguments: --xyzzy"),
    ],
)
def test_an_option_that_is_none_is_answered_with_one_like_it(argv: list[str], says: str) -> None:
    with pytest.raises(CommandError) as caught:
        load_command_class("audit", argv[0]).create_parser("manage.py", argv[0]).parse_args(argv[1:])
    assert str(caught.value).endswith(says)


@pytest.mark.parametrize(
    "argv",
    [["audit_verify"], ["audit_tiles", "x"], ["audit_seal"], ["audit_prove", "x"], ["audit_show", "x"]],
    ids=lambda argv: argv[0],
)
def test_an_unknown_database_is_refused_with_those_that_are_known(argv: list[str]) -> None:
    with pytest.raises(CommandError, match="'nowhere' is not a database of this project; DATABASES has default"):
        load_command_class("audit", argv[0]).create_parser("manage.py", argv[0]).parse_args(
            [*argv[1:], "--database", "nowhere"]
        )
