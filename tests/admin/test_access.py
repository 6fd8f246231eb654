"""Who may look, and that looking is all anybody can do."""

import re
from collections.abc import Callable

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.test import Client, RequestFactory, override_settings
from django.urls import NoReverseMatch, path, reverse

from audit.admin import register
from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support.factories import requested, task_in
from tests.support.pages import asking, client_of, inline_code, past, text_of

pytestmark = pytest.mark.django_db

MODELS = ("task", "executionlog", "pausequeueentry")
KINDS = ("anonymous", "staff", "viewer", "changer", "superuser")

ops = admin.AdminSite(name="ops")
register(ops)
urlpatterns = [path("ops/", ops.urls)]


@pytest.fixture
def paused() -> Task:
    return task_in("paused")


def _urls(task: Task) -> dict[str, str]:
    log = ExecutionLog.objects.filter(task_id=task.pk).order_by("id").first()
    entry = PauseQueueEntry.objects.get(task_id=task.pk)
    urls = {f"{model} list": reverse(f"admin:audit_{model}_changelist") for model in MODELS}
    urls["task"] = reverse("admin:audit_task_change", args=[task.pk])
    urls["task raw"] = reverse("admin:audit_task_raw", args=[task.pk])
    urls["log row"] = reverse("admin:audit_executionlog_change", args=[log.pk])
    urls["entry"] = reverse("admin:audit_pausequeueentry_change", args=[entry.pk])
    return urls


@pytest.mark.parametrize("kind", KINDS)
def test_only_people_with_the_view_permission_see_a_page(kind: str, paused: Task) -> None:
    client = client_of(kind)
    for name, url in _urls(paused).items():
        response = client.get(url)
        if kind == "anonymous":
            assert response.status_code == 302, name
            assert response.url.startswith("/admin/login/"), name
        elif kind == "staff":
            assert response.status_code == 403, name
        elif name in ("log row", "entry"):
            assert response.status_code == 302, name
            assert str(paused.pk) in response.url
        else:
            assert response.status_code == 200, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_every_other_method_is_refused_to_everyone(kind: str, method: str, paused: Task) -> None:
    client = client_of(kind)
    before = list(Task.objects.values())
    for name, url in _urls(paused).items():
        response = getattr(client, method)(url, {"action": "delete_selected", "_selected_action": [str(paused.pk)]})
        if kind == "anonymous":
            assert response.status_code == 302, name
            assert response.url.startswith("/admin/login/"), name
        else:
            assert response.status_code in (403, 405), name
    assert list(Task.objects.values()) == before
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_pages_that_would_change_something_do_not_exist(kind: str, model: str, paused: Task) -> None:
    client = client_of(kind)
    for page in ("add", "delete", "history"):
        with pytest.raises(NoReverseMatch):
            reverse(f"admin:audit_{model}_{page}", args=[] if page == "add" else ["1"])
    for tail in ("add/", f"{paused.pk}/delete/", f"{paused.pk}/history/"):
        url = reverse(f"admin:audit_{model}_changelist") + tail
        for response in (client.get(url, follow=True), client.post(url, {"post": "yes"}, follow=True)):
            assert "login" in response.request["PATH_INFO"] or response.status_code in (403, 404, 405), url
    assert Task.objects.filter(pk=paused.pk).exists()


@pytest.mark.parametrize("model", [Task, ExecutionLog, PauseQueueEntry])
def test_the_views_of_the_stock_admin_are_closed_when_called_directly(
    model: type, rf: RequestFactory, admin_user: object, paused: Task
) -> None:
    from django.core.exceptions import PermissionDenied

    page = admin.site.get_model_admin(model)
    for method in (rf.get, rf.post):
        request = method("/")
        request.user = admin_user
        assert page.get_actions(request) == {}
        assert page.get_model_perms(request) == {"add": False, "change": False, "delete": False, "view": True}
        views: list[Callable[[], object]] = [
            lambda request=request: page.add_view(request),
            lambda request=request: page.delete_view(request, "1"),
            lambda request=request: page.history_view(request, "1"),
            lambda request=request: page.changeform_view(request, "1"),
        ]
        for view in views:
            with pytest.raises(PermissionDenied):
                view()


