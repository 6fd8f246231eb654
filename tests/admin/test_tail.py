"""An open list is told of newer rows: the count behind it, and what a browser does with it."""

import re
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit.admin.shared import panels
from audit.models import ExecutionLog, Task
from tests.support.browser import visiting
from tests.support.factories import requested
from tests.support.pages import LOG, TASKS, asking, client_of, past, text_of


def _url(response) -> str:
    return re.search(r'class="audit-live" data-url="([^"]*)"', response.content.decode())[1].replace("&amp;", "&")


@pytest.mark.parametrize("url", [TASKS, f"{TASKS}?status=pending&service=kuma&since=7d", LOG, f"{LOG}?kind=transition"])
def test_new_rows_of_the_same_filter_are_counted(viewer, url) -> None:
    requested()
    ask = _url(viewer.get(url))
    assert viewer.get(ask).json() == {"count": 0, "more": False, "label": "0 new"}
    for _ in range(3):
        requested()
    past(2, status="failed", every=timedelta(days=1))
    assert viewer.get(ask).json() == {"count": 3 + 2 * (url in (LOG, f"{LOG}?kind=transition")), **_rest(viewer, ask)}
    assert viewer.get(_url(viewer.get(url))).json()["count"] == 0


def _rest(viewer, ask) -> dict[str, object]:
    answer = viewer.get(ask).json()
    assert answer["label"] == f"{answer['count']} new"
    return {"more": False, "label": answer["label"]}


def test_rows_beside_the_filter_do_not_count(viewer) -> None:
    ask = _url(viewer.get(f"{TASKS}?status=failed"))
    requested()
    assert viewer.get(ask).json()["count"] == 0


def test_a_list_without_rows_asks_from_the_moment_it_was_read(viewer) -> None:
    past(3, every=timedelta(hours=1))
    ask = _url(viewer.get(f"{TASKS}?since=15m"))
    assert viewer.get(ask).json()["count"] == 0
    requested()
    assert viewer.get(ask).json()["count"] == 1


@pytest.mark.parametrize("url", [TASKS, LOG])
def test_many_are_not_counted_to_the_end(viewer, url) -> None:
    requested()
    ask = _url(viewer.get(url))
    Task.objects.bulk_request([{"action": "work", "actor": "alice"}] * 150)
    with asking() as asked:
        assert viewer.get(ask).json() == {"count": 99, "more": True, "label": "99+ new"}
    assert len(asked.data) == 1
    assert "LIMIT 100" in asked.data[0]


def test_how_many_are_new_is_said_in_the_plural_of_the_language(viewer, monkeypatch) -> None:
    monkeypatch.setattr("audit.admin.shared.tail.ngettext", lambda one, many, count: f"plural {count}: %(count)s")
    ask = _url(viewer.get(TASKS))
    requested()
    assert viewer.get(ask).json()["label"] == "plural 1: 1"


@pytest.mark.parametrize(("url", "index"), [(TASKS, "audit_task_created"), (LOG, "audit_executionlog_at")])
def test_the_count_reads_an_index_and_nothing_else(viewer, url, index) -> None:
    requested()
    ask = _url(viewer.get(url))
    with asking() as asked:
        viewer.get(ask)
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {asked.data[0]}")
        plan = "\n".join(row for (row,) in cursor.fetchall())
    assert re.search(rf"Index Only Scan Backward using {index} ", plan), plan


def test_only_the_newest_page_of_a_range_without_end_is_live(viewer) -> None:
    past(60)
    first = viewer.get(TASKS)
    assert 'class="audit-live"' in first.content.decode()
    assert "audit/tail.js" in first.content.decode()
    second = re.search(r'rel="next" href="([^"]*)"', first.content.decode())[1]
    ended = f"{TASKS}?since=2026-01-01&until={timezone.now():%Y-%m-%dT%H:%M:%SZ}"
    for url in (TASKS + second, ended):
        assert 'class="audit-live"' not in viewer.get(url).content.decode()


def test_a_slow_count_is_a_503(viewer, monkeypatch) -> None:
    requested()
    ask = _url(viewer.get(TASKS))

    def slow(*_args):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")

    monkeypatch.setattr("audit.admin.shared.tail.read_page", slow)
    monkeypatch.setattr("audit.admin.shared.tail.panel", lambda using, work: panels.panel(using, work, 50))
    assert viewer.get(ask).status_code == 503


@pytest.mark.parametrize("place", ["", "?before=", "?before=zork", "?after=1_00000000000000000000000000000000"])
def test_a_place_nobody_wrote_is_a_400(viewer, place) -> None:
    assert viewer.get(f"{TASKS}newer/{place}").status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize(("kind", "status"), [("anonymous", 302), ("staff", 403), ("viewer", 200), ("superuser", 200)])
def test_whoever_may_see_the_list_may_ask(kind, status) -> None:
    client = client_of(kind)
    for url in (TASKS, LOG):
        place = "1_" + ("0" * 32 if url == TASKS else "0")
        assert client.get(f"{url}newer/?before={place}").status_code == status
        assert client.post(f"{url}newer/?before={place}").status_code == (405 if status == 200 else status)


