"""Lists beside their rows: where the newest task is when none is here, and words that read right both ways."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone, translation

from audit.admin.shared.wording import ago, size, span
from tests.support.factories import requested
from tests.support.pages import TASKS, asking, past, text_of

pytestmark = pytest.mark.django_db


def test_an_empty_list_says_where_its_newest_task_is_and_leads_there(viewer) -> None:
    imported = datetime(2021, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
    past(3, created_at=imported, every=timedelta(minutes=5))
    past(1, created_at=imported - timedelta(days=90), every=timedelta(0), action="older", status="failed")
    with asking() as asked:
        response = viewer.get(TASKS)
    assert len(asked.data) <= 5
    elsewhere = response.context_data["elsewhere"]
    newest = max(row["iso"] for row in viewer.get(TASKS + elsewhere.url).context_data["rows"])
    assert newest == viewer.get(f"{TASKS}?since=all").context_data["rows"][0]["iso"]
    assert f"requested on {elsewhere.label}, " in text_of(response)
    assert "2021" in elsewhere.label
    failed = viewer.get(f"{TASKS}?status=failed&since=7d")
    [row] = viewer.get(TASKS + failed.context_data["elsewhere"].url).context_data["rows"]
    assert row["action"] == "older"


def test_a_list_with_rows_or_nothing_anywhere_names_no_other_place(viewer) -> None:
    empty = viewer.get(TASKS)
    assert empty.context_data["elsewhere"] is None
    assert "No task has been recorded yet" in text_of(empty)
    requested()
    assert viewer.get(TASKS).context_data["elsewhere"] is None
    nowhere = viewer.get(f"{TASKS}?status=failed")
    assert nowhere.context_data["elsewhere"] is None
    assert "No tasks match" in text_of(nowhere)
    assert "newest task" not in text_of(nowhere)


@pytest.mark.parametrize(
    ("since", "words"), [("7d", "one bar per 3 h"), ("30d", "one bar per 12 h"), ("50d", "one bar per day")]
)
def test_the_width_of_bars_is_no_rate(viewer, since, words) -> None:
    past(2)
    text = text_of(viewer.get(f"{TASKS}?since={since}"))
    assert f"2 tasks, {words}" in text


def test_a_number_stays_with_its_unit_from_right_to_left(viewer, settings) -> None:
    values = [
        (span, timedelta(seconds=11.3), "11.3"),
        (span, timedelta(milliseconds=812), "812"),
        (span, timedelta(seconds=-11.3), "11.3"),
        (size, 13_000_000, "12.4"),
    ]
    for language, isolated in (("en", False), ("he", True), ("ar", True), ("de", False)):
        with translation.override(language):
            for write, value, number in values:
                text = write(value)
                assert number in text.replace(",", ".").replace("\u066b", ".")
                assert (text[0] == "\u2068" and text[-1] == "\u2069" and text.count("\u2068") == 1) == isolated
            assert ("\u2068" in ago(timezone.now() + timedelta(hours=3), timezone.now())) == isolated
    past(1)
    settings.LANGUAGE_CODE = "he"
    html = viewer.get(TASKS).content.decode()
    assert 'dir="rtl"' in html
    [row] = viewer.get(TASKS).context_data["rows"]
    assert row["took"] in html
    assert row["took"].startswith("\u2068")
