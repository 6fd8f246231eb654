"""`manage.py audit_decide`: approve, reject and pause work, and ask executing work to stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from audit.decisions import Decision, carry_out
from audit.exceptions import AuditError, InvalidFilter
from audit.management import arguments
from audit.management.base import FAILED, FINE, UNABLE, AuditCommand, os_user
from audit.management.output import safe
from audit.models import Task
from audit.reading.filters import add_database
from audit.reading.filters.lookup import find_task

__all__ = ["Command"]

_DECISIONS = {
    "approve": Decision.APPROVE,
    "reject": Decision.REJECT,
    "pause": Decision.PAUSE,
    "stop": Decision.REQUEST_CANCEL,
}
_DONE = {"approve": "approved", "reject": "rejected", "pause": "paused", "stop": "asked to stop"}
_HELP = {
    "approve": "let pending tasks run",
    "reject": "reject tasks that are pending, approved or paused; the reason becomes the outcome",
    "pause": "keep approved tasks that have not begun from workers; the reason becomes the note of the pause entry",
    "stop": "ask executing tasks to stop; each handler ends when it next checks whether it was asked",
}


class Command(AuditCommand):
    """Decides about tasks."""

    outcome = UNABLE
    writes = True
    help = (
        "Approve, reject or pause tasks, or ask executing tasks to stop. The rules are those of the browser: each "
        "decision needs a reason, and a decision that does not fit the task's status is refused. To resume paused "
        "tasks, use audit_queue resume."
    )
    examples = (
        "audit_decide approve 01a2244f-31b2 --reason 'read the plan'",
        "audit_decide reject 01a2244f-31b2 01a22452-07c1 --reason 'too risky'",
        "audit_decide pause 01a2244f-31b2 --reason 'the disk is full' --until 2h",
        "audit_decide stop 01a2244f-31b2 --reason 'wrong host'",
    )
    exits = "0 done, 1 some of it was refused, 2 could not do it"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take a verb with its own options."""
        verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        for verb, purpose in _HELP.items():
            description = f"{purpose[0].upper()}{purpose[1:]}."
            each = verbs.add_parser(verb, help=purpose, description=description, epilog=parser.epilog)
            each.add_argument("ids", nargs="+", metavar="ID", help="the id of a task, or the first digits of it")
            each.add_argument(
                "--reason", type=arguments.reason, required=True, metavar="TEXT", help="why; it is stored with the task"
            )
            if verb == "pause":
                each.add_argument(
                    "--until",
                    type=arguments.ahead,
                    metavar="WHEN",
                    help="when it resumes by itself: a moment such as 2026-11-24T05:48+01:00, or a span from now such "
                    "as 30m or 2d (default: not before audit_queue resume)",
                )
            each.add_argument(
                "--actor", type=arguments.actor, metavar="NAME", help=f"who decides (default {os_user()})"
            )
            add_database(each)
            self.add_format(each)
            self.add_shared(each)

    def run(self, **options: Any) -> int:
        """Decide about each of the tasks, and say at once what came of it: an error at one must not hide the others."""
        options["ids"] = list(dict.fromkeys(options["ids"]))
        refused = 0

        def counted() -> Iterator[dict[str, Any]]:
            nonlocal refused
            for each in self._decided(options["verb"], options):
                refused += each["refused"] is not None
                yield each

        if self.for_programs:
            self.json_each(counted())
        for each in () if self.for_programs else counted():
            if each["done"]:
                self.line(f"{safe(each['id'])}: {each['done']} (task {each['task_id']}, {safe(each['action'])})")
                continue
            refusal = f"{safe(each['id'])}: refused, {safe(each['refused'])}"
            if len(options["ids"]) == 1:
                raise CommandError(refusal, returncode=FAILED)
            self.note(refusal)
        if refused:
            raise CommandError(f"{refused} of {len(options['ids'])} refused.", returncode=FAILED)
        return FINE

    def _decided(self, verb: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Decide about each task, and yield what came of it."""
        using, name, reason = options["database"], options["actor"] or os_user(), options["reason"]
        for text in options["ids"]:
            values: dict[str, Any] = {"id": text, "done": None, "refused": None, "task_id": None, "action": None}
            try:
                with transaction.atomic(using=using):
                    task = find_task(text, Task.objects.using(using), field="id")
                    carry_out(
                        _DECISIONS[verb], task, None, reason=reason, actor=name, until=options.get("until"), using=using
                    )
            except AuditError as error:
                problem = f"it {error.problem}" if isinstance(error, InvalidFilter) else str(error)
                yield values | {"refused": problem}
            else:
                self.acted = True
                yield values | {"done": _DONE[verb], "task_id": task.pk, "action": task.action}
