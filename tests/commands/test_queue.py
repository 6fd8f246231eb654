"""audit_queue: what is paused, in which order, and decisions about it, the refused ones named."""

import io
import json
import os
import pwd
import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support import commands
from tests.support.commands import ESCAPED, HOSTILE, any_width, outcome

pytestmark = pytest.mark.django_db


HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    any_width(monkeypatch)


def run(*argv):
    return commands.run("audit_queue", *argv)


def lines_of(*argv):
    return commands.lines_of("audit_queue", *argv)


def paused(summary="", *, services=(), asked_by="alice", **given):
    task = Task.objects.request("deploy", summary=summary, services=services, actor=asked_by)
    task.approve(actor="bob")
    return task.pause(**({"reason": "insufficient_capacity", "actor": "bob"} | given))


@pytest.fixture
def queue():
    """One entry in each state."""
    entries = {
        "waiting": paused("later", resume_after=timezone.now() + 1.5 * HOUR, services=["dns"]),
        "held": paused("by hand", reason="manual_pause", note="until monday"),
        "leased": paused("taken", priority=1),
    }
    assert PauseQueueEntry.objects.claim(worker="orch-1") == [entries["leased"]]
    return entries | {"due": paused("now", priority=2, services=["dns", "mail"])}


class TestList:
    def test_due_first_then_waiting_then_held(self, queue):
        out, err = run("list")
        assert err == ""
        rows = [line.split() for line in out.splitlines()[2:]]
        assert [(int(row[0]), row[1]) for row in rows] == [
            (queue[state].pk, state) for state in ("leased", "due", "waiting", "held")
        ]
        for shown in ("overdue", "in 1 h", "when released", "capacity", "by hand: until monday", "deploy: taken"):
            assert shown in out
        assert "orch-1" in out.splitlines()[2]

    def test_json_holds_every_column(self, queue):
        shown = lines_of("list")
        columns = {field.attname for field in PauseQueueEntry._meta.concrete_fields}
        more = {"state", "age_s", "overdue_s", "action", "summary", "services_touched"}
        assert [each.keys() for each in shown] == [columns | more] * 4
        assert [each["state"] for each in shown] == ["leased", "due", "waiting", "held"]
        assert [each["overdue_s"] is None for each in shown] == [False, False, True, True]
        assert all(each["age_s"] >= 0 for each in shown)

    @pytest.mark.parametrize(
        ("argv", "states"),
        [
            (("--state", "due"), ["due"]),
            (("--state", "leased"), ["leased"]),
            (("--state", "held", "--state", "waiting"), ["waiting", "held"]),
            (("--service", "dns"), ["due", "waiting"]),
            (("--search", "NOW"), ["due"]),
            (("--service", "dns", "--state", "waiting"), ["waiting"]),
            (("--limit", "2"), ["leased", "due"]),
            (("--status", "failed"), []),
            (("--since", "1h", "--actor", "alice"), ["leased", "due", "waiting", "held"]),
        ],
    )
    def test_narrowed(self, queue, argv, states):
        assert [each["state"] for each in lines_of("list", *argv)] == states
        assert lines_of(*argv)[0].keys() == lines_of("list", *argv)[0].keys() if states else lines_of(*argv) == []
        assert [each["state"] for each in lines_of(*argv)] == states

    def test_the_event_that_is_awaited_is_named(self):
        paused("build", reason="awaiting_event", event="build-42", note="the build")
        out, _ = run("list")
        assert "event build-42: the build" in out

    def test_a_held_entry_may_be_leased(self, queue):
        PauseQueueEntry.objects.filter(pk=queue["leased"].pk).update(held=True)
        assert [each["state"] for each in lines_of("list")] == ["due", "waiting", "held", "leased"]
        assert [each["state"] for each in lines_of("list", "--state", "held")] == ["held"]
        assert [each["state"] for each in lines_of("list", "--state", "leased")] == ["leased"]

    def test_a_bound_is_said(self, queue):
        assert "There are more" in run("list", "--limit", "3")[1]
        assert run("list", "--limit", "4")[1] == ""

    def test_nothing(self):
        assert run("list") == ("", "Nothing is paused.\n")
        assert run("list", "--state", "due") == ("", "Nothing paused matches.\n")

    @pytest.mark.parametrize("width", [80, 120, 200])
    def test_a_terminal_is_not_overrun(self, queue, monkeypatch, width):
        monkeypatch.setenv("COLUMNS", str(width))
        paused("word " * 50, note="note " * 50, reason="awaiting_event")
        assert all(len(line) <= width for line in run("list")[0].splitlines())

    def test_hostile_text_is_shown_and_not_obeyed(self):
        paused(HOSTILE, note=HOSTILE, actor=HOSTILE)
        out, _ = run("list")
        assert out.count(ESCAPED) == 3
        assert len(out.splitlines()) == 3

    def test_the_rows_cost_no_query_each(self, queue, django_assert_num_queries):
        with django_assert_num_queries(3):
            run("list")


