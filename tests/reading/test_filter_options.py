"""Options of commands that make a filter."""

import argparse
import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.management import CommandError
from django.core.management.base import CommandParser

from audit.exceptions import InvalidFilter
from audit.reading.filters import TaskFilter, add_arguments


class TestOptions:
    def parse(self, *argv, limit=None):
        parser = CommandParser(prog="x", called_from_command_line=False)
        add_arguments(parser, limit=limit)
        return vars(parser.parse_args(argv))

    def test_they_say_what_search_text_says(self):
        options = self.parse(
            *("--status", "failed", "--service", "a", "--service", "b", "--any-service", "c", "--action", "d"),
            *("--actor", "e", "--since", "7d", "--until", "2026-11-24", "--finished-since", "1d"),
            *("--finished-until", "1h", "--correlation", "f", "--id", "0190", "--error-type", "g"),
            *("--parent", str(UUID(int=1)), "--search", "words outcome.exit_code:1"),
        )
        assert TaskFilter.from_options(options) == TaskFilter.from_text(
            "status:failed service:a service:b any_service:c action:d actor:e since:7d until:2026-11-24 "
            f"finished_since:1d finished_until:1h correlation_id:f id:0190 error_type:g parent:{UUID(int=1)} "
            "words outcome.exit_code:1"
        )
        assert TaskFilter.from_options(self.parse()) == TaskFilter()

    def test_python_callers_give_values(self):
        options = {"status": "failed", "service": ["a"], "since": timedelta(days=1), "parent": UUID(int=1)}
        assert TaskFilter.from_options(options) == TaskFilter(
            statuses=("failed",), services=("a",), since=timedelta(days=1), parents=(UUID(int=1),)
        )
        with pytest.raises(InvalidFilter, match="use one of"):
            TaskFilter.from_options({"status": ["nope"]})

    @pytest.mark.parametrize(
        ("argv", "says"),
        [
            (["--status", "nope"], "'nope' is not a status; use one of"),
            (["--status", "faild"], "'faild' is not a status; did you mean failed? There are pending, approved"),
            (["--failure", "ressource"], "'ressource' is not a class of failures; did you mean resource?"),
            (["--search", "stauts:failed"], "'stauts:failed' has the unknown condition `stauts`. Did you mean"),
            (["--since", "yesterday"], "(units: s, m, h, d, w)"),
            (["--since", "then"], "'then' is not a time; write"),
            (["--search", "service:"], "needs a value"),
            (["--database", "nowhere"], "'nowhere' is not a database of this project; DATABASES has default"),
            (["--limit", "0"], "'0' is not a whole number from 1"),
            (["--limit", "many"], "'many' is not a whole number from 1"),
        ],
    )
    def test_bad_values_are_named_with_the_way_out(self, argv, says):
        with pytest.raises((CommandError, argparse.ArgumentError), match=re.escape(says)):
            self.parse(*argv, limit=5)
