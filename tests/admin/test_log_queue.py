"""The pages of the execution log and of the pause queue."""

import io
import re
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from audit.admin.queue.states import OVERDUE
from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support.factories import claimed, requested, sql, task_in
from tests.support.pages import LOG, QUEUE, TASKS, ids_in, link_in, past, text_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("most", [86_399_999_999_999_999, 2**63 - 1])
def test_a_duration_beyond_what_python_counts_is_shown(viewer, most) -> None:
    """Raw SQL may have written it, and no row of the log can be removed."""
    task = requested()
    sql(
        "INSERT INTO audit_executionlog (task_id, kind, action, duration_ms) VALUES (%s, 'step', 'long', %s)",
        [task.pk, most],
    )
    for url in (f"{LOG}?task={task.pk}", LOG, f"{TASKS}{task.pk}/change/", f"{TASKS}{task.pk}/change/?log=all"):
        response = viewer.get(url)
        assert response.status_code == 200
        assert "1000000000d 00h" in text_of(response)
    out = io.StringIO()
    call_command("audit_show", str(task.pk), stdout=out)
    assert "step" in out.getvalue()


# The log


def test_the_log_shows_transitions_and_steps_newest_first(viewer) -> None:
    task = claimed(task_in("approved"))
    task.log("run playbook", duration_ms=812, output_summary="ok")
    task.complete()
    response = viewer.get(LOG)
    text = text_of(response)
    assert re.search("Executing → ?became ?Completed", text).start() < text.index("Step 1 run playbook")
    assert "812 ms" in text
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_user")
        assert text.count(f"role {cursor.fetchone()[0]}") == ExecutionLog.objects.count()
    assert re.findall(r"#log-(\d+)", response.content.decode()) == [
        str(key) for key in ExecutionLog.objects.order_by("-at", "-id").values_list("id", flat=True)
    ]
    steps = text_of(viewer.get(f"{LOG}?kind=step"))
    assert "run playbook" in steps
    assert "Pending" not in steps.split("Took")[1]


def test_the_log_of_one_task_is_not_bounded_in_time_unless_asked(viewer) -> None:
    first = requested(summary="first")
    requested(summary="second")
    text = text_of(viewer.get(f"{LOG}?task={first.pk}"))
    assert "first" in text
    assert "second" not in text
    assert "All time" in text
    assert "is not a UUID" in text_of(viewer.get(f"{LOG}?task=zork"))


def test_the_log_pages_forth_and_back(viewer) -> None:
    past(130)
    url, seen = LOG, []
    while url:
        response = viewer.get(url)
        seen += re.findall(r"#log-(\d+)", response.content.decode())
        url = link_in(response, "next") and LOG + link_in(response, "next")
    assert seen == [str(key) for key in ExecutionLog.objects.order_by("-at", "-id").values_list("id", flat=True)]
    back = viewer.get(LOG + link_in(response, "prev"))
    assert re.findall(r"#log-(\d+)", back.content.decode()) == seen[50:100]


def test_an_empty_log_says_so_and_offers_more(viewer) -> None:
    text = text_of(viewer.get(f"{LOG}?kind=note&kind=zork"))
    assert "Nothing was logged" in text
    for since, offered in (
        ("24h", ["Widen to 7 days", "Search all time"]),
        ("7d", ["Search all time"]),
        ("30d", ["Search all time"]),
        ("2026-01-01&until=2026-01-02", ["Widen to 7 days", "Search all time"]),
        ("all", []),
    ):
        response = viewer.get(f"{LOG}?kind=note&since={since}")
        assert "Nothing was logged" in text_of(response)
        links = dict(re.findall(r'audit-button" href="([^"]*)">([^<]*)<', response.content.decode()))
        assert [each for each in ("Widen to 7 days", "Search all time") if each in links.values()] == offered
        assert all("kind=note" in url for url, words in links.items() if words in offered)
        assert all("since=all" in url for url, words in links.items() if words == "Search all time")
        [everything] = re.findall(r'<a href="([^"]*)"[^>]*>all</a>', response.content.decode())
        assert "since=all" in everything


@pytest.mark.parametrize(
    "asked",
    ["status=failed", "q=needle", "correlation_id=c", "id=0190", "outcome.a=1", "finished_since=1h", "seal=failed"],
)
def test_the_log_says_of_filters_that_it_does_not_have(viewer, asked) -> None:
    past(1, summary="new one")
    past(1, summary="old one", every=timedelta(days=3))
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE audit_executionlog DISABLE TRIGGER USER")
        cursor.execute(
            "UPDATE audit_executionlog SET at = at - interval '3 days' WHERE task_id = (SELECT id FROM audit_task "
            "WHERE summary = 'old one')"
        )
    key, _equals, value = asked.partition("=")
    page = viewer.get(f"{LOG}?{asked}")
    text = text_of(page)
    assert f"The log has no filter {key}; {value} is left out." in text
    assert "new one" in text
    assert "old one" not in text
    assert asked not in page.content.decode().replace("&amp;", "&")
    assert "old one" in text_of(viewer.get(f"{LOG}?{asked}&since=7d&kind=transition"))
    for form in ("csv", "jsonl"):
        response = viewer.get(f"{LOG}export/?{asked}&format={form}")
        assert response.status_code == 400
        assert f"The log has no filter {key}" in response.content.decode()
    assert "left out" not in text_of(
        viewer.get(f"{LOG}?since=7d&until=1h&kind=transition&task={Task.objects.first().pk}")
    )