# In a browser


@pytest.fixture
def page(live_server, browser, monkeypatch):
    monkeypatch.setattr("audit.admin.shared.tail.SECONDS", 0.3)
    requested(summary="the first")
    with visiting(browser, live_server.url, "superuser") as page:
        yield page


@pytest.mark.browser
def test_an_open_list_says_what_is_new_and_moves_nothing(page) -> None:
    page.goto(page.base + TASKS)
    live = page.locator(".audit-live")
    rows = page.locator(".audit-tasks tbody")
    before = rows.bounding_box()
    assert live.locator("button").get_attribute("aria-pressed") == "true"
    for number in range(3):
        requested(summary=f"later {number}")
    new = live.locator("a")
    new.wait_for(state="visible")
    page.wait_for_function("document.querySelector('.audit-live a').textContent === '3 new'")
    assert page.title().startswith("(3 new) ")
    assert live.locator("[role=status]").text_content().strip() == "3 new"
    assert rows.bounding_box() == before
    assert "later" not in rows.text_content()
    new.click()
    page.locator(".audit-tasks tbody", has_text="later 2").wait_for()
    assert not page.title().startswith("(")


@pytest.mark.browser
def test_a_paused_list_asks_no_more_and_remembers_it(page) -> None:
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/newer/" in request.url else None)
    with page.expect_request("**/newer/**"):
        page.goto(page.base + TASKS)
    page.locator(".audit-live button").click()
    page.wait_for_timeout(500)
    asked.clear()
    page.wait_for_timeout(1000)
    assert asked == []
    page.reload()
    assert page.locator(".audit-live button").get_attribute("aria-pressed") == "false"
    page.wait_for_timeout(700)
    assert asked == []
    with page.expect_request("**/newer/**"):
        page.locator(".audit-live button").click()


@pytest.mark.browser
def test_a_hidden_tab_asks_nothing_and_a_lost_server_is_asked_less(page) -> None:
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/newer/" in request.url else None)
    page.goto(page.base + TASKS)
    page.route("**/newer/**", lambda route: route.abort())
    page.wait_for_timeout(4000)
    assert len(asked) <= 5  # 13 without backing off
    page.locator(".audit-live.audit-lost").wait_for()
    assert asked
    page.unroute("**/newer/**")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    event = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true" + event)
    page.wait_for_timeout(300)
    asked.clear()
    page.wait_for_timeout(1500)
    assert asked == []
    page.evaluate(hide % "false" + event)
    page.wait_for_function("!document.querySelector('.audit-live').classList.contains('audit-lost')")
    assert asked


# Every wait that the page plans is written down, and takes no time.
_WAITS = """
window.waits = [];
const real = window.setTimeout;
window.setTimeout = (work, ms) => { window.waits.push(ms); return real(work, Math.min(ms, 30)); };
"""


@pytest.mark.browser
def test_the_waits_double_while_the_server_is_lost_and_are_short_again_once_it_is_back(page, monkeypatch) -> None:
    monkeypatch.setattr("audit.admin.shared.tail.SECONDS", 10)
    page.add_init_script(_WAITS)
    page.route("**/newer/**", lambda route: route.abort())
    page.goto(page.base + TASKS)
    page.wait_for_function("waits.length > 8")
    lost = page.evaluate("waits.slice(0, 9)")
    for wait, planned in zip(lost, [10, 20, 40, 80, 160, 300, 300, 300, 300], strict=True):
        assert planned * 900 <= wait <= planned * 1100
    page.unroute("**/newer/**")
    page.wait_for_function("!document.querySelector('.audit-live').classList.contains('audit-lost')")
    page.wait_for_function("waits[waits.length - 1] <= 11000")
    # So they are when a person goes on after a pause.
    page.route("**/newer/**", lambda route: route.abort())
    page.wait_for_function("waits[waits.length - 1] > 200000")
    page.locator(".audit-live button").click()
    page.wait_for_function("document.querySelector('.audit-live button').getAttribute('aria-pressed') === 'false'")
    planned = page.evaluate("waits.length = 0; document.querySelector('.audit-live button').click(); waits[0]")
    assert 9000 <= planned <= 11000


@pytest.mark.browser
def test_the_title_names_the_newest_count_alone(page) -> None:
    page.goto(page.base + TASKS)
    title = page.title()
    for count in (1, 2, 3):
        requested(summary=f"later {count}")
        page.wait_for_function(f"document.querySelector('.audit-live a').textContent === '{count} new'")
        page.wait_for_function("title => document.title === title", arg=f"({count} new) {title}")


@pytest.mark.browser
def test_without_script_the_page_shows_nothing_of_it(live_server, browser) -> None:
    requested()
    with visiting(browser, live_server.url, "superuser", java_script_enabled=False) as page:
        page.goto(page.base + TASKS)
        assert not page.locator(".audit-live").is_visible()
        assert page.locator(".audit-tasks tbody tr").count() == 1
    assert ExecutionLog.objects.exists()
    assert "Live" in text_of(client_of("viewer").get(TASKS))
