"""Questions to tasks, claims on filtered querysets, and the verbs that work on many tasks at once."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import Count, F, Q
from django.utils import timezone

from audit import record
from audit.context import actor
from audit.exceptions import AuditError, InvalidValue, TaskFrozen
from audit.ids import uuid7
from audit.models import ExecutionLog, Task
from audit.status import FINISHED, LIVE, Status
from tests.support.factories import assert_same, finished, log_of, requested, sql, task_in, unchanged

pytestmark = pytest.mark.django_db

AGO = datetime(2024, 5, 6, tzinfo=UTC)


def _approved(**values):
    return task_in(Status.APPROVED, **values)


def test_touching_means_all_and_touching_any_at_least_one():
    both = requested(services=["kuma", "dns"])
    one = requested(services=["kuma"])
    other = requested(services=["mail"])
    assert set(Task.objects.touching("kuma")) == {both, one}
    assert set(Task.objects.touching("dns", "kuma")) == {both}
    assert set(Task.objects.touching("dns").touching("mail")) == set()
    assert set(Task.objects.touching_any("dns", "mail")) == {both, other}
    for question in (Task.objects.touching, Task.objects.touching_any):
        for names in ((), ("",), (" ",), (5,), ("\0",), ("\ud800",), (["kuma"],)):
            with pytest.raises(InvalidValue, match="services"):
                question(*names)


def test_statuses_in_words():
    tasks = {status: task_in(status) for status in Status}
    assert set(Task.objects.failed()) == {tasks["failed"]}
    assert set(Task.objects.finished()) == {tasks[status] for status in FINISHED}
    assert set(Task.objects.live()) == {tasks[status] for status in LIVE}


def test_moments_and_spans_of_creation_and_of_the_end():
    old, older = Task.objects.bulk_record(
        {"action": "x", "status": "completed", "created_at": AGO - days, "finished_at": AGO - days + timedelta(hours=1)}
        for days in (timedelta(0), timedelta(5))
    )
    new = finished()
    assert set(Task.objects.since(AGO).values_list("pk", flat=True)) == {old, new.pk}
    assert set(Task.objects.since(timedelta(minutes=5))) == {new}
    assert set(Task.objects.until(AGO).values_list("pk", flat=True)) == {older}
    assert set(Task.objects.until(timedelta(minutes=5)).values_list("pk", flat=True)) == {old, older}
    assert set(Task.objects.finished_since(AGO).values_list("pk", flat=True)) == {old, new.pk}
    assert set(Task.objects.finished_until(AGO).values_list("pk", flat=True)) == {older}
    assert set(Task.objects.finished_until(timedelta(minutes=5)).values_list("pk", flat=True)) == {old, older}
    # A span of time begins with its first moment and ends before its last.
    end = AGO + timedelta(hours=1)
    tick = timedelta(microseconds=1)
    assert set(Task.objects.finished_until(end).values_list("pk", flat=True)) == {older}
    assert set(Task.objects.finished_until(end + tick).values_list("pk", flat=True)) == {old, older}
    assert set(Task.objects.finished_since(end).values_list("pk", flat=True)) == {old, new.pk}
    assert set(Task.objects.finished_since(end + tick)) == {new}
    assert set(Task.objects.until(AGO + tick).values_list("pk", flat=True)) == {old, older}
    assert set(Task.objects.since(AGO + tick)) == {new}
    live = requested()
    assert live not in Task.objects.finished_since(AGO)
    for name in ("since", "until", "finished_since", "finished_until"):
        for value in (AGO.replace(tzinfo=None), "yesterday", None, 5, timedelta.max, AGO.date()):
            with pytest.raises(InvalidValue) as caught:
                getattr(Task.objects, name)(value)
            assert (caught.value.field, caught.value.value) == (name, value)


def test_by_finds_requester_decider_and_last_actor():
    task = task_in(Status.APPROVED, actor="ann")
    task.suggest("x", actor="cid")
    assert [set(Task.objects.by(name)) for name in ("ann", "bob", "cid", "eve")] == [{task}, {task}, {task}, set()]
    assert set(Task.objects.with_action("deploy", "x")) == {task}
    assert set(Task.objects.with_action()) == set()
    with pytest.raises(InvalidValue):
        Task.objects.by("")
    with pytest.raises(InvalidValue):
        Task.objects.with_action("deploy", "")


def test_questions_chain():
    task = finished(services=["kuma"])
    queryset = Task.objects.touching("kuma").finished().since(timedelta(1)).by("alice").with_action("deploy")
    assert list(queryset.order_by("-created_at")) == [task]
    assert queryset.failed().count() == 0


# Claims on filtered querysets


@pytest.mark.parametrize(
    "narrow",
    [
        lambda qs, task: qs.filter(pk=task.pk),
        lambda qs, task: qs.touching("only"),
        lambda qs, task: qs.touching_any("only", "other"),
        lambda qs, task: qs.filter(execution_log__kind="note", execution_log__output_summary="marked"),
        lambda qs, task: qs.exclude(execution_log__kind="step").filter(Q(summary="100% sure") | Q(summary="x")),
        lambda qs, task: qs.filter(summary__contains="% s"),
        lambda qs, task: qs.filter(plan__marked=True),
        lambda qs, task: qs.filter(pk__in=Task.objects.filter(summary="100% sure").order_by("id")[:3]),
        lambda qs, task: qs.annotate(twice=F("priority") * 2).filter(twice=2),
        lambda qs, task: qs.filter(created_at__lte=timezone.now(), summary__startswith="100").order_by("-id"),
        lambda qs, task: qs.only("id").filter(priority=1),
        lambda qs, task: qs.filter(pause_entry__isnull=True, priority=1),
        lambda qs, task: qs.since(timedelta(1)).by("ann"),
    ],
)
def test_a_claim_honours_the_queryset(narrow, django_assert_num_queries):
    others = [_approved() for _ in range(3)]
    for other in others:
        other.log("step")
    task = _approved(services=["only"], summary="100% sure", plan={"marked": True}, priority=1, actor="ann")
    task.note("marked")
    queryset = narrow(Task.objects.all(), task)
    with django_assert_num_queries(1):
        [claim] = queryset.claim("w", limit=10)
    assert claim == task
    assert_same(claim)
    assert queryset.claim("w", limit=10) == []
    assert Task.objects.filter(status="approved").count() == 3


@pytest.mark.parametrize(
    "shape",
    [
        lambda qs: qs[:1],
        lambda qs: qs.union(qs),
        lambda qs: qs.distinct(),
        lambda qs: qs.annotate(n=Count("execution_log")),
        lambda qs: qs.values("action").annotate(n=Count("id")),
        lambda qs: qs.intersection(qs),
        lambda qs: qs.filter(priority=2).distinct("action"),
    ],
)
def test_a_claim_takes_no_queryset_with_a_shape_of_its_own(shape, django_assert_num_queries):
    task = _approved()
    with unchanged(task), django_assert_num_queries(0), pytest.raises(AuditError, match="limit="):
        shape(Task.objects.all()).claim("w")


def test_a_claim_on_nothing_asks_nothing(django_assert_num_queries):
    _approved()
    with django_assert_num_queries(0):
        assert Task.objects.none().claim("w") == []
        assert Task.objects.claim("w", actions=[]) == []
        assert Task.objects.filter(pk__in=[]).claim("w") == []


def test_a_claim_knows_actions_limits_and_times():
    first = _approved(priority=1)
    other = requested(action="rotate")
    other.approve(actor="bob")
    later = requested(available_at=timezone.now() + timedelta(hours=1))
    later.approve(actor="bob")
    assert Task.objects.claim("w", actions=["rotate"]) == [other]
    assert Task.objects.claim("w", limit=5, actions={"deploy"}) == [first]
    assert Task.objects.claim("w", limit=5) == []
    sql("UPDATE audit_task SET available_at = now() WHERE id = %s", [later.pk])
    assert Task.objects.claim("w") == [later]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"worker": ""}, "worker"),
        ({"worker": None}, "worker"),
        ({"worker": "x" * 501}, "worker"),
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": 1.0}, "limit"),
        ({"limit": "1"}, "limit"),
        ({"limit": 10**30}, "limit"),
        ({"limit": 10**5000}, "limit"),
        ({"lease": timedelta(0)}, "lease"),
        ({"lease": -timedelta(1)}, "lease"),
        ({"lease": timedelta.max}, "lease"),
        ({"lease": 60}, "lease"),
        ({"actions": "deploy"}, "actions"),
        ({"actions": ["deploy", ""]}, "action"),
    ],
)
def test_a_claim_refuses_what_makes_no_sense(options, field, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(InvalidValue) as caught:
        Task.objects.claim(**{"worker": "w"} | options)
    assert caught.value.field == field


# Recovery


def test_recovery_ends_expired_leases_and_no_other(django_assert_num_queries):
    [alive] = [task_in(Status.EXECUTING)]
    task, failing, unwanted = (task_in(Status.EXECUTING) for _ in range(3))
    sql("UPDATE audit_task SET on_expiry = 'fail' WHERE id = %s", [failing.pk])
    Task.objects.get(pk=unwanted.pk).request_cancel(actor="bob")
    keys = [task.pk, failing.pk, unwanted.pk]
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 s' WHERE id = ANY(%s)", [keys])
    with django_assert_num_queries(1):
        recovered = Task.objects.recover_expired()
    assert {each.pk: each.status for each in recovered} == {
        task.pk: "approved", failing.pk: "failed", unwanted.pk: "failed",
    }  # fmt: skip
    for each in recovered:
        assert_same(each)
        assert (each.expiries, each.actor) == (1, "audit:recovery")
    assert_same(alive)
    outcome = Task.objects.get(pk=failing.pk).outcome
    assert (outcome["error_type"], outcome["success"]) == ("LeaseExpired", False)
    assert "orch-1" in outcome["output_summary"]
    assert log_of(task)[-1] == ("transition", "executing", "approved", "audit:recovery")


def test_recovery_fails_a_task_that_loses_every_worker():
    task = _approved()
    for expiry in (1, 2, 3):
        Task.objects.claim("w")
        sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 s' WHERE id = %s", [task.pk])
        with actor("janitor"):
            [task] = Task.objects.recover_expired(max_expiries=3)
        assert (task.expiries, task.status) == (expiry, "failed" if expiry == 3 else "approved")
    assert task.actor == "janitor"


def test_what_recovery_failed_nobody_else_has_failed():
    """The token is still on the row; whoever presents it, read before or after, is told that it is too late."""
    before = task_in(Status.EXECUTING, on_expiry="fail")
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 s' WHERE id = %s", [before.pk])
    [recovered] = Task.objects.recover_expired()
    after = Task.objects.get(pk=before.pk)
    for task in (before, after, recovered):
        assert task.claim_token == before.claim_token
        with unchanged(after), pytest.raises(TaskFrozen):
            task.fail("mine")


def test_recovery_keeps_to_the_filters_of_its_queryset(django_assert_num_queries):
    kuma, mail = (task_in(Status.EXECUTING, services=[service]) for service in ("kuma", "mail"))
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 s'")
    with django_assert_num_queries(0):
        assert Task.objects.none().recover_expired() == []
    assert Task.objects.touching("kuma", "mail").recover_expired() == []
    assert Task.objects.filter(parent__isnull=False).recover_expired() == []
    with unchanged(mail):
        assert Task.objects.touching("kuma").filter(summary__contains="%").recover_expired() == []
        assert Task.objects.touching("kuma").recover_expired(max_expiries=9) == [kuma]
    with pytest.raises(AuditError, match=r"recover_expired\(\) takes a queryset with filters alone"):
        Task.objects.all()[:1].recover_expired()
    assert Task.objects.filter(execution_log__kind="transition", pk=mail.pk).recover_expired() == [mail]


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": True}, {"max_expiries": 0}, {"max_expiries": "3"}])
def test_recovery_refuses_what_makes_no_sense(options, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(InvalidValue):
        Task.objects.recover_expired(**options)


# Many at once


def test_bulk_request_inserts_in_order_and_leaves_out_what_is_there():
    key = uuid7()
    there = requested(id=key)
    twice = uuid7()
    given = [{"action": f"a{n}", "actor": "ann", "services": ["s"], "plan": {"n": n}} for n in range(3)]
    keys = Task.objects.bulk_request(
        [*given, {"action": "x", "id": key}, {"action": "y", "id": twice}, {"action": "z", "id": twice}]
    )
    assert len(keys) == 4
    assert keys[-1] == twice
    assert [Task.objects.get(pk=each).action for each in keys] == ["a0", "a1", "a2", "y"]
    assert [log_of(Task.objects.get(pk=each)) for each in keys[:3]] == [[("transition", None, "pending", "ann")]] * 3
    assert Task.objects.get(pk=key).action == there.action
    assert Task.objects.bulk_request([]) == []


def test_bulk_request_takes_all_or_nothing():
    before = Task.objects.count()
    with pytest.raises(InvalidValue) as caught:
        Task.objects.bulk_request([{"action": "a"}, {"action": "b", "priority": 9}])
    assert (caught.value.field, caught.value.value) == ("priority", 9)
    with pytest.raises(InvalidValue, match="unknown"):
        Task.objects.bulk_request([{"action": "a", "status": "completed"}])
    with pytest.raises(InvalidValue, match="action"):
        Task.objects.bulk_request([{"summary": "a"}])
    assert Task.objects.count() == before


def test_services_are_called_services_whoever_stores_them():
    [asked] = Task.objects.bulk_request([{"action": "a", "services": ["kuma", "dns"]}])
    [stored] = Task.objects.bulk_record([{"action": "a", "status": "completed", "services": ["kuma", "dns"]}])
    with record("a", services=["kuma", "dns"], durable=False) as running:
        pass
    keys = {asked, stored, running.pk, Task.objects.request("a", services=["kuma", "dns"]).pk}
    touched = {each.pk: tuple(each.services_touched) for each in Task.objects.touching("kuma")}
    assert touched == dict.fromkeys(keys, ("kuma", "dns"))


def test_bulk_record_keeps_stamps():
    given = {
        "action": "PutObject",
        "status": "failed",
        "services": ["s3"],
        "outcome": {"error_type": "AccessDenied", "n": 1.5},
        "created_at": AGO,
        "decided_at": AGO + timedelta(seconds=1),
        "started_at": AGO + timedelta(seconds=2),
        "finished_at": AGO + timedelta(seconds=3),
        "requested_by": "arn:aws:iam::1:user/x",
        "actor": "importer",
        "attempt": 2,
    }
    [key] = Task.objects.bulk_record([given])
    task = Task.objects.get(pk=key)
    services = given.pop("services")
    assert {name: getattr(task, name) for name in given} == given
    assert task.services_touched == services
    assert (task.revision, task.row_version, task.executing_ms, task.paused_ms) == (1, 1, 1000, 0)
    assert task.recorded_at > task.finished_at
    assert log_of(task) == [("transition", None, "failed", "importer")]
    assert Task.objects.bulk_record([given | {"id": key}]) == []
    [other] = Task.objects.bulk_record([given | {"executing_ms": 250, "paused_ms": 70}])
    assert Task.objects.values_list("executing_ms", "paused_ms").get(pk=other) == (250, 70)


@pytest.mark.parametrize("status", LIVE)
def test_bulk_record_takes_finished_work_alone(status):
    with pytest.raises(InvalidValue) as caught:
        Task.objects.bulk_record([{"action": "x", "status": status}])
    assert (caught.value.field, caught.value.value) == ("status", status)
    assert not ExecutionLog.objects.exists()


def test_many_thousands_go_in_chunks_and_all_are_logged():
    keys = Task.objects.bulk_request({"action": "x", "actor": "ann"} for _ in range(5_003))
    assert len(set(keys)) == 5_003
    assert keys == sorted(keys)
    assert ExecutionLog.objects.filter(kind="transition", to_status="pending").count() == 5_003
