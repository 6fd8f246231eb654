"""Pages where numbers are grouped for people: what a browser or a link reads keeps its digits."""

import re

import pytest
from django.urls import reverse

from audit.ledger.verify import keep
from audit.models import ExecutionLog
from tests.factories import claimed, entry_of, finished, requested, sql, task_in
from tests.ledger import finish, sealed, verified
from tests.pages import client_of, past

pytestmark = pytest.mark.django_db(transaction=True)

_GROUPED = re.compile(r"\b\d{1,3}(,\d{3})+\b")
# Words for people, where a grouped number is right.
_WORDS = {"title", "aria-label", "placeholder", "datetime", "content"}


@pytest.fixture
def client(settings):
    settings.USE_THOUSAND_SEPARATOR = True
    # Ids beyond a thousand, as in any database that is in use.
    for table in ("audit_executionlog", "audit_pause_queue", "audit_ledger_verification", "audit_ledger_checkpoint"):
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
