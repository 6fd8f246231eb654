"""The roles of docs/roles.md on a real server: each does what it should, and is refused what it should not do."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import ProgrammingError, connections, transaction
from django.db.utils import ConnectionHandler

from audit import emit_event, record
from audit.agents.presence import Presence
from audit.agents.pruning import prune
from audit.agents.readings import Reading
from audit.ids import uuid7
from audit.inspection.rights import NEEDED, missing_right
from audit.ledger.tlog import keys
from audit.models import LedgerVerification, PauseQueueEntry, Task
from audit.recovery import recover
from tests.support import servers
from tests.support.commands import outcome
from tests.support.deciding import form_of, token
from tests.support.ledger import KEY, VKEY
from tests.support.pages import client_of, text_of
from tests.support.sealed import connect, migrate

DOCS = Path(__file__).resolve().parents[2] / "docs" / "roles.md"
SCRIPTS = {
    re.search(r"CREATE ROLE audit_(\w+)", each)[1]: each
    for each in re.findall(r"```sql\n(CREATE ROLE.*?)```", DOCS.read_text(), re.DOTALL)
}
[MORE] = re.findall(r"```sql\n(GRANT .*?)```", DOCS.read_text(), re.DOTALL)
READING = {
    "list": ["audit_list"],
    "show": ["audit_show", "TASK"],
    "stats": ["audit_stats"],
    "queue": ["audit_queue", "list"],
    "export": ["audit_export"],
    "check": ["check", "--database"],
}
PAGES = [
    "task/",
    "task/TASK/change/",
    "executionlog/",
    "pausequeueentry/",
    "ledgerverification/",
    "task/export/?format=csv",
]


@pytest.fixture(scope="module")
def server(django_db_blocker: Any) -> Iterator[Any]:
    """A server whose tables one role owns, with the roles of the docs."""
    with servers.throwaway() as made, django_db_blocker.unblock():
        migrate(made)
        with connect(made) as owner:
            for script in (*SCRIPTS.values(), MORE):
                owner.execute(script)
        yield made


@pytest.fixture
def role(server: Any, django_db_blocker: Any) -> Iterator[Any]:
    """A function that opens an alias under a role, named after it."""
    opened = []

    def open_as(name: str) -> str:
        if name in opened:
            return name
        given = servers.database_settings(server) | ({"USER": f"audit_{name}"} if name != "owner" else {})
        connections.settings[name] = ConnectionHandler({"default": given}).settings["default"]
        opened.append(name)
        return name

    with django_db_blocker.unblock():
        yield open_as
        for name in opened:
            connections[name].close()
            with contextlib.suppress(AttributeError):
                del connections[name]
            del connections.settings[name]


@pytest.fixture
def settled(server: Any, role: Any, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A finished, sealed and verified task, and one that waits."""
    monkeypatch.delenv(keys.FILE_VARIABLE, raising=False)
    monkeypatch.setenv(keys.KEY_VARIABLE, KEY.secret())
    using = role("owner")
    task = Task.objects.using(using).request("deploy", summary="to be seen", actor="alice")
    task.approve(actor="bob")
    [claimed] = Task.objects.using(using).claim("worker")
    claimed.complete(outcome={"done": True})
    waiting = Task.objects.using(using).request("wait", actor="alice")
    waiting.approve(actor="bob")
    waiting.pause()
    assert outcome("audit_seal", "--database", using)[0] == 0
    assert outcome("audit_verify", "--key", VKEY, "--database", using)[0] == 0
    return task


def _command(words: list[str], task: Task, using: str) -> tuple[int, str, str]:
    words = [str(task.pk) if each == "TASK" else each for each in words]
    if words[0] == "check":
        return outcome("check", "--database", using)
    return outcome(*words, "--database", using)


