"""Pages when reading is slow or fails: the list or what to do is always shown, and never a 500 without a reason."""

import contextlib
import pkgutil
import re

import pytest
from django.db import DatabaseError, connection

from audit.admin.shared import panels
from tests.support.factories import requested, task_in
from tests.support.pages import LOG, QUEUE, TASKS, text_of

pytestmark = pytest.mark.django_db


def _buttons(response) -> dict[str, str]:
    found = re.findall(r'audit-button" href="([^"]*)">([^<]*)<', response.content.decode())
    return {words: url.replace("&amp;", "&") for url, words in found}


def _slow(monkeypatch, part: str, statement: str = "SELECT pg_sleep(5)") -> None:
    """Make the function that is named run a statement of its own first."""
    original = pkgutil.resolve_name(part)

    def slow(*args, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute(statement)
        return original(*args, **kwargs)

    monkeypatch.setattr(part, slow)


def test_a_slow_list_is_a_503_that_says_what_to_narrow(viewer, monkeypatch) -> None:
    monkeypatch.setattr("audit.admin.shared.read_only_admin.reading", lambda using: panels.reading(using, 50))
    _slow(monkeypatch, "audit.admin.tasks.page.read_page")
    response = viewer.get(f"{TASKS}?status=failed&since=all&until=1d&q=needle&after=zork")
    assert response.status_code == 503
    assert "choose a shorter range of time" in text_of(response)
    assert _buttons(response) == {
        "Last hour": "?status=failed&since=1h&q=needle",
        "Last 24 hours": "?status=failed&since=1d&q=needle",
    }
    _slow(monkeypatch, "audit.admin.log.page.read_page")
    response = viewer.get(f"{LOG}?kind=step&since=30d&status=failed")
    assert response.status_code == 503
    assert "an action or an actor" not in text_of(response)
    assert _buttons(response) == {"Last hour": "?since=1h&kind=step", "Last 24 hours": "?since=1d&kind=step"}


_REPLAYED = "DO $$ BEGIN RAISE 'conflict with recovery' USING ERRCODE = '{}'; END $$"


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_standby_that_would_not_wait_is_slow_and_no_failure(viewer, monkeypatch, caplog, state) -> None:
    task_in("paused")
    with monkeypatch.context() as patched:
        _slow(patched, "audit.admin.tasks.page.read_page", _REPLAYED.format(state))
        assert viewer.get(TASKS).status_code == 503
    _slow(monkeypatch, "audit.admin.queue.page.read_page", _REPLAYED.format(state))
    response = viewer.get(QUEUE)
    assert "This part took too long" in text_of(response)
    assert caplog.text.count("A panel of the audit browser failed") == 0


def test_a_slow_page_without_a_range_leads_to_its_list(viewer, monkeypatch) -> None:
    task = requested()
    monkeypatch.setattr("audit.admin.shared.read_only_admin.reading", lambda using: panels.reading(using, 50))
    _slow(monkeypatch, "audit.admin.queue.page.read_page")
    _slow(monkeypatch, "audit.admin.task.page.read_task")
    _slow(monkeypatch, "audit.admin.tasks.page.range_name")
    for url, home in (
        (f"{QUEUE}?state=held", QUEUE),
        (f"{TASKS}{task.pk}/change/", TASKS),
        (f"{TASKS}export/?format=csv&since=all", TASKS),
    ):
        response = viewer.get(url)
        assert response.status_code == 503
        assert _buttons(response) == {"To the list": home}
        assert "range of time" not in text_of(response)


@pytest.mark.parametrize("statement", ["SELECT pg_sleep(5)", "SELECT 1/0"])
def test_a_panel_that_fails_or_is_slow_says_so_and_the_page_stays(viewer, monkeypatch, caplog, statement) -> None:
    task_in("paused")
    monkeypatch.setattr("audit.admin.queue.page.panel", lambda using, work: panels.panel(using, work, 50))
    _slow(monkeypatch, "audit.admin.queue.page.read_page", statement)
    response = viewer.get(QUEUE)
    assert response.status_code == 200
    assert text_of(response).count("took too long and was left out") == 4
    assert ("failed" in caplog.text) == ("1/0" in statement)


def _limits() -> tuple[str, ...]:
    names = ("statement_timeout", "transaction_read_only", "enable_seqscan")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s), current_setting(%s), current_setting(%s)", names)
        return cursor.fetchone()


@pytest.mark.parametrize("ended", ["well", "badly", "by an error"])
def test_no_limit_outlives_what_it_was_for(ended) -> None:
    """A caller's own transaction goes on around the page (`ATOMIC_REQUESTS`)."""
    seen = []

    def work() -> None:
        seen.append(_limits())
        if ended == "badly":
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1/0")
        elif ended == "by an error":
            raise KeyError

    before = _limits()
    with contextlib.suppress(KeyError), panels.reading("default", 7000):
        page = _limits()
        with contextlib.suppress(KeyError):
            assert panels.panel("default", work, 5000).degraded == (ended == "badly")
        assert _limits() == page
        if ended == "by an error":
            raise KeyError
    assert _limits() == before
    assert (page, seen) == (("7s", "on", "off"), [("5s", "on", "off")])
    assert before not in (page, *seen)


@pytest.mark.parametrize("url", [TASKS, LOG, QUEUE])
def test_tables_that_are_missing_make_a_page_that_says_what_to_run(viewer, url) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE audit_task RENAME TO gone; ALTER TABLE audit_pause_queue RENAME TO gone2;"
            "ALTER TABLE audit_executionlog RENAME TO gone3"
        )
    response = viewer.get(url)
    assert response.status_code == 503
    assert "python manage.py migrate audit" in text_of(response)


def test_other_errors_of_the_database_are_not_hidden(viewer, monkeypatch) -> None:
    _slow(monkeypatch, "audit.admin.tasks.page.read_page", "SELECT 1/0")
    with pytest.raises(DatabaseError):
        viewer.get(TASKS)
