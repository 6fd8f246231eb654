"""What commands print: nothing a terminal would obey, lines that fit, JSON that says the same."""

import io
import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management.base import OutputWrapper
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from audit.management import output, progress, tables
from audit.management.output import age, duration, json_text, moment, safe
from audit.management.progress import Progress
from audit.management.tables import Column, shorten, shorten_name
from audit.process.streams import Notes

HOSTILE = {
    "\x1b[31mred": r"\x1b[31mred",
    "a\nb\r\tc": r"a\nb\r\tc",
    "\x9b2J": r"\x9b2J",
    "abc\u202egnp.exe": r"abc\u202egnp.exe",
    "\u2066x\u2069": r"\u2066x\u2069",
    "zero\u200bwidth\ufeff": r"zero\u200bwidth\ufeff",
    "line\u2028s": r"line\u2028s",
    "\U000e0041tag": r"\U000e0041tag",
    "lone \ud800": r"lone \ud800",
}


@pytest.mark.parametrize(("given_text", "shown"), HOSTILE.items())
def test_safe(given_text, shown):
    assert safe(given_text) == shown


@pytest.mark.parametrize("text", ["plain", "déjà vu", "日本語", "a\u00a0b", "🎉", "→ … █", ""])
def test_safe_leaves_text_alone(text):
    assert safe(text) == text


@given(st.text())
def test_nothing_printed_is_a_control(text):
    shown = safe(text) + json_text({"text": text})
    assert not [each for each in shown if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_json_says_the_same(value):
    assert json.loads(json_text({"value": value})) == {"value": value}


def test_json_of_what_json_has_no_form_for():
    values = {
        "at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        "day": datetime(2026, 1, 2, tzinfo=UTC).date(),
        "span": timedelta(minutes=1, milliseconds=500),
        "hash": memoryview(b"\x00\xff"),
        "path": complex(1, 2),
    }
    assert json.loads(json_text(values)) == {
        "at": "2026-01-02T03:04:05.000678Z",
        "day": "2026-01-02",
        "span": 60.5,
        "hash": "00ff",
        "path": "(1+2j)",
    }


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 m 00 s"),
        (3599.4, "59 m 59 s"),
        (3599.6, "1 h 00 m"),
        (86399, "23 h 59 m"),
        (86400, "1 d 0 h"),
        (timedelta(days=400, hours=3), "400 d 3 h"),
        (-90, "-1 m 30 s"),
    ],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


def test_moments_are_local():
    value = datetime(2026, 7, 1, 22, 30, 5, 999999, tzinfo=UTC)
    with timezone.override("Europe/Berlin"):
        assert moment(value) == "2026-07-02 00:30:05"
        assert moment(value, precise=True) == "2026-07-02 00:30:05.999 CEST"
    assert moment(None) == "-"


def test_ages():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert age(now - timedelta(hours=2), now) == "2 h 00 m"
    assert age(now + timedelta(minutes=5), now) == "in 5 m 00 s"
    assert age(None, now) == "-"


@given(st.text(), st.integers(0, 30))
def test_shortened_text_fits(text, width):
    short = shorten(text, width)
    assert cell_len(short) <= width or short == text
    assert text == short or text.startswith(short.removesuffix("…").rstrip())


def table(columns, rows, *, width=None):
    return (line.plain for line in tables.table(columns, rows, width=width))


COLUMNS = (
    Column(title="Id"),
    Column(title="Summary", least=8),
    Column(title="Services", least=6, rank=1),
    Column(title="N", right=True, rank=2),
)
ROWS = [("a1", "x" * 30, "kuma, dns, mail", 3), ("b22", "日本語", None, 1000)]