# The queue


def test_the_queue_says_due_waiting_held_and_leased_apart(viewer) -> None:
    def paused(summary, **how):
        claimed(task_in("approved", summary=summary)).pause(**how)

    paused("is held", reason="awaiting_approval", note="ask Maria")
    paused("is waiting", resume_after=timedelta(hours=3))
    paused("is leased", reason="insufficient_capacity")
    PauseQueueEntry.objects.claim("orch-9")
    paused("is due", reason="insufficient_capacity")
    text = text_of(viewer.get(QUEUE))
    order = [text.index(each) for each in ("is due", "is waiting", "is held", "is leased")]
    assert order == sorted(order)
    for words in ("Awaiting approval", "ask Maria", "in 2h", "orch-9", "lease ends in"):
        assert words in text
    for state in ("due", "waiting", "held", "leased"):
        page = text_of(viewer.get(f"{QUEUE}?state={state}"))
        assert [each for each in ("due", "waiting", "held", "leased") if f"is {each}" in page] == [state]
    assert "There is no state zork" in text_of(viewer.get(f"{QUEUE}?state=zork"))


def test_an_entry_whose_lease_ran_out_is_back_in_its_state(viewer) -> None:
    for summary, how in {
        "is due": {},
        "is waiting": {"resume_after": timedelta(hours=3)},
        "is held": {"held": True},
    }.items():
        claimed(task_in("approved", summary=summary)).pause(reason="insufficient_capacity", **how)
    sql(
        "UPDATE audit_pause_queue SET claimed_by = 'gone', claim_token = gen_random_uuid(), "
        "lease_expires_at = now() - interval '1 second'"
    )
    assert not PauseQueueEntry.objects.filter(claim_token=None).exists()
    for state in ("due", "waiting", "held", "leased"):
        page = text_of(viewer.get(f"{QUEUE}?state={state}"))
        found = [each for each in ("due", "waiting", "held") if f"is {each}" in page]
        assert found == ([] if state == "leased" else [state])


def test_work_paused_for_more_than_a_day_stands_out(viewer, monkeypatch) -> None:
    task_in("paused")
    assert "over 24 h" not in text_of(viewer.get(QUEUE))
    assert timedelta(hours=24) == OVERDUE
    monkeypatch.setattr("audit.admin.queue.rows.OVERDUE", timedelta(microseconds=1))
    assert "over 24 h" in text_of(viewer.get(QUEUE))


def test_the_queue_pages_one_state_and_counts_nothing(viewer) -> None:
    for _ in range(53):
        task_in("paused")
    page = viewer.get(QUEUE)
    assert "Show all" in text_of(page)
    first = viewer.get(f"{QUEUE}?state=held")
    second = viewer.get(QUEUE + link_in(first, "next"))
    assert (len(ids_in(first)), len(ids_in(second))) == (50, 3)
    assert ids_in(viewer.get(QUEUE + link_in(second, "prev"))) == ids_in(first)


def test_what_is_paused_for_long_is_paged_by_its_pause_the_longest_first(viewer) -> None:
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_pause_queue DISABLE TRIGGER USER")
        for number in range(53):
            pause = now - timedelta(hours=25 + number * 7 % 53)
            resume = now + timedelta(hours=number)
            cursor.execute(
                "UPDATE audit_pause_queue SET paused_at = %s, resume_after = %s, due_at = %s WHERE task_id = %s",
                [pause, resume, resume, task_in("paused").pk],
            )
    task_in("paused")
    wanted = [str(key) for key in PauseQueueEntry.objects.order_by("paused_at").values_list("task_id", flat=True)][:53]
    first = viewer.get(f"{QUEUE}?state=overdue")
    second = viewer.get(QUEUE + link_in(first, "next"))
    assert ids_in(first) + ids_in(second) == wanted
    assert ids_in(viewer.get(QUEUE + link_in(second, "prev"))) == ids_in(first)


def test_an_empty_queue_says_so(viewer) -> None:
    assert "Nothing is paused" in text_of(viewer.get(QUEUE))
    assert "None." in text_of(viewer.get(f"{QUEUE}?state=held"))


def test_a_deadline_and_a_time_out_say_what_they_end(viewer) -> None:
    hour = timedelta(hours=1, minutes=1)
    for action, pause in (
        ("signed", {"reason": "awaiting_approval", "resume_after": hour}),
        ("open", {"reason": "awaiting_approval"}),
        ("built", {"event": "build-1", "resume_after": hour}),
    ):
        task_in("approved", action=action, summary=action).pause(**pause)
    page = viewer.get(QUEUE).content.decode()
    cells = re.findall(r'class="audit-title"[^>]*><bdi>(\w+)<.*?class="c-due">(.*?)</td>', page, re.DOTALL)
    shown = {title: re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", cell)).strip() for title, cell in cells}
    assert shown["signed"].startswith("must be approved in 1h")
    assert shown["open"] == "when released"
    assert shown["built"].startswith("time-out in 1h")
