"""docs/tutorial-worker.md, followed in a new project with real processes; a test stands in for the person."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support.documents import CHECKOUT, PAGES, blocks

pytestmark = pytest.mark.django_db(transaction=True)


def _until(holds: Callable[[], Any], what: Callable[[], str]) -> None:
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end, f"in vain for five minutes: {what()}"
        time.sleep(0.05)


class _Reader:
    """Somebody who follows the page in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blocks: Iterator[Any] = (
            each
            for each in blocks(PAGES["docs/tutorial-worker.md"].read_text(encoding="utf-8"))
            if each.runner == "tests/project/test_docs_tutorial.py"
        )
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AUDIT_", "DJANGO_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
        }
        self.worker: subprocess.Popen[bytes] | None = None

    def save(self, name: str) -> None:
        """Take the next block into a file, at its end."""
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(next(self.blocks).code)

    def enter(self) -> str:
        """Enter the next block at the shell of the first terminal; returns what it printed."""
        code = next(self.blocks).code
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
            timeout=600,
        )
        assert ended.returncode == 0, f"{code}\n{ended.stdout}"
        return ended.stdout

    def start_worker(self) -> None:
        """Enter the next block in the second terminal; its last line starts a worker."""
        line = next(self.blocks).code.splitlines()[-1]
        assert line.startswith("python manage.py audit_worker ")
        assert "--lease 20" in line
        line = line.replace("--lease 20", "--lease 6")
        with (self.folder / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                line.removesuffix(" &").split(), cwd=self.folder, env=self.environment, stderr=log
            )

    def said(self, text: str) -> None:
        """Wait until the worker has said this."""
        _until(lambda: text in self.log(), lambda: f"{text!r} in:\n{self.log()}")

    def log(self) -> str:
        """What the workers have said."""
        path = self.folder / "worker.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def end(self) -> None:
        """End what still runs."""
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[_Reader]:
    reading = _Reader(tmp_path)
    yield reading
    reading.end()


def _settings(folder: Path) -> None:
    """Name the test's database in place of the reader's, and let nothing take longer than it must."""
    kept = {name: value for name, value in connection.settings_dict.items() if name in ("ENGINE", "NAME", "EMBEDDED")}
    for name in ("HOST", "PORT", "USER", "PASSWORD"):
        kept[name] = connection.settings_dict[name] or ""
    with (folder / "mysite" / "settings.py").open("a", encoding="utf-8") as file:
        file.write(f"from pathlib import Path, PosixPath\nDATABASES = {{'default': {kept!r}}}\n")
        # A machine that runs tests is busy, and a worker that is short of capacity claims nothing.
        file.write("AUDIT = {'CAPACITY_GATE': None}\n")
    handlers = folder / "deploys" / "audit_handlers.py"
    text = handlers.read_text(encoding="utf-8")
    for old, new in (
        # On a slow machine a file comes after the third attempt.
        ("max_attempts=3, backoff=20", "max_attempts=100000, backoff=0.2, max_backoff=1"),
        ("time.sleep(5)", "\n        while Path('hold').exists(): time.sleep(0.05)\n       "),
    ):
        assert old in text
        text = text.replace(old, new)
    handlers.write_text(text, encoding="utf-8")


def test_a_stranger_follows_the_page(reader: _Reader) -> None:
    folder = reader.folder
    reader.enter()
    reader.save("mysite/settings.py")
    migrating = next(reader.blocks).code
    assert migrating.startswith("python manage.py migrate\n")  # the test's database is, and its users go with it
    reader.save("deploys/audit_handlers.py")
    _settings(folder)

    reader.start_worker()
    reader.said("Worker web-1 runs deploy, one at a time.")
    hold = folder / "hold"
    hold.touch()
    assert "pending" in reader.enter()
    task = Task.objects.get()
    task.approve(actor="bob")
    reader.said("started.")
    hold.unlink()

    _until(lambda: ExecutionLog.objects.filter(task=task, action="retry").exists(), lambda: "a retry")
    reader.enter()
    reader.said(", and is tried again: FileNotFoundError: [Errno 2] No such file or directory: 'pages/about.html'")
    reader.said("s: it waits for the event 'tests-2.0'")
    assert "event tests-2.0" in reader.enter()
    reader.enter()
    reader.said("s: awaiting approval: Look at releases/2.0 first.")
    assert not (folder / "live.txt").exists()
    PauseQueueEntry.objects.get(task=task).resume(actor="bob")
    reader.said("completed after")
    assert (folder / "live.txt").read_text() == "2.0\n"
    assert sorted(each.name for each in (folder / "releases" / "2.0").iterdir()) == ["about.html", "index.html"]

    hold.touch()
    reader.enter()
    second = Task.objects.exclude(pk=task.pk).get()
    _until(lambda: Task.objects.get(pk=second.pk).status == "executing", lambda: "the second task")
    worker = reader.worker
    assert worker is not None
    worker.send_signal(signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    reader.start_worker()
    reader.said("Worker web-2 runs deploy, one at a time.")
    reader.said("Recovered 1 task whose lease had run out.")
    hold.unlink()
    _until(lambda: Task.objects.get(pk=second.pk).status == "completed", lambda: "the second task")
    assert Task.objects.get(pk=second.pk).attempt == 2
    assert (folder / "live.txt").read_text() == "2.1\n"

    reader.environment["TASK"] = str(second.pk)
    shown = reader.enter()
    assert "executing → approved" in shown
    assert "The lease of web-1, which held this since" in shown
    reader.environment["AUDIT_LEDGER_KEY_FILE"] = str(folder / "audit.key")
    reader.enter()
    reader.enter()
    reader.enter()
    elsewhere = folder / "elsewhere"
    # Another folder, without the project: no manage.py, no settings, no database.
    assert sorted(each.name for each in elsewhere.iterdir()) == ["audit.vkey", "task.tlog-proof"]
    reader.folder = elsewhere
    assert reader.enter().startswith("Proven")
    proof = elsewhere / "task.tlog-proof"
    key = (elsewhere / "audit.vkey").read_text().strip()
    text = proof.read_text()
    middle = len(text) // 2
    proof.write_text(text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :])
    forged = subprocess.run(
        [sys.executable, "-m", "audit.ledger", "check", proof, "--key", key],
        env=reader.environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert forged.returncode == 1, forged
    assert "NOT PROVEN" in forged.stdout + forged.stderr
    assert next(reader.blocks, None) is None
