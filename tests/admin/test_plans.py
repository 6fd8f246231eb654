"""The page of a task shows the approved plan and the work plan side by side, and what differs."""

import re
from html import unescape
from typing import Any

import pytest

from audit.models import Task
from tests.support.factories import claimed, task_in
from tests.support.pages import HOSTILE, TASKS, inline_code, text_of

pytestmark = pytest.mark.django_db


def _page(viewer: Any, task: Task) -> tuple[str, list[str]]:
    response = viewer.get(f"{TASKS}{task.pk}/change/")
    assert inline_code(response) == []
    html = response.content.decode()
    [inner] = re.findall(r'<section class="audit-card audit-plans".*?</section>', html, re.S) or [""]
    lines = re.findall(r'<li class="audit-(?:added|left-out)">(.*?)</li>', inner, re.S)
    return html, [
        unescape(" ".join(re.sub(r"<[^>]*>", " ", each).split())).replace("\N{MINUS SIGN}", "-") for each in lines
    ]


def _paused(plan: Any, work_plan: Any) -> Task:
    task = claimed(task_in("approved", plan=plan))
    task.pause(work_plan=work_plan)
    return task


@pytest.mark.parametrize(
    ("plan", "work_plan", "summary", "lines"),
    [
        (
            ["eu", "us", "ap"],
            ["us", "ap"],
            "leaves out what is done or not needed, and asks for nothing else",
            ["- only in the plan: [0] eu"],
        ),
        (
            {"steps": ["build", "publish"], "image": "app:2"},
            {"steps": ["ask", "publish"], "image": "app:3", "to": [1]},
            "asks for something that the plan does not",
            [
                "- only in the plan: image app:2",
                "+ only in the work plan: image app:3",
                "- only in the plan: steps[0] build",
                "+ only in the work plan: steps[0] ask",
                "+ only in the work plan: to [1]",
            ],
        ),
        ({"a": 1}, {"a": True}, "asks for something", ["- only in the plan: a 1", "+ only in the work plan: a true"]),
        (["eu"], {"eu": 1}, "asks for something", ['- only in the plan: ["eu"]', '+ only in the work plan: {"eu": 1}']),
        ([1, 2], [1, 2], "All of the plan remains.", []),
    ],
)
def test_both_stand_side_by_side_with_what_differs(viewer, plan, work_plan, summary, lines) -> None:
    html, found = _page(viewer, _paused(plan, work_plan))
    assert summary in html
    assert sorted(found) == sorted(lines)
    titles = re.findall(r'<h3 id="audit-(?:work-)?plan">(.*?) <small>', html)
    assert titles == ["Approved plan", "Work plan: what remains"]
    assert html.count("what remains</h3>") + html.count("What remained of the plan") == 0


def test_of_two_work_plans_that_of_the_entry_counts(viewer) -> None:
    task = claimed(task_in("approved", plan=["a", "b", "c"]))
    task.checkpoint(["b", "c"])
    task.pause(work_plan=["c"])
    html, found = _page(viewer, task)
    assert found == ["- only in the plan: [0] a", "- only in the plan: [1] b"]
    assert html.count('<h3 id="audit-work-plan">') == 1
    other = claimed(task_in("approved", plan=["a", "b"]))
    other.checkpoint(["b"])
    other.pause()
    _html, found = _page(viewer, other)
    assert found == ["- only in the plan: [0] a"]


def test_a_finished_task_says_what_remained(viewer) -> None:
    task = claimed(task_in("approved", plan=["a", "b"]))
    task.checkpoint(["b"])
    task.fail("it broke")
    html, _found = _page(viewer, task)
    assert "Work plan: what remained" in html


def test_plans_too_long_to_compare_and_hostile_ones_are_bounded_and_plain(viewer) -> None:
    html, found = _page(viewer, _paused({"x": "y" * 900_000}, {"x": "z" * 900_000}))
    assert "too long to compare" in html
    assert found == []
    html, found = _page(viewer, _paused(list(range(500)), [f"new {n}" for n in range(500)]))
    assert len(found) == 50
    assert "There are more differences." in html
    html, _found = _page(viewer, _paused(list(HOSTILE.values()), [{each: each} for each in HOSTILE.values()]))
    assert "<script>alert" not in html
    assert "\u202e" not in html


def test_without_a_work_plan_the_plan_stands_alone(viewer) -> None:
    task = task_in("paused")
    html, found = _page(viewer, task)
    assert found == []
    assert "audit-plans" not in html
    assert "It left no work plan; the whole plan remains." in text_of(viewer.get(f"{TASKS}{task.pk}/change/"))
