"""The demo, as a newcomer starts it: it seals and verifies, and leaves nothing running."""

import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from audit.ledger.tlog import proof
from audit.ledger.tlog.note import Verifier
from audit.models import Task
from auditproj.demo import orchestrator
from tests.support.users import CHECKOUT, until, workplace

pytestmark = pytest.mark.slow


def _environment(home: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AUDIT_", "DJANGO_", "DATABASE_"))
    }
    return {**kept, "AUDIT_HOME": str(home), "PYTHONUNBUFFERED": "1"}


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


def _output(argv: list[str], home: Path) -> bytes:
    return subprocess.run(argv, cwd=CHECKOUT, env=_environment(home), capture_output=True, check=True).stdout


_JSON = ("--format", "json")


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
        command = [sys.executable, "manage.py", "demo", "--tasks", "40", "--port", "8930"]
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
            assert until(lambda: "Ctrl-C" in out.read_text() or demo.poll() is not None, seconds=120)
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

            # Only the sealer knows where the key is.
            assert until(lambda: len(_children(demo.pid)) >= 4)
            knowing = [name for _, name, variables in _children(demo.pid) if "AUDIT_LEDGER_KEY" in variables]
            assert len(knowing) == 1
            assert knowing[0].strip().endswith("auditproj.demo.ledger seal")
            children = [pid for pid, *_ in _children(demo.pid)]

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
            assert until(lambda: _count(home, "--status", "completed") > history, seconds=60)
            # What has just finished is sealed while the demo serves.
            newest = json.loads(_manage(home, "audit_list", "--status", "completed", "--limit", "1", *_JSON).stdout)
            assert until(lambda: _manage(home, "audit_prove", newest["id"]).returncode == 0, seconds=60)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(timeout=60)
        assert out.read_text().rstrip().endswith("go on with what is there.")
        before = _count(home)
        assert before > 40
        again = subprocess.run(
            [*command, "--no-serve"], cwd=CHECKOUT, env=_environment(home), capture_output=True, text=True, timeout=120
        )
        assert again.returncode == 0, again.stderr
        assert before <= _count(home) < before + 40  # nothing was filled in again
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


@pytest.mark.django_db
def test_what_nobody_decides_stays_few_also_where_a_pile_was_left() -> None:
    ended = threading.Event()
    ended.set()  # what is claimed is given back, and nothing is run
    pile = [Task.objects.request("check-disk", actor="agent-01") for _ in range(orchestrator.UNDECIDED + 5)]
    other = Task.objects.request("deploy", actor="alice")
    chance = random.Random(3)
    for _ in range(5):
        orchestrator._round("orch-1", chance, ended)
    decided = Task.objects.filter(decided_by="policy:demo").values_list("pk", flat=True)
    assert sorted(decided) == [task.pk for task in pile[:5]]
    for _ in range(60):
        orchestrator._round("orch-1", chance, ended)
        assert Task.objects.filter(status="pending").count() <= orchestrator.UNDECIDED + 2
    assert Task.objects.filter(status="pending", pk__in=[task.pk for task in pile]).count() < orchestrator.UNDECIDED
    other.refresh_from_db()
    assert other.status == "pending"
