"""What pages and commands ask of a large database, by the plans of every query they send.

`python -m pytest tests/reading/test_scale.py --rows 1000000` asks a million tasks (and three million
rows of log); without the option it is fewer, and the planner's choices are the same.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext

from audit.admin.shared import panels
from audit.admin.tasks import chart_counts, page
from audit.models import Task
from audit.reading import place_in_line
from audit.reading.filters.actors import names_like
from tests.support.databases import temporary_database
from tests.support.filling import DAYS, RARE_WORD, fill
from tests.support.pages import AGENTS, EVENTS, LOG, OVERVIEW, QUEUE, STATISTICS, TASKS, client_of

pytestmark = [pytest.mark.slow, pytest.mark.django_db(databases=["default", "other"])]

ALIAS = "other"
LARGE = ("audit_task", "audit_executionlog", "audit_ledger_leaf", "audit_pause_queue")
INTEGRITY = "/admin/audit/ledgerverification/"
SPANS = ("15m", "24h", "7d", "30d", "all")
FILTERS = (
    "",
    "status=failed",
    "status=paused",
    "status=failed&status=paused",
    "status=completed",
    "service=billing",
    "service=svc-3",
    "service=svc-3&service=host-7",
    "service=nowhere",
    "any_service=svc-3&any_service=nowhere",
    "action=deploy",
    "action=nothing",
    "actor=orch-1",
    "actor=user-3",
    "actor=nobody",
    "actor=*rch-1*",
    "actor=*nobody*",
    "error_type=TimeoutError",
    "error_type=Nothing",
    "error_type=TimeoutError&error_type=Nothing",
    "q=deploy",
    f"q={RARE_WORD}",
    "q=nothing",
    "q=%22connection+reset%22",
    "q=dep+region-11",
    "q=outcome.success:false",
    "status=failed&service=billing&action=deploy&actor=orch-1&q=ticket",
    f"finished_since={DAYS}d",
    "seal=failed",
    "seal=failed&status=failed",
    "status=failed&failure=resource&error_type=TimeoutError&action=deploy&actor=orch-1&any_service=svc-3",
)
# Every row has a leaf, and a verification found something about some tasks and log rows.
_SEALED = (
    """
    INSERT INTO audit_ledger_leaf (index, task_id, log_id, salt, leaf_hash)
    SELECT row_number() OVER () - 1, task, log, substr(hash, 1, 16), hash FROM (
        SELECT id, NULL::bigint, sha256(uuid_send(id)) FROM audit_task WHERE finished_at IS NOT NULL
        UNION ALL SELECT NULL, id, sha256(int8send(id)) FROM audit_executionlog
    ) AS sealed (task, log, hash)
    """,
    """
    INSERT INTO audit_ledger_verification (started_at, verdict, size, unsealed, report)
    SELECT now(), 'tampering', 1000, 0, jsonb_build_object('findings', (SELECT jsonb_agg(found) FROM (
        (SELECT jsonb_build_object('code', 'row_tampered', 'task', id) FROM audit_task ORDER BY id LIMIT 500)
        UNION ALL
        (SELECT jsonb_build_object('code', 'row_deleted', 'log', id) FROM audit_executionlog ORDER BY id DESC LIMIT 500)
    ) AS named (found)))
    """,
    "ANALYZE audit_ledger_leaf, audit_ledger_verification",
)
# Many entries that wait and as many that are held, for less than a day, and none in any other state.
_QUEUED = (
    "DELETE FROM audit_pause_queue",
    """
    INSERT INTO audit_pause_queue (task_id, held, paused_at, resume_after, due_at)
    SELECT id, held, now() - interval '1 h', resume, coalesce(resume, now() - interval '1 h')
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM audit_task LIMIT %s) AS task
    CROSS JOIN LATERAL (
        SELECT n %% 2 = 0, CASE WHEN n %% 2 > 0 THEN now() + interval '1 h' + n * interval '1 s' END
    ) AS how (held, resume)
    """,
    "VACUUM (ANALYZE) audit_pause_queue",
)


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--rows")


@pytest.fixture(scope="module", autouse=True)
def filled(rows: int, django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), temporary_database("scale"):
        call_command("migrate", database=ALIAS, verbosity=0)
        with connections[ALIAS].cursor() as cursor:
            fill(cursor.connection, rows)
            for statement in _SEALED:
                cursor.execute(statement)
            cursor.execute("ALTER TABLE audit_pause_queue DISABLE TRIGGER USER")
            for statement in _QUEUED:
                cursor.execute(statement, [rows // 2] if "%s" in statement else None)
        connections[ALIAS].close()
        yield


@pytest.fixture
def viewer(settings):
    settings.AUDIT = {"BROWSER_USING": ALIAS}
    return client_of("viewer")


@dataclass(frozen=True, slots=True)
class Query:
    """A statement that was sent, and how it is carried out."""

    sql: str
    plan: dict[str, Any]

    def nodes(self) -> Iterator[dict[str, Any]]:
        """All nodes of the plan."""
        yield from _nodes(self.plan)


@contextmanager
def asking() -> Iterator[list[Query]]:
    """Collect what the block asks of the large tables; the plans are there after it."""
    queries: list[Query] = []
    with CaptureQueriesContext(connections[ALIAS]) as captured:
        yield queries
    # What was asked through a cursor that is read to its end is planned so here, too.
    whole = any("cursor_tuple_fraction" in each["sql"] for each in captured.captured_queries)
    for each in captured.captured_queries:
        if re.search(r'FROM "?audit_', each["sql"]):
            queries.append(Query(each["sql"], _plan(each["sql"], fraction=1 if whole else 0.1)))


def _plan(sql: str, options: str = "FORMAT JSON", fraction: float = 0.1) -> dict[str, Any]:
    # With the planner's own choice, which pages do not leave to it where they count or ask for words or documents.
    scan = "off" if re.search(r'WITH (nearest|sample)|#>>|@@|"id" = ANY \(', sql) else "on"
    with connections[ALIAS].cursor() as cursor:
        cursor.connection.execute(f"SET LOCAL enable_seqscan = {scan}")
        cursor.connection.execute(f"SET LOCAL cursor_tuple_fraction = {fraction}")
        # As `found_few` sets it.
        few = "@@" in sql and "ORDER BY" not in sql
        cursor.connection.execute(f"SET LOCAL enable_indexscan = {'off' if few else 'on'}")
        cursor.connection.execute(f"SET LOCAL work_mem = '{32 if few else 4}MB'")
        [[[found]]] = cursor.connection.execute(f"EXPLAIN ({options}) {sql}".encode()).fetchall()
    return found["Plan"]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


# What has to see all that is below it before it gives the first row.
_WHOLE = ("Sort", "Aggregate", "WindowAgg", "Hash", "Materialize", "Unique")
FEW = 1000
"""So many rows a plan may sort, or twice as many as the query wants: a walk through an index in order is no cheaper."""

# Panels that may sort all that the question means, where the planner finds that cheaper than the walk to their LIMIT.
# What bounds them is their time (`panels.PANEL_MS`): the page stays, and says that they were left out.
ONLY_IN_TIME = (
    r"^WITH sample \(status\) AS",  # how many have which status, beside a choice of one
    r"^WITH sample \(status, kind\) AS",  # the errors of those that failed
    r"^WITH sample \(facet, names\) AS",  # what else could be chosen of a kind that is
    # The chart of a service or of words.
    r"^WITH (nearest|sample) \(created_at, status, id\) AS .*(services_touched (@>|&&)|@@)",
)


def _unbounded(plan: dict[str, Any], ended: bool = False) -> Iterator[dict[str, Any]]:
    """Scans of a large table that no LIMIT ends; one above a sort or a count ends nothing below that."""
    if plan["Node Type"] == "Limit":
        ended = True
    elif plan["Node Type"] in _WHOLE:
        ended = False
    if plan.get("Relation Name") in LARGE and not ended:
        yield plan
    for inner in plan.get("Plans", ()):
        # What is looked up once, or beside each row, is no part of the way to the LIMIT.
        yield from _unbounded(inner, ended and inner["Parent Relationship"] not in ("InitPlan", "SubPlan"))


def _named(scan: dict[str, Any]) -> bool:
    """Whether a scan reads rows that are named one by one."""
    return bool(
        re.match(r"\(?\(?(id|task_id|log_id|parent) (=|>=)", scan.get("Index Cond") or "")
        or (scan["Node Type"] == "Bitmap Heap Scan" and re.match(r"\(?(id|task_id) =", scan["Recheck Cond"]))
    )


def bounded(queries: list[Query], most: int) -> None:
    """Assert that no query reads a large table as a whole, and that there are no more than so many."""
    assert 0 < len(queries) <= most, [each.sql[:200] for each in queries]
    for query in queries:
        shown = f"{query.sql}\n{json.dumps(query.plan, indent=1)}"
        assert not re.search(r"\bOFFSET\b|\bDISTINCT\b(?! unnest)", query.sql), shown
        scanned = [each for each in query.nodes() if each["Node Type"] in ("Seq Scan", "Sample Scan")]
        assert not [each for each in scanned if each["Relation Name"] in LARGE], shown
        if any(re.search(each, query.sql, re.DOTALL) for each in ONLY_IN_TIME):
            continue
        few = max(FEW, *(2 * int(each) for each in re.findall(r"LIMIT (\d+)", query.sql)), 0)
        for each in _unbounded(query.plan):
            assert _named(each) or each["Plan Rows"] <= few, f"{each['Plan Rows']} rows of {few}: {shown}"


@pytest.mark.parametrize("asked", FILTERS)
def test_the_list_in_every_range(viewer, asked, rows):
    for span in SPANS:
        for _ in range(3):  # a machine that is busy may take too long once
            with asking() as queries:
                response = viewer.get(f"{TASKS}?since={span}&{asked}")
            context = response.context_data
            if not context["chart"].degraded and not context["facets_degraded"]:
                break
        assert response.status_code == 200
        # Names that a pattern fits are looked up first; where it fits none, whoever asks looks once more.
        bounded(queries, 9 if "actor=*" in asked else 6)
        if rows <= 100_000 or not asked:
            assert not context["chart"].degraded
            assert not context["facets_degraded"]


def _chart_of_a_service(viewer: Any) -> tuple[Any, int, int]:
    """The chart over all time of one service; what its statement read, and how many rows of those were not wanted."""
    with asking() as queries:
        response = viewer.get(f"{TASKS}?since=all&service=svc-3")
    chart = response.context_data["chart"].value
    [query] = [each for each in queries if "width_bucket" in each.sql or "string_agg" in each.sql]
    plan = _plan(query.sql, "ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON")
    scans = [each for each in _nodes(plan) if each.get("Relation Name") == "audit_task"]
    unwanted = sum(each.get("Rows Removed by Filter", 0) for each in scans)
    return (chart.total_label, chart.by_status), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], unwanted


def test_the_chart_of_a_service_does_not_read_the_tasks_of_others(viewer, rows, monkeypatch):
    # As large a share of the table as with a million tasks.
    monkeypatch.setattr(chart_counts, "UNBOUNDED", rows // 100)
    counted, read, unwanted = _chart_of_a_service(viewer)
    monkeypatch.setattr(page, "_stretch", lambda _: None)
    expected, read_without, unwanted_without = _chart_of_a_service(viewer)
    assert counted == expected
    assert counted[0].endswith("+")
    assert unwanted < rows // 100 < unwanted_without
    assert read < read_without


@pytest.mark.parametrize(
    ("asked", "cut"),
    [
        ("service=svc-3", True),
        ("any_service=svc-3", True),
        ("service=svc-3&since=80d", True),
        ("service=billing", False),  # common: few others are between
        ("service=svc-200", False),  # rare: their index alone finds them all
        ("service=nowhere", False),
        ("service=svc-3&status=completed", False),
        ("service=svc-3&since=7d", False),
        ("", False),
    ],
)
def test_the_chart_of_a_service_is_cut_where_both_indexes_are_faster_than_one(viewer, rows, monkeypatch, asked, cut):
    monkeypatch.setattr(chart_counts, "UNBOUNDED", rows // 100)
    monkeypatch.setattr(chart_counts, "BOUNDED", rows // 100)
    with asking() as queries:
        viewer.get(f"{TASKS}?{asked}" + ("" if "since" in asked else "&since=all"))
    bounded(queries, 6)
    assert any("WITH nearest" in each.sql for each in queries) == cut


@pytest.mark.parametrize("asked", ["", "status=failed", "service=billing", "q=ticket", "actor=orch-1", "action=deploy"])
def test_pages_far_away_and_back(viewer, asked):
    middle = datetime.now(UTC) - timedelta(days=DAYS / 2)
    place = f"{round(middle.timestamp() * 1e6)}_{'0' * 32}"
    for way in ("after", "before"):
        with asking() as queries:
            response = viewer.get(f"{TASKS}?since=all&{asked}&{way}={place}")
        assert len(response.context_data["rows"]) == 50
        bounded(queries, 6)
        there = next(each for each in queries if "LEFT(" in each.sql and "ROW(" in each.sql)
        assert re.search(r"created_at [<>]|ROW\(", "".join(each.get("Index Cond", "") for each in there.nodes())), there


@pytest.mark.parametrize("asked", ["", "status=failed", "service=svc-3", "q=ticket"])
def test_what_is_new_and_what_goes_into_a_file(viewer, asked):
    place = f"{round((datetime.now(UTC) - timedelta(days=1)).timestamp() * 1e6)}_{'0' * 32}"
    with asking() as queries:
        assert viewer.get(f"{TASKS}newer/?since=all&{asked}&before={place}").status_code == 200
    bounded(queries, 2)
    with asking() as queries:
        response = viewer.get(f"{TASKS}export/?since=1d&format=csv&{asked}")
        assert sum(piece.count(b"\n") for piece in response.streaming_content) > 1
    there, all_rows = queries
    bounded([there], 1)
    # Whatever finds them, it goes by the range of time, and no walk through all ids to have them in order.
    scans = [each for each in all_rows.nodes() if each.get("Relation Name") in LARGE]
    assert scans
    for each in scans:
        found_by = " ".join(str(node.get("Index Cond")) for node in _nodes(each))
        assert "Scan" in each["Node Type"]
        assert each["Node Type"] != "Seq Scan"
        assert "created_at >=" in found_by, all_rows


def test_a_task(viewer):
    for key in Task.objects.using(ALIAS).order_by("-created_at").values_list("id", flat=True)[:1000:99]:
        with asking() as queries:
            assert viewer.get(f"{TASKS}{key}/change/").status_code == 200
        bounded(queries, 7)
        with asking() as queries:
            assert viewer.get(f"{TASKS}{key}/raw/").status_code == 200
        bounded(queries, 4)


@pytest.mark.parametrize(
    "asked", ["", "kind=note", "kind=suggestion", "kind=step", "kind=note&kind=step", "kind=transition"]
)
def test_the_log_in_every_range_and_far_away(viewer, asked):
    middle = datetime.now(UTC) - timedelta(days=DAYS / 2)
    place = f"after={round(middle.timestamp() * 1e6)}_17"
    for given in (*(f"since={span}" for span in SPANS), f"since=all&{place}"):
        with asking() as queries:
            response = viewer.get(f"{LOG}?{given}&{asked}")
        assert response.status_code == 200
        bounded(queries, 6)


def test_the_log_of_a_task(viewer):
    key = Task.objects.using(ALIAS).order_by("created_at").values_list("id", flat=True)[100]
    with asking() as queries:
        response = viewer.get(f"{LOG}?task={key}")
    assert len(response.context_data["rows"]) >= 3
    bounded(queries, 6)


def test_integrity_and_the_seal_of_a_task(viewer):
    key = Task.objects.using(ALIAS).finished().order_by("id").values_list("id", flat=True)[0]
    with asking() as queries:
        response = viewer.get(INTEGRITY)
    assert len(response.context_data["last"].findings) == 100
    bounded(queries, 6)
    with asking() as queries:
        response = viewer.get(f"{TASKS}{key}/change/")
    assert response.context_data["seal"].state == "failed"
    bounded(queries, 4)


@pytest.mark.parametrize("state", ["", "due", "waiting", "held", "overdue", "leased"])
def test_the_queue(viewer, state):
    with asking() as queries:
        response = viewer.get(f"{QUEUE}?state={state}")
    found = {each.state: (len(each.rows), each.degraded) for each in response.context_data["sections"]}
    size = 50 if state else 20
    full = {"waiting": (size, False), "held": (size, False)}
    assert found == {
        name: full.get(name, (0, False)) for name in ([state] if state else ["due", "waiting", "held", "leased"])
    }
    bounded(queries, 6)
    for query in queries:
        # What a section shows or finds missing, it finds without reading what is in another state.
        for each in _nodes(_plan(query.sql, "ANALYZE, TIMING OFF, FORMAT JSON")):
            if each.get("Relation Name") == "audit_pause_queue":
                assert each["Actual Rows"] <= 51, each
                assert each.get("Rows Removed by Filter", 0) == 0, each


@pytest.fixture
def patient(monkeypatch):
    """Give panels all the time they need: what counts here is their plans, not how busy the machine is."""
    monkeypatch.setattr(panels.panel, "__defaults__", (60_000,))


def test_the_overview_the_agents_and_the_events(viewer, patient):
    for address, most in ((OVERVIEW, 7), (AGENTS, 4), (EVENTS, 2)):
        with asking() as queries:
            response = viewer.get(address)
        assert response.status_code == 200
        assert "was left out" not in response.content.decode()
        bounded(queries, most)


@pytest.mark.parametrize("asked", ["", "status=failed", "service=billing", "actor=orch-1", "action=deploy", "q=ticket"])
@pytest.mark.parametrize("span", ["24h", "30d", "all"])
def test_the_statistics(viewer, patient, asked, span):
    with asking() as queries:
        response = viewer.get(f"{STATISTICS}?since={span}&{asked}")
    assert response.status_code == 200
    # Of what is found once and counted several times, it is the finding that must end.
    bounded(queries, 2)
    assert not response.context_data["degraded"]
    assert response.context_data["tables"][0].rows


def test_the_place_in_line_reads_no_more_than_it_counts():
    newest = Task.objects.using(ALIAS).filter(status="approved").order_by("-priority", "-available_at")[0]
    with asking() as queries:
        place_in_line.tasks_ahead(ALIAS, task=newest.pk, priority=newest.priority, available_at=newest.available_at)
        place_in_line.entries_ahead(ALIAS, entry=2**40, priority=5, due_at=datetime.now(UTC) + timedelta(days=900))
    for query in queries:
        for each in _nodes(_plan(query.sql, "ANALYZE, TIMING OFF, FORMAT JSON")):
            if each.get("Relation Name") in LARGE:
                assert each["Actual Rows"] * each["Actual Loops"] <= 5 * (place_in_line.MOST + 1), query
                assert each.get("Rows Removed by Filter", 0) == 0, query
                assert "_claim" in each["Index Name"], query


@pytest.mark.parametrize(
    "argv",
    [
        ("audit_list",),
        ("audit_list", "--status", "failed"),
        ("audit_list", "--service", "svc-3"),
        ("audit_list", "--search", RARE_WORD),
        ("audit_list", "--search", "ticket"),
        ("audit_tail", "--lines", "20"),
        ("audit_tail", "--search", RARE_WORD),
        ("audit_tail", "--search", RARE_WORD, "--status", "completed", "--lines", "3"),
        ("audit_list", "--error-type", "TimeoutError"),
        ("audit_list", "--actor", "orch-1", "--since", "all"),
        ("audit_stats",),
        ("audit_stats", "--since", "7d", "--service", "svc-3"),
        ("audit_stats", "--since", "7d", "--by", "actor", "--by", "hour", "--order", "failed"),
        ("audit_stats", "--since", "all", "--limit", "5000"),
        ("audit_stats", "--since", "all", "--search", RARE_WORD, "--limit", "3"),
        ("audit_queue", "list"),
    ],
)
def test_commands(argv):
    out = StringIO()
    with asking() as queries:
        call_command(*argv, "--database", ALIAS, stdout=out, stderr=out)
    assert out.getvalue()
    bounded(queries, 6)
    if RARE_WORD in argv:
        # Found without an order, by the index of words alone: where time orders, the planner may walk back through it.
        [looked] = [each for each in queries if "@@" in each.sql]
        assert "ORDER BY" not in looked.sql
        assert any("@@" in each.get("Recheck Cond", "") for each in looked.nodes()), looked


def test_the_names_of_actors_are_found_by_their_indexes_alone():
    with asking() as queries:
        names, complete = names_like(ALIAS, "%rch-%", 100)
    assert (names, complete) == ([f"orch-{number}" for number in range(6)], True)
    [query] = queries
    read = 0
    for each in _nodes(_plan(query.sql, "ANALYZE, TIMING OFF, FORMAT JSON")):
        if each.get("Relation Name") == "audit_task":
            assert each["Node Type"] in ("Index Scan", "Index Only Scan"), each
            assert " > " in each["Index Cond"], each
            read += each["Actual Rows"] * each["Actual Loops"]
    # 97 requesters, 11 who decide, and those who changed a task last.
    assert read <= 97 + 11 + 97 + 6


def test_going_on_from_a_task_in_a_command():
    oldest = list(Task.objects.using(ALIAS).order_by("created_at", "id").values_list("id", flat=True)[:1001])
    key = oldest[1000]
    out = StringIO()
    with asking() as queries:
        call_command(
            *("audit_list", "--before", str(key), "--since", "all", "--limit", "10", "--format", "jsonl"),
            *("--database", ALIAS),
            stdout=out,
            stderr=StringIO(),
        )
    bounded(queries, 6)
    listed = [json.loads(line)["id"] for line in out.getvalue().splitlines()]
    assert listed == [str(each) for each in reversed(oldest[990:1000])]
