"""The benchmarks run: a glance at each suite, for its lines and not for its numbers.

In two files, for pytest-xdist gives a whole file to one process, and one of few tests at the end.
"""

import pytest

from tests.benchmarks.glance import glance


@pytest.mark.glance
@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("guards", ["with the guards", "without triggers"]),
        (
            "claims",
            ["pgbench, same SQL", "record, start, 4 processes", "record, end, 1 process, by CPU", "wanted 0.9: "],
        ),
        ("saves", ["plain model", "save() of one row", "queryset.update() of 100 rows, by CPU"]),
    ],
)
def test_a_glance(suite: str, expected: list[str]) -> None:
    glance(suite, expected)
