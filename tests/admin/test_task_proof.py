"""The proof of a task: a download that holds offline, or the reason why there is none."""

import re
import shlex
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client, override_settings

from audit import __version__
from audit.admin.task.proof import MOST_LOG_ROWS
from audit.ledger.tlog import proof
from audit.ledger.tlog.note import generate
from audit.models import ExecutionLog, Task
from tests.support.factories import sql, task_in
from tests.support.ledger import KEY, behind_the_guards, finish, sealed
from tests.support.pages import TASKS, client_of, text_of
from tests.support.verifications import PAGE, TRUSTED, apart, page_of

pytestmark = pytest.mark.django_db

CHECKOUT = Path(__file__).resolve().parents[2]


@apart
def test_a_proof_is_downloaded_and_holds_offline(viewer: Client, tmp_path: Path) -> None:
    [task] = finish(1)
    with override_settings(AUDIT=TRUSTED):
        assert "Download proof" not in text_of(viewer.get(page_of(task)))
    sealed()
    with override_settings(AUDIT=TRUSTED):
        assert page_of(task, "proof") in viewer.get(page_of(task)).content.decode()
        response = viewer.get(page_of(task, "proof"))
    assert response.status_code == 200
    assert response["Content-Disposition"] == f'attachment; filename="{task.pk}.tlog-proof"'
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    checked = proof.check(response.content.decode(), [KEY.verifier])
    assert checked.task_id == task.pk
    assert len(checked.log) == ExecutionLog.objects.filter(task_id=task.pk).count()
    # The page names what checks it.
    file = tmp_path / f"{task.pk}.tlog-proof"
    file.write_bytes(response.content)
    with override_settings(AUDIT=TRUSTED):
        html = viewer.get(page_of(task)).content.decode()
    _, install, command = unescape(
        re.search(r"How to check the proof.*?<pre>(.*?)</pre>", html, re.DOTALL)[1]
    ).splitlines()
    assert install.endswith(f"--no-deps django_task_audit-{__version__}-py3-none-any.whl")
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "audit.ledger"]
    ran = subprocess.run(
        [sys.executable, "-P", *words[1:]], cwd=tmp_path, env={"PYTHONPATH": str(CHECKOUT)}, check=True
    )
    assert ran.returncode == 0
    # The connection is as it was.
    assert not connection.in_atomic_block
    assert sql("SHOW statement_timeout") != [("1500ms",)]


@apart
def test_without_keys_there_is_a_hint_and_no_button(viewer: Client) -> None:
    [task] = finish(1)
    sealed()
    text = text_of(viewer.get(page_of(task)))
    assert "Download proof" not in text
    assert "No proof to download" in text
    response = viewer.get(page_of(task, "proof"))
    assert response.status_code == 409
    assert "names no key" in text_of(response)


@apart
def test_what_cannot_be_proven_says_why(viewer: Client, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.AUDIT = TRUSTED
    live = task_in("executing")
    [task] = finish(1)

    def answer(of: Task) -> str:
        response = viewer.get(page_of(of, "proof"))
        assert response.status_code == 409
        assert "attachment" not in response.headers.get("Content-Disposition", "")
        return text_of(response)

    assert "Nothing is sealed yet" in answer(task)
    sealed()
    assert "it is sealed when it has finished" in answer(live)
    with monkeypatch.context() as patched:
        patched.setattr("audit.admin.task.proof.MOST_LOG_ROWS", 2)
        assert "more than 2 rows" in answer(task)
    settings.AUDIT = {"LEDGER_VERIFIERS": [str(generate("example.org/other").verifier)]}
    assert "would not hold" in answer(task)
    settings.AUDIT = {"LEDGER_VERIFIERS": ["no key"]}
    assert "There is no proof" in answer(task)
    settings.AUDIT = TRUSTED
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve' WHERE id = %s", [task.pk])
    assert "was changed after it was sealed" in answer(task)
    assert viewer.get(f"{TASKS}nonsense/proof/").status_code == 404
    assert viewer.get(f"{TASKS}00000000-0000-7000-8000-000000000000/proof/").status_code == 404
    assert MOST_LOG_ROWS > 100


@apart
def test_a_proof_needs_the_permission_to_view_tasks(settings: Any) -> None:
    settings.AUDIT = TRUSTED
    [task] = finish(1)
    sealed()
    url = page_of(task, "proof")
    assert client_of("anonymous").get(url).status_code == 302
    assert client_of("staff").get(url).status_code == 403
    assert client_of("blind").get(url).status_code == 403
    for kind in ("viewer", "decider", "superuser"):
        client = client_of(kind)
        assert client.get(url).status_code == 200
        assert client.post(url).status_code == 405


@apart
def test_a_proof_comes_out_where_every_request_is_a_transaction(viewer: Client, settings: Any) -> None:
    settings.AUDIT = TRUSTED
    [task] = finish(1)
    sealed()
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        response = viewer.get(page_of(task, "proof"))
        assert viewer.get(PAGE).status_code == 200
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert proof.check(response.content.decode(), [KEY.verifier]).task_id == task.pk
