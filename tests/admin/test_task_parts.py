"""What the page of a task is drawn with: spans, moments, sizes and trees."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from audit.admin.shared.jsontree import LIMIT, tree
from audit.admin.shared.wording import ago, moment, shown, size, span
from audit.admin.task.timeline import segments, spent


def test_time_in_status_is_divided_as_the_log_says_it() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def row(minutes, to):
        return {"at": start + timedelta(minutes=minutes), "to_status": to, "kind": "transition"}

    log = [row(0, "pending"), row(10, "approved"), row(20, "executing"), row(50, "completed")]
    task = {
        "created_at": start,
        "started_at": row(20, "")["at"],
        "finished_at": row(50, "")["at"],
        "status": "completed",
    }
    stretches = [(part.status, part.start, part.width, part.span) for part in segments(log, task, start)]
    assert stretches == [
        ("pending", "0.00", "200.00", "10m 00s"),
        ("approved", "200.00", "200.00", "10m 00s"),
        ("executing", "400.00", "600.00", "30m 00s"),
    ]
    again = [*log[:3], row(25, "paused"), row(35, "approved"), row(36, "executing"), row(50, "completed")]
    assert [(part.status, part.span) for part in spent(segments(again, task, start))] == [
        ("pending", "10m 00s"),
        ("approved", "11m 00s"),
        ("executing", "19m 00s"),
        ("paused", "10m 00s"),
    ]
    # Recorded afterwards: one transition, and the task's own stamps.
    for decided, expected in (
        (None, [("pending", "400.00"), ("executing", "600.00")]),
        (5, [("pending", "100.00"), ("approved", "300.00"), ("executing", "600.00")]),
        (30, [("pending", "400.00"), ("executing", "600.00")]),  # reviewed while it ran
    ):
        stamped = {**task, "decided_at": None if decided is None else start + timedelta(minutes=decided)}
        stretches = [(part.status, part.width) for part in segments([row(90, "completed")], stamped, start)]
        assert stretches == expected
    bare = {**task, "decided_at": None, "started_at": None, "finished_at": start}
    assert segments([], bare, start) == []


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0 ms"),
        (0.8123, "812 ms"),
        (0.9996, "1.0 s"),
        (49.23, "49.2 s"),
        (59.97, "1m 00s"),
        (437, "7m 17s"),
        (3599.7, "1h 00m"),
        (7260, "2h 01m"),
        (86400 * 3 + 4 * 3600, "3d 04h"),
        (-5, "\u22125.0 s"),
    ],
)
def test_spans(value, written) -> None:
    assert span(timedelta(seconds=value)) == written
    assert span(None) == "—"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "just now"),
        (9, "just now"),
        (42, "42s ago"),
        (125, "2m ago"),
        (7300, "2h ago"),
        (200_000, "2d ago"),
        (-1, "just now"),
        (-8, "in 8s"),
        (-125, "in 2m"),
        (-7300, "in 2h 01m"),
        (-10_720, "in 2h 58m"),
        (-200_000, "in 2d 07h"),
    ],
)
def test_distances_from_now(seconds, written) -> None:
    now = timezone.now()
    assert ago(now - timedelta(seconds=seconds), now) == written


def test_moments_carry_the_year_when_it_is_another() -> None:
    now = datetime(2026, 11, 24, 5, tzinfo=UTC)
    assert moment(datetime(2026, 11, 23, 5, 12, 42, tzinfo=UTC), now) == "23 Nov 05:12:42"
    assert moment(datetime(2025, 11, 23, 5, 12, 42, tzinfo=UTC), now) == "23 Nov 2025 05:12:42"
    for edge in (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)):
        assert moment(edge, now)


def test_sizes() -> None:
    assert [size(count) for count in (0, 1023, 1024, 12_900_000)] == ["0 B", "1023 B", "1.0 KB", "12.3 MB"]


def test_foreign_text_is_cut_and_its_invisible_characters_are_named() -> None:
    assert shown("abc", 2) == "ab…"
    assert shown(None) == ""
    assert shown("a\u202eb\x00c\x1b") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+001B⟩"
    assert shown("naïve 漢字 👩\u200d💻 line\nnext\tone") == "naïve 漢字 👩\u200d💻 line\nnext\tone"


def test_a_tree_keeps_the_digits_of_numbers_and_escapes_everything() -> None:
    text = (
        '{"<b>": [12.50, 1e400, 123456789012345678901234567890, true, null, "\\u003cscript\\u003e&"], "e": {}, "l": []}'
    )
    html = str(tree(text, len(text)).html)
    for kept in (
        "12.50",
        "1e400",
        "123456789012345678901234567890",
        ">true<",
        ">null<",
        "&lt;script&gt;&amp;",
        "&lt;b&gt;",
    ):
        assert kept in html
    assert "<b>" not in html
    assert html.count("<details") == html.count("</details>") == 2
    assert html.count("<ul>") == html.count("</ul>")


@pytest.mark.parametrize(
    "text", ["[" * 50 + "]" * 50, json.dumps(list(range(5000))), '{"a": tru', "[" * 3000 + "]" * 3000]
)
def test_what_cannot_be_folded_is_text_with_a_note(text) -> None:
    drawn = tree(text, len(text))
    assert drawn.html is None
    assert drawn.text == text
    assert drawn.note


def test_long_texts_fold_and_tell_their_length() -> None:
    text = json.dumps({"log": "line one\n" + "x" * 500, "short": "y" * 200})
    html = str(tree(text, len(text)).html)
    assert "509 characters" in html
    assert "200 characters" not in html
    cut = tree(("[" + "1," * LIMIT)[:LIMIT], LIMIT * 2 + 1)
    assert cut.html is None
    assert "raw JSON has all of it" in cut.note
