"""Readings: control groups before the machine, unknown before zero."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from audit.agents import gpu as gpus
from audit.agents import readings
from audit.agents.cgroup import CgroupReading, Cgroups
from audit.agents.gpu import GpuUse, read_gpu
from audit.agents.readings import Reader

MIB = 1024 * 1024


class Tree:
    """A root of control groups that a test fills."""

    def __init__(self, root: Path, membership: str) -> None:
        self.root = root
        root.mkdir()
        self.membership = root.parent / "membership"
        self.membership.write_text(membership)

    def put(self, group: str, **files: object) -> None:
        place = self.root / group
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name.replace("__", ".")).write_text(f"{text}\n")

    @property
    def groups(self) -> Cgroups:
        return Cgroups(self.root, self.membership)


class NVMLError(Exception):
    pass


def nvml(*devices: dict[str, Any], absent: bool = False) -> Any:
    """What stands in for `pynvml`, with devices that answer or raise."""
    calls = {"open": 0}

    def init() -> None:
        if absent:
            raise NVMLError("no driver")
        calls["open"] += 1

    def shutdown() -> None:
        calls["open"] -= 1

    def answer(name: str) -> Any:
        def asked(handle: dict[str, Any]) -> Any:
            if name not in handle:
                raise NVMLError("not supported")
            return SimpleNamespace(**handle[name])

        return asked

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=init,
        nvmlShutdown=shutdown,
        nvmlDeviceGetCount=lambda: len(devices),
        nvmlDeviceGetHandleByIndex=lambda index: devices[index],
        nvmlDeviceGetUtilizationRates=answer("rates"),
        nvmlDeviceGetMemoryInfo=answer("memory"),
        calls=calls,
    )


NO_GPU = nvml(absent=True)


def test_version_2_without_reclaimable_cache(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "cgroup", "0::/work.slice/w1.service\n")
    tree.put(
        "work.slice/w1.service",
        memory__max=100 * MIB,
        memory__current=80 * MIB,
        memory__stat=f"anon {10 * MIB}\ninactive_file {30 * MIB}\nactive_file 1",
    )
    read = Reader(tree.groups, gpu=NO_GPU).read()
    assert read.memory == 0.5
    assert read.memory_bytes_total == 100 * MIB
    assert read.source == "host+cgroup2"
    assert (read.gpu, read.gpu_memory, read.gpu_memory_bytes_total) == (None, None, None)


def test_the_group_above_counts_where_it_is_tighter(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "cgroup", "0::/work.slice/w1.service\n")
    tree.put("work.slice/w1.service", memory__max=100 * MIB, memory__current=10 * MIB)
    tree.put("work.slice", memory__max=200 * MIB, memory__current=190 * MIB)
    read = Reader(tree.groups, gpu=NO_GPU).read()
    assert (read.memory, read.memory_bytes_total) == (0.95, 200 * MIB)


def test_in_a_container_the_mounted_root_is_the_group(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "cgroup", "0::/docker/0123\n")
    tree.put("", memory__max=100 * MIB, memory__current=40 * MIB)
    assert Reader(tree.groups, gpu=NO_GPU).read().memory == 0.4
    tree.membership.write_text("0::/../../other\n")
    assert Reader(tree.groups, gpu=NO_GPU).read().memory == 0.4


def test_version_1_when_version_2_has_no_limit(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "cgroup", "4:memory:/w1\n3:cpuset:/\n0::/w1\n")
    tree.put("unified/w1", cgroup__procs="1")
    tree.put(
        "memory/w1",
        memory__limit_in_bytes=200 * MIB,
        memory__usage_in_bytes=150 * MIB,
        memory__stat=f"inactive_file 5\ntotal_inactive_file {50 * MIB}",
    )
    tree.put("memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=5)
    read = Reader(tree.groups, gpu=NO_GPU).read()
    assert (read.memory, read.memory_bytes_total, read.source) == (0.5, 200 * MIB, "host+cgroup1")


@pytest.mark.parametrize("limit", ["max", str(2**62)])
def test_without_a_limit_it_is_the_machine(tmp_path: Path, limit: str) -> None:
    tree = Tree(tmp_path / "cgroup", "0::/w1\n")
    tree.put("w1", memory__max=limit, memory__current=40 * MIB, cpu__max="max 100000", cpu__stat="usage_usec 5")
    read = Reader(tree.groups, gpu=NO_GPU).read()
    assert read.source == "host"
    assert read.memory_bytes_total == psutil.virtual_memory().total
    assert read.cpu_count == psutil.cpu_count()


def test_the_quota_of_version_2_is_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tree = Tree(tmp_path / "cgroup", "0::/w1\n")
    tree.put("w1", cpu__max="50000 100000", cpu__stat="usage_usec 1000000\nuser_usec 7")
    reader = Reader(tree.groups, gpu=NO_GPU)
    first = reader.read()
    assert (first.cpu, first.cpu_count, first.source) == (None, 0.5, "cgroup2+host")
    now[0] = 110.0
    # 2.5 s of the 5 s that half a CPU has in 10 s.
    tree.put("w1", cpu__stat="usage_usec 3500000")
    assert reader.read().cpu == 0.5
    now[0] = 120.0
    tree.put("w1", cpu__stat="usage_usec 99500000")
    assert reader.read().cpu == 1.0


@pytest.mark.parametrize("apart", [True, False])
def test_the_quota_of_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    controllers = "cpu" if apart else "cpu,cpuacct"
    tree = Tree(tmp_path / "cgroup", f"4:{controllers}:/w1\n2:cpuacct:/w1\n")
    tree.put(f"{controllers}/w1", cpu__cfs_quota_us=200000, cpu__cfs_period_us=100000)
    tree.put(controllers, cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    accounted = "cpuacct/w1" if apart else f"{controllers}/w1"
    tree.put(accounted, cpuacct__usage=10**9)
    reader = Reader(tree.groups, gpu=NO_GPU)
    assert (reader.read().cpu_count, reader.read().cpu) == (2.0, None)
    now[0] = 110.0
    tree.put(accounted, cpuacct__usage=6 * 10**9)
    read = reader.read()
    assert (read.cpu, read.source) == (0.25, "cgroup1+host")


def test_a_group_that_is_new_has_no_use_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    tree = Tree(tmp_path / "cgroup", "0::/w1\n")
    reader = Reader(tree.groups, gpu=NO_GPU)
    assert reader.read().source == "host"
    reader._read_at -= 1
    tree.put("w1", cpu__max="50000 100000", cpu__stat="usage_usec 1000000")
    assert reader.read().cpu is None


def test_files_that_say_nothing_are_no_reading(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "cgroup", "0::/w1\nnonsense\n")
    tree.put("w1", memory__max=MIB, cpu__max="50000 100000", cpu__stat="usage_usec x")
    assert tree.groups.memory() is None
    assert tree.groups.cpu() == {}
    assert Cgroups(tmp_path / "none", tmp_path / "none").memory() is None


def test_this_machine_by_the_second_look() -> None:
    readings._reader = None
    read = readings.read()
    assert read.cpu is not None
    assert 0 <= read.cpu <= 1
    assert read.memory is not None
    assert 0 < read.memory < 1
    assert read.cpu_count
    # Within 0.1 s it is the same one: two looks so close would say nothing of CPU.
    reader = Reader(gpu=NO_GPU)
    reader._read_at = time.monotonic() + 3600
    reader._last = read
    assert reader.read() is read


def test_without_cpu_time_in_between_it_is_unknown() -> None:
    times = psutil.cpu_times()
    assert readings._busy(times, times) is None


def test_the_gpu_with_the_most_memory_left() -> None:
    library = nvml(
        {"rates": {"gpu": 10}, "memory": {"used": 15, "total": 16}},
        {"rates": {"gpu": 90}, "memory": {"used": 4, "total": 16}},
    )
    read = Reader(Cgroups(), gpu=library).read()
    assert (read.gpu, read.gpu_memory, read.gpu_memory_bytes_total) == (0.9, 0.25, 16)
    assert read.source.endswith("nvml")
    assert library.calls["open"] == 0


def test_what_a_gpu_does_not_say_is_unknown() -> None:
    assert read_gpu(nvml({"memory": {"used": 4, "total": 16}})) == GpuUse(load=None, memory=0.25, memory_total=16)
    assert read_gpu(nvml({"rates": {"gpu": 0}})) == GpuUse(load=0.0, memory=None, memory_total=None)
    assert read_gpu(nvml({"memory": {"used": 0, "total": 0}})) == GpuUse(load=None, memory=None, memory_total=None)


def test_without_a_gpu_its_driver_or_the_library_there_is_no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_gpu(nvml()) is None
    assert read_gpu(nvml(absent=True)) is None
    broken = nvml({})
    broken.nvmlDeviceGetHandleByIndex = _lost
    assert read_gpu(broken) is None
    assert broken.calls["open"] == 0

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(gpus, "import_module", missing)
    assert read_gpu() is None


def _lost(index: int) -> Any:
    raise NVMLError("the GPU is lost")


def test_the_real_library_is_asked_as_it_is() -> None:
    library = pytest.importorskip("pynvml")
    for name in (
        *("NVMLError", "nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"),
        *("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo"),
    ):
        assert callable(getattr(library, name))
    found = read_gpu()
    assert found is None or isinstance(found, GpuUse)


def test_gpu_memory_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus._devices.cache_clear()
    assert gpus.memory_of(7) is None  # no device
    running = {0: [(7, 100), (8, 50)], 1: [(7, 20), (9, None)]}

    def processes(device: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in running[device]]

    library = SimpleNamespace(nvmlDeviceGetComputeRunningProcesses=processes)
    monkeypatch.setattr(gpus, "_devices", lambda: (library, [0, 1]))
    assert [gpus.memory_of(pid) for pid in (7, 8, 9)] == [120, 50, 0]
    running.pop(1)
    assert gpus.memory_of(7) is None  # the driver is gone


def test_readings_of_a_group_have_their_moment(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "cgroup", "0::/w1\n")
    tree.put("w1", cpu__max="50000 100000", cpu__stat="usage_usec 1000000")
    [found] = tree.groups.cpu().values()
    assert found == CgroupReading(spent=1.0, quota=0.5, at=found.at, version=2)