def _refused(server: Any, name: str, statement: str) -> str:
    with connect(server) as session:
        session.execute(f"SET SESSION AUTHORIZATION audit_{name}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
            session.execute(statement)
    return str(caught.value)


def test_the_docs_have_a_script_for_each_role() -> None:
    assert sorted(SCRIPTS) == ["app", "auditor", "sealer", "viewer"]


@pytest.mark.parametrize("name", ["app", "auditor", "viewer"])
@pytest.mark.parametrize("words", READING.values(), ids=READING)
def test_every_command_that_reads(words: list[str], name: str, settled: Task, role: Any) -> None:
    code, _, err = _command(words, settled, role(name))
    assert (code, "lacks" in err) == (0, False), err


def test_the_application_does_its_work(server: Any, role: Any, settled: Task, tmp_path: Path) -> None:
    using = role("app")
    tasks = Task.objects.using(using)
    tasks.bulk_request([{"action": "deploy"}] * 2)
    work = tasks.request("deploy", actor="alice")
    work.approve(actor="bob")
    work.note("on its way", actor="carol")
    [claimed] = tasks.filter(pk=work.pk).claim("worker")
    claimed.heartbeat()
    claimed.pause(reason="insufficient_capacity", work_plan={"rest": 1})
    entry = PauseQueueEntry.objects.using(using).get(task_id=work.pk)
    entry.hold()
    entry.release()
    entry.resume(actor="bob")
    [claimed] = tasks.filter(pk=work.pk).claim("worker")
    claimed.complete()
    with record("nightly", using=using):
        pass
    assert outcome("audit_record", "--database", using, "--action", "nightly", "--", "true")[0] == 0
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps({"id": str(uuid7()), "action": "imported", "status": "completed"}))
    code, _, err = outcome("audit_import", file, "--database", using)
    assert code == 0, err
    for statement in (
        "INSERT INTO audit_ledger_leaf (index, epoch, salt, leaf_hash) VALUES (9, 1, '', '')",
        "UPDATE audit_ledger_head SET size = 0",
        "DELETE FROM audit_ledger_checkpoint",
        "UPDATE audit_executionlog SET actor = 'eve'",
        "DELETE FROM audit_task",
        "TRUNCATE audit_task CASCADE",
        "ALTER TABLE audit_task DISABLE TRIGGER ALL",
        "INSERT INTO audit_ledger_verification (started_at) VALUES (now())",
    ):
        _refused(server, "app", statement)


def test_the_application_works_with_events_and_agents(server: Any, role: Any, settled: Task) -> None:
    using = role("app")
    tasks = Task.objects.using(using)
    presence = Presence("w1", using=using)
    presence.register()
    presence.beat(Reading(source="host", cpu=0.5, memory=0.5))
    for command in ("drain", "undrain"):
        reason = ["--reason", "new disks"] if command == "drain" else []
        assert outcome("audit_agents", command, "w1", *reason, "--database", using)[0] == 0
    work = tasks.request("release")
    work.approve()
    [claimed] = tasks.filter(pk=work.pk).claim("w1")
    claimed.pause(event="built")
    emit_event("built", {"sha": "abc"}, using=using)
    [claimed] = tasks.filter(pk=work.pk).claim("w1")
    assert claimed.awaited_event().payload == {"sha": "abc"}
    assert recover(using=using).total == 0
    prune(using)
    presence.withdraw()
    for name in ("app", "viewer"):
        code, out, err = outcome("audit_agents", "list", "--database", role(name))
        assert (code, "w1" in out) == (0, True), err
    assert outcome("audit_resume", "--database", using)[0] == 0
    for statement in ("UPDATE audit_event SET payload = NULL", "DELETE FROM audit_event"):
        _refused(server, "app", statement)
    with connect(server) as session:
        session.execute("SET SESSION AUTHORIZATION audit_app")
        with pytest.raises(psycopg.IntegrityError):
            session.execute("DELETE FROM audit_pause_queue")
    _refused(server, "viewer", "DELETE FROM audit_agent")


def test_the_sealer_seals_and_writes_nothing_else(server: Any, role: Any, settled: Task, tmp_path: Path) -> None:
    Task.objects.using("owner").bulk_record([{"action": "later", "status": "completed"}])
    code, _, err = outcome("audit_seal", "--database", role("sealer"), "--checkpoints", tmp_path, "--first-export")
    assert (code, "Sealed 2 rows" in err) == (0, True), err
    for statement in (
        "UPDATE audit_task SET summary = 'eve'",
        "INSERT INTO audit_executionlog (kind) VALUES ('note')",
        "UPDATE audit_ledger_leaf SET epoch = 9",
        "DELETE FROM audit_ledger_tile",
        "SELECT FROM audit_pause_queue",
    ):
        _refused(server, "sealer", statement)


def test_the_auditor_verifies_and_proves(server: Any, role: Any, settled: Task, tmp_path: Path) -> None:
    using = role("auditor")
    before = LedgerVerification.objects.using("owner").count()
    code, out, err = outcome("audit_verify", "--key", VKEY, "--database", using)
    assert (code, err) == (0, ""), out
    assert LedgerVerification.objects.using("owner").count() == before + 1
    assert outcome("audit_prove", settled.pk, "--with-log", "--key", VKEY, "--database", using)[0] == 0
    assert outcome("audit_tiles", tmp_path, "--database", using)[0] == 0
    for statement in (
        "UPDATE audit_task SET summary = 'eve'",
        "UPDATE audit_ledger_head SET size = 0",
        "UPDATE audit_ledger_verification SET verdict = 'intact'",
    ):
        _refused(server, "auditor", statement)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["app", "viewer"])
