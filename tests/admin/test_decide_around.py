"""What is around a decision: the way back, a replica to read from, and tables that cannot be read."""

import re
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext, override_script_prefix

from audit.models import PauseQueueEntry, Task
from audit.reading.filters.values import short_id
from tests.support.deciding import QUEUE, TASKS, URL, form_of, messages_of, sent, token
from tests.support.factories import claimed, requested, task_in
from tests.support.pages import inline_code, text_of

pytestmark = pytest.mark.django_db


# The way back


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (f"{TASKS}?status=pending&since=7d", True),
        (QUEUE, True),
        (f"{QUEUE}?state=held", True),
        ("/admin/audit/executionlog/", True),
        (f"{TASKS}0199c0de-0000-7000-8000-000000000000/change/#pause", True),
        ("", False),
        ("https://evil.example/admin/audit/task/", False),
        ("//evil.example/admin/audit/task/", False),
        ("///evil.example", False),
        ("/\\evil.example", False),
        ("\\\\evil.example", False),
        ("http:/admin/audit/task/", False),
        ("javascript:alert(1)", False),
        ("/admin/", False),
        ("/admin/logout/", False),
        ("/admin/auth/user/", False),
        ("/admin/audit/task/decide/", False),
        ("/admin/audit/task/../../auth/user/", False),
        ("/admin/audit/task/zork/raw/", False),
        ("/static/audit/admin.js", False),
        ("/nowhere/", False),
        ("/admin/audit/task/\r\nSet-Cookie: x=1", False),
        ("/admin/audit/task/?" + "x" * 5000, False),
        ("/admin/audit/task/?[", True),
        ("/[", False),
    ],
)
def test_the_way_back_leads_to_a_page_of_this_browser_and_nowhere_else(
    decider: Client, wanted: str, taken: bool
) -> None:
    expected = wanted if taken else TASKS
    task = requested()
    asked = decider.post(URL, {"decision": "approve", "item": token(task), "next": wanted})
    assert form_of(asked, "audit-reason")["next"] == [expected]
    assert decider.post(URL, sent("approve", task, next=wanted)).url == expected
    assert decider.post(URL, sent("approve", next=wanted)).url == expected


@override_script_prefix("/tools/")
def test_the_way_back_below_a_prefix(decider: Client) -> None:
    task = requested()
    form = form_of(decider.get(TASKS, {"status": "pending"}, SCRIPT_NAME="/tools"), "audit-decide")
    assert form["next"] == ["/tools/admin/audit/task/?status=pending"]
    response = decider.post(URL, sent("approve", task, next=form["next"]), SCRIPT_NAME="/tools")
    assert response.url == "/tools/admin/audit/task/?status=pending"


# Another database for reading


class _Replica:
    """Pages read `other` and decisions are written to `default`."""

    def db_for_read(self, model: type, **hints: Any) -> str:
        return "other" if model._meta.app_label == "audit" else "default"

    def db_for_write(self, model: type, **hints: Any) -> str:
        return "default"

    def allow_relation(self, *args: Any, **hints: Any) -> bool:
        return True


WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|FOR (NO KEY )?UPDATE|FOR (KEY )?SHARE|LOCK|nextval)\b")


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("how", ["setting", "router"])
def test_pages_send_no_write_and_no_lock_to_a_replica_and_decisions_go_to_the_primary(
    decider: Client, how: str
) -> None:
    key = requested(summary="Deploy Uptime Kuma").pk
    paused = task_in("paused")
    # The replica, which lags behind for ever.
    copy = Task.objects.using("other").request("deploy", id=key, summary="older words", actor="alice")
    lagging = Task.objects.using("other").request("deploy", actor="alice")
    lagging.approve(actor="x")
    lagging.pause(actor="x")
    statements: list[str] = []

    def only_reads(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        assert not WRITES.search(sql), sql
        return execute(sql, params, many, context)

    given = {"AUDIT": {"BROWSER_USING": "other"}} if how == "setting" else {"DATABASE_ROUTERS": [_Replica()]}
    with override_settings(**given), connections["other"].execute_wrapper(only_reads):
        for url in (TASKS, QUEUE, "/admin/audit/executionlog/", f"{TASKS}{key}/change/", f"{TASKS}{key}/raw/"):
            assert decider.get(url).status_code == 200, url
        assert any("set_config" in sql for sql in statements)
        listed = len(statements)
        with CaptureQueriesContext(connections["default"]) as primary:
            asked = decider.post(URL, {"decision": "approve", "item": f"{key.hex}.1", "next": TASKS})
        assert "Approve this task?" in text_of(asked)
        assert [each for each in primary.captured_queries if 'FROM "audit_task"' in each["sql"]]
        assert len(statements) == listed
        [message] = messages_of(decider, decider.post(URL, sent("approve", f"{key.hex}.1")))
        assert message == (
            "success: “Deploy Uptime Kuma”: approved. Pages read from “other”, which may show it a little later."
        )
        # The replica still shows it pending; whoever decides again is told the truth.
        [message] = messages_of(decider, decider.post(URL, sent("reject", f"{key.hex}.1")))
        assert "now approved, by you" in message
        entry = PauseQueueEntry.objects.using("default").get(task=paused.pk)
        revision = Task.objects.using("default").get(pk=paused.pk).revision
        item = f"{paused.pk.hex}.{revision}.{entry.pk}.{entry.revision}"
        assert "Resume this task?" in text_of(decider.post(URL, {"decision": "resume", "item": item}))
        assert "resumed" in messages_of(decider, decider.post(URL, sent("resume", item)))[0]
    assert Task.objects.using("default").get(pk=key).status == "approved"
    assert Task.objects.using("default").get(pk=paused.pk).status == "approved"
    copy.refresh_from_db()
    assert copy.status == "pending"


# When it cannot be read


def test_tables_that_are_missing_make_a_page_that_says_what_to_run(decider: Client) -> None:
    item = token(requested())
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_task RENAME TO gone")
    response = decider.post(URL, {"decision": "approve", "item": item})
    assert response.status_code == 503
    assert "python manage.py migrate audit" in text_of(response)


def test_tables_that_go_missing_before_it_is_confirmed_make_such_a_page_too(decider: Client) -> None:
    item = token(requested())
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_task RENAME TO gone")
    response = decider.post(URL, sent("approve", item))
    assert response.status_code == 503
    assert "python manage.py migrate audit" in text_of(response)


def test_what_is_slow_to_name_is_decided_all_the_same(decider: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_args: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)")

    monkeypatch.setattr("audit.admin.decide.view.task_titles", slow)
    task = requested(summary="nameless")
    response = decider.post(URL, sent("approve", token(task)), follow=True)
    task.refresh_from_db()
    assert task.status == "approved"
    assert f"“{short_id(task.pk)}”: approved." in text_of(response)


def test_an_address_for_decisions_that_is_looked_at_says_so(decider: Client) -> None:
    response = decider.get(URL)
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert "Decisions are sent to this address" in text_of(response)


def test_every_page_of_a_decision_fits_a_strict_content_security_policy(decider: Client) -> None:
    task, late = requested(), requested()
    items = [token(task), token(late)]
    late.approve(actor="bob")
    pages = [
        decider.get(TASKS),
        decider.get(QUEUE),
        decider.get(f"{TASKS}{task.pk}/change/"),
        decider.get(URL),
        decider.post(URL, {"decision": "approve", "item": items}),
        decider.post(URL, sent("approve", *items, reason="")),
        decider.post(URL, sent("approve", *items)),
    ]
    for page in pages:
        assert inline_code(page) == []
        assert "audit/decide.css" in page.content.decode()
    assert "1 done, 1 not" in text_of(pages[-1])
    assert claimed(task).status == "executing"
