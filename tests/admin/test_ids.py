"""Ids that somebody sent are read in one place, and nothing but an id is taken for one."""

from uuid import UUID

import pytest

from audit.admin.shared.ids import BadId, read_id
from tests.support.factories import requested
from tests.support.pages import LOG, QUEUE, TASKS, text_of

_TASK = UUID("019c2f3a-1b2c-7d4e-8a5b-0123456789ab")


@pytest.mark.parametrize("text", [str(_TASK), _TASK.hex, _TASK.hex.upper(), f"{{{_TASK}}}", f"urn:uuid:{_TASK}"])
def test_a_task_is_found_by_every_spelling_of_its_id(text) -> None:
    assert read_id(text, UUID) == _TASK


@pytest.mark.parametrize("text", ["", "7", "019c2f3a-1b2c-7d4e", _TASK.hex + "0", "g" * 32])
def test_what_is_no_uuid_is_no_id_of_a_task(text) -> None:
    with pytest.raises(BadId):
        read_id(text, UUID)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0042", 42), ("9" * 18, 10**18 - 1)])
def test_a_row_is_found_by_its_number(text, number) -> None:
    assert read_id(text, int) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_0", " 1", "1\n", "1.0", "\u00b2", "\u0663", "9" * 19, _TASK.hex])
def test_what_is_no_short_run_of_digits_is_no_number_of_a_row(text) -> None:
    with pytest.raises(BadId):
        read_id(text, int)


@pytest.mark.django_db
@pytest.mark.parametrize("place", [f"1_{'9' * 32}", f"1_{'9' * 19}"])
@pytest.mark.parametrize("url", [LOG, f"{QUEUE}?state=held"])
def test_a_place_whose_number_no_row_can_have_is_the_first_page(viewer, url, place) -> None:
    response = viewer.get(f"{url}{'&' if '?' in url else '?'}after={place}")
    assert "means nothing; this is the first page" in text_of(response)


@pytest.mark.django_db
def test_every_page_of_one_task_takes_every_spelling(viewer) -> None:
    key = requested().pk
    for page in ("change", "raw"):
        assert viewer.get(f"{TASKS}{key.hex.upper()}/{page}/").status_code == 200
        assert viewer.get(f"{TASKS}{key.hex[:-1]}/{page}/").status_code == 404