def test_every_page(name: str, role: Any, settled: Task, settings: Any) -> None:
    settings.AUDIT = {"BROWSER_USING": role(name), "LEDGER_VERIFIERS": [VKEY]}
    client = client_of("viewer")
    for page in [*PAGES, "task/TASK/proof/"]:
        response = client.get(f"/admin/audit/{page.replace('TASK', str(settled.pk))}")
        assert response.status_code == 200, page
        if not response.streaming:
            assert "lacks" not in text_of(response)
            assert "took too long" not in text_of(response)


def test_a_viewer_writes_nothing_and_reads_which_right_it_lacks(
    server: Any, role: Any, settled: Task, settings: Any
) -> None:
    using = role("viewer")
    settings.DATABASE_ROUTERS = [Elsewhere()]
    code, _, err = outcome("audit_record", "--database", using, "--action", "nightly", "--", "true")
    assert code
    assert "role audit_viewer lacks INSERT or UPDATE on table audit_task" in err
    waiting = Task.objects.using("owner").filter(status="paused").first()
    code, _, err = outcome("audit_queue", "resume", waiting.pk, "--database", using)
    assert code in (1, 2)
    assert "role audit_viewer lacks INSERT or UPDATE on table audit_task" in err
    code, _, err = outcome("audit_verify", "--key", VKEY, "--database", using)
    assert code == 0
    assert "role audit_viewer lacks INSERT on table audit_ledger_verification" in err
    code, _, err = outcome("audit_seal", "--database", using)
    assert code == 2
    assert "role audit_viewer lacks INSERT or UPDATE on table audit_ledger_head" in err
    _refused(server, "viewer", "UPDATE audit_pause_queue SET held = true")


# What is missing is named


def _without(server: Any, name: str, statement: str) -> contextlib.AbstractContextManager[None]:
    @contextlib.contextmanager
    def revoked() -> Iterator[None]:
        with connect(server) as owner:
            owner.execute(f"REVOKE {statement} FROM audit_{name}")
            yield
            owner.execute(f"GRANT {statement} TO audit_{name}")

    return revoked()


@pytest.mark.parametrize(
    ("name", "statement", "words"),
    [
        ("viewer", "SELECT ON audit_task", ["audit_list"]),
        ("viewer", "SELECT ON audit_ledger_leaf", ["audit_show", "TASK"]),
        ("viewer", "SELECT ON audit_pause_queue", ["audit_queue", "list"]),
        ("auditor", "SELECT ON audit_ledger_epoch", ["audit_verify", "--key", VKEY]),
        ("auditor", "SELECT ON audit_ledger_tile", ["audit_prove", "TASK", "--key", VKEY]),
        ("sealer", "SELECT ON audit_executionlog", ["audit_seal"]),
        ("sealer", "INSERT ON audit_ledger_head", ["audit_seal"]),
    ],
)
def test_commands_name_the_missing_right(
    name: str, statement: str, words: list[str], server: Any, role: Any, settled: Task
) -> None:
    right, _, table = statement.partition(" ON ")
    with _without(server, name, statement):
        code, _, err = _command(words, settled, role(name))
    assert code == 2
    assert f"role audit_{name} lacks {right} on table {table}." in err
    assert f"GRANT {right} ON table {table} TO audit_{name};" in err


def test_a_schema_that_may_not_be_used_is_named(server: Any, role: Any, settled: Task) -> None:
    with connect(server) as owner:
        owner.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    with _without(server, "viewer", "USAGE ON SCHEMA public"):
        code, _, err = outcome("audit_list", "--database", role("viewer"))
    assert code == 2
    assert "role audit_viewer lacks USAGE on schema public." in err


