"""`manage.py audit_decide`: approve or reject requests, and ask executing work to stop."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from audit.decisions import MAX_REASON, Decision, carry_out
from audit.exceptions import AuditError, InvalidFilter, InvalidValue
from audit.management.base import FAILED, FINE, UNABLE, AuditCommand, os_user
from audit.management.output import safe
from audit.models import Task
from audit.reading.filters import add_database
from audit.reading.filters.lookup import find_task
from audit.values import validation
from audit.values.terminal import brief

__all__ = ["Command"]

_DECISIONS = {"approve": Decision.APPROVE, "reject": Decision.REJECT, "stop": Decision.REQUEST_CANCEL}
_DONE = {"approve": "approved", "reject": "rejected", "stop": "asked to stop"}
_HELP = {
    "approve": "let pending tasks run",
    "reject": "reject tasks that are pending, approved or paused; the reason becomes the outcome",
    "stop": "ask executing tasks to stop; each handler ends when it next checks whether it was asked",
}


class Command(AuditCommand):
    """Decides about tasks."""

    outcome = UNABLE
    writes = True
    help = (
        "Approve or reject tasks, or ask executing tasks to stop. The rules are those of the browser: each decision "
        "needs a reason, and a decision that does not fit the task's status is refused. To resume paused tasks, use "
        "audit_queue resume."
    )
    examples = (
        "audit_decide approve 01a2244f --reason 'read the plan'",
        "audit_decide reject 01a2244f 01a22452 --reason 'not before the audit'",
        "audit_decide stop 01a2244f --reason 'wrong host'",
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
                "--reason", type=_reason, required=True, metavar="TEXT", help="why; it is stored with the task"
            )
            each.add_argument("--actor", type=_name, metavar="NAME", help=f"who decides (default {os_user()})")
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
                    carry_out(_DECISIONS[verb], task, None, reason=reason, actor=name, using=using)
            except AuditError as error:
                problem = f"it {error.problem}" if isinstance(error, InvalidFilter) else str(error)
                yield values | {"refused": problem}
            else:
                self.acted = True
                yield values | {"done": _DONE[verb], "task_id": task.pk, "action": task.action}


def _reason(text: str) -> str:
    return _label(text, MAX_REASON)


def _name(text: str) -> str:
    return _label(text, 500)


def _label(text: str, most: int) -> str:
    try:
        return validation.label("it", text, max_length=most)
    except InvalidValue as error:
        raise ArgumentTypeError(f"{brief(error.value)} {error.problem}") from None
