"""What a handler receives: its task, its plan, and ways to say how the work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from django.core.exceptions import SynchronousOnlyOperation

from audit.exceptions import AuditError, IllegalTransition, InvalidValue
from audit.status import PauseReason
from audit.values import validation
from audit.values.failures import failure_outcome
from audit.values.redaction import redact

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["Channel", "Flags", "Leave", "Run", "Step"]


@dataclass(slots=True)
class Flags:
    """Why a handler should stop; set from outside while it runs."""

    cancelled: bool = False
    """A person asked for it."""
    lost: bool = False
    """The lease is lost: nothing it returns is stored."""
    stopping: bool = False
    """The worker is to stop."""
    timed_out: bool = False
    """Its time is over."""


class Channel(Protocol):
    """Where a run hands in what the database shall keep. The worker carries it out, on a connection of its own."""

    flags: Flags

    def ask(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Have a verb carried out, and wait; raises what the verb raises."""
        ...

    async def aask(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Do the same from a coroutine."""
        ...


class Leave(BaseException):
    """Leaves a handler by another way than its end.

    `verb` is `pause`, `release`, `cancel`, or `paused` by a checkpoint.

    It is no `Exception`, so that handlers which catch those let it pass.
    """

    def __init__(self, verb: str, arguments: dict[str, Any]) -> None:
        self.verb = verb
        self.arguments = arguments
        super().__init__(verb)


class _Hook:
    """Has a say in the verbs of the task of a run: masks secrets, and leaves its end to the worker."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def prepared(self, verb: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if verb in ("checkpoint", "complete", "fail", "pause", "release", "retry"):
            hint = (
                "A handler returns its outcome, raises, or calls run.pause(…), run.checkpoint(…), run.release() or"
                " run.cancel(…)."
            )
            raise IllegalTransition(self._task.pk, self._task.status, "", hint)
        return tuple(map(redact, values))

    def kept(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Run:
    """One attempt at a task.

    What `log`, `step`, `touch` and `checkpoint` write is committed at once, on a connection of the worker, whatever
    transaction the handler has open. Their twins for coroutines begin with an `a`.
    """

    def __init__(self, task: Task, channel: Channel) -> None:
        self.task = task
        """The task as it was claimed; its verbs work, but for those that end it."""
        self._channel = channel
        task._hook = _Hook(task)

    @property
    def plan(self) -> Any:
        """The plan as it was approved; JSON, or None."""
        return self.task.plan

    @property
    def work_plan(self) -> Any:
        """What remains to be done: what the last pause or checkpoint left, else the plan."""
        return self.task.plan if self.task.work_plan is None else self.task.work_plan

    @property
    def attempt(self) -> int:
        """The number of this attempt: how often the task was claimed."""
        return self.task.attempt

    @property
    def idempotency_key(self) -> str:
        """A key of task and attempt: the same for all that this attempt does, another for the next attempt.

        What must happen once however many attempts there are takes `run.task.id` for its key.
        """
        return f"{self.task.pk}:{self.task.attempt}"

    # Whether to go on

    @property
    def cancelled(self) -> bool:
        """Whether a person has asked this work to stop: heard at once by NOTIFY, else within a third of the lease.

        A handler that heeds it calls `cancel`. One that returns has completed its work all the same.
        """
        return self._channel.flags.cancelled

    @property
    def should_stop(self) -> bool:
        """Whether to stop soon: somebody asked for it, the worker stops, the time is over, or the lease is lost.

        A handler that heeds it calls `checkpoint` and `release`, so that another attempt goes on from there. If a
        person has asked for it, there is none: the task then fails as `Cancelled`.
        """
        flags = self._channel.flags
        return flags.cancelled or flags.lost or flags.stopping or flags.timed_out

    # What the log and the task keep

    def log(self, action: str, *, duration_ms: int | None = None, output_summary: str = "", detail: Any = None) -> None:
        """Write a step into the log.

        Args:
            action: what was done.
            duration_ms: how long it took, in milliseconds.
            output_summary: what it said.
            detail: any JSON.

        Raises:
            LeaseLost, TaskFrozen: the claim is gone; stop working.
            InvalidValue: a value that cannot be stored.
        """
        self._ask("log", _step(action, duration_ms, output_summary, detail))

    async def alog(
        self, action: str, *, duration_ms: int | None = None, output_summary: str = "", detail: Any = None
    ) -> None:
        """The same as `log`, for coroutines."""
        await self._channel.aask("log", _step(action, duration_ms, output_summary, detail))

    def step(self, action: str, *, detail: Any = None) -> Step:
        """Log a block as one step, with its duration and result; `with` and `async with`.

        The block may set `output_summary` and `detail` of what it is given. An exception is logged with the step and
        goes on.

        Raises:
            LeaseLost, TaskFrozen: at the end of the block; the claim is gone, stop working.
        """
        return Step(self, action, detail)

    def touch(self, *services: str) -> None:
        """Add services to those the task touched.

        Raises:
            LeaseLost, TaskFrozen: the claim is gone; stop working.
            InvalidValue: no service, or a name that cannot be stored.
        """
        self.task.services_touched = self._ask("touch", {"services": list(services)})

    async def atouch(self, *services: str) -> None:
        """The same as `touch`, for coroutines."""
        self.task.services_touched = await self._channel.aask("touch", {"services": list(services)})

    def checkpoint(self, work_plan: Any) -> None:
        """Keep what remains to be done: the next attempt finds it in `work_plan`, whatever ends this one.

        With `AUDIT["REAPPROVE_CHANGED_PLANS"]`, a work plan that is no remainder of the approved plan leaves the
        handler, by raising: the task awaits approval.

        Args:
            work_plan: any JSON.

        Raises:
            LeaseLost, TaskFrozen: the claim is gone; stop working.
            InvalidValue: a document that cannot be stored.
        """
        self._went_on(self._ask("checkpoint", {"work_plan": _document(work_plan)}), work_plan)

    async def acheckpoint(self, work_plan: Any) -> None:
        """The same as `checkpoint`, for coroutines."""
        self._went_on(await self._channel.aask("checkpoint", {"work_plan": _document(work_plan)}), work_plan)

    def _went_on(self, paused: bool, work_plan: Any) -> None:
        if paused:
            raise Leave("paused", {})
        self.task.work_plan = work_plan

    def awaited_event(self) -> Any:
        """Return the event that the last pause waited for (`name`, `payload`, `timed_out`), or None."""
        return self._ask("awaited_event", {})

    async def aawaited_event(self) -> Any:
        """The same as `awaited_event`, for coroutines."""
        return await self._channel.aask("awaited_event", {})

    # Ways out

    def pause(
        self,
        *,
        reason: str | None = None,
        event: str = "",
        work_plan: Any = None,
        resume_after: datetime | timedelta | None = None,
        priority: int | None = None,
        held: bool | None = None,
        note: str = "",
    ) -> None:
        """Put the work aside and leave the handler, by raising; it begins anew when the task is resumed.

        Args:
            reason: one of `PauseReason`; `manual_pause`, or with an event `awaiting_event`, when left out.
            event: the name of the event to wait for; `awaited_event` gives it to the next attempt.
            work_plan: what remains to be done; what remained before when left out.
            resume_after: a moment or a span of time; of an event it is the time-out.
            priority: 1 (highest) to 5; the task's own when left out.
            held: whether only a person or an event may release it; see `Task.pause`.
            note: in words.

        Raises:
            InvalidValue: a value that cannot be stored; the handler goes on.
        """
        arguments: dict[str, Any] = {"note": validation.text("note", redact(note)), "held": held}
        if reason is not None:
            if reason not in PauseReason.values:
                raise InvalidValue("reason", reason, f"must be one of {', '.join(PauseReason.values)}")
            arguments["reason"] = str(reason)
        if event:
            arguments["event"] = validation.label("event", event)
        if work_plan is not None:
            arguments["work_plan"] = _document(work_plan)
        if resume_after is not None:
            check = validation.span if isinstance(resume_after, timedelta) else validation.moment
            arguments["resume_after"] = check("resume_after", resume_after)
        if priority is not None:
            arguments["priority"] = validation.priority("priority", priority)
        raise Leave("pause", arguments)

    def release(self, reason: str = "") -> None:
        """Give the claim back and leave the handler, by raising: any worker may go on from the last checkpoint.

        Args:
            reason: why, in words; the log keeps it.

        Raises:
            InvalidValue: a text that cannot be stored; the handler goes on.
        """
        raise Leave("release", {"reason": validation.text("reason", redact(reason)) or "The handler gave it back."})

    def cancel(self, output_summary: str = "") -> None:
        """End work that a person has asked to stop, and leave the handler, by raising.

        The task fails with the error type `Cancelled`, and is not tried again.

        Args:
            output_summary: what was done by then, in words.

        Raises:
            AuditError: nobody has asked it to stop; the handler goes on.
            InvalidValue: a text that cannot be stored; the handler goes on.
        """
        if not self.cancelled:
            raise AuditError("Nobody has asked this work to stop: ask run.cancelled before you call run.cancel().")
        raise Leave("cancel", {"output_summary": validation.text("output_summary", redact(output_summary))})

    def _ask(self, verb: str, arguments: dict[str, Any]) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._channel.ask(verb, arguments)
        raise SynchronousOnlyOperation(f"run.{verb}() would block the event loop; await run.a{verb}() instead.")


class Step:
    """A block of a handler that is logged as one step; `Run.step` makes it."""

    def __init__(self, run: Run, action: str, detail: Any) -> None:
        self.action = action
        self.output_summary = ""
        """What the step said; the message of the exception that ends the block, unless it is set."""
        self.detail = detail
        self._run = run
        self._started = 0.0

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _beside(error):
            self._run.log(self.action, **self._result(error))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _beside(error):
            await self._run.alog(self.action, **self._result(error))

    def _result(self, error: BaseException | None) -> dict[str, Any]:
        said, detail = self.output_summary, self.detail
        if isinstance(error, Leave):
            said = said or f"left to {error.verb}"
        elif error is not None:
            failure = failure_outcome(error)
            failure.pop("traceback", None)
            said = said or failure["output_summary"]
            failure = {"success": False, "error_type": failure["error_type"]}
            if isinstance(detail, dict) or detail is None:
                detail = {**(detail or {}), **failure}
            else:
                detail = failure | {"detail": detail}
        return {
            "duration_ms": int(1000 * (time.monotonic() - self._started)),
            "output_summary": said,
            "detail": detail,
        }


@contextlib.contextmanager
def _beside(error: BaseException | None) -> Iterator[None]:
    """Let the exception that ends a block win over the trouble of logging it, which is noted on it."""
    try:
        yield
    except Exception as trouble:
        if error is None:
            raise
        error.add_note(f"The step could not be logged: {trouble!r}")


def _step(action: str, duration_ms: int | None, output_summary: str, detail: Any) -> dict[str, Any]:
    return {
        "action": redact(action),
        "duration_ms": duration_ms,
        "output_summary": redact(output_summary),
        "detail": None if detail is None else redact(_document(detail)),
    }


def _document(value: Any) -> Any:
    validation.document("document", value)
    return value
