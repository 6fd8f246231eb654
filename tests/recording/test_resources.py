"""What the numbers of wall time, CPU and peak memory are, and are not."""

import os
import resource
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from audit.process import resources
from audit.process.resources import ChildMeter, Meter

MIB = 1024 * 1024


def test_a_peak_that_rose_is_the_kernels() -> None:
    meter = Meter()
    before = meter.sample()
    # Beyond any mark this process may have from other tests. Meanwhile the kernel may take pages of it away.
    mark = _mark()
    more = mark - before + 50 * MIB
    while _mark() <= mark:
        _filled(more)
        more += 50 * MIB
    used = meter.used()
    assert used["peak_rss_source"] == "kernel"
    assert used["peak_rss_bytes"] > mark


def _filled(size: int) -> bytes:
    return b"x" * size


def _mark() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_below_an_older_mark_the_largest_sample_counts() -> None:
    _filled(200 * MIB)
    meter = Meter()
    quiet = meter.used()
    assert quiet["peak_rss_source"] == "sampled"
    assert 0 < quiet["peak_rss_bytes"] < _mark()
    # Much more than it asserts: meanwhile the kernel may take pages away that nobody has touched for long.
    blob = _filled(150 * MIB)
    meter.sample()
    del blob
    assert meter.used()["peak_rss_bytes"] > quiet["peak_rss_bytes"] + 30 * MIB
    assert meter.used()["peak_rss_source"] == "sampled"


def test_cpu_counts_this_process_and_children_that_were_waited_for() -> None:
    meter = Meter()
    time.sleep(0.2)
    idle = meter.used()
    assert idle["wall_s"] >= 0.2
    assert idle["cpu_s"] < 0.15
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.4: pass"], check=True)
    assert meter.used()["cpu_s"] - idle["cpu_s"] >= 0.4


def _child(program: str, samples: int) -> dict[str, object]:
    """Sample a child so often once it has said a word; then it may end."""
    meter = ChildMeter()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} if samples else {}
    process = subprocess.Popen([sys.executable, "-c", program], **pipes)
    meter.started()
    if samples:
        assert process.stdout.read(1)
        for _ in range(samples):
            meter.sample(process.pid, descendants=True)
            time.sleep(0.1)
        process.stdin.close()
        process.stdout.close()
    _, status, rusage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    meter.sample(process.pid)
    return meter.used(rusage)


def test_a_child_larger_than_its_parent_is_the_kernels() -> None:
    size = _mark() + 100 * MIB
    used = _child(f"import sys; b'x' * int('{size}'); print(1, flush=True); sys.stdin.read()", samples=1)
    assert used["peak_rss_source"] == "kernel"
    assert size <= used["peak_rss_bytes"] < size + 100 * MIB


def test_a_child_smaller_than_its_parent_is_sampled_or_at_most() -> None:
    _filled(300 * MIB)
    looked_at = _child("import sys; x = b'x' * 10_000_000; print(1, flush=True); sys.stdin.read()", samples=5)
    assert looked_at["peak_rss_source"] == "sampled"
    assert 10_000_000 < looked_at["peak_rss_bytes"] < 200 * MIB
    gone = _child("pass", samples=0)
    assert gone["peak_rss_source"] == "at_most"
    assert gone["peak_rss_bytes"] >= 300 * MIB


@pytest.mark.parametrize(
    ("seen_s", "ended_s", "source"),
    [(5.0, 10.0, "sampled"), (5.0, 10.1, "at_most"), (0.0625, 0.125, "sampled"), (0.0078125, 0.008, "at_most")],
)
def test_a_child_is_sampled_if_it_was_seen_in_the_second_half_of_its_life(
    monkeypatch: pytest.MonkeyPatch, seen_s: float, ended_s: float, source: str
) -> None:
    _filled(300 * MIB)
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(resources, "time", SimpleNamespace(monotonic=lambda: clock.now))
    meter = ChildMeter()
    process = subprocess.Popen(["sh", "-c", "echo; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    meter.started()
    assert process.stdout.read(1)
    clock.now += seen_s
    meter.sample(process.pid)
    process.stdin.close()
    process.stdout.close()
    _, status, rusage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    clock.now += ended_s - seen_s
    meter.sample(process.pid)  # gone: this look sees nothing, and is none
    used = meter.used(rusage)
    assert (used["wall_s"], used["peak_rss_source"]) == (pytest.approx(ended_s), source)
    assert (used["peak_rss_bytes"] < 50 * MIB) == (source == "sampled")
