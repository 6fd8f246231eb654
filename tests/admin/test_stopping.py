"""Asking executing work to stop, from its page: who may, what is said before and after, what counts as seen."""

import re

import pytest
from django.test import Client

from audit.models import ExecutionLog, Task
from tests.support.deciding import URL, form_of, messages_of, sent
from tests.support.factories import claimed, log_of, task_in, unchanged
from tests.support.pages import TASKS, client_of, inline_code, text_of

pytestmark = pytest.mark.django_db


def _page(task: Task) -> str:
    return f"{TASKS}{task.pk}/change/"


def _offered(client: Client, task: Task) -> list[str]:
    return re.findall(r'name="decision" value="(\w+)"', client.get(_page(task)).content.decode())


def test_from_the_page_to_the_confirmation_and_back(decider: Client) -> None:
    task = claimed(task_in("approved"), worker="w7")
    form = form_of(decider.get(_page(task)), "audit-decide") | {"decision": "request_cancel"}
    with unchanged(task):
        asked = decider.post(URL, form)
    text = text_of(asked)
    assert "Ask this task to stop?" in text
    assert "learns of it with its next heartbeat" in text
    assert "Reason required" in text
    confirmed = form_of(asked, "audit-reason")
    with unchanged(task):
        assert "Give a reason" in text_of(decider.post(URL, confirmed | {"reason": " "}))
    # It goes on to send heartbeats meanwhile.
    task.heartbeat()
    answer = decider.post(URL, confirmed | {"reason": "the window closes"})
    assert messages_of(decider, answer) == ["success: “Deploy Uptime Kuma”: asked to stop."]
    page = decider.get(_page(task))
    banner = re.search(r'<p class="audit-banner t-paused">(.*?)</p>', page.content.decode(), re.S)[1]
    said = " ".join(re.sub(r"<[^>]*>", " ", banner).split())
    assert said.startswith("decider asked this work to stop, just now. the window closes w7 learns of it")
    assert inline_code(page) == []
    assert task.heartbeat() is True
    assert _offered(decider, task) == []
    again = decider.post(URL, confirmed)
    assert "It was asked to stop already." in text_of(again)


def test_the_first_who_asked_under_this_claim_is_named(viewer: Client) -> None:
    task = claimed(task_in("approved"), worker="w7")
    task.request_cancel(reason="first", actor="maria")
    task.request_cancel(reason="second", actor="eve")
    text = text_of(viewer.get(_page(task)))
    assert "maria asked this work to stop" in text
    assert "eve asked" not in text
    task.complete({"output_summary": "stopped early"})
    assert "asked this work to stop" not in text_of(viewer.get(_page(task)))


def test_work_under_another_claim_is_not_what_was_seen(decider: Client) -> None:
    task = claimed(task_in("approved"))
    confirmed = sent("request_cancel", task)
    task.release(actor="orch-1")
    claimed(task, worker="orch-2")
    with unchanged(task):
        answer = decider.post(URL, confirmed)
        [message] = messages_of(decider, answer)
    assert "It changed since you opened it: now executing, by orch-2." in message
    asked = decider.post(URL, {key: value for key, value in confirmed.items() if key != "confirmed"})
    assert "It changed since you opened it: now executing, by orch-2." in text_of(asked)


def test_work_that_ended_meanwhile_stays_as_it_ended(decider: Client) -> None:
    task = claimed(task_in("approved"))
    confirmed = sent("request_cancel", task)
    task.complete({"output_summary": "up"})
    with unchanged(task):
        [message] = messages_of(decider, decider.post(URL, confirmed))
    assert "now completed" in message
    for status, reason in (("pending", "this is pending"), ("completed", "this is completed")):
        other = task_in(status)
        given = {key: value for key, value in sent("request_cancel", other).items() if key != "confirmed"}
        assert f"Only executing work can be asked to stop; {reason}." in text_of(decider.post(URL, given))


@pytest.mark.parametrize("kind", ["viewer", "staff", "blind"])
def test_who_may_not_decide_is_not_offered_it_and_cannot_do_it(kind: str) -> None:
    task = claimed(task_in("approved"))
    client = client_of(kind)
    if kind == "viewer":
        assert _offered(client, task) == []
    with unchanged(task):
        assert client.post(URL, sent("request_cancel", task)).status_code == 403
    assert not ExecutionLog.objects.of(task).filter(action="request-cancel").exists()
    assert len(log_of(task)) == 3
