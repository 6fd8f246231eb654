"""Work plans that are no remainder of the approved plan go back to a person, where the project wants that."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from audit.exceptions import InvalidValue, LeaseLost
from audit.models import Task
from audit.status import Status
from audit.values.plans import is_remainder
from tests.support.factories import assert_same, claimed, entry_of, task_in, unchanged

STEPS = {"steps": ["pull", "stop", "run"], "host": "a", "ratio": 12.5}


@pytest.mark.parametrize(
    ("plan", "work_plan", "expected"),
    [
        (STEPS, STEPS, True),
        (STEPS, STEPS | {"steps": ["stop", "run"]}, True),
        (STEPS, STEPS | {"steps": ["pull", "run"]}, True),
        (STEPS, STEPS | {"steps": []}, True),
        (STEPS, STEPS | {"steps": ["run", "stop"]}, False),
        (STEPS, STEPS | {"steps": ["run", "run"]}, False),
        (STEPS, STEPS | {"steps": ["run", "rm -rf /"]}, False),
        (STEPS, STEPS | {"steps": "run"}, False),
        (STEPS, STEPS | {"host": "b"}, False),
        (STEPS, {"steps": ["run"]}, False),
        (STEPS, STEPS | {"more": 1}, False),
        (STEPS, ["run"], False),
        ({"except": ["db", "dns"]}, {"except": ["dns"]}, False),
        ({"steps": [{"steps": [1, 2]}]}, {"steps": [{"steps": [2]}]}, False),
        ([1, 2, 3], [2, 3], True),
        ([1, 2, 3], [1, 3], True),
        ([1, 2, 3], [3, 2], False),
        ([1, True], [True], True),
        ([1], [True], False),
        ([0], [False], False),
        ([100], [1e2], True),
        ([[1, True]], [[1, 1]], False),
        ([{"a": 1}], [{"a": True}], False),
        ("x", "x", True),
        ("x", "y", False),
        (1, True, False),
        ([1, 2], (1, 2), True),
    ],
)
def test_what_remains_of_a_plan(plan, work_plan, expected):
    assert is_remainder(plan, work_plan) is expected


@given(st.lists(st.integers(0, 3), max_size=8), st.data())
def test_steps_left_out_remain_and_one_more_does_not(steps, data):
    kept = data.draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)))
    remaining = [step for step, keep in zip(steps, kept, strict=True) if keep]
    assert is_remainder(steps, remaining)
    assert is_remainder({"steps": steps}, {"steps": remaining})
    assert not is_remainder(steps, [*remaining, 4])
    assert not is_remainder(steps, [*steps, 0])


REAPPROVE = override_settings(AUDIT={"REAPPROVE_CHANGED_PLANS": True})
db = pytest.mark.django_db


def _working(plan=STEPS):
    return task_in(Status.EXECUTING, plan=plan)


@db
@pytest.mark.parametrize("options", [{}, {"event": "build-42"}, {"reason": "insufficient_capacity", "held": False}])
def test_a_changed_plan_awaits_approval(options):
    task = _working()
    with REAPPROVE:
        entry = task.pause(work_plan=["rm -rf /"], note="more to do", **options)
    assert_same(entry)
    assert (entry.reason, entry.held, entry.event, entry.resume_after) == ("awaiting_approval", True, "", None)
    assert entry.note == "The work plan is not a remainder of the approved plan. more to do"
    # What a person approved is approved: what remains of that needs nobody again.
    resumed = claimed(entry_of(task).resume(actor="bob"))
    with REAPPROVE:
        assert resumed.checkpoint([]) is None
        assert resumed.pause(work_plan=[]).reason == "manual_pause"


@db
def test_a_remainder_needs_nobody():
    task = _working()
    with REAPPROVE:
        assert task.checkpoint(STEPS | {"steps": ["stop", "run"]}) is None
        assert task.pause(event="e", work_plan=STEPS | {"steps": ["run"]}).event == "e"


@db
def test_a_changed_plan_is_stored_where_the_setting_is_off(django_assert_num_queries):
    task = _working()
    with django_assert_num_queries(2):
        assert task.checkpoint(["other"]) is None
        assert task.pause(work_plan=["other"]).reason == "manual_pause"


@db
def test_the_plan_of_the_row_is_compared_whatever_the_instance_says():
    task = _working()
    task.plan = task.work_plan = ["other"]
    with REAPPROVE:
        assert task.pause(work_plan=["other"]).reason == "awaiting_approval"


@db
def test_work_without_a_plan_has_no_remainder():
    task = _working(plan=None)
    with REAPPROVE:
        assert task.pause(work_plan=[]).reason == "awaiting_approval"
    with REAPPROVE:
        assert _working().pause().reason == "manual_pause"


@db
def test_an_approval_with_a_deadline_keeps_it():
    with REAPPROVE:
        entry = _working().pause(reason="awaiting_approval", work_plan=["other"], resume_after=timedelta(hours=1))
    assert entry.resume_after is not None


@db
def test_a_checkpoint_keeps_what_remains(django_assert_num_queries):
    task = _working()
    with django_assert_num_queries(1):
        assert task.checkpoint(["run"]) is None
    assert_same(task)
    task.retry("again")
    task = claimed(task)
    assert task.work_plan == ["run"]
    async_to_sync(task.acheckpoint)([])
    assert Task.objects.get(pk=task.pk).work_plan == []


@db
def test_a_changed_plan_at_a_checkpoint_stops_the_work():
    task = _working()
    with REAPPROVE:
        entry = task.checkpoint(["rm -rf /"])
    assert (entry.reason, task.status, entry.work_plan) == ("awaiting_approval", "paused", ["rm -rf /"])


@db
def test_a_checkpoint_is_fenced_and_checked():
    task = _working()
    late = Task.objects.get(pk=task.pk)
    task.release()
    with unchanged(task), pytest.raises(LeaseLost):
        late.checkpoint([])
    task = claimed(task)
    for value in (None, float("nan"), {1: 2}):
        with unchanged(task), pytest.raises(InvalidValue, match=r"^work_plan"):
            task.checkpoint(value)
