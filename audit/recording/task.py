"""The task as the block of a record sees it: what it says is redacted, and its outcome kept until the block ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from audit.exceptions import IllegalTransition
from audit.models import ExecutionLog, Task
from audit.status import Status
from audit.values.redaction import redact, redact_document, redact_text
from audit.verbs.calling import async_twin

if TYPE_CHECKING:
    from audit.verbs.task import TaskVerbs as _Verbs
else:
    _Verbs = object  # a subclass of an abstract model would be a model of its own

__all__ = ["RecordedTask"]


class _Given:
    """A document that the block fills in, stored when the block ends.

    A verb makes the instance equal to its row, which holds nothing here before the end: that NULL does not wipe
    out what the block has given.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, task: Task | None, owner: type | None = None) -> Any:
        return self if task is None else task.__dict__.get(self._name)

    def __set__(self, task: Task, value: Any) -> None:
        if value is None and task.status == Status.EXECUTING:
            task.__dict__.setdefault(self._name, None)
        else:
            task.__dict__[self._name] = value


_NEVER_HANDED_ON = "Recorded work is done by whoever records it; let the block end, or call fail()."


class _Recorded(_Verbs):
    if not TYPE_CHECKING:
        outcome = _Given()
        resources_used = _Given()

    def log(self, action: str, *, output_summary: str = "", detail: Any = None, **options: Any) -> ExecutionLog:
        written: ExecutionLog = _task(super()).log(
            _text(action), output_summary=_text(output_summary), detail=redact(detail), **options
        )
        return written

    def note(self, text: str, *, detail: Any = None, **options: Any) -> ExecutionLog:
        written: ExecutionLog = _task(super()).note(_text(text), detail=redact(detail), **options)
        return written

    def suggest(self, suggestion: str, *, reason: str = "", **options: Any) -> ExecutionLog:
        written: ExecutionLog = _task(super()).suggest(_text(suggestion), reason=_text(reason), **options)
        return written

    def complete(self, outcome: Any = None, *, resources: Any = None, suggestions: Any = None, **options: Any) -> None:
        _task(super()).complete(
            redact_document("outcome", outcome),
            resources=_used(self, resources),
            suggestions=redact(suggestions),
            **options,
        )

    def fail(
        self,
        error: BaseException | str = "",
        *,
        outcome: Any = None,
        resources: Any = None,
        suggestions: Any = None,
        **options: Any,
    ) -> None:
        _task(super()).fail(
            _text(error),
            outcome=redact_document("outcome", outcome),
            resources=_used(self, resources),
            suggestions=redact(suggestions),
            **options,
        )

    def release(self, **options: Any) -> NoReturn:
        raise IllegalTransition(self.id, self.status, Status.APPROVED, _NEVER_HANDED_ON)

    def pause(self, **options: Any) -> NoReturn:
        raise IllegalTransition(self.id, self.status, Status.PAUSED, _NEVER_HANDED_ON)

    def __getstate__(self) -> dict[str, Any]:
        # A copy is a plain task, and a meter is bound to its process.
        state: dict[str, Any] = _task(super()).__getstate__()
        return {name: value for name, value in state.items() if name != "_meter"}

    # The twins of the base run its own verbs, not these.
    if not TYPE_CHECKING:
        alog = async_twin(log)
        anote = async_twin(note)
        asuggest = async_twin(suggest)
        acomplete = async_twin(complete)
        afail = async_twin(fail)
        arelease = async_twin(release)
        apause = async_twin(pause)


def _used(task: Any, given: Any) -> Any:
    return task._meter.along(task.resources_used if given is None else given)


def _task(task: Any) -> Any:
    """See verbs as those of a task, which mypy cannot know of a mixin."""
    return task


def _text(value: Any) -> Any:
    """Redact a text, and leave anything else to the verb, which refuses it."""
    return redact_text(value) if isinstance(value, str) else value


# A class of the same rows, made by `type` itself: Django's metaclass would register a model of its own.
RecordedTask: type[Task] = type.__new__(type(Task), "RecordedTask", (_Recorded, Task), {"__module__": __name__})
