"""Pages where numbers are grouped for people: what a browser or a link reads keeps its digits."""

import re
from pathlib import Path

import pytest
from django.urls import reverse

import audit
from audit.events import emit_event
from audit.ledger.verify import keep
from audit.models import ExecutionLog
from tests.support.agents import agent
from tests.support.factories import claimed, entry_of, finished, requested, sql, task_in
from tests.support.ledger import finish, sealed, verified
from tests.support.pages import AGENTS, EVENTS, OVERVIEW, STATISTICS, TASKS, client_of, past

pytestmark = pytest.mark.django_db(transaction=True)

_STYLES = sorted((Path(audit.__file__).parent / "static/audit").glob("*.css"))
_GROUPED = re.compile(r"\b\d{1,3}(,\d{3})+\b")
# Words for people, where a grouped number is right.
_WORDS = {"title", "aria-label", "placeholder", "datetime", "content"}


@pytest.fixture
def client(settings):
    settings.USE_THOUSAND_SEPARATOR = True
    # Ids beyond a thousand, as in any database that is in use.
    for table in (
        "audit_executionlog",
        "audit_pause_queue",
        "audit_ledger_verification",
        "audit_ledger_checkpoint",
        "audit_agent",
        "audit_event",
    ):
        sql("SELECT setval(pg_get_serial_sequence(%s, 'id'), 1234567)", [f"public.{table}"])
    return client_of("decider")


def _attributes(html: str) -> list[tuple[str, str]]:
    return [pair for pair in re.findall(r"""([\w-]+)=["']([^"']*)["']""", html) if pair[0] not in _WORDS]


def _grouped(response) -> list[tuple[str, str]]:
    html = response.content.decode()
    assert response.status_code == 200
    assert "audit-page" in html
    return [pair for pair in _attributes(html) if _GROUPED.search(pair[1])]


def test_no_attribute_of_any_page_holds_a_grouped_number(client) -> None:
    past(3)
    done = finished()
    waiting = task_in("paused")
    claimed(task_in("approved", priority=1))
    pending = requested()
    finish(2)
    sealed()
    keep(verified(), "default", "cli:ops")
    task = "admin:audit_task_change"
    pages = [reverse(f"admin:audit_{name}_changelist") for name in ("task", "executionlog", "pausequeueentry")]
    pages += [
        reverse("admin:audit_ledgerverification_changelist"),
        reverse("admin:audit_ledgerverification_change", args=[1234568]),
    ]
    pages += [reverse(task, args=[each.pk]) for each in (done, waiting, pending)]
    pages += [f"{pages[0]}?status=pending&service=kuma", f"{pages[1]}?since=all&task={done.pk}"]
    agent("w1")
    emit_event("build-42", {"number": 1234567})
    pages += [AGENTS, EVENTS, STATISTICS, OVERVIEW, f"{TASKS}?since=all"]
    for page in pages:
        assert _grouped(client.get(page)) == [], page
    entry = entry_of(waiting)
    for decision, item in (
        ("approve", f"{pending.pk.hex}.{pending.revision}"),
        ("defer", f"{waiting.pk.hex}.{entry.task.revision}.{entry.pk}.{entry.revision}"),
    ):
        response = client.post(reverse("admin:audit_task_decide"), {"decision": decision, "item": item})
        assert _grouped(response) == []
        assert 'maxlength="2000"' in response.content.decode()
        assert "At most 2,000 characters" in response.content.decode()


def test_a_link_to_a_row_of_the_log_leads_to_it(client) -> None:
    task = finished()
    row = ExecutionLog.objects.of(task).last()
    assert row.pk > 1_000_000
    link = client.get(reverse("admin:audit_executionlog_change", args=[row.pk]))["Location"]
    path, anchor = link.split("#")
    assert f'id="{anchor}"' in client.get(path).content.decode()


def _sided(style: str) -> list[str]:
    """The declarations that mean left or right, whichever way people read."""
    found = re.findall(r"\b(?:margin|padding|border)-(?:left|right)\b[^;]*|\b(?:left|right)\s*:[^;]*", style)
    found += re.findall(r"(?:text-align|float|clear):\s*(?:left|right)\b", style)
    for name, values in re.findall(r"\b(margin|padding|border-radius):\s*([^;}]+)", style):
        parts = values.split()
        if len(parts) == 4 and (
            parts[1] != parts[3] if name != "border-radius" else (parts[0], parts[2]) != (parts[1], parts[3])
        ):
            found.append(f"{name}: {values}")
    return found


@pytest.mark.parametrize("path", _STYLES, ids=lambda path: path.name)
def test_styles_know_the_start_and_the_end_of_a_line_and_no_left_and_right(path) -> None:
    assert _sided(path.read_text()) == []


def test_what_is_sided_is_found() -> None:
    assert len(_STYLES) >= 3
    for style in ("margin-left: 1px", "padding: 0 0 0 1rem", "border-radius: 0 4px 4px 0", "float: right", "left: 3px"):
        assert _sided(f"a {{ {style}; }}"), style
    for style in ("margin: 0 1px 0 1px", "border-radius: 0 0 4px 4px", "inset-inline-end: 0", "text-align: end"):
        assert _sided(f"a {{ {style}; }}") == [], style
