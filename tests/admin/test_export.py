"""Files of a list: what they hold, that they stream, and that an incomplete one does not look complete."""

import asyncio
import csv
import io
import json
import re
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from django.test import AsyncClient, override_settings

from audit.admin.shared.export import INCOMPLETE
from audit.interchange.exporting import _as_text
from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support.factories import claimed, requested, task_in
from tests.support.pages import HOSTILE, LOG, QUEUE, TASKS, asking, client_of, past, text_of

pytestmark = pytest.mark.django_db

LISTS = (TASKS, LOG, QUEUE)


def _body(response) -> str:
    return b"".join(response.streaming_content).decode()


def _command(*argv) -> str:
    out = StringIO()
    call_command("audit_export", *argv, stdout=out)
    return out.getvalue()


@contextmanager
def _fetches(monkeypatch):
    """Note how many rows each fetch from a cursor of the server brought."""
    brought = []
    original = connection.chunked_cursor

    def chunked_cursor():
        cursor = original()
        fetch = cursor.fetchmany

        def fetchmany(*args):
            rows = fetch(*args)
            brought.append(len(rows))
            return rows

        monkeypatch.setattr(cursor, "fetchmany", fetchmany, raising=False)
        return cursor

    monkeypatch.setattr(connections["default"], "chunked_cursor", chunked_cursor)
    yield brought


# What they hold


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_is_byte_for_byte_what_the_command_writes_with_the_same_filter(viewer, form) -> None:
    past(30, status="failed", services=["db", "=cmd"], outcome={"ratio": 12.50, "error_type": "E"})
    past(30, services=["db"])
    past(3, status="failed", services=["db"], every=timedelta(days=20))
    task_in("paused", services=["db"])
    for asked, argv in (
        ({"since": "all"}, ()),
        ({"status": "failed", "service": "db", "since": "all"}, ("--status", "failed", "--service", "db")),
        ({"q": "task status:failed", "since": "30d"}, ("--search", "task status:failed", "--since", "30d")),
        ({}, ("--since", "24h")),
    ):
        response = viewer.get(f"{TASKS}export/?{urlencode({**asked, 'format': form})}")
        printed = _command("--format", form, *(["--bom"] if form == "csv" else []), *argv)
        assert _body(response) == printed
        assert printed.count("\n") > 20
    assert Task.objects.filter(status="failed").count() == 33


def test_a_file_holds_all_pages_of_the_list_that_links_to_it(viewer) -> None:
    past(120, status="failed")
    past(7)
    page = viewer.get(f"{TASKS}?status=failed&since=7d").content.decode()
    links = re.findall(r'class="audit-tool" href="([^"]*/export/[^"]*)"', page)
    assert len(links) == 2
    for link in links:
        response = viewer.get(link.replace("&amp;", "&"))
        assert _body(response).count("\n") == 120 + ("format=csv" in link)
        form = "csv" if "format=csv" in link else "jsonl"
        assert re.fullmatch(
            rf'attachment; filename="audit-tasks_7d_\d{{8}}T\d{{6}}Z\.{form}"', response["Content-Disposition"]
        )
        assert response["Content-Type"].startswith("text/csv" if form == "csv" else "application/x-ndjson")
        assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("", "24h"),
        ("since=all", "all"),
        ("since=2026-01-02T03:04Z&until=2026-01-05", "20260102T030400Z-20260105T000000Z"),
        ("since=all&until=2026-01-05", "start-20260105T000000Z"),
    ],
)
def test_a_file_is_named_after_its_range(viewer, asked, named) -> None:
    response = viewer.get(f"{TASKS}export/?{asked}&format=csv")
    assert f"audit-tasks_{named}_" in response["Content-Disposition"]


@pytest.mark.parametrize(("state", "named"), [("", "all"), ("held", "held"), ("due", "due")])
def test_the_file_of_the_queue_is_named_by_its_state_and_has_no_other_rows(viewer, state, named) -> None:
    held, due = (
        claimed(task_in("approved")).pause(reason="insufficient_capacity", held=is_held) for is_held in (True, False)
    )
    response = viewer.get(f"{QUEUE}export/", {"format": "jsonl", **({"state": state} if state else {})})
    assert f'filename="audit-queue_{named}_' in response["Content-Disposition"]
    rows = [json.loads(line)["id"] for line in _body(response).splitlines()]
    expected = {"": [held.pk, due.pk], "held": [held.pk], "due": [due.pk]}[state]
    assert [int(row) for row in rows] == expected


