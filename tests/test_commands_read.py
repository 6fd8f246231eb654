"""audit_list, audit_show and audit_stats: what they print, in which order, and how they end."""

import io
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import InternalError, OperationalError, ProgrammingError, connection
from django.utils import timezone
from psycopg import errors

from audit.exceptions import AuditError
from audit.ids import uuid7
from audit.management import story
from audit.management.base import AuditCommand, os_user
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.statistics import statistics
from audit.status import Status

pytestmark = pytest.mark.django_db

HOSTILE = "x\x1b[31m\u202e\r\nTotal: 0"
ESCAPED = r"x\x1b[31m\u202e\r\nTotal: 0"


def run(*argv, **options):
    """Run a command and return what it wrote to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command(*argv, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def lines_of(*argv):
    out, _ = run(*argv, "--format", "json")
    return [json.loads(line) for line in out.splitlines()]


def record(ago, **given):
    at = timezone.now() - ago
    columns = {
        "id": uuid7(at),
        "action": "deploy",
        "status": "completed",
        "created_at": at,
        "started_at": at + timedelta(seconds=2),
        "finished_at": at + timedelta(seconds=5),
        "requested_by": "alice",
    }
    [key] = Task.objects.bulk_record([columns | given])
    return key


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    # Wherever the tests themselves run: no width unless a test gives one.
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr(
        shutil,
        "get_terminal_size",
        lambda fallback=(80, 24): os.terminal_size((int(os.environ["COLUMNS"]) or fallback[0], 24)),
    )


HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class TestList:
    @pytest.mark.django_db(transaction=True)
    def test_no_cursor_outlives_its_transaction(self):
        for _ in range(3):
            record(HOUR)
        seen = []

        class Looking(io.StringIO):
            def write(self, text):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT bool_or(is_holdable) FROM pg_cursors WHERE name <> ''")
                    seen.extend(cursor.fetchone())
                return super().write(text)

        call_command("audit_list", "--format", "json", stdout=Looking(), stderr=io.StringIO())
        assert seen.count(False) == 3
        assert True not in seen

    def test_newest_first_and_on_from_there(self):
        keys = [str(record(HOUR * number)) for number in range(1, 8)]
        out, err = run("audit_list", "--limit", "3")
        assert [line.split()[3] for line in out.splitlines()[2:]] == keys[:3]
        assert err == f"There are more: --before {keys[2]}\n"
        assert [each["id"] for each in lines_of("audit_list", "--limit", "3", "--before", keys[2])] == keys[3:6]
        out, err = run("audit_list", "--before", keys[5])
        assert (out.count(keys[6]), err) == (1, "")

    def test_tasks_of_one_moment_are_paged_by_id(self):
        at = timezone.now() - HOUR
        keys = sorted((str(record(HOUR, id=uuid7(at, key=str(n)), created_at=at)) for n in range(5)), reverse=True)
        seen, before = [], []
        while page := lines_of("audit_list", "--limit", "2", *before):
            seen += [each["id"] for each in page]
            before = ["--before", seen[-1]]
        assert seen == keys

    def test_json_holds_every_column(self):
        key = record(HOUR, outcome={"exit_code": 0}, plan=[1, None], services_touched=["a"])
        [told] = lines_of("audit_list")
        task = Task.objects.get(pk=key)
        assert told.keys() == {field.attname for field in Task._meta.concrete_fields} | {
            "waited_s",
            "took_s",
            "total_s",
        }
        assert (told["waited_s"], told["took_s"], told["total_s"]) == (2, 3, 5)
        assert (told["outcome"], told["plan"], told["services_touched"]) == ({"exit_code": 0}, [1, None], ["a"])
        assert told["row_hash"] == bytes(task.row_hash).hex()
        assert datetime.fromisoformat(told["created_at"]) == task.created_at

    def test_filters(self):
        key = record(HOUR, services_touched=["dns", "kuma"], status="failed", summary="one two")
        record(HOUR, services_touched=["dns"])
        for argv in (
            ("--service", "dns", "--service", "kuma"),
            ("--any-service", "kuma", "--any-service", "nope"),
            ("--status", "failed", "--since", "1d"),
            ("--search", "TWO service:dns"),
            ("--id", str(key)),
        ):
            assert [each["id"] for each in lines_of("audit_list", *argv)] == [str(key)]

    def test_what_no_index_finds_is_looked_for_in_a_window(self):
        old = record(40 * DAY, plan={"key": "needle"})
        out, err = run("audit_list", "--search", "plan.key:needle")
        assert out == ""
        assert "last 30d; --since all looks through everything" in err
        assert "No tasks match." in err
        for argv in (("--since", "all"), ("--since", "50d"), ("--id", str(old))):
            out, err = run("audit_list", "--search", "plan.key:needle", *argv)
            assert str(old) in out
            assert err == ""

    def test_nothing_yet(self):
        assert run("audit_list") == ("", "No tasks yet. Task.objects.request(…) makes one.\n")
        assert run("audit_list", "--format", "json")[0] == ""

    @pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
    def test_a_terminal_is_not_overrun(self, monkeypatch, width):
        monkeypatch.setenv("COLUMNS", str(width))
        record(HOUR, summary="word " * 50, services_touched=["s" * 30, "t"], action="a" * 100)
        record(HOUR * 24 * 400)
        out, _ = run("audit_list")
        assert all(len(line) <= max(width, 67) for line in out.splitlines())
        assert "completed" in out

    def test_hostile_text_is_shown_and_not_obeyed(self):
        record(HOUR, action=HOSTILE, summary=HOSTILE, services_touched=[HOSTILE], requested_by=HOSTILE)
        out, _ = run("audit_list")
        assert len(out.splitlines()) == 3
        assert out.count(ESCAPED) == 4
        [told] = lines_of("audit_list")
        assert told["summary"] == HOSTILE
        assert "\x1b" not in run("audit_list", "--format", "json")[0]

    def test_running_work_says_for_how_long(self):
        Task.objects.request("deploy", actor="a").approve(actor="b")
        Task.objects.claim(worker="w")
        assert " ms …" in run("audit_list")[0]

    def test_colour_only_for_a_terminal_that_wants_it(self, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        record(HOUR, status="failed")
        for no_color, coloured in (("", True), ("1", False)):
            monkeypatch.setenv("NO_COLOR", no_color)
            out = Terminal()
            call_command("audit_list", stdout=out, force_color=True)
            assert ("\x1b[" in out.getvalue()) is coloured
        out = Terminal()
        monkeypatch.delenv("NO_COLOR")
        call_command("audit_list", stdout=out, no_color=True)
        assert "\x1b[" not in out.getvalue()
        assert "\x1b[" not in run("audit_list")[0]

    def test_an_encoding_that_lacks_the_characters(self):
        record(HOUR, summary="日本 → x" + "y" * 100)
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, encoding="ascii")
        call_command("audit_list", stdout=out)
        out.flush()
        assert "\\u65e5\\u672c -> x" in raw.getvalue().decode("ascii")

    @pytest.mark.parametrize("before", ["what", "ffff"])
    def test_a_bad_place_to_go_on(self, before):
        with pytest.raises(CommandError) as caught:
            run("audit_list", "--before", before)
        assert caught.value.returncode == 2
        assert f"(got '{before}')" in str(caught.value)


class TestShow:
    @pytest.fixture
    def failed(self):
        task = Task.objects.request(
            "deploy",
            summary="Deploy Kuma",
            services=["kuma"],
            plan={"steps": ["pull"]},
            actor="alice",
            correlation_id="req-1",
            estimated_resources={"wall_s": 30},
        )
        task.approve(actor="bob")
        [task] = Task.objects.claim(worker="orch-1")
        task.log("pull", duration_ms=812, output_summary="pulled", detail={"layers": 7})
        task.suggest("cache it", reason="slow", actor="orch-1")
        task.fail("disk full", outcome={"exit_code": 28})
        task.note("cleaned up", actor="carol")
        return task

    def test_the_whole_story(self, failed):
        out, _ = run("audit_show", str(failed.pk))
        role = ExecutionLog.objects.of(failed).first().db_role
        for told in (
            *("deploy  Deploy Kuma", f"{failed.pk}  failed", "kuma", "req-1", '"exit_code": 28'),
            *('"disk full"', "1. cache it (because: slow)", "waited ", "took ", bytes(failed.row_hash).hex()),
            *("new: pending", "pending → approved", "approved → executing", "step 1 pull", "812 ms"),
            *('pulled {"layers": 7}', "executing → failed", "note, after the end", "cleaned up", "carol", role),
        ):
            assert told in out
        order = [out.index(each) for each in ("new: pending", "→ approved", "step 1", "executing → failed", "after")]
        assert order == sorted(order)

    def test_json_holds_everything(self, failed):
        [told] = lines_of("audit_show", failed.pk.hex[:20])
        assert told["id"] == str(failed.pk)
        assert told["pause_entry"] is None
        assert told["log_complete"] is True
        columns = {field.attname for field in ExecutionLog._meta.concrete_fields} - {"task_id"}
        assert all(row.keys() == columns for row in told["log"])
        assert [row["to_status"] or row["kind"] for row in told["log"]] == [
            *("pending", "approved", "executing", "step", "suggestion", "failed", "note"),
        ]
        assert [row["id"] for row in told["log"]] == list(ExecutionLog.objects.of(failed).values_list("id", flat=True))

    def test_a_long_log_is_bounded_and_says_so(self, failed):
        out, _ = run("audit_show", str(failed.pk), "--log", "2")
        assert "the log goes on after these 2 rows" in out
        assert "→ executing" not in out
        [told] = lines_of("audit_show", str(failed.pk), "--log", "2")
        assert (len(told["log"]), told["log_complete"]) == (2, False)
        [told] = lines_of("audit_show", str(failed.pk), "--log", "7")
        assert told["log_complete"] is True

    def test_several(self, failed):
        other = record(HOUR)
        out, _ = run("audit_show", str(failed.pk), str(other))
        assert out.index(str(failed.pk)) < out.index(str(other))
        assert len(lines_of("audit_show", str(failed.pk), str(other))) == 2

    def test_work_that_still_lives(self):
        task = Task.objects.request("deploy", actor="a", available_at=timezone.now() + HOUR)
        out, _ = run("audit_show", str(task.pk))
        assert "waiting for" in out
        assert "Available" in out
        assert "(in " in out
        task = Task.objects.request("deploy", actor="a")
        task.approve(actor="b")
        [task] = Task.objects.claim(worker="w")
        task.request_cancel(actor="bob")
        out, _ = run("audit_show", str(task.pk))
        assert "running for" in out
        assert "w; lease expires" in out
        assert "Stop requested" in out

    def test_a_paused_task_shows_its_place_in_the_queue(self):
        task = Task.objects.request("deploy", actor="a")
        task.approve(actor="b")
        [task] = Task.objects.claim(worker="w")
        entry = task.pause(reason="insufficient_capacity", work_plan={"left": ["b"]}, note="no room")
        out, _ = run("audit_show", str(task.pk))
        for told in ("Pause queue", "due", "Insufficient capacity: no room", '{"left": ["b"]}'):
            assert told in out
        [told] = lines_of("audit_show", str(task.pk))
        assert told["pause_entry"]["id"] == entry.pk
        assert told["pause_entry"]["state"] == "due"
        assert told["pause_entry"]["overdue_s"] >= 0

    def test_an_entry_at_work_and_a_log_that_is_missing(self):
        task = Task.objects.request("deploy", actor="a")
        task.approve(actor="b")
        task.pause(reason="insufficient_capacity", actor="b")
        [entry] = PauseQueueEntry.objects.claim(worker="orch-9")
        out, _ = run("audit_show", str(task.pk))
        assert "orch-9, until " in out
        kept = {"heading": str, "paint": lambda text, status: text, "width": None, "more_log": False}
        assert list(story.story(entry.task, [], None, **kept))[-1] == "  none"

    def test_hostile_text_is_shown_and_not_obeyed(self):
        task = Task.objects.request(
            HOSTILE, summary=HOSTILE, services=[HOSTILE], actor=HOSTILE, correlation_id=HOSTILE, plan={HOSTILE: HOSTILE}
        )
        task.log(HOSTILE, output_summary=HOSTILE, detail={HOSTILE: 1}, actor=HOSTILE)
        task.suggest(HOSTILE, reason=HOSTILE, actor=HOSTILE)
        task.approve(actor="b")
        task.pause(reason="manual_pause", actor=HOSTILE, note=HOSTILE, work_plan={HOSTILE: 1})
        out, _ = run("audit_show", str(task.pk))
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert not [line for line in out.splitlines() if line.startswith("Total: 0")]
        [told] = lines_of("audit_show", str(task.pk))
        assert told["plan"] == {HOSTILE: HOSTILE}

    @pytest.mark.parametrize(
        "text", ["9" * 5000, "[" * 3000 + "]" * 3000, *("[" * depth + "]" * depth for depth in range(880, 1000, 7))]
    )
    def test_json_that_python_cannot_read_is_shown_as_text(self, text):
        key = uuid7()
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO audit_task (id, action, created_at, available_at, plan, suggestions)"
                " VALUES (%s, 'x', now(), now(), %s::jsonb, %s::jsonb)",
                [key, text, text],
            )
        out, _ = run("audit_show", str(key))
        assert text[:900] in "".join(out.split())
        assert run("audit_list")[0].count(str(key)) == 1
        assert run("audit_stats")[0].startswith("1 task\n")
        [told] = lines_of("audit_show", str(key))
        assert told["plan"] == text or json.dumps(told["plan"]) == text

    def test_suggestions_of_any_shape(self):
        task = Task.objects.request("x", actor="a", suggestions=[{"suggestion": "s"}, {"other": 1}, "text"])
        out, _ = run("audit_show", str(task.pk))
        for told in ("1. s\n", '2. {"other": 1}', '3. "text"'):
            assert told in out

    def test_a_large_document_is_cut_and_says_so(self):
        task = Task.objects.request("x", actor="a", plan={"steps": list(range(200)), "long": "y" * 3000})
        out, _ = run("audit_show", str(task.pk))
        assert "more lines; --format json shows all" in out
        assert len(out.splitlines()) < 120
        task = Task.objects.request("x", actor="a", plan={"long": "y" * 3000})
        assert "characters)" in run("audit_show", str(task.pk))[0]

    def test_an_unknown_id(self):
        with pytest.raises(CommandError, match="begins no task of database 'default'; audit_list shows") as caught:
            run("audit_show", "ffff")
        assert caught.value.returncode == 2

    @pytest.mark.parametrize("width", ["40", "80"])
    def test_a_narrow_terminal(self, failed, monkeypatch, width):
        monkeypatch.setenv("COLUMNS", width)
        out, _ = run("audit_show", str(failed.pk))
        log = out[out.index("Execution log") :].splitlines()[1:]
        assert log
        assert all(len(line) <= max(int(width), 64) for line in log)


class TestStats:
    @pytest.fixture
    def some(self):
        for number in range(10):
            record(HOUR, services_touched=["dns"] if number % 2 else ["dns", "mail"])
        for _ in range(4):
            record(HOUR, status="failed", action="backup", outcome={"error_type": "Boom"}, services_touched=["mail"])
        record(HOUR, status="rejected", action="backup", outcome={"error_type": "No"}, started_at=None)
        record(2 * DAY, action="old")
        Task.objects.request("backup", actor="a")

    @pytest.mark.parametrize("option", ["--correlation=req-1", "--id={id}", "--parent={id}"])
    def test_few_rows_are_counted_whatever_their_age_as_in_lists(self, option):
        parent = uuid7(at=timezone.now() - 9 * DAY)
        record(9 * DAY, id=parent, parent=parent, correlation_id="req-1")
        record(9 * DAY)
        [told] = lines_of("audit_stats", option.format(id=parent))
        assert told["tasks"] == 1
        assert "since" not in told["filter"]
        [told] = lines_of("audit_stats", option.format(id=parent), "--since=1d")
        assert told["tasks"] == 0

    def test_figures(self, some):
        [told] = lines_of("audit_stats")
        assert told["filter"] == {"since": ["1d"]}
        assert told["complete"] is True
        assert told["tasks"] == 16
        assert told["statuses"] == dict.fromkeys(Status.values, 0) | {
            "completed": 10,
            "failed": 4,
            "rejected": 1,
            "pending": 1,
        }
        assert told["failure_rate"] == pytest.approx(4 / 14)
        assert told["took_s"] == {"p50": 3, "p90": 3, "p99": 3, "longest": 3}
        assert told["waited_s"]["p50"] == 2
        assert [(each["action"], each["tasks"]) for each in told["actions"]] == [("deploy", 10), ("backup", 6)]
        assert [each["failure_rate"] for each in told["actions"]] == [0, 1]
        assert [(each["service"], each["tasks"]) for each in told["services"]] == [("dns", 10), ("mail", 9)]
        assert told["error_types"] == [{"error_type": "Boom", "tasks": 4}, {"error_type": "No", "tasks": 1}]

    def test_a_service_named_twice_by_raw_sql_counts_once(self):
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO audit_task (id, action, services_touched) VALUES (%s, 'x', '{a,a}')", [uuid7()])
        [told] = lines_of("audit_stats")
        assert [(each["service"], each["tasks"]) for each in told["services"]] == [("a", 1)]

    def test_the_page(self, some):
        out, _ = run("audit_stats")
        assert out.startswith("16 tasks\nFilter: since:1d\nCreated ")
        assert "Failure rate 28.6%" in out
        for row in (
            "completed     10  62.5%",
            "backup      6       4        100.0%",
            "Boom            4",
            "waited for a start",
        ):
            assert row in out
        assert "old" not in out

    def test_filters_and_top(self, some):
        [told] = lines_of("audit_stats", "--since", "all", "--top", "1")
        assert told["tasks"] == 17
        assert [each["action"] for each in told["actions"]] == ["deploy"]
        [told] = lines_of("audit_stats", "--service", "mail", "--status", "failed")
        assert (told["tasks"], told["failure_rate"]) == (4, 1)

    def test_a_bound_is_said(self, some):
        out, _ = run("audit_stats", "--limit", "5")
        assert out.startswith("5 tasks (the newest; --limit looks at more)")
        [told] = lines_of("audit_stats", "--limit", "5")
        assert (told["tasks"], told["complete"]) == (5, False)
        assert sum(told["statuses"].values()) == sum(each["tasks"] for each in told["actions"]) == 5

    def test_a_bound_that_all_fit_into_is_none(self, some):
        out, _ = run("audit_stats", "--limit", "16")
        assert out.startswith("16 tasks\n")
        [told] = lines_of("audit_stats", "--limit", "16")
        assert (told["tasks"], told["complete"]) == (16, True)
        assert lines_of("audit_stats", "--limit", "15")[0]["complete"] is False

    def test_nothing(self):
        assert run("audit_stats")[0] == "0 tasks\nFilter: since:1d\n"
        [told] = lines_of("audit_stats")
        assert (told["tasks"], told["failure_rate"], told["took_s"]["p50"]) == (0, None, None)

    def test_nothing_ran(self):
        Task.objects.request("x", actor="a")
        assert "Failure rate" not in run("audit_stats")[0].split("Status")[0]
        assert statistics(Task.objects.none()).total.tasks == 0

    def test_one_statement_that_reads_the_table_once(self, some, django_assert_num_queries):
        with django_assert_num_queries(1) as captured:
            run("audit_stats")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("EXPLAIN " + captured[0]["sql"])
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert plan.count("on audit_task ") == 1
        assert "Index Cond: (created_at >= " in plan

    def test_hostile_text(self):
        record(HOUR, action=HOSTILE, services_touched=[HOSTILE], status="failed", outcome={"error_type": HOSTILE})
        out, _ = run("audit_stats", "--search", f'"{HOSTILE}"')
        assert "\x1b" not in out
        assert out.count(ESCAPED) == 4


@pytest.mark.parametrize(
    "argv",
    [
        ("audit_list", "--status", "nope"),
        ("audit_list", "--since", "then"),
        ("audit_list", "--database", "nowhere"),
        ("audit_list", "--limit", "-1"),
        ("audit_stats", "--top", "x"),
        ("audit_show",),
        ("audit_show", "1", "--log", "0"),
    ],
)
def test_bad_options(argv):
    with pytest.raises(CommandError):
        run(*argv)


@pytest.mark.parametrize("command", ["audit_list", "audit_show 01", "audit_stats", "audit_queue list"])
def test_a_database_that_is_not_migrated(command):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL search_path TO pg_catalog")
    with pytest.raises(CommandError, match=r"missing or older than this code. Run: manage.py migrate") as caught:
        run(*command.split())
    assert caught.value.returncode == 2


def test_a_statement_that_takes_too_long():
    record(HOUR)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP VIEW audit_task AS SELECT * FROM public.audit_task WHERE pg_sleep(1) IS NOT NULL")
        cursor.execute("SET LOCAL statement_timeout = 50")
    with pytest.raises(CommandError, match="longer than the database allows") as caught:
        run("audit_list")
    assert caught.value.returncode == 2


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

    def test_work_is_to_be_written(self):
        with pytest.raises(NotImplementedError):
            AuditCommand().run()

    def test_a_user_without_a_name(self, monkeypatch):
        monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
        assert os_user() == "cli:uid-4000000000"


def manage(*argv, **environment):
    return subprocess.Popen(
        [sys.executable, "manage.py", *argv],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_from_a_shell_bad_input_ends_with_2():
    with manage("audit_list", "--status", "nope") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert "'nope' is no status; use one of pending" in err
    assert len(err.splitlines()) == 2


def test_from_a_shell_an_unreachable_database_ends_with_2():
    with manage("audit_list", DATABASE_URL="postgres://a:b@127.0.0.1:1/c") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert "Database 'default' cannot be reached" in err
    assert "Traceback" not in err


READER_LEAVES = """
import sys
from django.core.management import execute_from_command_line
from audit.management.base import AuditCommand
import django; django.setup()
class Command(AuditCommand):
    def run(self, **options):
        for number in range(100_000):
            self.line(f"line {number}")
        return 0
Command().run_from_argv(["manage.py", "lines"])
"""


def test_from_a_shell_a_reader_that_leaves_ends_it_quietly():
    with subprocess.Popen(
        [sys.executable, "-c", READER_LEAVES],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, "")


def test_times_are_of_the_current_zone():
    at = datetime(2020, 7, 1, 22, 30, tzinfo=UTC)
    record(timedelta(0), id=uuid7(at), created_at=at, started_at=at, finished_at=at)
    with timezone.override("Europe/Berlin"):
        out, _ = run("audit_list")
    assert "2020-07-02 00:30:00" in out
