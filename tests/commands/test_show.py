"""audit_show: all about a task, on any terminal, and how it stands in the ledger."""

import io
import json
import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from rich.cells import cell_len
from rich.text import Text

from audit.ids import uuid7
from audit.management import presentation
from audit.models import ExecutionLog, LedgerVerification, PauseQueueEntry, Task
from audit.reading.seal_state import seal_of
from tests.support.commands import HOSTILE, any_width, lines_of, record, run
from tests.support.factories import sql
from tests.support.ledger import VKEY, sealer

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    any_width(monkeypatch)


class TestShow:
    @pytest.fixture
    def failed(self):
        task = Task.objects.request(
            "deploy",
            summary="Deploy Kuma",
            services=["kuma"],
            plan={"steps": ["pull"]},
            actor="alice",
            correlation_id="req-1",
            estimated_resources={"wall_s": 30},
        )
        task.approve(actor="bob")
        [task] = Task.objects.claim(worker="orch-1")
        task.log("pull", duration_ms=812, output_summary="pulled", detail={"layers": 7})
        task.suggest("cache it", reason="slow", actor="orch-1")
        task.fail("disk full", outcome={"exit_code": 28})
        task.note("cleaned up", actor="carol")
        return task

    def test_the_whole_story(self, failed):
        out, _ = run("audit_show", str(failed.pk))
        role = ExecutionLog.objects.of(failed).first().db_role
        for shown in (
            *("deploy  Deploy Kuma", f"{failed.pk}  failed", "kuma", "req-1", '"exit_code": 28'),
            *('"disk full"', "1. cache it (because: slow)", "waited ", "ran ", "in all "),
            *("new: pending", "pending → approved", "approved → executing", "step 1 pull", "812 ms"),
            *('pulled {"layers": 7}', "executing → failed", "note, after the end", "cleaned up", "carol", role),
        ):
            assert shown in out
        order = [out.index(each) for each in ("new: pending", "→ approved", "step 1", "executing → failed", "after")]
        assert order == sorted(order)

    def test_json_holds_everything(self, failed):
        [shown] = lines_of("audit_show", failed.pk.hex[:20])
        assert shown["id"] == str(failed.pk)
        assert shown["pause_entry"] is None
        assert shown["log_complete"] is True
        columns = {field.attname for field in ExecutionLog._meta.concrete_fields} - {"task_id"}
        assert all(row.keys() == columns for row in shown["log"])
        assert [row["to_status"] or row["kind"] for row in shown["log"]] == [
            *("pending", "approved", "executing", "step", "suggestion", "failed", "note"),
        ]
        assert [row["id"] for row in shown["log"]] == list(ExecutionLog.objects.of(failed).values_list("id", flat=True))

    def test_a_long_log_is_bounded_and_says_so(self, failed):
        out, _ = run("audit_show", str(failed.pk), "--log", "2")
        assert "the log goes on after these 2 rows" in out
        assert "→ executing" not in out
        [shown] = lines_of("audit_show", str(failed.pk), "--log", "2")
        assert (len(shown["log"]), shown["log_complete"]) == (2, False)
        [shown] = lines_of("audit_show", str(failed.pk), "--log", "7")
        assert shown["log_complete"] is True

    def test_what_the_log_says_stands_below_where_there_is_no_room(self, failed, monkeypatch):
        failed.note("y" * 3000 + " 漢字" * 99, actor="carol")
        wide = run("audit_show", str(failed.pk))[0]
        monkeypatch.setenv("COLUMNS", "80")
        narrow = run("audit_show", str(failed.pk))[0]
        for shown in ("pulled", '{"layers": 7}', "cleaned up", "cache it"):
            assert shown in narrow[narrow.index("Execution log") :]
        assert "more lines; --format json shows all" in narrow
        assert "y" * 3000 in wide
        assert max(map(cell_len, narrow[narrow.index("Execution log") :].splitlines()[1:])) <= 80

    @pytest.mark.django_db(transaction=True)
    def test_the_seal_is_reported_as_far_as_it_is_known(self, failed, monkeypatch):
        def shown():
            line = next(each for each in run("audit_show", str(failed.pk))[0].splitlines() if "  Seal " in each)
            return line.split("Seal")[1].strip(), lines_of("audit_show", str(failed.pk))[0]["seal"]

        text, seal = shown()
        assert text == "not sealed yet"
        assert seal == {"state": "unsealed"} | dict.fromkeys(("leaf", "covered_at", "finding", "verified_at"))
        sealer(monkeypatch)
        run("audit_seal")
        text, seal = shown()
        assert re.fullmatch(r"leaf \d+; not verified yet", text)
        assert re.search(r"  Sealed +20.* UTC \(.* ago\)", run("audit_show", str(failed.pk))[0])
        assert (seal["state"], type(seal["leaf"])) == ("sealed", int)
        run("audit_verify", "--key", VKEY)
        text, seal = shown()
        assert re.search("; verified .* ago$", text)
        assert (seal["state"], seal["finding"]) == ("verified", None)
        row = ExecutionLog.objects.of(failed).first()
        for changed, says in (
            (row.pk, "TAMPERING: row_tampered, found "),
            (0, "tampering was found "),
        ):
            LedgerVerification.objects.create(
                started_at=timezone.now(),
                verdict="tampering",
                size=0,
                unsealed=0,
                report={"findings": [{"code": "row_tampered", "log": str(changed)}]},
            )
            assert says in shown()[0]
        assert "  Seal " not in run("audit_show", str(Task.objects.request("x", actor="a").pk))[0]

    def test_of_several_those_that_are_there_are_shown(self, failed):
        for words, code, count in (
            (("ffff", str(failed.pk)), 1, 1),
            ((str(failed.pk), "nope", str(failed.pk)), 1, 2),
            (("ffff", "eeee"), 2, 0),
        ):
            out, err = io.StringIO(), io.StringIO()
            with pytest.raises(SystemExit) as caught:
                call_command("audit_show", *words, "--format", "json", stdout=out, stderr=err)
            assert (caught.value.code, len(json.loads(out.getvalue()))) == (code, count)
            assert len(err.getvalue().splitlines()) == len(words) - count

    def test_several(self, failed):
        other = record(HOUR)
        out, _ = run("audit_show", str(failed.pk), str(other))
        assert out.index(str(failed.pk)) < out.index(str(other))
        assert len(lines_of("audit_show", str(failed.pk), str(other))) == 2

    def test_json_of_one_is_an_object_and_of_several_an_array(self, failed):
        other = str(record(HOUR))
        assert json.loads(run("audit_show", other, "--format", "json")[0])["id"] == other
        both = json.loads(run("audit_show", other, str(failed.pk), "--format", "json")[0])
        assert [each["id"] for each in both] == [other, str(failed.pk)]

    def test_no_row_comes_before_the_one_above_it(self, failed, monkeypatch):
        rows = list(ExecutionLog.objects.of(failed))
        rows[1].at, rows[2].at = rows[0].at, rows[0].at - timedelta(milliseconds=2)
        lines = [str(each) for each in presentation._timeline(rows[:3], None, None)]
        assert sum("+0 ms" in each for each in lines) == 2
        assert not any("+-" in each for each in lines)

    def test_work_that_still_lives(self):
        task = Task.objects.request("deploy", actor="a", available_at=timezone.now() + HOUR)
        out, _ = run("audit_show", str(task.pk))
        assert "waiting for" in out
        assert "Available" in out
        assert "(in " in out
        task = Task.objects.request("deploy", actor="a")
        task.approve(actor="b")
        [task] = Task.objects.claim(worker="w")
        task.request_cancel(actor="bob")
        out, _ = run("audit_show", str(task.pk))
        assert "running for" in out
        assert "w; lease expires" in out
        assert "Stop requested" in out

    def test_a_paused_task_shows_its_place_in_the_queue(self):
        task = Task.objects.request("deploy", actor="a")
        task.approve(actor="b")
        [task] = Task.objects.claim(worker="w")
        entry = task.pause(reason="insufficient_capacity", work_plan={"left": ["b"]}, note="no room")
        out, _ = run("audit_show", str(task.pk))
        for shown in ("Pause queue", "due", "Insufficient capacity: no room", '{"left": ["b"]}'):
            assert shown in out
        [shown] = lines_of("audit_show", str(task.pk))
        assert shown["pause_entry"]["id"] == entry.pk
        assert shown["pause_entry"]["state"] == "due"
        assert shown["pause_entry"]["overdue_s"] >= 0

    def test_an_entry_at_work_and_a_log_that_is_missing(self):
        task = Task.objects.request("deploy", actor="a")
        task.approve(actor="b")
        task.pause(reason="insufficient_capacity", actor="b")
        [entry] = PauseQueueEntry.objects.claim(worker="orch-9")
        out, _ = run("audit_show", str(task.pk))
        assert "orch-9, until " in out
        details = presentation.Details(log=[], more_log=False, entry=None, seal=seal_of(entry.task_id, "default"))
        page = presentation.task_page(entry.task, details, heading=Text, paint=lambda status: "", width=None)
        assert str(list(page)[-1]) == "  none"

    def test_hostile_text_is_shown_and_not_obeyed(self):
        task = Task.objects.request(
            HOSTILE, summary=HOSTILE, services=[HOSTILE], actor=HOSTILE, correlation_id=HOSTILE, plan={HOSTILE: HOSTILE}
        )
        task.log(HOSTILE, output_summary=HOSTILE, detail={HOSTILE: 1}, actor=HOSTILE)
        task.suggest(HOSTILE, reason=HOSTILE, actor=HOSTILE)
        task.approve(actor="b")
        task.pause(reason="manual_pause", actor=HOSTILE, note=HOSTILE, work_plan={HOSTILE: 1})
        out, _ = run("audit_show", str(task.pk))
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert not [line for line in out.splitlines() if line.startswith("Total: 0")]
        [shown] = lines_of("audit_show", str(task.pk))
        assert shown["plan"] == {HOSTILE: HOSTILE}

    @pytest.mark.parametrize(
        "text", ["9" * 5000, "[" * 3000 + "]" * 3000, *("[" * depth + "]" * depth for depth in range(880, 1000, 7))]
    )
    def test_json_that_python_cannot_read_is_shown_as_text(self, text):
        key = uuid7()
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO audit_task (id, action, created_at, available_at, plan, suggestions)"
                " VALUES (%s, 'x', now(), now(), %s::jsonb, %s::jsonb)",
                [key, text, text],
            )
        out, _ = run("audit_show", str(key))
        assert text[:900] in "".join(out.split())
        assert run("audit_list")[0].count(str(key)) == 1
        assert run("audit_stats")[0].startswith("1 task\n")
        [shown] = lines_of("audit_show", str(key))
        assert shown["plan"] == text or json.dumps(shown["plan"]) == text

    def test_suggestions_of_any_shape(self):
        task = Task.objects.request("x", actor="a", suggestions=[{"suggestion": "s"}, {"other": 1}, "text"])
        out, _ = run("audit_show", str(task.pk))
        for shown in ("1. s\n", '2. {"other": 1}', '3. "text"'):
            assert shown in out

    def test_a_large_document_is_cut_and_says_so(self):
        task = Task.objects.request("x", actor="a", plan={"steps": list(range(200)), "long": "y" * 3000})
        out, _ = run("audit_show", str(task.pk))
        assert "more lines; --format json shows all" in out
        assert len(out.splitlines()) < 120
        task = Task.objects.request("x", actor="a", plan={"long": "y" * 3000})
        assert "characters)" in run("audit_show", str(task.pk))[0]

    def test_an_unknown_id(self):
        with pytest.raises(
            CommandError, match=r"^No task in database 'default' has an id that begins with ffff\. "
        ) as caught:
            run("audit_show", "ffff")
        assert caught.value.returncode == 2

    def test_it_says_why_a_task_waits(self, monkeypatch):
        task = Task.objects.request("paint", actor="a")
        assert "Why it waits\n  - It waits for somebody to approve it, since " in run("audit_show", str(task.pk))[0]
        task.approve(actor="b")
        out, _ = run("audit_show", str(task.pk))
        assert "  - No agent is registered that could do “paint”. Start a worker that has a handler for it.\n" in out
        assert "  - It is the first of the approved tasks.\n" in out
        task.pause(reason="awaiting_approval", resume_after=timedelta(hours=1), actor="c")
        out, _ = run("audit_show", str(task.pk))
        assert "  - A person has to approve what remains of it.\n" in out
        assert "(in 1 h 00 m), it is rejected.\n" in out or "(in 59 m" in out
        monkeypatch.setenv("COLUMNS", "40")
        assert "\n    " in run("audit_show", str(task.pk))[0].split("Why it waits")[1].split("Pause queue")[0]
        task.pause_entry.cancel(reason="no")
        assert "Why it waits" not in run("audit_show", str(task.pk))[0]

    def test_what_a_role_may_not_read_is_left_out(self):
        task = Task.objects.request("paint", actor="a")
        task.approve(actor="b")
        sql(
            "CREATE ROLE audit_reader; GRANT SELECT ON ALL TABLES IN SCHEMA public TO audit_reader;"
            "REVOKE SELECT ON audit_agent FROM audit_reader; SET LOCAL ROLE audit_reader"
        )
        out, _ = run("audit_show", str(task.pk))
        assert "Why it waits\n  - It is the first of the approved tasks.\n" in out

    @pytest.mark.parametrize("width", ["40", "80"])
    def test_a_narrow_terminal(self, failed, monkeypatch, width):
        monkeypatch.setenv("COLUMNS", width)
        out, _ = run("audit_show", str(failed.pk))
        log = out[out.index("Execution log") :].splitlines()[1:]
        assert log
        assert all(len(line) <= max(int(width), 64) for line in log)
