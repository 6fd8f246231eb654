"""The sealer: every finished row gets exactly one leaf, and what is signed covers the tree."""

import pytest

from audit.models import ExecutionLog, LedgerCheckpoint, LedgerLeaf, Task
from tests.factories import task_in
from tests.ledger import codes, finish, sealed, verified

pytestmark = pytest.mark.django_db(transaction=True)


def leaves() -> list[tuple[object, ...]]:
    """Every leaf: index, task, log row."""
    return list(LedgerLeaf.objects.order_by("index").values_list("index", "task_id", "log_id"))


def test_everything_finished_and_logged_gets_one_leaf() -> None:
    finish(3)
    task_in("executing")
    last = sealed()
    assert last.size == last.sealed == 3 + ExecutionLog.objects.count()
    assert [index for index, *_ in leaves()] == list(range(last.size))
    assert {task for _, task, _ in leaves() if task} == set(Task.objects.finished().values_list("pk", flat=True))
    assert {log for *_, log in leaves() if log} == set(ExecutionLog.objects.values_list("pk", flat=True))
    report = verified()
    assert (codes(report), report.size, report.signed, report.unsealed) == ([], last.size, last.size, 0)
    assert report.covered["tasks"] == 3


def test_an_empty_batch_signs_nothing() -> None:
    assert sealed().note == ""
    assert not LedgerCheckpoint.objects.exists()
    finish(1)
    note = sealed().note
    assert sealed().note == note
    assert LedgerCheckpoint.objects.count() == 1
