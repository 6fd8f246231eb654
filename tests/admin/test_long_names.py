"""Names that are too long for their place: those of one system begin alike, and what differs stays visible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.values.names import apart, cut
from tests.support.factories import requested
from tests.support.pages import LOG, TASKS, text_of

_STS = "arn:aws:sts::{}:assumed-role/{}/{}"
SESSIONS = [
    _STS.format("123456789012", "deploy-production-pipeline", name) for name in ("i-0a1b2c3d4e5f60718", "alice")
]
ROLES = [
    _STS.format("123456789012", role, "botocore-session-1764300000")
    for role in ("BackupOperators-eu", "AuditReaders-eu")
]
ACCOUNTS = [
    _STS.format(number, "AWSReservedSSO_Admin_0123456789abcdef", "bob@example.com")
    for number in (111122223333, 111122224444)
]
ALL = [*SESSIONS, *ROLES, *ACCOUNTS]


@given(st.text(), st.integers(1, 60))
def test_a_cut_name_keeps_its_beginning_and_its_end(name, limit) -> None:
    short = cut(name, limit)
    assert len(short) == min(len(name), limit)
    if short != name:
        head, _, tail = short.partition("…") if "…" not in name else (short[: (limit - 1) // 3], "", "")
        assert name.startswith(head)
        assert name.endswith(tail)
        assert "…" in short


@given(st.lists(st.text(max_size=90)), st.integers(12, 60))
def test_names_of_one_list_are_never_longer_than_their_place(names, limit) -> None:
    short = apart(names, limit)
    assert set(short) == set(names)
    assert all(len(each) <= limit for each in short.values())


@pytest.mark.parametrize("limit", [24, 40, 60])
def test_role_arns_stay_apart(limit) -> None:
    short = apart(ALL, limit)
    assert len(set(short.values())) == len(ALL)
    assert all("…" in short[name] for name in ALL if len(name) > limit)


def test_what_differs_is_what_is_shown() -> None:
    short = apart(ALL, 40)
    assert short[SESSIONS[0]].endswith("i-0a1b2c3d4e5f60718")
    assert short[SESSIONS[1]].endswith("/alice")
    assert "BackupOp" in short[ROLES[0]]
    assert "AuditRea" in short[ROLES[1]]
    assert "3333" in short[ACCOUNTS[0]]
    assert "4444" in short[ACCOUNTS[1]]


@pytest.mark.django_db
def test_a_name_that_may_be_cut_is_no_link(viewer) -> None:
    """The list reads 200 characters of a name, and a filter by a part of one finds nothing."""
    for length in (199, 200, 201):
        requested(actor="x" * length)
    rows = {len(row["actor_title"]): row["actor_url"] for row in viewer.get(TASKS).context_data["rows"]}
    assert {length: bool(url) for length, url in rows.items()} == {199: True, 200: False}


@pytest.mark.django_db
def test_the_list_and_the_choices_show_what_differs_and_the_whole_name_as_a_title(viewer) -> None:
    for name in ALL:
        requested(actor=name)
    response = viewer.get(TASKS)
    rows = {row["actor_title"]: row["actor"] for row in response.context_data["rows"]}
    assert set(rows) == set(ALL)
    assert len(set(rows.values())) == len(ALL)
    [facet] = [each for each in response.context_data["facets"] if each.key == "actor"]
    choices = {choice.value: str(choice.label) for choice in facet.choices}
    assert set(ALL) <= set(choices)
    assert len(set(choices.values())) == len(choices)
    html = response.content.decode()
    assert all(html.count(f'title="{name}"') == 2 for name in ALL)
    for row in response.context_data["rows"]:
        [found] = viewer.get(TASKS + row["actor_url"]).context_data["rows"]
        assert found["actor_title"] == row["actor_title"]


@pytest.mark.django_db
def test_the_log_and_the_page_of_a_task_keep_the_end_of_a_name(viewer) -> None:
    long = _STS.format("123456789012", "r" * 64, "carol.somebody@example.com")
    task = requested(actor=long)
    for url in (f"{LOG}?since=all", f"{TASKS}{task.pk}/change/"):
        text = text_of(viewer.get(url))
        assert "carol.somebody@example.com" in text
