"""docs/sealing.md as it stands: every unit is one, and every command runs, in the order of the page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.ids import uuid7
from audit.ledger.tlog import keys
from tests.support import servers
from tests.support.sealed import connect, migrate

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "sealing.md").read_text()
UNITS = dict(re.findall(r"^```ini\n# /etc/systemd/system/(\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
_SH = re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
BLOCKS = [re.sub("^ {4}(?=python|cat|mv)", "", each, flags=re.MULTILINE) for each in _SH]
SETTINGS = re.search(r"^```python\n# auditor_settings.py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]


def test_the_page_has_what_it_is_read_for() -> None:
    assert {"audit-seal.service", "audit-seal-once.timer", "audit-push.timer", "audit-verify.timer"} <= UNITS.keys()
    for timer in (each for each in UNITS if each.endswith(".timer")):
        assert timer.replace(".timer", ".service") in UNITS
    text = "".join(BLOCKS)
    for command in ("git init", "push", "audit_keygen", "audit_seal", "--new-epoch", "audit_verify", "git clone"):
        assert command in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_every_unit_is_one(tmp_path: Path) -> None:
    for name, text in UNITS.items():
        # What it looks for are programs; they are elsewhere on this machine.
        (tmp_path / name).write_text(re.sub(r"^(Exec\w+=)\S+", r"\1/bin/true", text, flags=re.MULTILINE))
    paths = [tmp_path / name for name in UNITS]
    checked = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    said = [line for line in checked.stderr.splitlines() if str(tmp_path) in line or "audit-" in line]
    assert (checked.returncode, said) == (0, [])


def test_units_run_what_the_page_runs() -> None:
    """The same paths, and options that the commands have."""
    for name, text in UNITS.items():
        for line in re.findall(r"^Exec\w+=(.*)$", text, re.MULTILINE):
            command = re.sub(r"^\S+/python (manage.py|-m django)", "", line).strip()
            assert command.split()[0] in ("audit_seal", "audit_verify", "/usr/bin/git"), name
            known = "".join(BLOCKS)
            for path in re.findall(r"/var/lib/[\w/-]+", line):
                assert path in known or path.endswith("python"), (name, path)


@pytest.fixture(scope="module")
def server(django_db_blocker: Any) -> Iterator[Any]:
    """A server with the roles of docs/roles.md."""
    with servers.throwaway() as made, django_db_blocker.unblock():
        migrate(made)
        with connect(made) as owner:
            for script in re.findall(r"```sql\n(CREATE ROLE.*?)```", (DOCS / "roles.md").read_text(), re.DOTALL):
                owner.execute(script)
        yield made


class Machine:
    """Where the page's commands run: its paths below a directory of ours, and its settings for each role."""

    def __init__(self, folder: Path, server: Any) -> None:
        self.folder, self._server = folder, server
        for name in ("var/lib", "srv"):
            (folder / name).mkdir(parents=True)
        self.verifiers: list[str] = []
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": f"{folder}:{DOCS.parent}",
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def settle(self, accepted: tuple[int, ...] = ()) -> None:
        """Write the settings of sealer and auditor, as the page has them, with the verifier keys of now."""
        text = SETTINGS.replace('"example.org/audit+…"', ", ".join(map(repr, self.verifiers)))
        text = text.replace('"LEDGER_ACCEPTED_EPOCHS": []', f'"LEDGER_ACCEPTED_EPOCHS": {list(accepted)}')
        place = servers.database_settings(self._server)
        more = f"DATABASES['default'] |= {place | {'USER': 'audit_auditor'}}\n"
        (self.folder / "auditor_settings.py").write_text(self.here(text) + more)
        kept = f"AUDIT['LEDGER_CHECKPOINTS'] = {str(self.folder / 'var/lib/audit-checkpoints')!r}\n"
        sealer = f"from auditor_settings import *\nDATABASES['default']['USER'] = 'audit_sealer'\n{kept}"
        (self.folder / "sealer_settings.py").write_text(sealer)

    def here(self, text: str) -> str:
        """The same with the page's paths on this machine."""
        text = re.sub(r"ssh://[\w.@-]+", "", text)
        return re.sub(r"(?<![\w/])/(var/lib|srv)/", rf"{self.folder}/\1/", text)

    def run(self, block: str, code: int = 0) -> str:
        """Run a block of the page; its output."""
        python = shlex.quote(sys.executable)
        text = self.here(block).replace("python -m", f"{python} -m")
        text = text.replace("python manage.py", f"{python} -m django")
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env=self.environment | {"DJANGO_SETTINGS_MODULE": "sealer_settings"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, f"{text}\n{ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr


def _finished(owner: Any) -> None:
    owner.execute("INSERT INTO audit_task (id, action, status) VALUES (%s, 'deploy', 'completed')", [uuid7()])


def _block(*words: str) -> str:
    [found] = [each for each in BLOCKS if all(word in each for word in words)]
    return found


@pytest.mark.slow
def test_every_command_of_the_page_runs(tmp_path: Path, server: Any) -> None:
    machine = Machine(tmp_path, server)
    ran = {"pip install", "useradd"}  # neither the network nor root is needed here
    checkpoints = tmp_path / "var/lib/audit-checkpoints"

    def run(*words: str, code: int = 0, **changed: str) -> str:
        ran.update(words)
        block = _block(*words)
        for old, new in changed.items():
            block = block.replace({"checkpoint": "0001-00000000000000120000.checkpoint"}[old], new)
        return machine.run(block, code)

    with connect(server) as owner:
        _finished(owner)
        machine.settle()
        machine.verifiers.append(run("install -d -m 700").splitlines()[0])
        machine.settle()
        run("git init --bare")
        run("config remote.origin.url")
        machine.environment[keys.FILE_VARIABLE] = str(tmp_path / "var/lib/audit-sealer/signing.key")
        assert len(list(checkpoints.glob("*.checkpoint"))) == 1
        run(" push --quiet")
        # Another account pushes, which may not write here: git would say so each time.
        assert not (checkpoints / ".git/refs/remotes").exists()
        assert "INTACT" in run("git clone")

        # A key that follows
        successor = run("--output /var/lib/audit-sealer/next.key").splitlines()[0]
        _finished(owner)
        assert successor in run("cat /var/lib/audit-sealer/next.key", code=2)
        secret = tmp_path / "var/lib/audit-sealer/signing.key"
        secret.write_text(secret.read_text().splitlines()[0] + "\n")  # as it was before the step that was refused
        machine.verifiers.append(successor)
        machine.settle()
        assert "Sealed 2 rows" in run("cat /var/lib/audit-sealer/next.key")
        _finished(owner)
        assert "Sealed 2 rows" in run("mv /var/lib/audit-sealer/next.key")
        pull = "\n".join(line for line in _block("git clone").splitlines() if "git clone" not in line)
        sealing = _block("python manage.py audit_seal --checkpoints").splitlines()[-1]
        machine.run(sealing)
        run(" push --quiet")
        assert "INTACT" in machine.run(pull)

        # A restore
        owner.execute("SET session_replication_role = replica")
        triggers = owner.execute(
            "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgenabled = 'A'"
            " AND tgrelid IN (SELECT oid FROM pg_class WHERE relname LIKE 'audit_ledger%')"
        ).fetchall()
        with owner.transaction():
            for table, name in triggers:
                owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER {name}")
            for name in ("leaf", "tile", "head", "checkpoint"):
                owner.execute(f"DELETE FROM audit_ledger_{name}")
            for table, name in triggers:
                owner.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
        newest = max(each.name for each in checkpoints.glob("*.checkpoint"))
        assert "Epoch 2 begins at leaf 0" in run("--new-epoch", checkpoint=newest)
        machine.run(sealing)
        run(" push --quiet")
        assert "rollback" in machine.run(pull, code=1)
        machine.settle(accepted=(2,))
        assert "accepted: 2" in machine.run(pull)
    assert not [each for each in BLOCKS if not any(word in each for word in ran)]
