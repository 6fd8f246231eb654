"""audit_list, audit_show and audit_stats: what they print, in which order, and how they end."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from audit.exceptions import AuditError
from audit.ids import uuid7
from audit.management.base import AuditCommand
from audit.management.commands.audit_stats import _queue_line
from audit.models import Task
from audit.reading.health import FEW_DEAD, LONG_SNAPSHOT, QueueHealth
from audit.reading.statistics import statistics
from audit.status import Status
from tests.support.commands import ESCAPED, HOSTILE, any_width, lines_of, outcome, record, run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    any_width(monkeypatch)


MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


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

    def test_a_word_that_is_a_condition_is_suggested(self):
        record(HOUR, status="failed", outcome={"error_type": "ValueError"})
        assert "--search status:failed" in run("audit_list", "--search", "Failed")[1]
        assert "--search error_type:ValueError" in run("audit_list", "--search", "ValueError")[1]
        assert run("audit_list", "--search", "KeyError")[1] == "No tasks match.\n"
        record(HOUR, summary="a failed disk")
        assert run("audit_list", "--search", "failed")[1] == ""

    def test_who_requested_is_a_column_of_its_own(self):
        record(HOUR, requested_by="", actor="host:7")
        out, _ = run("audit_list")
        assert "Requested by" in out
        assert "host:7" not in out

    def test_wrong_settings_are_refused_before_anything(self, settings):
        settings.AUDIT = {"LEASE_SECOND": 5}
        code, out, err = outcome("audit_list")
        assert (code, out) == (2, "")
        assert "AUDIT['LEASE_SECOND'] is unknown; did you mean 'LEASE_SECONDS'?" in err
        assert outcome("audit_keygen", "example.org/x")[0] == 0

    def test_tasks_of_one_moment_are_paged_by_id(self):
        at = timezone.now() - HOUR
        keys = sorted((str(record(HOUR, id=uuid7(at, key=str(n)), created_at=at)) for n in range(5)), reverse=True)
        seen, before = [], []
        while page := lines_of("audit_list", "--limit", "2", *before):
            seen += [each["id"] for each in page]
            before = ["--before", seen[-1]]
        assert seen == keys

    def test_json_holds_every_column(self):
        key = record(HOUR, outcome={"exit_code": 0}, plan=[1, None], services=["a"])
        [shown] = lines_of("audit_list")
        task = Task.objects.get(pk=key)
        assert shown.keys() == {field.attname for field in Task._meta.concrete_fields} | {
            "waited_s",
            "ran_s",
            "paused_s",
            "total_s",
        }
        assert (shown["waited_s"], shown["ran_s"], shown["total_s"]) == (2, 3, 5)
        assert (shown["outcome"], shown["plan"], shown["services_touched"]) == ({"exit_code": 0}, [1, None], ["a"])
        assert datetime.fromisoformat(shown["created_at"]) == task.created_at

    def test_filters(self):
        key = record(HOUR, services=["dns", "kuma"], status="failed", summary="one two")
        record(HOUR, services=["dns"])
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
        assert "last 30d only; --since all searches everything" in err
        assert "No tasks match." in err
        for argv in (("--since", "all"), ("--since", "50d"), ("--id", str(old))):
            out, err = run("audit_list", "--search", "plan.key:needle", *argv)
            assert str(old) in out
            assert err == ""

    def test_nothing_yet(self):
        assert run("audit_list") == ("", "No tasks yet. Task.objects.request(…) makes one.\n")
        assert run("audit_list", "--format", "json")[0] == "[]\n"
        assert run("audit_list", "--format", "jsonl")[0] == ""

    def test_json_is_one_document_that_streams_and_jsonl_a_document_a_line(self):
        keys = [str(record(timedelta(minutes=each), summary="a\nb\x1b[2J")) for each in (1, 2, 3)]
        for some in (keys[:1], keys):
            out, _ = run("audit_list", "--format", "json", "--limit", str(len(some)))
            assert [each["id"] for each in json.loads(out)] == some
            lines, _ = run("audit_list", "--format", "jsonl", "--limit", str(len(some)))
            assert [json.loads(line) | {"total_s": 0} for line in lines.splitlines()] == [
                each | {"total_s": 0} for each in json.loads(out)
            ]
            assert "\x1b" not in out + lines

    def test_an_array_that_could_not_be_finished_is_no_json(self):
        def values():
            yield {"id": 1}
            raise AuditError("lost")

        out = io.StringIO()
        command = AuditCommand(stdout=out)
        with pytest.raises(AuditError):
            command.json_each(values())
        with pytest.raises(json.JSONDecodeError):
            json.loads(out.getvalue())
        assert json.loads(out.getvalue() + "]") == [{"id": 1}]

    @pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
    def test_a_terminal_is_not_overrun(self, monkeypatch, width):
        monkeypatch.setenv("COLUMNS", str(width))
        record(HOUR, summary="word " * 50, services=["s" * 30, "t"], action="a" * 100)
        record(HOUR * 24 * 400)
        out, _ = run("audit_list")
        assert all(len(line) <= max(width, 67) for line in out.splitlines())
        assert "completed" in out

    def test_hostile_text_is_shown_and_not_obeyed(self):
        record(HOUR, action=HOSTILE, summary=HOSTILE, services=[HOSTILE], requested_by=HOSTILE)
        out, _ = run("audit_list")
        assert len(out.splitlines()) == 3
        assert out.count(ESCAPED) == 4
        [shown] = lines_of("audit_list")
        assert shown["summary"] == HOSTILE
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

    def test_what_rich_would_read_as_markup_is_shown_as_it_is(self, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("TERM", "xterm")
        text = "[red]not red[/red] :smile: [link=https://x.example]y[/link] 127.0.0.1"
        key = record(HOUR, summary=text, outcome={text: text})
        for words in (["audit_list"], ["audit_show", str(key)]):
            out = Terminal()
            call_command(*words, stdout=out)
            assert text in out.getvalue()
            assert "\x1b[" in out.getvalue()

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
        assert str(caught.value).startswith("--before: ")
        assert before in str(caught.value)


class TestStats:
    @pytest.fixture
    def some(self):
        for number in range(10):
            record(HOUR, services=["dns"] if number % 2 else ["dns", "mail"])
        for _ in range(4):
            record(HOUR, status="failed", action="backup", outcome={"error_type": "Boom"}, services=["mail"])
        record(HOUR, status="rejected", action="backup", outcome={"error_type": "No"}, started_at=None)
        record(2 * DAY, action="old")
        Task.objects.request("backup", actor="a")

    @pytest.mark.parametrize("option", ["--correlation-id=req-1", "--id={id}", "--parent={id}"])
    def test_few_rows_are_counted_whatever_their_age_as_in_lists(self, option):
        parent = uuid7(at=timezone.now() - 9 * DAY)
        record(9 * DAY, id=parent, parent=parent, correlation_id="req-1")
        record(9 * DAY)
        [shown] = lines_of("audit_stats", option.format(id=parent))
        assert shown["tasks"] == 1
        assert "since" not in shown["filter"]
        [shown] = lines_of("audit_stats", option.format(id=parent), "--since=1d")
        assert shown["tasks"] == 0

    @pytest.mark.parametrize(
        ("asked", "counted"),
        [
            ("", "the last 24 hours"),
            ("--until=1h", "the 24 hours before --until"),
            ("--finished-until=1h", "the last 24 hours"),
            ("--since=24h", ""),
            ("--since=all", ""),
            ("--finished-since=1d", ""),
            ("--id=01a2279c-dc93-7e37-ba69-8c054552e48b", ""),
        ],
    )
    @pytest.mark.parametrize("form", ["table", "json"])
    def test_a_note_says_which_stretch_of_time_was_counted_if_none_was_asked_for(self, asked, counted, form):
        _, err = run("audit_stats", "--format", form, *filter(None, [asked]))
        note = f"Counted {counted} only; --since 7d looks further back, --since all counts everything.\n"
        assert err == (note if counted else "")

    def test_each_percentile_is_a_figure_of_its_own(self):
        at = timezone.now() - HOUR
        Task.objects.bulk_record(
            {
                "action": "deploy",
                "status": "completed",
                "created_at": at,
                "started_at": at + timedelta(seconds=1000 + seconds),
                "finished_at": at + timedelta(seconds=1000 + 3 * seconds),
            }
            for seconds in range(1, 101)
        )
        [shown] = lines_of("audit_stats")
        assert shown["ran_s"] == {"p50": 100, "p90": 180, "p99": 198, "longest": 200}
        assert shown["waited_s"] == {"p50": 1050, "p90": 1090, "p99": 1099, "longest": 1100}

    def test_figures(self, some):
        [shown] = lines_of("audit_stats")
        assert shown["filter"] == {"since": ["1d"]}
        assert shown["complete"] is True
        assert shown["tasks"] == 16
        assert shown["statuses"] == dict.fromkeys(Status.values, 0) | {
            "completed": 10,
            "failed": 4,
            "rejected": 1,
            "pending": 1,
        }
        assert shown["failure_rate"] == pytest.approx(4 / 14)
        assert shown["ran_s"] == {"p50": 3, "p90": 3, "p99": 3, "longest": 3}
        assert shown["paused_s"] == dict.fromkeys(("p50", "p90", "p99", "longest"))
        assert shown["waited_s"]["p50"] == 2
        assert [(each["action"], each["tasks"]) for each in shown["actions"]] == [("deploy", 10), ("backup", 6)]
        assert [each["failure_rate"] for each in shown["actions"]] == [0, 1]
        assert [(each["service"], each["tasks"]) for each in shown["services"]] == [("dns", 10), ("mail", 9)]
        # A rejection is not an error, whatever its outcome calls itself.
        assert shown["error_types"] == [{"error_type": "Boom", "tasks": 4}]

    def test_a_service_named_twice_by_raw_sql_counts_once(self):
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO audit_task (id, action, services_touched) VALUES (%s, 'x', '{a,a}')", [uuid7()])
        [shown] = lines_of("audit_stats")
        assert [(each["service"], each["tasks"]) for each in shown["services"]] == [("a", 1)]

    def test_the_page(self, some):
        out, _ = run("audit_stats")
        assert out.startswith("16 tasks\nFilter: since:1d\nCreated ")
        assert "Failure rate 28.6%" in out
        for row in (
            "completed     10  62.5%",
            "backup      6       4        100.0%",
            "Boom            4",
            "waited  ",
            "ran  ",
            "paused  ",
        ):
            assert row in out
        assert "old" not in out

    def test_filters_and_top(self, some):
        [shown] = lines_of("audit_stats", "--since", "all", "--top", "1")
        assert shown["tasks"] == 17
        assert [each["action"] for each in shown["actions"]] == ["deploy"]
        [shown] = lines_of("audit_stats", "--service", "mail", "--status", "failed")
        # Among tasks that were chosen for having failed a rate says nothing.
        assert (shown["tasks"], shown["failure_rate"]) == (4, None)

    @pytest.mark.parametrize(
        ("argv", "rate"),
        [
            (("--status", "failed"), None),
            (("--status", "completed"), None),
            (("--status", "failed", "--status", "pending"), None),
            (("--failure", "application"), None),
            (("--error-type", "Boom"), None),
            (("--search", "outcome.error_type:Boom"), None),
            (("--status", "finished"), 4 / 14),
            (("--service", "mail"), 4 / 9),
        ],
    )
    def test_a_filter_that_chooses_by_end_has_no_failure_rate_and_says_so(self, some, argv, rate):
        out, err = run("audit_stats", "--since", "1d", *argv)
        [shown] = lines_of("audit_stats", "--since", "1d", *argv)
        rates = {shown["failure_rate"], *(each["failure_rate"] for each in shown["actions"] + shown["services"])}
        if rate is None:
            assert rates == {None}
            assert err == "No failure rates: the filter chooses tasks by how they ended.\n"
            assert "Failure rate " not in out.split("Status")[0]
            assert "100.0%" not in out.split("Action")[1]
        else:
            assert shown["failure_rate"] == pytest.approx(rate)
            assert err == ""

    def test_by_actor(self):
        for actor, status, count in (("alice", "completed", 3), ("bob", "failed", 2), ("", "completed", 1)):
            for _ in range(count):
                record(HOUR, requested_by=actor, actor="orch-1", status=status, outcome={"error_type": "Boom"})
        [shown] = lines_of("audit_stats", "--by", "actor")
        assert [(each["actor"], each["tasks"]) for each in shown["actors"]] == [("alice", 3), ("bob", 2), ("orch-1", 1)]
        assert "actions" not in shown
        out, _ = run("audit_stats", "--by", "actor", "--by", "action")
        assert out.index("Actor") < out.index("alice") < out.index("Action") < out.index("deploy")

    def test_by_hour_in_the_zone_that_is_shown(self, settings):
        settings.TIME_ZONE = "Asia/Kolkata"  # its hours begin at half past
        noon = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
        for minutes in (-1, 0, 59, 60, 60):
            record(timezone.now() - noon - minutes * MINUTE)
        [shown] = lines_of("audit_stats", "--by", "hour", "--since", "all")
        assert [(each["hour"], each["tasks"]) for each in shown["hours"]] == [
            ("2026-03-01T05:30:00Z", 1), ("2026-03-01T06:30:00Z", 2), ("2026-03-01T07:30:00Z", 2),
        ]  # fmt: skip
        out = run("audit_stats", "--by", "hour", "--since", "all")[0].split("Hour (IST)")[1]
        assert out.index("2026-03-01 11:00") < out.index("2026-03-01 12:00") < out.index("2026-03-01 13:00")
        # The newest, if not all; the busiest first, where that is asked.
        [shown] = lines_of("audit_stats", "--by", "hour", "--since", "all", "--top", "2")
        assert [each["hour"][11:16] for each in shown["hours"]] == ["06:30", "07:30"]
        [shown] = lines_of("audit_stats", "--by", "hour", "--since", "all", "--order", "tasks")
        assert [each["hour"][11:16] for each in shown["hours"]] == ["06:30", "07:30", "05:30"]

    @pytest.mark.parametrize(
        ("order", "names"),
        [
            ("tasks", ["much", "slow", "bad"]),
            ("failed", ["much", "bad", "slow"]),
            ("failure-rate", ["bad", "much", "slow"]),
            ("ran", ["slow", "bad", "much"]),
            ("longest", ["much", "slow", "bad"]),
        ],
    )
    def test_the_order_is_what_was_asked_for(self, order, names):
        def some(action, failed, *seconds):
            for number, each in enumerate(seconds):
                at = timezone.now() - HOUR
                end = at + timedelta(seconds=each)
                status = "failed" if number < failed else "completed"
                record(HOUR, action=action, status=status, started_at=at, finished_at=end, executing_ms=each * 1000)

        some("much", 2, 1, 1, 1, 1, 90)
        some("slow", 0, 50, 50, 60)
        some("bad", 1, 20, 20)
        [shown] = lines_of("audit_stats", "--order", order)
        assert [each["action"] for each in shown["actions"]] == names
        [shown] = lines_of("audit_stats", "--order", order, "--top", "1")
        assert [each["action"] for each in shown["actions"]] == names[:1]

    def test_a_bound_is_said(self, some):
        out, _ = run("audit_stats", "--limit", "5")
        assert out.startswith("5 tasks (the newest; --limit looks at more)")
        [shown] = lines_of("audit_stats", "--limit", "5")
        assert (shown["tasks"], shown["complete"]) == (5, False)
        assert sum(shown["statuses"].values()) == sum(each["tasks"] for each in shown["actions"]) == 5

    def test_a_bound_that_all_fit_into_is_none(self, some):
        out, _ = run("audit_stats", "--limit", "16")
        assert out.startswith("16 tasks\n")
        [shown] = lines_of("audit_stats", "--limit", "16")
        assert (shown["tasks"], shown["complete"]) == (16, True)
        assert lines_of("audit_stats", "--limit", "15")[0]["complete"] is False

    def test_nothing(self):
        out = run("audit_stats")[0]
        assert out == "0 tasks\nFilter: since:1d\n\nQueue now: nothing waits\n"
        [shown] = lines_of("audit_stats")
        assert (shown["tasks"], shown["failure_rate"], shown["ran_s"]["p50"]) == (0, None, None)

    def test_the_queue_is_described_by_what_matters(self):
        now = timezone.now()
        calm = QueueHealth(
            at=now,
            oldest_due=None,
            oldest_approved=None,
            expired=0,
            stuck=0,
            oldest_expired=None,
            dead_tuples=FEW_DEAD,
            live_tuples=0,
            oldest_snapshot=now - LONG_SNAPSHOT,
        )
        assert _queue_line(calm) == "Queue now: nothing waits"
        bad = replace(calm, expired=2, stuck=1, dead_tuples=FEW_DEAD + 1, oldest_snapshot=now - 2 * LONG_SNAPSHOT)
        assert _queue_line(bad).replace("\N{NO-BREAK SPACE}", " ") == (
            "Queue now: a transaction is open 20 m 00 s, 2 leases expired (1 long ago), "
            "50 001 dead rows beside 0 live ones"
        )
        assert "dead" not in _queue_line(replace(bad, live_tuples=FEW_DEAD + 1))

    @pytest.mark.parametrize("command", ["audit_stats", "audit_list"])
    def test_a_range_that_holds_nothing_is_explained(self, command):
        for start, end in (("2026-11-24", "2026-11-24"), ("2026-11-24", "2026-11-23"), ("1h", "2h")):
            assert "The range of time is empty" in run(command, "--since", start, "--until", end)[1]
        for start, end in (("2026-11-24", "2026-11-25"), ("2h", "1h"), ("2026-11-24", "1h")):
            assert "range" not in run(command, "--since", start, "--until", end)[1]
        assert "range" in run(command, "--finished-since", "1d", "--finished-until", "1d")[1]

    def test_nothing_ran(self):
        Task.objects.request("x", actor="a")
        assert "Failure rate" not in run("audit_stats")[0].split("Status")[0]
        assert statistics(Task.objects.none()).total.tasks == 0

    def test_one_statement_that_reads_the_table_once(self, some, django_assert_num_queries):
        with django_assert_num_queries(2) as captured:  # the other is the health of the queue
            run("audit_stats")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("EXPLAIN " + captured[0]["sql"])
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert plan.count("on audit_task ") == 1
        assert "Index Cond: (created_at >= " in plan

    def test_hostile_text(self):
        record(HOUR, action=HOSTILE, services=[HOSTILE], status="failed", outcome={"error_type": HOSTILE})
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


def test_times_are_of_the_current_zone():
    at = datetime(2020, 7, 1, 22, 30, tzinfo=UTC)
    record(timedelta(0), id=uuid7(at), created_at=at, started_at=at, finished_at=at)
    with timezone.override("Europe/Berlin"):
        out, _ = run("audit_list")
    assert "2020-07-02 00:30:00" in out


@pytest.mark.django_db
def test_an_actor_that_nobody_is_called_is_answered_with_close_names() -> None:
    arn = "arn:aws:sts::1:assumed-role/deployers/bert-jan"
    Task.objects.request("deploy", actor=arn)
    for form in ((), ("--format", "json")):
        out, err = run("audit_list", "--actor", "bert-jan", *form)
        assert out == ("[]\n" if form else "")
        assert f"No task names the actor 'bert-jan'. Close names: {arn}. A part of a name: --actor '*bert-jan*'" in err
    [found] = lines_of("audit_list", "--actor", "*bert-jan*")
    assert found["requested_by"] == arn
    # Who is there has other tasks, and needs no other name.
    assert run("audit_list", "--actor", arn, "--status", "failed") == ("", "No tasks match.\n")
    assert "Close" not in run("audit_list", "--actor", "zzzzz")[1]
    assert "Close" not in run("audit_list", "--actor", "*zzz*")[1]
    with pytest.raises(CommandError, match="at least 3 letters or digits"):
        run("audit_list", "--actor", "*b*")