def status_of(entry):
    return Task.objects.get(pk=entry.task_id).status


class TestDecisions:
    def test_resume(self, queue):
        out, err = run("resume", str(queue["held"].pk), "--actor", "carol", "--reason", "monday came")
        assert (out, err) == (f"{queue['held'].pk}: resumed (task {queue['held'].task_id}, deploy)\n", "")
        assert status_of(queue["held"]) == "approved"
        log = ExecutionLog.objects.of(queue["held"].task_id)
        # As a decision in the admin writes it.
        assert [(row.to_status, row.actor, row.output_summary, row.detail) for row in log][-2:] == [
            ("approved", "carol", "", None),
            (None, "carol", "monday came", {"decision": "resume"}),
        ]

    def test_hold(self, queue):
        run("hold", str(queue["due"].task_id))
        assert PauseQueueEntry.objects.get(pk=queue["due"].pk).held
        assert not ExecutionLog.objects.of(queue["due"].task_id).filter(detail__decision="hold").exists()

    def test_defer(self, queue):
        before = timezone.now()
        out, _ = run("defer", str(queue["held"].pk), str(queue["due"].pk), "--until", "30m")
        for name in ("held", "due"):
            entry = PauseQueueEntry.objects.get(pk=queue[name].pk)
            assert not entry.held
            assert timedelta(minutes=29) < entry.due_at - before < timedelta(minutes=31)
        assert out.count(": deferred, due ") == 2
        run("defer", str(queue["due"].pk), "--until", "2099-01-01T00:00:00Z", "--reason", "when I am old")
        note = ExecutionLog.objects.of(queue["due"].task_id).last()
        assert note.output_summary == "when I am old"
        assert note.detail == {"decision": "defer", "until": "2099-01-01T00:00:00+00:00"}
        assert PauseQueueEntry.objects.get(pk=queue["due"].pk).due_at.year == 2099

    def test_cancel(self, queue):
        run("cancel", queue["due"].task_id.hex[:24], "--reason", "not needed")
        task = Task.objects.get(pk=queue["due"].task_id)
        assert (task.status, task.outcome["output_summary"]) == ("rejected", "not needed")
        assert not ExecutionLog.objects.of(task).filter(kind="note").exclude(output_summary="").exists()

    def test_a_person_overrules_a_worker(self, queue):
        run("resume", str(queue["leased"].pk))
        assert status_of(queue["leased"]) == "approved"

    def test_the_actor_is_the_user_of_the_machine(self, queue):
        run("resume", str(queue["due"].pk))
        assert Task.objects.get(pk=queue["due"].task_id).actor == f"cli:{pwd.getpwuid(os.getuid()).pw_name}"

    def test_each_refused_one_is_named_and_the_others_are_done(self, queue):
        pending = Task.objects.request("x", actor="a")
        out, err = io.StringIO(), io.StringIO()
        ids = [str(queue["held"].pk), "999999", str(pending.pk), "what", str(queue["due"].task_id), "0"]
        with pytest.raises(CommandError, match=r"^4 of 6 refused\.$") as caught:
            call_command("audit_queue", "resume", *ids, stdout=out, stderr=err)
        assert caught.value.returncode == 1
        assert len(out.getvalue().splitlines()) == 2
        refused = err.getvalue().splitlines()
        assert [line.split(": refused, ")[0] for line in refused] == ["999999", str(pending.pk), "what", "0"]
        assert "is pending and not paused" in refused[1]
        assert "begins several tasks" in refused[3]
        assert (status_of(queue["held"]), status_of(queue["due"])) == ("approved", "approved")

    def test_one_refusal_is_said_once(self, queue):
        for _ in range(2):
            code, out, err = outcome("audit_queue", "resume", "999999")
            assert (code, out) == (1, "")
            assert err == (
                "999999: refused, it is not an entry of the pause queue of database 'default'; it may have left"
            )

    def test_a_verb_that_is_none_is_named(self):
        with pytest.raises(CommandError, match="invalid choice: 'resum'"):
            call_command("audit_queue", "resum", "1")
        with pytest.raises(CommandError, match="unrecognized arguments: 1"):
            call_command("audit_queue", "--state", "due", "1")

    def test_json(self, queue):
        entry = queue["due"]
        out = io.StringIO()
        with pytest.raises(CommandError):
            call_command("audit_queue", "hold", str(entry.pk), "999999", "--format", "json", stdout=out)
        done, refused = json.loads(out.getvalue())
        assert done == {
            "id": str(entry.pk),
            "done": "held",
            "refused": None,
            "task_id": str(entry.task_id),
            "entry_id": entry.pk,
            "due_at": None,
            "action": entry.task.action,
        }
        assert done.keys() == refused.keys()
        assert (refused["id"], refused["done"]) == ("999999", None)
        assert "is not an entry of the pause queue" in refused["refused"]

    def test_naming_one_twice_decides_once(self, queue):
        out, _ = run("resume", str(queue["due"].pk), str(queue["due"].pk))
        assert out.count("resumed") == 1

    def test_a_reason_that_cannot_be_written_leaves_the_entry_alone(self, queue, monkeypatch):
        from audit.exceptions import InvalidValue

        def refuse(*args, **options):
            raise InvalidValue("text", "x", "cannot be stored")

        monkeypatch.setattr(Task, "note", refuse)
        with pytest.raises(CommandError, match=rf"^{queue['due'].pk}: refused, text: cannot be stored"):
            run("hold", str(queue["due"].pk), "--reason", "why")
        assert not PauseQueueEntry.objects.get(pk=queue["due"].pk).held


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("dance",), "invalid choice"),
        (("resume",), "required: ID"),
        (("defer", "1"), "required: --until"),
        (("defer", "1", "--until", "12"), "'12' is not a time; write .* or a span from now such as 24h"),
        (("defer", "1", "--until", "2001-01-01"), "'2001-01-01' is past; write a moment to come"),
        (("hold", "1", "--actor", " "), "must not be empty"),
        (("hold", "1", "--reason", "a\0b"), "NUL"),
        (("hold", "1", "--database", "nowhere"), "is not a database of this project"),
        (("list", "--state", "lost"), "invalid choice"),
        (("list", "--status", "nope"), "use one of"),
    ],
)
def test_bad_options(argv, says):
    with pytest.raises(CommandError, match=says):
        run(*argv)