@given(st.text("a漢 \n\u0301", max_size=200), st.integers(16, 40))
def test_wrapped_text_fits_and_is_all_there(text, width):
    lines = tables.wrapped(text, width)
    assert all(0 < cell_len(line) <= width or line.strip("\u0301") == "" for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_table_without_a_width_is_not_padded_to_what_is_unusual():
    rows = [(number, "short") for number in range(9)] + [(9, "x" * 40)]
    columns = (Column(title="N"), Column(title="Reason"), Column(title="Task"))
    lines = list(table(columns, [(*row, "id") for row in rows]))
    assert lines[2] == f"0  {'short':32}  id"
    assert lines[-1] == f"9  {'x' * 40}  id"
    alike = list(table(columns, [(number, "y" * 30, "id") for number in range(3)]))
    assert alike[2] == f"0  {'y' * 30}  id"


def test_a_table_without_a_width_cuts_nothing():
    assert list(table(COLUMNS, ROWS)) == [
        "Id   Summary                         Services            N",
        "───  ──────────────────────────────  ───────────────  ────",
        "a1   xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx  kuma, dns, mail     3",
        "b22  日本語                          -                1000",
    ]


def test_a_table_shrinks_then_leaves_columns_out():
    assert list(table(COLUMNS, ROWS, width=34)) == [
        "Id   Summary      Services       N",
        "───  ───────────  ──────────  ────",
        "a1   xxxxxxxxxx…  kuma, dns…     3",
        "b22  日本語       -           1000",
    ]
    for width in range(20, 90):
        lines = list(table(COLUMNS, ROWS, width=width))
        assert max(map(cell_len, lines)) <= width
        assert lines[0].split()[:2] == ["Id", "Summary"]
    assert next(table(COLUMNS, ROWS, width=16)).split() == ["Id", "Summary"]


def test_a_table_of_nothing_has_no_head():
    assert list(table(COLUMNS, [])) == []


def test_a_long_table_streams(monkeypatch):
    monkeypatch.setattr(tables, "_MEASURED_ROWS", 2)
    taken = []

    def rows():
        for number in range(10):
            taken.append(number)
            yield (f"a{number}", "x" * (number + 5), "", 0)

    lines = table(COLUMNS, rows(), width=80)
    next(lines)
    assert taken == [0, 1]
    assert len(list(lines)) == 11


def test_hostile_cells_stay_in_their_line():
    for text in HOSTILE:
        lines = list(table((Column(title="What"), Column(title="Then")), [(text, "ok")]))
        assert lines[2] == f"{safe(text)}  ok"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _last_line(out):
    """What stands in the last line that was drawn, without the bar."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue().split("\r")[-1]).split("━")[0].strip()


class TestProgress:
    @pytest.fixture
    def clock(self, monkeypatch):
        now = [100.0]
        monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
        return now

    def test_on_a_terminal_one_line_is_rewritten_and_removed(self, clock, monkeypatch):
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv("TERM", "xterm")
        out = Terminal()
        stream = Notes(out)
        with Progress(stream, "Imported", total=2000) as progress:
            progress.advance(10)
            assert out.getvalue() == ""
            clock[0] += 1
            progress.advance(990, note="a\x1b file")
            assert _last_line(out) == "Imported 1\u00a0000 of 2\u00a0000 tasks (50%), 1\u00a0000 a second  a\\x1b file"
            stream.write("refused: [bold]x :smile: 100 %", lambda text: f"<red>{text}")
            clock[0] += 1
            progress.advance(10)
            assert "\x1b[2Krefused: [bold]x :smile: 100 %\n" in out.getvalue()
            assert _last_line(out).startswith("Imported 1\u00a0010 of")
        assert out.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
        stream.write("after")
        assert out.getvalue().endswith("after\n")

    def test_elsewhere_a_line_every_ten_seconds(self, clock):
        out = io.StringIO()
        with Progress(OutputWrapper(out), "Read", unit="file") as progress:
            for _ in range(25):
                clock[0] += 1
                progress.advance()
        assert out.getvalue() == "Read 10 files, 1 a second\nRead 20 files, 1 a second\n"

    def test_a_terminal_that_cannot_rewrite_a_line_gets_lines(self, clock, monkeypatch):
        monkeypatch.setenv("TERM", "dumb")
        out = Terminal()
        with Progress(Notes(out), "Read", unit="file") as progress:
            clock[0] += 10
            progress.advance(5)
        assert out.getvalue() == "Read 5 files, 0 a second\n"

    def test_it_is_no_error_and_not_in_the_colour_of_one(self, clock, monkeypatch):
        monkeypatch.setenv("TERM", "xterm")
        out = Terminal()
        stream = OutputWrapper(out)
        stream.style_func = lambda text: f"<red>{text}</red>"
        with Progress(stream, "Read") as progress:
            clock[0] += 1
            progress.advance()
            assert _last_line(out).startswith("Read 1 ")
        assert "red>" not in out.getvalue()


@pytest.mark.parametrize(
    ("number", "what", "shown"),
    [(0, "task", "0 tasks"), (1, "task", "1 task"), (20_000, "task", "20\u00a0000 tasks"), (12_345, "", "12\u00a0345")],
)
def test_counts(number, what, shown):
    assert output.count(number, what) == shown


ARNS = [
    f"arn:aws:sts::123456789012:assumed-role/deploy-production-pipeline/{each}"
    for each in ("alice", "bob", "i-0123456")
]


@pytest.mark.parametrize("width", [40, 60, 90])
def test_names_in_a_narrow_column_stay_apart(width):
    columns = (Column(title="Id"), Column(title="By", name=True, least=6))
    lines = list(table(columns, [(number, name) for number, name in enumerate(ARNS)], width=width))[2:]
    assert all(cell_len(line) <= width for line in lines)
    assert [line[-4:] for line in lines] == ["lice", "/bob", "3456"]


@given(st.text(), st.integers(0, 40))
def test_a_shortened_name_fits(text, width):
    assert cell_len(shorten_name(safe(text), width)) <= width
    if cell_len(text) <= width and len(text) <= width:
        assert shorten_name(text, width) == text


def test_one_long_cell_into_a_pipe_leaves_the_other_rows_as_they_are():
    columns = (Column(title="A"), Column(title="B"), Column(title="C", right=True))
    long = "n" * 600
    lines = list(table(columns, [("x", "short", 1), ("y", long, 22), ("z", "also", 3)]))
    assert max(len(line) for line in lines if long not in line) < 100
    assert [line.split() for line in lines[2:]] == [["x", "short", "1"], ["y", long, "22"], ["z", "also", "3"]]
    assert len(lines[2]) == len(lines[4])
    # Up to there columns stay even.
    lines = list(table(columns, [("x", "m" * 60, 1), ("y", "short", 22)]))
    assert len({len(line) for line in lines}) == 1
