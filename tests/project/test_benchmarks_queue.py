"""The benchmark of whole queues runs, as in test_benchmarks.py; and what it is made of."""

from pathlib import Path

import pytest

from tests.benchmarks import moments, queue
from tests.benchmarks.glance import glance


@pytest.mark.glance
def test_a_glance() -> None:
    glance(
        "queue",
        [
            "from request to end, 4 workers, by CPU",
            "pick-up with NOTIFY",
            "pick-up polled every 1 s",
            "target: pick-up p50 below 50 ms with NOTIFY",
            "500 claims between",
            "idle workers, cores for 100 of them, from 2",
            "a new worker of the same name",
        ],
        "--subjects",
        *("ours", "pgqueuer + history", "procrastinate", "django-tasks-db + history"),
    )


def test_moments_are_kept_by_kind_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "moments"
    assert moments.read(file) == {}
    monkeypatch.setenv(moments.VARIABLE, str(file))
    for kind, number in (("asked", 1), ("asked", 2), ("ran", 2), ("ran", 2)):
        moments.note(kind, number)
    found = moments.read(file)
    assert {kind: sorted(numbers) for kind, numbers in found.items()} == {"asked": [1, 2], "ran": [2]}
    assert found["asked"][1] <= found["asked"][2] <= found["ran"][2]


def test_percentiles_are_in_milliseconds() -> None:
    seconds = [each / 1000 for each in range(100, 0, -1)]
    assert [queue._percentile(seconds, percent) for percent in (50, 99)] == [51, 100]
    assert queue._percentile([0.5], 99) == 500