@pytest.mark.parametrize("url", ["?", "?status=failed&since=7d", "?since=all&q=nothing"])
@pytest.mark.parametrize("model", MODELS)
def test_a_page_runs_read_only_and_leaves_the_transaction_as_it_was(model: str, url: str, paused: Task) -> None:
    from django.db import connection

    client = client_of("viewer")
    with asking() as asked:
        assert client.get(reverse(f"admin:audit_{model}_changelist") + url).status_code == 200
    first = next(i for i, sql in enumerate(asked.statements) if "transaction_read_only" in sql)
    assert all(asked.statements.index(sql) > first for sql in asked.data)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout'), current_setting('transaction_read_only')")
        assert cursor.fetchone() == ("0", "off")


def test_the_index_shows_the_models_to_viewers_without_add_links() -> None:
    page = client_of("viewer").get(reverse("admin:index"))
    text = text_of(page)
    assert "Tasks" in text
    assert "Pause queue" in text
    assert "/add/" not in page.content.decode()
    assert "Tasks" not in text_of(client_of("staff").get(reverse("admin:index")))


@override_settings(ROOT_URLCONF=__name__)
def test_everything_works_on_an_admin_site_of_ones_own(paused: Task) -> None:
    past(60)
    client = client_of("superuser")
    seen = set()
    todo = {f"/ops/audit/{model}/" for model in MODELS} | {"/ops/audit/task/?status=zork&since=15m", "/ops/"}
    while todo:
        url = todo.pop()
        seen.add(url)
        response = client.get(url)
        assert response.status_code in (200, 302), url
        links = re.findall(r'href="([^"]*)"', response.content.decode())
        assert not [link for link in links if link.startswith("/admin/")], url
        pages = {link for link in links if re.fullmatch(r"/ops/audit/\w+/([\w-]+/(change|raw)/)?", link)}
        todo |= set(sorted(pages - seen)[: 12 - len(seen)]) if len(seen) < 12 else set()
    assert len(seen) >= 8


@pytest.mark.parametrize(
    "url",
    [
        "task/",
        "task/?since=15m",
        "task/?status=zork",
        "executionlog/",
        "pausequeueentry/",
        "task/zork/change/",
        "{task}",
    ],
)
def test_pages_hold_nothing_a_strict_content_security_policy_refuses(url: str, paused: Task) -> None:
    past(60, status="failed", outcome={"success": False, "error_type": "E", "rows": [1, {"a": "b" * 300}]})
    failed = Task.objects.filter(status="failed")[0]
    for task in (paused, failed):
        page = client_of("superuser") if task is paused else Client()
        if task is failed:
            from django.contrib.auth.models import User

            page.force_login(User.objects.get(username="superuser"))
        response = page.get("/admin/audit/" + url.format(task=f"task/{task.pk}/change/"))
        assert inline_code(response) == []
        assert "audit/admin.css" in response.content.decode()
        assert re.search(r'<script src="/static/audit/admin\.js"[^>]* defer', response.content.decode())
        assert "jquery" not in response.content.decode()


def test_pages_of_rows_lead_to_their_place_in_the_task(paused: Task) -> None:
    client = client_of("viewer")
    urls = _urls(paused)
    log = ExecutionLog.objects.filter(task_id=paused.pk).order_by("id").first()
    assert client.get(urls["log row"]).url == f"{urls['task']}#log-{log.pk}"
    assert client.get(urls["entry"]).url == f"{urls['task']}#pause"
    page = client.get(urls["task"]).content.decode()
    assert f'id="log-{log.pk}"' in page
    assert 'id="pause"' in page


@pytest.mark.parametrize("key", ["zork", "0", "-1", "9" * 40, "٣", "01a2", "00000000-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("model", MODELS)
def test_an_address_of_nothing_is_a_404_that_says_so(model: str, key: str) -> None:
    requested()
    response = client_of("viewer").get(f"/admin/audit/{model}/{key}/change/")
    assert response.status_code == 404
    assert "Nothing in the audit trail answers to this address" in text_of(response)
    raw = client_of("changer").get(f"/admin/audit/task/{key}/raw/")
    assert raw.status_code == 404


def test_the_short_address_of_a_row_leads_to_its_page(paused: Task) -> None:
    client = client_of("viewer")
    response = client.get(f"/admin/audit/task/{paused.pk}/")
    assert response.url == reverse("admin:audit_task_change", args=[paused.pk])
    assert client.post(f"/admin/audit/task/{paused.pk}/").status_code == 405
