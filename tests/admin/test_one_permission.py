"""Readers of one kind of page, and sites that have one: nothing of the others is told, and nothing leads there."""

import json
import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings
from django.urls import path
from django.utils import timezone

from audit.events import emit_event
from audit.models import Agent, Event, ExecutionLog, LedgerVerification, PauseQueueEntry, Task
from audit.reading.filters.values import short_id
from tests.support.agents import agent
from tests.support.factories import claimed, task_in
from tests.support.pages import client_of, past, text_of

pytestmark = pytest.mark.django_db

MODELS = {
    each._meta.model_name: each for each in (Task, ExecutionLog, PauseQueueEntry, LedgerVerification, Agent, Event)
}
SECRET = "Rotate the root key"

urlpatterns = [path("admin/", admin.site.urls)]
for _name, _model in MODELS.items():
    _site = admin.AdminSite(name=f"only-{_name}")
    _site.register(_model, type(admin.site.get_model_admin(_model)))
    urlpatterns.append(path(f"only-{_name}/", _site.urls))


@pytest.fixture(autouse=True)
def paused() -> Task:
    claimed(task_in("approved", summary=SECRET), worker="w1")
    agent("w1")
    emit_event("build-42", actor="ci")
    task = task_in("paused", summary=SECRET)
    log = ExecutionLog.objects.filter(task=task).latest("id")
    now = timezone.now()
    findings = [
        {"code": "row_tampered", "message": f"The task {task.pk} was changed", "task": str(task.pk)},
        {"code": "pause_broken", "message": f"The task {str(task.pk).upper()} ({task.pk.hex}) has no entry"},
        {"code": "row_deleted", "message": "gone", "log": log.pk},
    ]
    LedgerVerification.objects.create(
        started_at=now,
        finished_at=now,
        verdict="tampering",
        size=2,
        unsealed=0,
        report={"findings": findings, "not_covered": [f"The log of {task.pk}"]},
    )
    return task


def _allowed(*models: str) -> Client:
    """A browser of somebody who may see these alone."""
    client = client_of("staff")
    names = [f"view_{each}" for each in models]
    permissions = Permission.objects.filter(content_type__app_label="audit", codename__in=names)
    User.objects.get(username="staff").user_permissions.set(permissions)
    return client


def _led(html: str, site: str = "admin") -> set[str]:
    """The models whose pages the content of a page leads to."""
    content = html.partition('id="content"')[2].partition('id="footer"')[0]
    return set(re.findall(rf'(?:href|action|value)="/{site}/audit/(\w+)/', content))


@pytest.mark.parametrize("model", MODELS)
def test_a_page_leads_nowhere_its_reader_may_not_go(model: str, paused: Task) -> None:
    client = _allowed(model)
    for url in (f"/admin/audit/{model}/", f"/admin/audit/{model}/?task={paused.pk}"):
        response = client.get(url)
        assert response.status_code == 200
        assert _led(response.content.decode()) <= {model}
        assert (SECRET in response.content.decode()) == (model == "task")
        for link in re.findall(r'href="(/admin/audit/[^"]*)"', response.content.decode()):
            assert client.get(link.replace("&amp;", "&"), follow=True).status_code == 200, link


@pytest.mark.parametrize("model", ["executionlog", "pausequeueentry", "ledgerverification", "agent"])
def test_who_may_see_tasks_too_is_reported_them_and_led_there(model: str) -> None:
    html = _allowed(model, "task").get(f"/admin/audit/{model}/").content.decode()
    assert SECRET in html
    assert "task" in _led(html)
    assert ("executionlog" in _led(html)) == (model == "executionlog")


def test_findings_about_rows_of_the_log_lead_there_for_who_may_see_both(paused: Task) -> None:
    html = _allowed("ledgerverification", "task", "executionlog").get("/admin/audit/ledgerverification/")
    assert _led(html.content.decode()) == {"ledgerverification", "task", "executionlog"}
    page = text_of(_allowed_again("ledgerverification").get("/admin/audit/ledgerverification/"))
    assert short_id(paused.pk) not in page
    assert "a task" in page
    assert "log row" in page


def test_who_may_not_see_tasks_reads_no_id_of_one_in_a_verification(paused: Task) -> None:
    key = LedgerVerification.objects.get().pk
    urls = [f"/admin/audit/ledgerverification/{each}" for each in ("", f"{key}/change/", f"{key}/report/")]

    def ids(client: Client) -> list[int]:
        pages = [client.get(url).content.decode().lower() for url in urls]
        return [sum(map(page.count, (str(paused.pk), paused.pk.hex, short_id(paused.pk)))) for page in pages]

    assert ids(_allowed("ledgerverification")) == [0, 0, 0]
    client = _allowed_again("ledgerverification", "task")
    assert min(ids(client)) >= 4
    assert json.loads(client.get(urls[2]).content)["findings"][0]["task"] == str(paused.pk)


def _allowed_again(*models: str) -> Client:
    User.objects.all().delete()
    return _allowed(*models)


def test_long_pauses_are_a_view_for_who_may_see_the_queue() -> None:
    assert "Long pauses" not in text_of(_allowed("task").get("/admin/audit/task/"))
    client = _allowed_again("task", "pausequeueentry")
    response = client.get("/admin/audit/task/")
    assert "Long pauses" in text_of(response)
    [link] = re.findall(r'href="([^"]*)"[^>]*>Long pauses', response.content.decode())
    assert client.get(link).status_code == 200


def test_the_address_of_a_row_leads_no_further_than_its_reader_may_go(paused: Task) -> None:
    log = ExecutionLog.objects.filter(task=paused).latest("id")
    client = _allowed("executionlog")
    response = client.get(f"/admin/audit/executionlog/{log.pk}/change/")
    assert response.url == f"/admin/audit/executionlog/?task={paused.pk}"
    entry = PauseQueueEntry.objects.get()
    client = _allowed_again("pausequeueentry")
    assert client.get(f"/admin/audit/pausequeueentry/{entry.pk}/change/").url == "/admin/audit/pausequeueentry/"


@pytest.mark.parametrize("model", ["executionlog", "pausequeueentry"])
def test_a_file_holds_its_own_rows_alone(model: str, paused: Task) -> None:
    client = _allowed(model)
    whole = "&since=all" if model == "executionlog" else ""
    for form in ("csv", "jsonl"):
        body = client.get(f"/admin/audit/{model}/export/?format={form}{whole}").getvalue().decode()
        assert str(paused.pk) in body
        assert SECRET not in body
    own = {each.column for each in MODELS[model]._meta.concrete_fields}
    assert set(json.loads(body.splitlines()[0])) <= own


@override_settings(ROOT_URLCONF=__name__)
@pytest.mark.parametrize("kind", ["viewer", "superuser"])
@pytest.mark.parametrize("model", MODELS)
def test_a_site_may_have_one_kind_of_page(model: str, kind: str, paused: Task) -> None:
    past(1, status="failed")
    client, home = client_of(kind), f"/only-{model}/audit/{model}/"
    response = client.get(home)
    assert response.status_code == 200
    assert _led(response.content.decode(), f"only-{model}") <= {model}
    rows = {
        "task": paused.pk,
        "executionlog": ExecutionLog.objects.filter(task=paused).latest("id").pk,
        "pausequeueentry": PauseQueueEntry.objects.get().pk,
        "ledgerverification": LedgerVerification.objects.get().pk,
        "agent": Agent.objects.get().pk,
        "event": Event.objects.get().pk,
    }
    assert client.get(f"{home}{rows[model]}/change/", follow=True).status_code == 200
