"""The page about Django's Tasks framework does what it says."""

import importlib
from types import SimpleNamespace

import pytest

from audit.contrib.django_tasks import framework
from audit.models import Task
from tests.support.documents import PAGES, blocks
from tests.support.worker import run_all

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_page(settings, tmp_path, monkeypatch) -> None:
    configured, tasks, named = (
        each.code for each in blocks(PAGES["docs/django-tasks.md"].read_text("utf-8")) if each.language == "python"
    )
    made: dict = {}
    exec(configured, made)
    settings.TASKS = made["TASKS"]
    (tmp_path / "page_shop").mkdir()
    (tmp_path / "page_shop" / "tasks.py").write_text(
        tasks.replace("from django.tasks import", f"from {framework.home()} import"), "utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    shop = importlib.import_module("page_shop.tasks")
    receipt, refund = shop.send_receipt.enqueue(17), shop.refund.enqueue(17)
    row = Task.objects.get(pk=refund.id)
    assert (row.action, row.status, row.services_touched) == ("task:page_shop.tasks.refund", "pending", ["billing"])
    assert row.plan["policy"] == {"max_attempts": 3, "timeout": 60.0}
    assert Task.objects.get(pk=receipt.id).decided_by == "audit:django-tasks"
    assert row.requested_by == ""
    request = SimpleNamespace(user=SimpleNamespace(get_username=lambda: "alice"))
    exec(named, {"refund": shop.refund, "request": request})
    Task.objects.get(requested_by="alice").reject(actor="carol")
    row.approve(actor="carol")
    variables = {"DJANGO_SETTINGS_MODULE": "tests.support.tasking.settings", "PYTHONPATH": f"{tmp_path}:."}
    run_all("--actions", "task:*", variables=variables)
    for each in (receipt, refund):
        each.refresh()
        assert each.return_value is None