def test_the_log_and_the_queue_are_had_as_files_too(viewer) -> None:
    task = claimed(task_in("approved"))
    task.log("run", duration_ms=812, detail={"ratio": 12.5})
    task.pause(note="=ask Maria")
    other = requested()
    lines = _body(viewer.get(f"{LOG}export/?task={task.pk}&format=jsonl")).splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(
        ExecutionLog.objects.of(task).values_list("id", flat=True)
    )
    assert {json.loads(line)["task_id"] for line in lines} == {str(task.pk)}
    assert '"detail":{"ratio": 12.5}' in "".join(lines)
    assert str(other.pk) not in "".join(lines)
    head, row = _body(viewer.get(f"{LOG}export/?kind=step&format=csv")).splitlines()
    assert head.startswith("\ufeffid,task_id,at,kind,")
    assert ",step," in row
    [entry] = _body(viewer.get(f"{QUEUE}export/?state=held&format=jsonl")).splitlines()
    assert json.loads(entry)["note"] == "=ask Maria"
    assert json.loads(entry)["id"] == PauseQueueEntry.objects.get().pk
    assert "'=ask Maria" in _body(viewer.get(f"{QUEUE}export/?format=csv"))
    assert _body(viewer.get(f"{QUEUE}export/?state=due&format=jsonl")) == ""


def test_every_column_of_the_log_and_the_queue_is_in_their_files() -> None:
    from audit.interchange import lines

    for model in (ExecutionLog, PauseQueueEntry):
        assert {*lines.columns(model.objects.all())} == {each.column for each in model._meta.concrete_fields}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_values_stay_inside_their_line(viewer, value) -> None:
    requested(summary=f"{value}\n=1+1", actor=value)
    assert json.loads(_body(viewer.get(f"{TASKS}export/?format=jsonl")))["summary"] == f"{value}\n=1+1"


# How they are read


@pytest.mark.parametrize(("url", "pooled"), [(TASKS, False), (TASKS, True), (LOG, False)])
def test_rows_are_fetched_as_they_are_sent_and_never_all_at_once(viewer, monkeypatch, url, pooled) -> None:
    monkeypatch.setattr("audit.admin.shared.export._PIECE", 1)
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", pooled)
    past(1200)
    with _fetches(monkeypatch) as brought:
        response = viewer.get(f"{url}export/?since=all&format=jsonl")
        assert brought == []
        sent = iter(response.streaming_content)
        next(sent)
        assert brought == [10]
        assert sum(1 for _ in sent) == 1200 - 1 + 1  # the last piece is empty
        assert max(brought) <= 1000
        assert sum(brought) == 1200


def test_large_rows_are_fetched_few_at_a_time(viewer, monkeypatch) -> None:
    for _ in range(30):
        requested(plan={"x": "y" * 1_000_000})
    with _fetches(monkeypatch) as brought:
        sent = _body(viewer.get(f"{TASKS}export/?since=all&format=jsonl"))
    assert len(sent) > 30_000_000
    assert brought == [10, *[3] * 6, 2, 0]


@pytest.mark.parametrize("url", LISTS)
def test_one_statement_reads_them_in_a_read_only_transaction_that_ends(viewer, url) -> None:
    task_in("paused")
    with asking() as asked:
        response = viewer.get(f"{url}export/?format=csv{'' if url == QUEUE else '&since=all'}")
        assert len(asked.data) == 1
        assert "LIMIT 1" in asked.data[0]
        assert _body(response).count("\n") > 1
    assert len(asked.data) == 2 if url != TASKS else len(asked.data) >= 2
    said = asked.statements
    last = max(at for at, sql in enumerate(said) if sql in asked.data)
    assert [sql for sql in said[:last] if "transaction_read_only" in sql][-1].count("60000") == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout'), current_setting('transaction_read_only')")
        assert cursor.fetchone() == ("0", "off")


def test_a_reader_that_leaves_ends_the_transaction(viewer, monkeypatch) -> None:
    monkeypatch.setattr("audit.admin.shared.export._PIECE", 1)
    past(100)
    response = viewer.get(f"{TASKS}export/?format=csv")
    sent = iter(response.streaming_content)
    next(sent)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_read_only')")
        assert cursor.fetchone() == ("on",)
        for close in list(response._resource_closers):  # as a server does; close() would end the test's connection too
            close()
        cursor.execute("SELECT current_setting('transaction_read_only')")
        assert cursor.fetchone() == ("off",)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_that_fails_on_the_way_says_so_in_its_last_line_and_breaks(viewer, monkeypatch, form) -> None:
    past(40)
    from audit.admin.shared import export

    label, kind, lines, head = export._FORMATS[form]

    def failing(rows):
        for number, line in enumerate(lines(rows)):
            if number == 25:
                raise OperationalError("the server closed the connection")
            yield line

    monkeypatch.setitem(export._FORMATS, form, (label, kind, failing, head))
    sent = []
    response = viewer.get(f"{TASKS}export/?format={form}")
    with pytest.raises(OperationalError):
        sent.extend(piece.decode() for piece in response.streaming_content)
    lines = "".join(sent).splitlines()
    assert lines[-1] + "\n" == INCOMPLETE.format(rows=24 if form == "csv" else 25)
    assert len(lines) == 26
    assert ("id," in lines[0]) == (form == "csv")
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(lines[-1])


@pytest.mark.django_db(transaction=True)
def test_an_asynchronous_server_streams_too(monkeypatch) -> None:
    monkeypatch.setattr("audit.admin.shared.export._PIECE", 1)
    past(300)
    expected = _command("--since", "all")
    cookies = client_of("viewer").cookies

    async def ask() -> str:
        client = AsyncClient()
        client.cookies = cookies
        response = await client.get(f"{TASKS}export/?since=all&format=jsonl")
        assert response.is_async
        text = "".join([piece.decode() async for piece in response])
        await sync_to_async(connections.close_all)()
        return text

    assert asyncio.run(ask()) == expected


