"""One filter for URLs, search text, commands and Python: reading, writing, applying."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.db import connection
from django.http import QueryDict
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from audit.exceptions import InvalidFilter
from audit.ids import uuid7
from audit.models import Task
from audit.reading.filters import DEFAULT_WINDOW, TaskFilter, actors, add_arguments, parse_when, span_text
from audit.reading.filters.actors import close_to, matching
from audit.reading.filters.lookup import NotFound, find_entry, find_task
from audit.status import FINISHED, LIVE, Status
from audit.values.failures import failure_class
from tests.support.factories import requested

# Everything a label may hold: no NUL, no surrogates, not only spaces. Awkward characters come up often.
LABELS = st.text(
    st.one_of(st.sampled_from("\"\\ :\n\tab0…'=&+%"), st.characters(codec="utf-8", exclude_characters="\0")),
    min_size=1,
    max_size=12,
).filter(str.strip)
MOMENTS = st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)).map(  # noqa: DTZ001 - made aware below
    lambda moment: moment.replace(tzinfo=UTC)
)
SPANS = st.integers(1, 36525 * 86400).map(lambda seconds: timedelta(seconds=seconds))
WHENS = st.one_of(st.none(), MOMENTS, SPANS)
PATHS = st.from_regex(
    r"\A(outcome|plan|resources_used|estimated_resources|origin)(\.[A-Za-z0-9_-]{1,6}){1,3}\Z"
).filter(lambda path: path != "outcome.error_type")


def some(strategy, most=3):
    return st.lists(strategy, max_size=most).map(tuple)


WORDS = st.one_of(
    LABELS.filter(lambda text: any(each.isalnum() for each in text)),
    st.sampled_from(["status:failed", "0190abcd", "since:", '"x', "a:b"]),
)


@st.composite
def filters(draw):
    since, all_time = draw(WHENS), draw(st.booleans())
    return TaskFilter(
        statuses=draw(some(st.sampled_from(Status.values))),
        services=draw(some(LABELS)),
        any_services=draw(some(LABELS)),
        actions=draw(some(LABELS)),
        actors=draw(some(LABELS)),
        since=None if all_time else since,
        all_time=all_time,
        until=draw(WHENS),
        finished_since=draw(WHENS),
        finished_until=draw(WHENS),
        correlation_ids=draw(some(LABELS)),
        ids=draw(some(st.from_regex(r"\A[0-9a-f]{1,32}\Z"))),
        parents=draw(some(st.uuids())),
        error_types=draw(some(LABELS)),
        documents=draw(some(st.tuples(PATHS, LABELS))),
        words=draw(some(WORDS)),
    )


class TestRoundTrip:
    @given(filters())
    @example(TaskFilter(words=("0190abcd", "service:", 'say "x"', "a\\", "é\n")))
    def test_text(self, wanted):
        assert TaskFilter.from_text(wanted.to_text()) == wanted

    @given(filters())
    def test_url(self, wanted):
        url = urlencode(wanted.to_query(), doseq=True)
        assert TaskFilter.from_query(QueryDict(url)) == wanted

    @given(filters())
    def test_leaving_out_each_condition_leaves_the_others(self, wanted):
        pairs = list(wanted.pairs())
        for each in pairs:
            assert list(wanted.without(*each).pairs()) == [pair for pair in pairs if pair != each]
        assert wanted.without("status", "nothing of the sort") == wanted

    @given(filters())
    def test_truth_is_whether_anything_is_asked(self, wanted):
        assert bool(wanted) == (wanted != TaskFilter())

    @given(st.text(max_size=60))
    @example("status: service:")
    @example('a:"')
    def test_any_text_is_read_or_refused_and_a_page_never_breaks(self, text):
        problems = []
        wanted = TaskFilter.from_text(text, problems)
        assert TaskFilter.from_text(wanted.to_text()) == wanted
        if problems:
            with pytest.raises(InvalidFilter):
                TaskFilter.from_text(text)
        else:
            assert TaskFilter.from_text(text) == wanted

    @given(SPANS)
    def test_spans(self, span):
        assert parse_when("since", span_text(span)) == span


class TestReading:
    def test_everything_at_once(self):
        text = (
            'service:billing service:dns status:failed actor:orch-1 action:"roll out" outcome.error_type:TimeoutError '
            "0190abcd since:7d any-service:kuma outcome.exit_code:1 some words"
        )
        assert TaskFilter.from_text(text) == TaskFilter(
            services=("billing", "dns"),
            any_services=("kuma",),
            statuses=("failed",),
            actors=("orch-1",),
            actions=("roll out",),
            error_types=("TimeoutError",),
            ids=("0190abcd",),
            since=timedelta(days=7),
            documents=(("outcome.exit_code", "1"),),
            words=("some", "words"),
        )

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('"0190abcd"', ("0190abcd",)),
            ('"status:failed"', ("status:failed",)),
            ("arn:aws:iam::1:user/x", ("arn:aws:iam::1:user/x",)),
            ("https://example.org/x?y=z", ("https://example.org/x?y=z",)),
            ("localhost:8080", ("localhost:8080",)),
            ("app.py:12", ("app.py:12",)),
            ('"reason:resource"', ("reason:resource",)),
            (r"C:\temp", (r"C:\temp",)),
            ("6f1f2e60-4a3b-4c7e-9d3c-0123456789ab", ("6f1f2e60-4a3b-4c7e-9d3c-0123456789ab",)),
            ("0f1f2e60-4a3b-4c7e-9d3c-0123456789ab", ("0f1f2e60-4a3b-4c7e-9d3c-0123456789ab",)),
            ("0190ab", ("0190ab",)),
            ('5" disk', ('5"', "disk")),
            (r'"a \"b\" \\ c"', (r'a "b" \ c',)),
            ("deadbeef", ("deadbeef",)),
        ],
    )
    def test_words_that_look_like_something_else(self, text, words):
        assert TaskFilter.from_text(text) == TaskFilter(words=words)

    @pytest.mark.parametrize(
        ("text", "digits"),
        [
            ("0190ABCD", "0190abcd"),
            ("0190abcd-12", "0190abcd12"),
            ("0190abcd-1234-7abc-8def-0123456789ab", "0190abcd12347abc8def0123456789ab"),
            ("id:7", "7"),
        ],
    )
    def test_ids(self, text, digits):
        assert TaskFilter.from_text(text) == TaskFilter(ids=(digits,))

    def test_groups_of_statuses(self):
        assert TaskFilter.from_text("status:live").statuses == LIVE
        assert TaskFilter.from_text("status:FINISHED").statuses == FINISHED

    @pytest.mark.parametrize(
        ("text", "field", "says"),
        [
            ("status:fail", "status", "did you mean failed? There are pending, approved"),
            ("since:soon", "since", "24h"),
            ("since:0d", "since", "more than none"),
            ("until:99999w", "until", "100 years"),
            ("until:9999999999w", "until", "100 years"),
            ("since:9999-12-31T23:00:00-10:00", "since", "must be between"),
            ("since:99999999d", "since", "100 years"),
            ("id:xyz", "id", "hexadecimal"),
            ("parent:0190", "parent", "UUID"),
            ("service:", "search", "right after the colon"),
            ("any-service:", "search", "right after the colon"),
            ("stauts:failed", "search", "has the unknown condition `stauts`. Did you mean `status:failed`?"),
            ("reason:resource", "search", "the unknown condition `reason`. Did you mean `failure:resource`?"),
            ("Reason:TimeoutError", "search", "Did you mean `error_type:TimeoutError`?"),
            ("cause:application", "search", "Did you mean `failure:application`?"),
            ("zork:resource", "search", "Did you mean `failure:resource`?"),
            ("zork:live", "search", "Did you mean `status:live`?"),
            ('user:"bert jan"', "search", 'Did you mean `actor:"bert jan"`?'),
            ("outcom.exit_code:1", "search", "Did you mean `outcome.exit_code:1`?"),
            ("nginx:latest", "search", "the unknown condition `nginx`. There are status, service"),
            ('service:"x', "search", "never closed"),
            ('"x y', "search", "never closed"),
            ("since:1d since:2d", "since", "twice"),
            ("since:1d since:all", "since", "twice"),
            ("since:all since:1d", "since", "twice"),
            ("actor:\0", "actor", "NUL"),
            ("\0", "search", "NUL"),
            ("100 %", "search", "no letter or digit"),
            ("actor:\ud800", "actor", "surrogate"),
            ('action:" "', "action", "empty"),
            (f"action:{'x' * 101}", "action", "at most 100"),
            *(
                (f"{name}:{'x' * (longest + 1)}", name, f"at most {longest}")
                for name, longest in (("service", 200), ("any_service", 200), ("actor", 500), ("correlation_id", 500))
            ),
            (f"error_type:{'x' * 1001}", "error_type", "at most 1000"),
            (" ".join(f"service:{number}" for number in range(101)), "services", "at most 100"),
        ],
    )
    def test_what_means_nothing_is_named_with_the_way_out(self, text, field, says):
        with pytest.raises(InvalidFilter, match=re.escape(says)) as caught:
            TaskFilter.from_text(text)
        assert caught.value.field == field
        assert str(caught.value.value) in text or text in str(caught.value.value)
        problems = []
        TaskFilter.from_text(text, problems)
        assert [str(each) for each in problems] == [str(caught.value)]

    def test_one_bad_value_does_not_spoil_the_others(self):
        problems = []
        data = QueryDict("status=failed&status=oops&service=dns&since=never&page=3&q=words+id:zz&outcome.a%20b=1")
        assert TaskFilter.from_query(data, problems) == TaskFilter(
            statuses=("failed",), services=("dns",), words=("words",)
        )
        assert [problem.field for problem in problems] == ["id", "status", "since", "path"]

    def test_what_was_typed_wins_over_what_was_in_the_url(self):
        problems = []
        assert TaskFilter.from_query(QueryDict("since=1d&q=since:7d"), problems).since == timedelta(days=7)
        assert len(problems) == 1

    def test_a_mapping_of_strings_will_do(self):
        assert TaskFilter.from_query({"status": "failed", "service": ["a", "b"]}) == TaskFilter(
            statuses=("failed",), services=("a", "b")
        )

    @pytest.mark.parametrize(
        "given",
        [
            {"statuses": ("nope",)},
            {"services": "billing"},
            {"since": timedelta(0)},
            {"since": timedelta(microseconds=5)},
            {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - naive on purpose
            {"since": 5},
            {"since": timedelta(days=1), "all_time": True},
            {"documents": (("password", "x"),)},
            {"documents": (("outcome", "x"),)},
            {"words": ("",)},
            {"ids": ("-",)},
            {"services": tuple(map(str, range(101)))},
        ],
    )
    def test_python_is_checked_too(self, given):
        with pytest.raises(InvalidFilter):
            TaskFilter(**given)

    def test_python_may_give_uuids_and_repetitions(self):
        key = uuid7()
        wanted = TaskFilter(ids=(key, key), parents=(str(key),), statuses=(Status.FAILED,))
        assert (wanted.ids, wanted.parents, wanted.statuses) == ((key.hex,), (key,), ("failed",))


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-11-24", datetime(2026, 11, 23, 23, tzinfo=UTC)),
            ("2026-11-24T05:48", datetime(2026, 11, 24, 4, 48, tzinfo=UTC)),
            ("2026-11-24 05:48:03.5", datetime(2026, 11, 24, 4, 48, 3, 500000, tzinfo=UTC)),
            ("2026-11-24T05:48:03Z", datetime(2026, 11, 24, 5, 48, 3, tzinfo=UTC)),
            ("2026-11-24T05:48:03+02:00", datetime(2026, 11, 24, 3, 48, 3, tzinfo=UTC)),
            ("2026-11-24T05:48:03 02:00", datetime(2026, 11, 24, 3, 48, 3, tzinfo=UTC)),
            ("15m", timedelta(minutes=15)),
            ("24H", timedelta(days=1)),
            ("2w", timedelta(days=14)),
            (" 90s ", timedelta(seconds=90)),
        ],
    )
    def test_forms(self, text, expected):
        with timezone.override("Europe/Berlin"):
            assert parse_when("since", text) == expected

    @pytest.mark.parametrize(
        "text", ["", "7", "7y", "-7d", "1.5h", "yesterday", "2026-13-01", "infinity", "1e9d", "²d"]
    )
    def test_what_is_no_time(self, text):
        with pytest.raises(InvalidFilter, match="is not a time"):
            parse_when("since", text)

    def test_a_span_stays_a_span_in_a_bookmark(self):
        assert TaskFilter.from_text("since:24h").to_query() == {"since": ["1d"]}

    def test_window(self):
        day = timedelta(days=1)
        moment = datetime(2026, 1, 10, tzinfo=UTC)
        assert TaskFilter().within().since == DEFAULT_WINDOW
        assert TaskFilter(until=day).within(day).since == 2 * day
        assert TaskFilter(until=moment).within(day).since == datetime(2026, 1, 9, tzinfo=UTC)
        for bounded in (TaskFilter(since=day), TaskFilter(all_time=True), TaskFilter(finished_since=day)):
            assert bounded.within() is bounded
        few = (
            TaskFilter(ids=("0190abcd",)),
            TaskFilter(correlation_ids=("c",)),
            TaskFilter(parents=(uuid7(),)),
            TaskFilter(seals=("failed",)),
        )
        for narrow in few:
            assert narrow.within() is narrow

    @given(WHENS.filter(bool), SPANS)
    @example(timedelta(days=36525), timedelta(seconds=1))
    @example(datetime(1, 1, 2, tzinfo=UTC), timedelta(days=1))
    @example(datetime(1, 1, 3, tzinfo=UTC), timedelta(days=1))
    @example(datetime(1, 1, 2, 5, 42, tzinfo=ZoneInfo("Asia/Kathmandu")), timedelta(days=30))
    def test_a_window_begins_where_anything_can_be_stored(self, until, span):
        wanted = TaskFilter(until=until).within(span)
        begins, ends = wanted.since, wanted.until
        if isinstance(until, timedelta):
            assert begins == min(until + span, timedelta(days=36525)) >= ends
        else:
            assert datetime(1, 1, 2, tzinfo=UTC) <= begins <= ends
            assert ends - begins <= span

    @pytest.mark.parametrize(
        ("text", "needs"),
        [
            ("", False),
            ("word", False),
            ("outcome.error_type:X", False),
            ("plan.a:1", True),
            ("plan.a:1 word", True),
            ("service:x status:failed", False),
            ("plan.a:1 0190abcd", False),
            ("plan.a:1 correlation_id:c", False),
            ("plan.a:1 parent:0190abcd-1234-7abc-8def-0123456789ab", False),
        ],
    )
    def test_what_no_index_finds_needs_a_window(self, text, needs):
        assert TaskFilter.from_text(text).needs_window is needs


NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def record(days_ago, **given):
    at = NOW - timedelta(days=days_ago)
    columns = {"id": uuid7(at), "action": "deploy", "status": "completed", "created_at": at, "finished_at": at} | given
    [key] = Task.objects.bulk_record([columns])
    return key


@pytest.fixture
def tasks(db):
    a = record(1, services=["dns", "kuma"], requested_by="alice", summary="Deploy 100% of it")
    return {
        "a": a,
        "b": record(
            2,
            services=["dns"],
            status="failed",
            decided_by="alice",
            outcome={
                "error_type": "Boom",
                "exit": {"code": 1},
                "flags": [True],
                "output_summary": "<b>/etc/nginx.conf</b>: refused by peer_1",
            },
            parent=a,
        ),
        "c": record(
            3,
            action="backup",
            actor="alice",
            correlation_id="Req-7",
            status="rejected",
            finished_at=NOW,
            plan={"0": "zero", "it's": {'"': 1}},
        ),
        "d": record(4, action="restart", summary="again", services=["mail"], actor="bob"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "abcd"),
        ("status:completed", "ad"),
        ("status:failed status:rejected", "bc"),
        ("status:live", ""),
        ("service:dns", "ab"),
        ("service:dns service:kuma", "a"),
        ("any-service:kuma any-service:mail", "ad"),
        ("service:dns any-service:kuma any-service:mail", "a"),
        ("action:deploy", "ab"),
        ("action:backup action:restart", "cd"),
        ("actor:alice", "abc"),
        ("actor:alice actor:bob", "abcd"),
        ("since:2026-05-30T12:00:00Z", "ab"),
        ("until:2026-05-30T12:00:00Z", "cd"),
        ("since:all", "abcd"),
        ("finished-since:2026-06-01T00:00:00Z", "c"),
        ("finished-until:2026-06-01T00:00:00Z", "abd"),
        ("correlation_id:Req-7", "c"),
        ("correlation_id:req-7", ""),
        ("error_type:Boom", "b"),
        ("error_type:Boom error_type:Bang", "b"),
        ("outcome.error_type:Boom", "b"),
        ("outcome.exit.code:1", "b"),
        ("outcome.exit.code:2", ""),
        ("outcome.flags.0:true", "b"),
        ("plan.0:zero", "c"),
        ("100%", "a"),
        ("DEPLOY", "ab"),
        ("deploy of", "a"),
        ("req-7", "c"),
        ('"it of"', ""),
        ("depl", "ab"),
        ("eploy", ""),
        ('"100% of"', "a"),
        ("100-of.it", "a"),
        ("100-of.i", ""),
        ("of 100%", "a"),
        ('"of 100%"', ""),
        ("7", "c"),
        ("peer", "b"),
        ("nginx.conf", "b"),
        ("refused", "b"),
        ("<b", "b"),
        ("ba", ""),
        ("bac", "c"),
        ("/etc/ngi", "b"),
        ("status:failed service:dns actor:alice error_type:Boom", "b"),
        ("status:completed error_type:Boom", ""),
    ],
)
def test_apply(tasks, text, expected):
    found = set(TaskFilter.from_text(text).apply(Task.objects.all()).values_list("id", flat=True))
    assert found == {tasks[name] for name in expected}


def test_apply_ids_and_parents(tasks):
    a, b = tasks["a"], tasks["b"]

    def found(**given):
        return set(TaskFilter(**given).apply(Task.objects.all()).values_list("id", flat=True))

    assert found(ids=(str(a),)) == {a}
    assert found(ids=(str(a)[:13], b.hex[:12])) == {a, b}
    assert found(ids=("0",)) == set(tasks.values())
    assert found(ids=("f",)) == set()
    assert found(parents=(a,)) == {b}


def test_values_longer_than_an_index_holds_are_stored_and_found(db):
    long = {name: record(1, outcome={"error_type": "é" * 500 + name}) for name in ("a", "b")}
    words = " ".join(f"w{number}" for number in range(300_000))
    huge = record(1, summary="y" * 16_384, correlation_id="c" * 500, outcome={"output_summary": words})
    record(1, summary="y" * 5000, action="a" * 100)

    def found(**given):
        return set(TaskFilter(**given).apply(Task.objects.all()).values_list("id", flat=True))

    assert found(error_types=("é" * 500 + "a",)) == {long["a"]}
    assert found(error_types=("é" * 500 + "a", "é" * 500 + "b")) == set(long.values())
    assert found(error_types=("é" * 200,)) == set()
    assert found(words=("w77",)) == {huge}
    assert found(words=("w299999",)) == set()


def test_a_filter_narrows_a_claim(db):
    for service in ("dns", "mail"):
        Task.objects.request("deploy", services=[service], actor="x").approve(actor="y")
    wanted = TaskFilter.from_text("service:mail deploy actor:y")
    [claimed] = wanted.apply(Task.objects.all()).claim(worker="w", limit=5)
    assert claimed.services_touched == ["mail"]


ACTORS = ("requested_by", "decided_by", "actor")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("service:dns service:kuma", "audit_task_services_gin"),
        ("any-service:dns any-service:kuma", "audit_task_services_gin"),
        ("action:deploy action:backup", "audit_task_action"),
        ("status:failed status:pending since:1d", "audit_task_status_created"),
        ("since:1d", "audit_task_created"),
        ("finished-since:1d", "audit_task_finished"),
        ("correlation_id:a correlation_id:b", "audit_task_correlation"),
        ("id:0190abcd id:0190abce", "audit_task_pkey"),
        ("parent:0190abcd-1234-7abc-8def-0123456789ab", "audit_task_parent"),
        ("actor:alice", "audit_task_decided_by"),
        ("actor:alice actor:bob", "audit_task_decided_by"),
        ("actor:alice actor:bob", "audit_task_requested_by"),
        ("actor:alice actor:bob", "audit_task_actor"),
        ("word", "audit_task_words"),
        ('"several words" deploy', "audit_task_words"),
        ("error_type:Boom error_type:Bang", "audit_task_error_type"),
        (f"error_type:{'x' * 300}", "audit_task_error_type"),
    ],
)
def test_an_index_can_serve_it(db, text, index):
    # On few rows the planner's choice is chance, so that it gets none: the others are gone until the rollback.
    kept = {"audit_task_pkey", index} | ({f"audit_task_{name}" for name in ACTORS} if "actor:" in text else set())
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'audit_task'")
        for (name,) in cursor.fetchall():
            if name not in kept:
                cursor.execute(f"DROP INDEX {name}")
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = TaskFilter.from_text(text).apply(Task.objects.all()).explain()
    assert "Seq Scan" not in plan
    assert re.search(rf"Index Scan (on|using) {index}\b.*\n\s*Index Cond: ", plan)


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


class TestLookup:
    def test_a_task_by_id_or_beginning(self, tasks):
        every = Task.objects.all()
        assert find_task(str(tasks["a"]), every).pk == tasks["a"]
        assert find_task(tasks["a"].hex[:12], every).pk == tasks["a"]

    def test_none_or_several(self, tasks):
        every = Task.objects.all()
        with pytest.raises(
            NotFound, match=r"^No task in database 'default' has an id that begins with ffff\. "
        ) as caught:
            find_task("ffff", every)
        assert (caught.value.value, caught.value.problem[:15]) == ("ffff", "begins no task ")
        whole = "01a2240f-1ece-7e61-a47e-bb6cec88e34a"
        with pytest.raises(NotFound, match=rf"^No task {whole} in database 'default'\.$"):
            find_task(whole.upper(), every)
        with pytest.raises(NotFound, match=r"^'zz' is not a task id: write a UUID or its first hexadecimal digits\.$"):
            find_task("zz", every)
        with pytest.raises(NotFound, match=r"^--before: 'zz' is not a task id: "):
            find_task("zz", every, "--before")
        with pytest.raises(
            NotFound, match=r"^Several tasks have an id that begins with 0\. Write more of it: "
        ) as caught:
            find_task("0", every)
        assert all(str(key) in str(caught.value) for key in tasks.values())
        for days in range(10, 20):
            record(days)
        with pytest.raises(InvalidFilter, match=", …"):
            find_task("0", every)

    def test_an_entry_by_number_or_task(self, db):
        task = Task.objects.request("deploy", actor="x")
        task.approve(actor="y")
        with pytest.raises(NotFound, match=rf"^Task {task.pk} is approved and not paused\.$"):
            find_entry(str(task.pk), "default")
        entry = task.pause(reason="manual_pause", actor="z")
        assert find_entry(str(entry.pk), "default") == entry
        assert find_entry(str(task.pk), "default") == entry
        assert find_entry(task.pk.hex[:20], "default").task == task
        with pytest.raises(NotFound, match=f"The pause queue of database 'default' has no entry {entry.pk + 1}."):
            find_entry(str(entry.pk + 1), "default")
        with pytest.raises(NotFound, match="is not a task id"):
            find_entry("9" * 33, "default")


@pytest.mark.django_db
class TestFailureClass:
    def _failed(self, **values):
        [key] = Task.objects.bulk_record([{"action": "work", "actor": "x", "status": "failed", **values}])
        return key

    def test_each_failed_task_is_in_exactly_one_class(self):
        lacking = self._failed(outcome={"error_type": "MemoryError"})
        broken = self._failed(outcome={"error_type": "ValueError"})
        silent, bare = self._failed(outcome={"success": False}), self._failed()
        self._failed(status="completed", outcome={"error_type": "MemoryError"})
        self._failed(status="rejected", outcome={"error_type": "MemoryError"})

        def found(text):
            return set(TaskFilter.from_text(text).apply(Task.objects.all()).values_list("id", flat=True))

        assert found("failure:resource") == {lacking}
        assert found("failure:Application") == {broken, silent, bare}
        assert found("failure:resource failure:application") == {lacking, broken, silent, bare}
        for key in (lacking, broken, silent, bare):
            task = Task.objects.get(pk=key)
            kind = failure_class(task.status, (task.outcome or {}).get("error_type"))
            assert key in found(f"failure:{kind}")

    def test_settings_add_error_types(self, settings):
        key = self._failed(outcome={"error_type": "NoSeatLeft"})
        wanted = TaskFilter(failures=("resource",))
        assert not wanted.apply(Task.objects.all())
        settings.AUDIT = {"RESOURCE_ERRORS": ["NoSeatLeft"]}
        assert wanted.apply(Task.objects.all()).get().pk == key

    def test_it_is_read_and_written_everywhere(self):
        wanted = TaskFilter(failures=("resource",))
        assert TaskFilter.from_text(wanted.to_text()) == wanted
        assert TaskFilter.from_query(wanted.to_query()) == wanted
        assert TaskFilter.from_options({"failure": ["resource"]}) == wanted
        with pytest.raises(InvalidFilter, match="is not a class of failures; use one of resource, application"):
            TaskFilter.from_text("failure:zork")


class TestPatternsOfActors:
    """`actor:*bert-jan*`: the names that it fits, in whatever column, found by the indexes of names."""

    ARN = "arn:aws:sts::1:assumed-role/deployers/bert-jan"

    def _three(self):
        requested(actor=self.ARN).approve(actor="Bert-Jan@example.org")
        task = requested(actor="alice")
        task.approve(actor="bert_jan")
        return {self.ARN, "Bert-Jan@example.org"}, task

    def test_a_pattern_finds_a_part_of_a_name_in_whatever_case(self, db):
        names, other = self._three()
        wanted = TaskFilter.from_text("actor:*BERT-jan*")
        assert set(matching("default", wanted.actors)) == names
        assert [each.pk for each in wanted.apply(Task.objects.all())] != [other.pk]
        assert wanted.apply(Task.objects.all()).count() == 1
        assert TaskFilter.from_text(wanted.to_text()) == wanted

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("*/bert-jan", {ARN}),
            ("arn:*bert*", {ARN}),
            ("bert-jan*", {"Bert-Jan@example.org"}),
            ("bert_jan*", {"bert_jan"}),  # no sign of SQL means anything
            ("ber%jan*", {"ber%jan*"}),
            ("*nobody*", {"*nobody*"}),
            ("alice", {"alice"}),
        ],
    )
    def test_what_fits(self, db, pattern, found):
        self._three()
        assert set(matching("default", (pattern,))) == found

    def test_a_name_without_a_pattern_asks_nothing(self, db, django_assert_num_queries):
        with django_assert_num_queries(0):
            assert matching("default", ("alice", "bert")) == ("alice", "bert")

    @pytest.mark.parametrize("pattern", ["*", "*ab*", "**-**"])
    def test_too_little_of_a_name_is_refused(self, db, pattern):
        with pytest.raises(InvalidFilter, match="at least 3 letters or digits"):
            matching("default", (pattern,))

    def test_too_many_names_are_refused_with_the_way_out(self, db, monkeypatch):
        for number in range(4):
            requested(actor=f"user-{number}")
        monkeypatch.setattr(actors, "MOST_VALUES", 4)
        assert len(matching("default", ("*user*",))) == 4
        monkeypatch.setattr(actors, "MOST_VALUES", 3)
        with pytest.raises(InvalidFilter, match="fits more than 3 actors; write more of the name"):
            matching("default", ("*user*",))
        monkeypatch.setattr(actors, "MOST_NAMES", 4)
        assert matching("default", ("*ser-2*",)) == ("user-2",)
        monkeypatch.setattr(actors, "MOST_NAMES", 3)
        with pytest.raises(InvalidFilter, match="more than 3 actors; write the whole name"):
            matching("default", ("*ser-2*",))

    def test_close_names(self, db):
        names, _task = self._three()
        assert close_to("default", "bert-jan") == sorted(names)
        assert close_to("default", "brt-jan") == [self.ARN, "bert_jan"]
        assert close_to("default", "zzzzzz") == []
        assert close_to("default", "alice") == []
