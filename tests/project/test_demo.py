"""The demo, as a newcomer starts it: it seals and verifies, and leaves nothing running."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from audit.ledger.tlog import proof
from audit.ledger.tlog.note import Verifier
from tests.support.users import CHECKOUT, until, workplace

pytestmark = pytest.mark.slow


def _environment(home: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AUDIT_", "DJANGO_", "DATABASE_"))
    }
    return {**kept, "AUDIT_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def _port() -> str:
    """A port that nobody has, apart from those that the system gives to whoever asks for any."""
    for port in range(8930 + os.getpid() % 1000, 10930):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)
    raise AssertionError("no port is free")


def _children(pid: int) -> list[tuple[int, str, str]]:
    """Pid, command and environment of the processes that a process started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                command = (entry / "cmdline").read_text().replace("\0", " ")
                found.append((int(entry.name), command, (entry / "environ").read_text()))
        except OSError:
            continue
    return found


def _handling(pid: int) -> list[int]:
    """The processes of the demo's workers that run handlers."""
    workers = [child for child, command, _ in _children(pid) if "audit_worker" in command]
    return [each for worker in workers for each, *_ in _children(worker)]


def _below(pid: int) -> list[int]:
    found = [child for child, *_ in _children(pid)]
    return [*found, *(each for child in found for each in _below(child))]


def _all_end(pids: list[int]) -> None:
    assert pids
    left = pids.copy()

    def gone() -> bool:
        left[:] = [pid for pid in left if Path(f"/proc/{pid}").exists()]
        return not left

    assert until(gone), [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]


def _output(argv: list[str], home: Path) -> bytes:
    return subprocess.run(argv, cwd=CHECKOUT, env=_environment(home), capture_output=True, check=True).stdout


_JSON = ("--format", "json")
_WORKERS = ("orch-1", "orch-2")


def _manage(home: Path, *argv: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "manage.py", *argv]
    return subprocess.run(command, cwd=CHECKOUT, env=_environment(home), capture_output=True, check=False)


def _count(home: Path, *filters: str) -> int:
    """How many tasks there are."""
    stats = _output([sys.executable, "manage.py", "audit_stats", "--since", "all", "--format", "json", *filters], home)
    return int(json.loads(stats)["tasks"])


def _log_in(address: str, user: str, password: str) -> None:
    """Log in by the form, as a browser does, and expect the page that was asked for."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(address) as answer:
        [token] = re.findall(r'csrfmiddlewaretoken" value="([^"]+)"', answer.read().decode())
        form = {"csrfmiddlewaretoken": token, "username": user, "password": password}
        login = answer.url
    asked = urllib.request.Request(login, urllib.parse.urlencode(form).encode(), {"Referer": login})
    with browser.open(asked) as answer:
        assert answer.url == address
        assert "Log out" in answer.read().decode()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
def test_it_seals_verifies_serves_and_ends() -> None:
    with workplace() as place:
        home = place / "home"
        command = [sys.executable, "manage.py", "demo", "--tasks", "40", "--port", _port()]
        out = place / "out"
        with out.open("w") as file:
            demo = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=_environment(home),
                stdout=file,
                stderr=file,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's `&` ignores it
            )
        try:
            assert until(lambda: "Ctrl-C" in out.read_text() or demo.poll() is not None, seconds=300)
            shown = out.read_text()
            assert demo.poll() is None, shown
            refused = re.findall(r"SQL> (.+?)\n\s*ERROR 23001", shown, re.DOTALL)
            assert len(refused) == 5, shown
            assert {each.split()[0] for each in refused} == {"UPDATE", "DELETE", "TRUNCATE", "SET"}
            assert re.search(r"Sealed [\d,]+ rows; the tree has [\d,]+ leaves\.\nINTACT\. Covered: 40 tasks", shown), (
                shown
            )
            secret = home / "ledger-signing-key"
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600
            assert secret.read_text().strip() not in shown

            # Two workers, those who ask for work, a sealer, a verifier. Only the sealer knows where the key is.
            assert until(lambda: len(_children(demo.pid)) == 5)
            knowing = [name for _, name, variables in _children(demo.pid) if "AUDIT_LEDGER_KEY" in variables]
            assert len(knowing) == 1
            assert knowing[0].strip().endswith("auditproj.demo.ledger seal")

            # What it says about a proof is true.
            [task] = re.findall(r"audit_prove (\S+)", shown)
            [key] = re.findall(r"--key (\S+)", shown)
            argv = [sys.executable, "manage.py", "audit_prove", task, "--with-log"]
            proven = subprocess.run(
                argv, cwd=CHECKOUT, env=_environment(home), capture_output=True, text=True, check=True
            )
            checked = proof.check(proven.stdout, [Verifier.parse(key)])
            assert str(checked.task_id) == task
            [address] = re.findall(r"integrity +(\S+)", shown)
            _log_in(address, *re.findall(r"(?:user|password) +(\S+)", shown)[:2])
            # The pages move: more is completed than the history had.
            history = 40 - _count(home, "--status", "failed", "--status", "rejected")
            assert until(lambda: _count(home, "--status", "completed") > history)
            # What has just finished is sealed while the demo serves.
            [newest] = json.loads(_manage(home, "audit_list", "--status", "completed", "--limit", "1", *_JSON).stdout)
            assert until(lambda: _manage(home, "audit_prove", newest["id"]).returncode == 0)
            assert until(lambda: _handling(demo.pid))
            below = _below(demo.pid)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(timeout=120)
        _all_end(below)
        assert out.read_text().rstrip().endswith("go on with what is there.")
        before = _count(home)
        assert before > 40
        again = subprocess.run(
            [*command, "--no-serve"], cwd=CHECKOUT, env=_environment(home), capture_output=True, text=True, timeout=300
        )
        assert again.returncode == 0, again.stderr
        assert before <= _count(home) < before + 40  # nothing was filled in again
        # The workers wrote into files, and what they do is nowhere in the demo's output.
        assert "started" not in out.read_text()
        for name in _WORKERS:
            assert f"Worker {name} runs" in (home / f"{name}.log").read_text()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_nothing_outlives_it(number: int) -> None:
    with workplace() as place:
        out = place / "out"

        def begun(name: str) -> bool:
            log = place / "home" / f"{name}.log"
            return log.exists() and f"Worker {name} runs" in log.read_text()

        with out.open("w") as file:
            command = [sys.executable, "manage.py", "demo", "--tasks", "10", "--port", _port()]
            demo = subprocess.Popen(command, cwd=CHECKOUT, env=_environment(place / "home"), stdout=file, stderr=file)
        try:
            assert until(lambda: all(map(begun, _WORKERS)) or demo.poll() is not None, seconds=300)
            assert demo.poll() is None, out.read_text()
            below = _below(demo.pid)
        finally:
            demo.send_signal(number)
            demo.wait(timeout=120)
        _all_end(below)
        # In good order: the workers were asked to, and gave back what they could not finish.
        for name in _WORKERS:
            assert "Stopped: " in (place / "home" / f"{name}.log").read_text()