def test_the_check_names_the_missing_right(server: Any, role: Any, settled: Task) -> None:
    using = role("auditor")
    with _without(server, "auditor", "SELECT ON audit_ledger_head"):
        _, _, err = outcome("check", "--database", using)
    assert "(audit.W002) Whether the sealer of 'auditor' is behind is not known: role audit_auditor lacks SELECT" in err
    with _without(server, "auditor", "SELECT ON django_migrations"):
        code, _, err = outcome("check", "--database", using)
        assert (code, re.findall(r"audit\.\w+", err)) == (0, ["audit.W003", "audit.W020"]), err
        assert outcome("audit_verify", "--key", VKEY, "--database", using)[0] == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("table", "page", "status"),
    [
        ("audit_task", "task/", 503),
        ("audit_executionlog", "executionlog/", 503),
        ("audit_ledger_leaf", "task/", 200),
        ("audit_ledger_verification", "ledgerverification/", 200),
        ("audit_ledger_checkpoint", "ledgerverification/", 200),
        ("audit_ledger_epoch", "ledgerverification/", 200),
        ("audit_pause_queue", "pausequeueentry/", 200),
        ("audit_task", "task/TASK/change/", 503),
        ("audit_ledger_leaf", "task/TASK/change/", 200),
        ("audit_ledger_tile", "task/TASK/proof/", 409),
    ],
)
def test_pages_name_the_missing_right(
    table: str, page: str, status: int, server: Any, role: Any, settled: Task, settings: Any
) -> None:
    settings.AUDIT = {"BROWSER_USING": role("viewer"), "LEDGER_VERIFIERS": [VKEY]}
    client = client_of("viewer")
    with _without(server, "viewer", f"SELECT ON {table}"):
        response = client.get(f"/admin/audit/{page.replace('TASK', str(settled.pk))}")
    assert response.status_code == status
    assert f"role audit_viewer lacks SELECT on table {table}." in text_of(response)
    assert "took too long" not in text_of(response)


class Elsewhere:
    """Sends the trail to the viewer's alias."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "viewer" if model._meta.app_label == "audit" else None

    db_for_write = db_for_read


@pytest.mark.django_db(transaction=True)
def test_a_decision_names_the_missing_right(role: Any, settled: Task, settings: Any) -> None:
    task = Task.objects.using("owner").request("restart", actor="alice")
    role("viewer")
    settings.DATABASE_ROUTERS = [Elsewhere()]
    client = client_of("decider")
    url = "/admin/audit/task/decide/"
    asked = client.post(url, {"decision": "approve", "item": token(task)})
    response = client.post(url, form_of(asked, "audit-reason") | {"reason": "it is due"}, follow=True)
    shown = text_of(response)
    assert "role audit_viewer lacks INSERT or UPDATE on table audit_task" in shown, shown[-3000:]
    assert Task.objects.using("owner").get(pk=task.pk).status == "pending"


def test_a_right_is_named_when_the_transaction_is_over(role: Any, settled: Task) -> None:
    using = role("viewer")
    with transaction.atomic(using=using):
        with pytest.raises(ProgrammingError) as caught:
            connections[using].cursor().execute("UPDATE audit_task SET summary = ''")
        assert missing_right(caught.value, using) == ""
        transaction.set_rollback(True, using=using)
    named = missing_right(caught.value, using)
    assert named.startswith("role audit_viewer lacks INSERT or UPDATE on table audit_task. ")
    assert missing_right(ValueError("permission denied for table audit_task"), using) == ""


def test_each_table_is_known_with_the_rights_that_the_docs_grant() -> None:
    granted: dict[str, set[str]] = {}
    scripts = "".join([*SCRIPTS.values(), MORE])
    for rights, tables in re.findall(r"GRANT ([A-Z, ]+) ON (?!SCHEMA)([\w,\s]+?) TO", scripts):
        for table in re.split(r",\s*", tables):
            granted.setdefault(table, set()).update(rights.split(", "))
    assert granted == {table: set(rights) for table, rights in NEEDED.items()}


def test_the_sequences_of_the_docs_are_those_there_are_and_those_that_are_behind_are_named(
    server: Any, role: Any, settled: Task
) -> None:
    statements = re.findall(r"^ *SELECT setval.*;$", DOCS.with_name("reference.md").read_text(), re.MULTILINE)
    with connect(server) as owner:
        for each in statements:
            owner.execute(each)
        found = owner.execute(
            "SELECT table_name FROM information_schema.columns WHERE table_name LIKE 'audit%' AND is_identity = 'YES'"
        ).fetchall()
        assert "audit.W018" not in outcome("check", "--database", "owner")[2]
        for sequence, table in re.findall(r"(pg_get_serial_sequence\('(\w+)', 'id'\))", "".join(statements)):
            if owner.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,):
                continue
            owner.execute(f"SELECT setval({sequence}, 1, false)")
            _, _, err = outcome("check", "--database", "owner")
            assert f"(audit.W018) The sequence of {table} in 'owner' is at its beginning" in err
            owner.execute(f"SELECT setval({sequence}, (SELECT max(id) FROM {table}))")
    assert sorted(re.findall(r"sequence\('(\w+)'", "".join(statements))) == sorted(name for (name,) in found)
