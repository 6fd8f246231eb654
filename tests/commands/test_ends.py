"""How commands end: exit codes and messages, in this process and from a shell."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import InternalError, OperationalError, ProgrammingError, connection, transaction
from psycopg import errors

from audit.exceptions import AuditError
from audit.management.base import AuditCommand, os_user
from audit.management.output import sentences
from tests.support.preloaded import Popen

pytestmark = pytest.mark.django_db


class TestEnds:
    """How a command ends, whatever its work comes to."""

    def end(self, work, **options):
        class Command(AuditCommand):
            def run(self, **options):
                return work()

        call_command(Command(stderr=io.StringIO()), **options)

    def raising(self, error, cause=None):
        def work():
            raise error from cause

        return work

    def test_fine(self):
        self.end(lambda: 0)

    def test_a_problem_found(self):
        with pytest.raises(SystemExit) as caught:
            self.end(lambda: 1)
        assert caught.value.code == 1

    def test_stopped_from_the_keyboard(self):
        with pytest.raises(SystemExit) as caught:
            self.end(self.raising(KeyboardInterrupt()))
        assert caught.value.code == 130

    def test_a_reader_that_left_where_there_is_no_file(self, monkeypatch):
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        self.end(self.raising(BrokenPipeError()))

    @pytest.mark.parametrize(
        ("error", "cause", "says"),
        [
            (ProgrammingError("no\nHINT"), errors.InsufficientPrivilege(), "this role may not do that: no$"),
            (InternalError("cannot"), errors.ReadOnlySqlTransaction(), "read-only .* this command writes: cannot"),
            (OperationalError("gone\x1b"), errors.AdminShutdown(), r"Database 'default' refused: gone\\x1b"),
            (AuditError("text \x1b"), None, r"^text \\x1b$"),
        ],
    )
    def test_what_the_database_says_is_put_in_words(self, error, cause, says):
        with pytest.raises(CommandError, match=says) as caught:
            self.end(self.raising(error, cause))
        assert caught.value.returncode == 2

    @pytest.mark.django_db
    @pytest.mark.parametrize(
        ("statement", "says"),
        [
            (
                "RAISE EXCEPTION 'not that \x1b row' USING DETAIL = 'it is\n finished', HINT = 'Write another.'",
                "not that \\x1b row\nit is finished\nHint: Write another.",
            ),
            ("PERFORM 1 / 0", "division by zero"),
            ("RAISE EXCEPTION 'only this'", "only this"),
        ],
    )
    def test_a_refusal_is_its_message_detail_and_hint_on_lines_of_their_own(self, statement, says):
        def run():
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"DO $do$ BEGIN {statement}; END $do$")

        with pytest.raises(CommandError) as caught:
            self.end(run)
        assert str(caught.value) == f"Database 'default' refused: {says}"

    def test_work_is_to_be_written(self):
        with pytest.raises(NotImplementedError):
            AuditCommand().run()

    def test_a_user_without_a_name(self, monkeypatch):
        monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
        assert os_user() == "cli:uid-4000000000"


def manage(*argv, **environment):
    return Popen(
        [sys.executable, "manage.py", *argv],
        cwd=Path(__file__).parent.parent.parent,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_from_a_shell_bad_input_ends_with_2():
    with manage("audit_list", "--status", "nope") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert "'nope' is not a status; use one of pending" in err
    assert len(err.splitlines()) == 2


def test_from_a_shell_an_unreachable_database_ends_with_2():
    with manage("audit_list", DATABASE_URL="postgres://a:b@127.0.0.1:1/c") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert "Database 'default' cannot be reached" in err
    assert "Traceback" not in err


READER_LEAVES = """
import django; django.setup()
from audit.management.base import AuditCommand
class Command(AuditCommand):
    def run(self, **options):
        for number in range(100_000):
            self.line(f"line {number}")
        return 0
Command().run_from_argv(["manage.py", "lines"])
"""


def test_from_a_shell_a_reader_that_leaves_ends_it_quietly():
    with Popen(
        [sys.executable, "-c", READER_LEAVES],
        cwd=Path(__file__).parent.parent.parent,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        (
            "connection failed: Connection refused\n\tIs the server running there?\n",
            "connection failed: Connection refused. Is the server running there?",
        ),
        ("failures were:\n- host: a", "failures were: - host: a"),
        ("", ""),
    ],
)
def test_lines_of_a_message_are_sentences(text, joined):
    assert sentences(text) == joined
