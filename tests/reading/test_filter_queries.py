"""Filters applied: what they find and by which index, and what the beginning of an id finds."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from audit.exceptions import InvalidFilter
from audit.ids import uuid7
from audit.models import Task
from audit.reading.filters import TaskFilter
from audit.reading.filters.lookup import NotFound, find_entry, find_task
from audit.values.failures import failure_class

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def record(days_ago, **given):
    at = NOW - timedelta(days=days_ago)
    columns = {"id": uuid7(at), "action": "deploy", "status": "completed", "created_at": at, "finished_at": at} | given
    [key] = Task.objects.bulk_record([columns])
    return key


@pytest.fixture
def tasks(db):
    a = record(1, services=["dns", "kuma"], requested_by="alice", summary="Deploy 100% of it")
    return {
        "a": a,
        "b": record(
            2,
            services=["dns"],
            status="failed",
            decided_by="alice",
            outcome={
                "error_type": "Boom",
                "exit": {"code": 1},
                "flags": [True],
                "output_summary": "<b>/etc/nginx.conf</b>: refused by peer_1",
            },
            parent=a,
        ),
        "c": record(
            3,
            action="backup",
            actor="alice",
            correlation_id="Req-7",
            status="rejected",
            finished_at=NOW,
            plan={"0": "zero", "it's": {'"': 1}},
        ),
        "d": record(4, action="restart", summary="again", services=["mail"], actor="bob"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "abcd"),
        ("status:completed", "ad"),
        ("status:failed status:rejected", "bc"),
        ("status:live", ""),
        ("service:dns", "ab"),
        ("service:dns service:kuma", "a"),
        ("any-service:kuma any-service:mail", "ad"),
        ("service:dns any-service:kuma any-service:mail", "a"),
        ("action:deploy", "ab"),
        ("action:backup action:restart", "cd"),
        ("actor:alice", "abc"),
        ("actor:alice actor:bob", "abcd"),
        ("since:2026-05-30T12:00:00Z", "ab"),
        ("until:2026-05-30T12:00:00Z", "cd"),
        ("since:all", "abcd"),
        ("finished-since:2026-06-01T00:00:00Z", "c"),
        ("finished-until:2026-06-01T00:00:00Z", "abd"),
        ("correlation_id:Req-7", "c"),
        ("correlation_id:req-7", ""),
        ("error_type:Boom", "b"),
        ("error_type:Boom error_type:Bang", "b"),
        ("outcome.error_type:Boom", "b"),
        ("outcome.exit.code:1", "b"),
        ("outcome.exit.code:2", ""),
        ("outcome.flags.0:true", "b"),
        ("plan.0:zero", "c"),
        ("100%", "a"),
        ("DEPLOY", "ab"),
        ("deploy of", "a"),
        ("req-7", "c"),
        ('"it of"', ""),
        ("depl", "ab"),
        ("eploy", ""),
        ('"100% of"', "a"),
        ("100-of.it", "a"),
        ("100-of.i", ""),
        ("of 100%", "a"),
        ('"of 100%"', ""),
        ("7", "c"),
        ("peer", "b"),
        ("nginx.conf", "b"),
        ("refused", "b"),
        ("<b", "b"),
        ("ba", ""),
        ("bac", "c"),
        ("/etc/ngi", "b"),
        ("status:failed service:dns actor:alice error_type:Boom", "b"),
        ("status:completed error_type:Boom", ""),
    ],
)
def test_apply(tasks, text, expected):
    found = set(TaskFilter.from_text(text).apply(Task.objects.all()).values_list("id", flat=True))
    assert found == {tasks[name] for name in expected}


def test_apply_ids_and_parents(tasks):
    a, b = tasks["a"], tasks["b"]

    def found(**given):
        return set(TaskFilter(**given).apply(Task.objects.all()).values_list("id", flat=True))

    assert found(ids=(str(a),)) == {a}
    assert found(ids=(str(a)[:13], b.hex[:12])) == {a, b}
    assert found(ids=("0",)) == set(tasks.values())
    assert found(ids=("f",)) == set()
    assert found(parents=(a,)) == {b}


def test_values_longer_than_an_index_holds_are_stored_and_found(db):
    long = {name: record(1, outcome={"error_type": "é" * 500 + name}) for name in ("a", "b")}
    words = " ".join(f"w{number}" for number in range(300_000))
    huge = record(1, summary="y" * 16_384, correlation_id="c" * 500, outcome={"output_summary": words})
    record(1, summary="y" * 5000, action="a" * 100)

    def found(**given):
        return set(TaskFilter(**given).apply(Task.objects.all()).values_list("id", flat=True))

    assert found(error_types=("é" * 500 + "a",)) == {long["a"]}
    assert found(error_types=("é" * 500 + "a", "é" * 500 + "b")) == set(long.values())
    assert found(error_types=("é" * 200,)) == set()
    assert found(words=("w77",)) == {huge}
    assert found(words=("w299999",)) == set()


def test_a_filter_narrows_a_claim(db):
    for service in ("dns", "mail"):
        Task.objects.request("deploy", services=[service], actor="x").approve(actor="y")
    wanted = TaskFilter.from_text("service:mail deploy actor:y")
    [claimed] = wanted.apply(Task.objects.all()).claim(worker="w", limit=5)
    assert claimed.services_touched == ["mail"]


ACTORS = ("requested_by", "decided_by", "actor")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("service:dns service:kuma", "audit_task_services_gin"),
        ("any-service:dns any-service:kuma", "audit_task_services_gin"),
        ("action:deploy action:backup", "audit_task_action"),
        ("status:failed status:pending since:1d", "audit_task_status_created"),
        ("since:1d", "audit_task_created"),
        ("finished-since:1d", "audit_task_finished"),
        ("correlation_id:a correlation_id:b", "audit_task_correlation"),
        ("id:0190abcd id:0190abce", "audit_task_pkey"),
        ("parent:0190abcd-1234-7abc-8def-0123456789ab", "audit_task_parent"),
        ("actor:alice", "audit_task_decided_by"),
        ("actor:alice actor:bob", "audit_task_decided_by"),
        ("actor:alice actor:bob", "audit_task_requested_by"),
        ("actor:alice actor:bob", "audit_task_actor"),
        ("word", "audit_task_words"),
        ('"several words" deploy', "audit_task_words"),
        ("error_type:Boom error_type:Bang", "audit_task_error_type"),
        (f"error_type:{'x' * 300}", "audit_task_error_type"),
    ],
)
def test_an_index_can_serve_it(db, text, index):
    # On few rows the planner's choice is chance, so that it gets none: the others are gone until the rollback.
    kept = {"audit_task_pkey", index} | ({f"audit_task_{name}" for name in ACTORS} if "actor:" in text else set())
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'audit_task'")
        for (name,) in cursor.fetchall():
            if name not in kept:
                cursor.execute(f"DROP INDEX {name}")
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = TaskFilter.from_text(text).apply(Task.objects.all()).explain()
    assert "Seq Scan" not in plan
    assert re.search(rf"Index Scan (on|using) {index}\b.*\n\s*Index Cond: ", plan)


class TestLookup:
    def test_a_task_by_id_or_beginning(self, tasks):
        every = Task.objects.all()
        assert find_task(str(tasks["a"]), every).pk == tasks["a"]
        assert find_task(tasks["a"].hex[:12], every).pk == tasks["a"]

    def test_none_or_several(self, tasks):
        every = Task.objects.all()
        with pytest.raises(
            NotFound, match=r"^No task in database 'default' has an id that begins with ffff\. "
        ) as caught:
            find_task("ffff", every)
        assert (caught.value.value, caught.value.problem[:15]) == ("ffff", "begins no task ")
        whole = "01a2240f-1ece-7e61-a47e-bb6cec88e34a"
        with pytest.raises(NotFound, match=rf"^No task {whole} in database 'default'\.$"):
            find_task(whole.upper(), every)
        with pytest.raises(NotFound, match=r"^'zz' is not a task id: write a UUID or its first hexadecimal digits\.$"):
            find_task("zz", every)
        with pytest.raises(NotFound, match=r"^--before: 'zz' is not a task id: "):
            find_task("zz", every, "--before")
        with pytest.raises(
            NotFound, match=r"^Several tasks have an id that begins with 0\. Write more of it: "
        ) as caught:
            find_task("0", every)
        assert all(str(key) in str(caught.value) for key in tasks.values())
        for days in range(10, 20):
            record(days)
        with pytest.raises(InvalidFilter, match=", …"):
            find_task("0", every)

    def test_an_entry_by_number_or_task(self, db):
        task = Task.objects.request("deploy", actor="x")
        task.approve(actor="y")
        with pytest.raises(
            NotFound, match=rf"^Task {task.pk} is approved and not paused; audit_decide pause pauses it\.$"
        ):
            find_entry(str(task.pk), "default")
        entry = task.pause(reason="manual_pause", actor="z")
        assert find_entry(str(entry.pk), "default") == entry
        assert find_entry(str(task.pk), "default") == entry
        assert find_entry(task.pk.hex[:20], "default").task == task
        with pytest.raises(NotFound, match=f"The pause queue of database 'default' has no entry {entry.pk + 1}."):
            find_entry(str(entry.pk + 1), "default")
        with pytest.raises(NotFound, match="is not a task id"):
            find_entry("9" * 33, "default")


@pytest.mark.django_db
class TestFailureClass:
    def _failed(self, **values):
        [key] = Task.objects.bulk_record([{"action": "work", "actor": "x", "status": "failed", **values}])
        return key

    def test_each_failed_task_is_in_exactly_one_class(self):
        lacking = self._failed(outcome={"error_type": "MemoryError"})
        broken = self._failed(outcome={"error_type": "ValueError"})
        silent, bare = self._failed(outcome={"success": False}), self._failed()
        self._failed(status="completed", outcome={"error_type": "MemoryError"})
        self._failed(status="rejected", outcome={"error_type": "MemoryError"})

        def found(text):
            return set(TaskFilter.from_text(text).apply(Task.objects.all()).values_list("id", flat=True))

        assert found("failure:resource") == {lacking}
        assert found("failure:Application") == {broken, silent, bare}
        assert found("failure:resource failure:application") == {lacking, broken, silent, bare}
        for key in (lacking, broken, silent, bare):
            task = Task.objects.get(pk=key)
            kind = failure_class(task.status, (task.outcome or {}).get("error_type"))
            assert key in found(f"failure:{kind}")

    def test_settings_add_error_types(self, settings):
        key = self._failed(outcome={"error_type": "NoSeatLeft"})
        wanted = TaskFilter(failures=("resource",))
        assert not wanted.apply(Task.objects.all())
        settings.AUDIT = {"RESOURCE_ERRORS": ["NoSeatLeft"]}
        assert wanted.apply(Task.objects.all()).get().pk == key

    def test_it_is_read_and_written_everywhere(self):
        wanted = TaskFilter(failures=("resource",))
        assert TaskFilter.from_text(wanted.to_text()) == wanted
        assert TaskFilter.from_query(wanted.to_query()) == wanted
        assert TaskFilter.from_options({"failure": ["resource"]}) == wanted
        with pytest.raises(InvalidFilter, match="is not a class of failures; use one of resource, application"):
            TaskFilter.from_text("failure:zork")