def test_options_of_every_command_may_follow_the_verb():
    run("list", "--no-color", "--traceback", "-v", "0")


def test_the_event_that_is_waited_for_and_the_deadline_of_an_approval():
    paused(reason="manual_pause", event="build-42", note="after the build")
    paused(reason="manual_pause", event="build-43", resume_after=2 * HOUR)
    asked = paused(reason="awaiting_approval", resume_after=3 * HOUR)
    late = paused(reason="awaiting_approval", resume_after=timedelta(microseconds=1))
    out, _ = run("list")
    lines = [" ".join(each.split()) for each in out.splitlines()]
    assert any("when emitted 3 event build-42: after the build" in each for each in lines)
    assert any(re.search("times out in (1 h|2 h) .*event build-43", each) for each in lines), out
    assert any(re.match(rf"{asked.pk} held .*approve within (2|3) h", each) for each in lines), out
    assert any(each.startswith(f"{late.pk} held") and "expired" in each for each in lines)
    assert "overdue" not in out
    assert {each["event"] for each in lines_of("list")} == {"", "build-42", "build-43"}


def test_the_task_says_what_it_waits_for_and_until_when():
    event = paused(reason="manual_pause", event="build-42", resume_after=2 * HOUR)
    held = paused(reason="manual_pause", event="build-43")
    approval = paused(reason="awaiting_approval", resume_after=3 * HOUR)
    pending = Task.objects.request("deploy", actor="alice", approve_before=HOUR)
    pages = {
        each: commands.run("audit_show", str(key))[0]
        for each, key in [
            ("event", event.task_id),
            ("held", held.task_id),
            ("approval", approval.task_id),
            ("pending", pending.pk),
        ]
    }
    assert re.search(r"  Event +build-42\n  Times out +20", pages["event"])
    assert re.search(r"  Event +build-43\n  Times out +when somebody emits the event", pages["held"])
    assert re.search(r"  Approve before +20", pages["approval"])
    assert re.search(r"  Approve before +20", pages["pending"])
    assert not re.search(r"  Due ", "".join(pages.values()))
