"""UUIDv7 made here: ordered, repeatable with a key, and refusing what they cannot tell."""

import subprocess
import sys
import threading
import uuid
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import ids
from audit.exceptions import InvalidValue
from audit.ids import uuid7, uuid7_time

MOMENT = datetime(2024, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def test_ids_are_of_version_seven_and_tell_now():
    before = datetime.now(UTC)
    value = uuid7()
    after = datetime.now(UTC)
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert before - MILLISECOND <= uuid7_time(value) <= after + MILLISECOND


def test_the_ids_of_a_process_ascend_strictly():
    values = [uuid7() for _ in range(50_000)]
    assert values == sorted(set(values))


def test_the_ids_of_many_threads_ascend_strictly_in_each_and_never_meet():
    made = [[] for _ in range(8)]
    start = threading.Barrier(len(made))

    def make(mine):
        start.wait()
        mine.extend(uuid7() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) for mine in made)
    assert len({value for mine in made for value in mine}) == 40_000
    # Unique even in the part that counts, without the random bits.
    assert len({value.int >> 64 for mine in made for value in mine}) == 40_000


def test_ids_ascend_when_the_clock_goes_back(monkeypatch):
    first = uuid7()
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_000_000_000)
    second = uuid7()
    assert second > first
    assert uuid7_time(second) - uuid7_time(first) <= 2 * MILLISECOND


def test_forked_processes_make_other_ids():
    program = (
        "import os\n"
        "from audit.ids import uuid7\n"
        "uuid7()\n"
        "r, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.write(w, '\\n'.join(str(uuid7()) for _ in range(1000)).encode())\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "theirs = set(os.read(r, 10**6).decode().split())\n"
        "mine = {str(uuid7()) for _ in range(1000)}\n"
        "print(len(mine | theirs))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "2000"


def test_a_moment_given_is_reported_to_the_millisecond():
    assert uuid7_time(uuid7(MOMENT)) == MOMENT.replace(microsecond=123_000)
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=14)))
    assert uuid7_time(uuid7(elsewhere)) == MOMENT.replace(microsecond=123_000)
    assert uuid7(MOMENT) != uuid7(MOMENT)


def test_a_key_makes_the_id_repeatable():
    assert uuid7(MOMENT, "event-1") == uuid7(MOMENT, b"event-1") == uuid7(MOMENT, bytearray(b"event-1"))
    assert str(uuid7(MOMENT, "event-1")) == str(uuid.UUID(int=uuid7(MOMENT, "event-1").int))
    assert uuid7(MOMENT, "event-1") != uuid7(MOMENT, "event-2")
    assert uuid7(MOMENT, "event-1") != uuid7(MOMENT + MILLISECOND, "event-1")
    assert uuid7(MOMENT, "") == uuid7(MOMENT, b"")


def test_the_form_of_a_keyed_id_never_changes():
    """Imports that ran once must find their tasks again for ever."""
    assert str(uuid7(MOMENT, "event-1")) == "018f4cbb-3823-78da-863f-51b6baf9d163"


@given(
    at=st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds
    key=st.none() | st.binary(max_size=40) | st.text(st.characters(codec="utf-8"), max_size=40),
)
def test_every_moment_since_1970_goes_round(at, key):
    value = uuid7(at, key)
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert timedelta(0) <= at - uuid7_time(value) < MILLISECOND


@given(st.lists(st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)), min_size=2, max_size=9, unique=True))  # noqa: DTZ001 - bounds
def test_order_by_id_is_order_by_millisecond(moments):
    tick = [(at - datetime(1970, 1, 1, tzinfo=UTC)) // MILLISECOND for at in moments]
    order = [t for _, t in sorted((uuid7(at), t) for at, t in zip(moments, tick, strict=True))]
    assert order == sorted(tick)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((datetime(2024, 5, 6),), "at"),  # noqa: DTZ001 - naive on purpose
        ((datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),), "at"),
        ((datetime.min.replace(tzinfo=UTC),), "at"),
        (("2024-05-06",), "at"),
        ((date(2024, 5, 6),), "at"),
        ((1_700_000_000,), "at"),
        ((None, "key"), "key"),
        ((MOMENT, 5), "key"),
        ((MOMENT, "\ud800"), "key"),
        ((MOMENT, ["key"]), "key"),
    ],
)
def test_what_an_id_cannot_tell_is_refused(arguments, field):
    with pytest.raises(InvalidValue) as caught:
        uuid7(*arguments)
    assert caught.value.field == field


@pytest.mark.parametrize("value", [uuid.uuid4(), uuid.uuid1(), uuid.UUID(int=0)])
def test_only_version_seven_says_its_time(value):
    with pytest.raises(InvalidValue, match="UUIDv7"):
        uuid7_time(value)
