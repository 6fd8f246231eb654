"""The benchmarks of reading and sealing run, as in test_benchmarks.py."""

import pytest

from tests.benchmarks.glance import glance


@pytest.mark.glance
@pytest.mark.parametrize(
    ("suite", "expected", "options"),
    [
        ("touching", ["audit_task_services_gin", "sequential scan"], []),
        (
            "browser",
            ["list, all time, with facets", "export of 1,500 tasks", "target: list, all time: times as fast"],
            ["--rows", "200000"],
        ),
        ("ledger", ["with a chain in the trigger", "target: seal, rows a second"], []),
    ],
)
def test_a_glance(suite: str, expected: list[str], options: list[str]) -> None:
    glance(suite, expected, *options)
