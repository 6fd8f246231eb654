"""One filter for URLs, search text, commands and Python: reading and writing."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from django.http import QueryDict
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from audit.exceptions import InvalidFilter
from audit.ids import uuid7
from audit.reading.filters import DEFAULT_WINDOW, TaskFilter, parse_when, span_text
from audit.status import FINISHED, LIVE, Status

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
