"""The benchmarks run: a glance at each suite, for its lines and not for its numbers."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("guards", ["with the guards", "without triggers"]),
        ("touching", ["audit_task_services_gin", "sequential scan"]),
        ("browser", ["list, all time, with facets", "export of 1,500 tasks", "target: list, all time: times as fast"]),
        ("ledger", ["with a chain in the trigger", "target: seal, rows a second"]),
        ("claims", ["pgbench, same SQL", "ours", "target: claim one"]),
    ],
)
def test_a_glance(suite: str, expected: list[str]) -> None:
    command = [sys.executable, "-m", "tests.benchmarks", suite, "--rounds", "1", "--scale", "0.01"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    for words in expected:
        assert words in result.stdout