@pytest.mark.django_db(databases=["default", "other"])
def test_a_file_comes_from_the_alias_that_pages_read(viewer) -> None:
    Task.objects.using("other").request("elsewhere", actor="x")
    with override_settings(AUDIT={"BROWSER_USING": "other"}), asking() as asked:
        body = _body(viewer.get(f"{TASKS}export/?format=jsonl"))
    assert json.loads(body)["action"] == "elsewhere"
    assert asked.data == []


# Who may, and what is refused


@pytest.mark.parametrize("kind", ["anonymous", "staff", "viewer", "superuser"])
@pytest.mark.parametrize("url", LISTS)
def test_whoever_may_see_the_list_may_have_the_file(kind, url) -> None:
    requested()
    client = client_of(kind)
    response = client.get(f"{url}export/?format=csv")
    assert response.status_code == {"anonymous": 302, "staff": 403}.get(kind, 200)
    assert client.post(f"{url}export/?format=csv").status_code == {"anonymous": 302, "staff": 403}.get(kind, 405)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"{TASKS}export/", "There is no format ; use one of csv, jsonl."),
        (f"{TASKS}export/?format=<b>", "There is no format <b>; use one of"),
        (f"{TASKS}export/?format=csv&status=zork", "zork"),
        (f"{LOG}export/?format=csv&task=zork", "is not a UUID"),
        (f"{LOG}export/?format=csv&kind=zork", "zork"),
        (f"{QUEUE}export/?format=csv&state=zork", "There is no state zork"),
        (f"{TASKS}export/?format=csv&stauts=failed", "“stauts” is not a filter; did you mean “status”?"),
        (f"{TASKS}export/?format=csv&kind=note", "“kind” is not a filter."),
        (f"{LOG}export/?format=csv&sicne=1h", "“sicne” is not a filter; did you mean “since”?"),
        (f"{QUEUE}export/?format=csv&service=kuma", "“service” is not a filter."),
    ],
)
def test_a_filter_that_means_nothing_gets_no_file_instead_of_too_much(viewer, url, problem) -> None:
    requested()
    response = viewer.get(url)
    assert response.status_code == 400
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert problem in response.content.decode()


def test_a_head_request_reads_nothing(viewer) -> None:
    past(3)
    response = viewer.head(f"{TASKS}export/?format=csv")
    assert response.status_code == 200
    assert response.getvalue() == b""


@pytest.mark.parametrize("url", LISTS)
def test_missing_tables_are_reported_before_any_file_begins(viewer, url) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE audit_task RENAME TO gone; ALTER TABLE audit_pause_queue RENAME TO gone2;"
            "ALTER TABLE audit_executionlog RENAME TO gone3"
        )
    response = viewer.get(f"{url}export/?format=csv")
    assert response.status_code == 503
    assert "python manage.py migrate audit" in text_of(response)


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)"]
BEFORE = [
    "",
    " ",
    "  ",
    "\u00a0",
    "\u3000",
    "\u200b",
    "\ufeff",
    "\u2028",
    "\t",
    "\r",
    "\n",
    "\r\n ",
    "\x0b",
    "\x1f",
    " \u2066",
]


@pytest.mark.parametrize("before", BEFORE, ids=ascii)
def test_no_cell_of_a_spreadsheet_begins_a_formula_whatever_stands_before_it(before) -> None:
    for formula in FORMULAS:
        assert _as_text(before + formula) == f"'{before}{formula}", formula


@pytest.mark.parametrize("text", ["\tname", "\rname", "\nname", "\x00", "\x7fname", "\t"])
def test_a_cell_that_begins_with_a_control_character_is_text(text) -> None:
    assert _as_text(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["", "a=1", "1-1", "日本", " a", "\u00a0 b - c", '{"a": 1}', "['=1']", "'=1", "(=1)", "—1", " ", "…", "€"]
)
def test_other_cells_stay_as_they_are(text) -> None:
    assert _as_text(text) == text


def test_a_download_begins_with_a_byte_order_mark_and_a_command_with_one_that_is_asked_for(viewer) -> None:
    requested(summary="Grüße 東京 \uff1d1+1", actor="\t=cmd")
    body = b"".join(viewer.get(f"{TASKS}export/?format=csv").streaming_content)
    assert body.startswith(b"\xef\xbb\xbfid,")
    assert body.count(b"\xef\xbb\xbf") == 1
    [row] = csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline=""))
    assert row["summary"] == "Grüße 東京 \uff1d1+1"
    assert _command("--format", "csv", "--bom") == body.decode()
    assert _command("--format", "csv") == body.decode("utf-8-sig")
    with pytest.raises(CommandError, match="--bom is for --format csv"):
        _command("--bom")
    for url in (TASKS, LOG, QUEUE):
        lines = b"".join(viewer.get(f"{url}export/?format=jsonl").streaming_content)
        assert not lines.startswith(b"\xef")
