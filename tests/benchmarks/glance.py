"""A short run of a suite, for what it prints and not for its numbers."""

import subprocess
import sys
from collections.abc import Sequence

__all__ = ["glance"]


def glance(suite: str, expected: Sequence[str], *options: str) -> None:
    """Run a suite as small as it goes, in a process of its own, and assert that it ends well and prints its lines.

    Args:
        suite: its name on the command line.
        expected: words that must stand in its output.
        options: more of the command line.
    """
    command = [sys.executable, "-m", "tests.benchmarks", suite, "--rounds", "1", "--scale", "0.01", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    assert result.returncode == 0, result.stderr[-3000:]
    for words in expected:
        assert words in result.stdout, words
