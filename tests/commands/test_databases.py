"""Which database a command works in when `--database` names none: the routers' choice, not `default`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import override_settings

from audit.checks import database
from audit.management.commands.audit_seal import Command
from audit.models import ExecutionLog, LedgerLeaf, LedgerVerification, PauseQueueEntry, Task
from tests.support.commands import outcome as run
from tests.support.ledger import VKEY, sealer

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class ToOther:
    """The usual short router: no allow_migrate, so both databases have the tables."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "audit" else None

    db_for_write = db_for_read


class ReadsOther(ToOther):
    """Reads come from another database than writes go to, as with a replica that lags for ever."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return None


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sealer(monkeypatch)
    with override_settings(DATABASE_ROUTERS=[ToOther()]):
        yield


def _work() -> Task:
    """Finish one task in the trail and pause another one; leave one in `default`, where nobody looks."""
    task = Task.objects.request("deploy", actor="alice")
    task.approve(actor="alice")
    Task.objects.claim(worker="alice")[0].complete({"success": True})
    later = Task.objects.request("drain", actor="alice")
    later.approve(actor="alice")
    later.pause(actor="alice")
    Task.objects.using("default").request("astray", actor="alice")
    return task


def test_the_sealer_and_the_verifier_work_where_the_trail_is(tmp_path: Path) -> None:
    task = _work()
    rows = 1 + ExecutionLog.objects.count()
    assert f"Sealed {rows} rows" in run("audit_seal")[2]
    assert LedgerLeaf.objects.using("other").count() == rows
    assert not LedgerLeaf.objects.using("default").exists()
    code, out, _ = run("audit_verify", "--key", VKEY)
    assert (code, f"{rows} leaves" in out) == (0, True)
    assert LedgerVerification.objects.using("other").count() == 1
    assert not LedgerVerification.objects.using("default").exists()
    assert run("audit_prove", str(task.pk), "--key", VKEY)[::2] == (0, "")
    assert f"of {rows} leaves" in run("audit_tiles", tmp_path / "tiles", "--key", VKEY)[2]


@pytest.mark.parametrize("command", ["audit_list", "audit_tail", "audit_export"])
def test_readers_read_where_the_trail_is(command: str) -> None:
    _work()
    out = run(command)[1]
    assert "deploy" in out
    assert "astray" not in out
    assert "astray" in run(command, "--database", "default")[1]


def test_what_names_a_task_finds_it_where_the_trail_is() -> None:
    task = _work()
    assert run("audit_show", str(task.pk))[0] == 0
    assert run("audit_show", str(task.pk), "--database", "default")[0] == 2
    figures = json.loads(run("audit_stats", "--format", "json")[1])["tasks"]
    assert figures == 2


def test_decisions_go_where_the_trail_is() -> None:
    _work()
    entry = PauseQueueEntry.objects.get()
    assert str(entry.task_id)[:18] in run("audit_queue", "list")[1]
    assert run("audit_queue", "resume", str(entry.pk))[0] == 0
    assert Task.objects.get(pk=entry.task_id).status == "approved"


def test_what_is_recorded_and_imported_goes_where_the_trail_is(tmp_path: Path) -> None:
    _work()
    file = tmp_path / "tasks.jsonl"
    file.write_text(run("audit_export", "--database", "default", "--search", "astray")[1])
    assert run("audit_import", "--live", file)[0] == 0
    assert run("audit_record", "--action", "backup", "--", "true")[0] == 0
    assert set(Task.objects.using("other").values_list("action", flat=True)) == {"deploy", "drain", "astray", "backup"}
    assert list(Task.objects.using("default").values_list("action", flat=True)) == ["astray"]
    with override_settings(AUDIT={"RECORD_USING": "default"}):
        run("audit_record", "--action", "apart", "--", "true")
    assert Task.objects.using("default").filter(action="apart").exists()


def test_reads_and_writes_may_be_apart() -> None:
    Task.objects.using("other").request("read", actor="alice")
    with override_settings(DATABASE_ROUTERS=[ReadsOther()]):
        written = Task.objects.using("default").request("written", actor="alice")
        written.approve(actor="alice", using="default")
        assert "read" in run("audit_list")[1]
        assert run("audit_seal")[0] == 0
        assert "0 leaves" in run("audit_verify", "--key", VKEY)[1]
    assert LedgerLeaf.objects.using("default").exists()
    assert not LedgerLeaf.objects.using("other").exists()


def test_a_refusal_names_the_database_that_the_routers_chose() -> None:
    with connections["other"].cursor() as cursor:
        cursor.execute("ALTER TABLE audit_task RENAME TO elsewhere")
    try:
        for command in (["audit_list"], ["audit_queue", "list"], ["audit_record", "--", "true"]):
            code, _, err = run(*command)
            assert code == 2, command
            assert "'default'" not in err, command
        assert "migrate --database other" in run("audit_list")[2]
    finally:
        with connections["other"].cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO audit_task")


@pytest.mark.parametrize(
    ("routers", "settings", "warned"),
    [
        pytest.param([ToOther()], {}, ["default"], id="routed-away"),
        pytest.param([], {}, [], id="no-router"),
        pytest.param([ReadsOther()], {}, [], id="read-and-written"),
        pytest.param([ToOther()], {"RECORD_USING": "default"}, [], id="recorded"),
        pytest.param([ToOther()], {"BROWSER_USING": "default"}, [], id="browsed"),
    ],
)
def test_a_check_warns_of_tables_that_the_routers_do_not_use(routers: Any, settings: Any, warned: list[str]) -> None:
    with override_settings(DATABASE_ROUTERS=routers, AUDIT=settings):
        for alias in ("default", "other"):
            found = [each.id for each in database.look([alias])]
            assert found == (["audit.W014"] if alias in warned else [])


def test_no_warning_where_there_are_no_tables() -> None:
    with transaction.atomic("default"):
        with connections["default"].cursor() as cursor:
            cursor.execute("CREATE SCHEMA empty")
            cursor.execute("SET LOCAL search_path = empty")
        assert database._unrouted("default") == []
        transaction.set_rollback(True, "default")


def test_the_help_says_which_database_it_is() -> None:
    text = " ".join(Command().create_parser("manage.py", "audit_seal").format_help().split())
    assert "default: the one that DATABASE_ROUTERS choose" in text
