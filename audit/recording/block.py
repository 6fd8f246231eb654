"""Records work as it happens: `with record("backup", services=["db"]) as task: …`, or `@record("backup")`.

Note [Ends of a block]
    A block that runs to its end is `completed`, also when it leaves by `sys.exit(0)`. Any other exception makes it
    `failed` and goes on to the caller: errors, `KeyboardInterrupt`, a cancelled asyncio task, and the closing of a
    generator whose body contains the block. If the end cannot be stored (the database is away, the lease is lost), the
    block raises that error. If another exception is already propagating, that one goes on; the failure is logged and
    attached to it as a note.

    A process that is killed stores nothing. Its lease runs out, and recovery fails the task (`on_expiry='fail'`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from uuid import UUID

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import connections, router

from audit import conf
from audit.context import actor as acting_as
from audit.context import get_actor
from audit.exceptions import InvalidValue, NotDurable
from audit.leases.arguments import lease_of
from audit.leases.prolong import Lease
from audit.process.resources import Meter
from audit.recording.ending import finish
from audit.recording.open import OpenRecord
from audit.recording.starting import insert_executing
from audit.values import redaction, validation
from audit.verbs import inserts

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["ACTOR_VARIABLE", "Recording", "alias_of", "current_task", "record"]

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("audit")

ACTOR_VARIABLE = "AUDIT_ACTOR"
"""The environment variable by which `audit_record` names its actor to the records inside its command."""

_current: ContextVar[Task | None] = ContextVar("audit_record", default=None)


def alias_of(using: str | None) -> str:
    """Return the alias that a record is written through: the given one, `AUDIT["RECORD_USING"]`, or the router's."""
    from audit.models import Task

    return using or conf.settings().RECORD_USING or router.db_for_write(Task)


def current_task() -> Task | None:
    """Return the task of the innermost open `record`, or None outside of any."""
    return _current.get()


def record(
    action: str,
    *,
    summary: str = "",
    services: Iterable[str] = (),
    plan: Any = None,
    actor: str | None = None,
    parent: Task | UUID | str | None = None,
    correlation_id: str = "",
    estimated_resources: Any = None,
    durable: bool = True,
    using: str | None = None,
    lease: timedelta | None = None,
) -> Recording:
    """Record the work of a block or of each call of a function; sync and async alike.

    The task is executing while the work runs. Inside the block, call its verbs (`log`, `touch`, `suggest`, `note`,
    `heartbeat`). What the block puts into `task.outcome` and `task.resources_used` is stored at the end. If somebody
    asks the work to stop, `task.cancel_requested_at` is set within a third of the lease. Secrets are masked in the
    outcome, the log and the traceback, but not in the plan.

    Args:
        action: the kind of work, at most 100 characters.
        summary: what is done, in words; cut, with a mark, after 16 384 characters.
        services: names of the services it touches, at most 500 of 200 characters; the others are cut, with a mark.
        plan: what it will do, any JSON.
        actor: who does it, also for everything else inside the block. Default: the name of the `actor` block, else the
            actor of the `audit_record` around this process. Without any of them nobody requested the work, and the
            actor is this process: `host:pid`.
        parent: the task this one belongs to. Default: the task of the enclosing record.
        correlation_id: a request, trace or batch id.
        estimated_resources: JSON such as `{"wall_s": 30}`.
        durable: refuse to start inside a transaction, because a rollback would remove the record.
        using: the database alias to write through. Default: `AUDIT["RECORD_USING"]`, else the router's choice.
        lease: how long the task stays executing after the process was killed. Default:
            `AUDIT["RECORD_LEASE_SECONDS"]`.

    Returns:
        A context manager (`with` and `async with`) that gives the task, and a decorator for functions and
        coroutine functions.

    Raises:
        TypeError: used as `@record` without an action.
        NotDurable: on entry, inside a transaction.
        InvalidValue: on entry, a value that cannot be stored.
    """
    if callable(action):
        raise TypeError('record needs an action: write @record("action"), not @record')
    return Recording(
        action,
        summary=summary,
        services=services,
        plan=plan,
        actor=actor,
        parent=parent,
        correlation_id=correlation_id,
        estimated_resources=estimated_resources,
        durable=durable,
        using=using,
        lease=lease,
    )


@dataclass(slots=True, eq=False)
class Recording:
    """What `record` returns, with the same arguments. It can be used again when its block has ended."""

    action: str
    _: KW_ONLY
    summary: str = ""
    services: Iterable[str] = ()
    plan: Any = None
    actor: str | None = None
    parent: Task | UUID | str | None = None
    correlation_id: str = ""
    estimated_resources: Any = None
    durable: bool = True
    using: str | None = None
    lease: timedelta | None = None
    _open: OpenRecord | None = field(default=None, init=False, repr=False)
    _undo: contextlib.ExitStack | None = field(default=None, init=False, repr=False)

    # As a context manager

    def __enter__(self) -> Task:
        task = self.begin()
        self._enter_context(task)
        return task

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_context()
        self.end(error)

    async def __aenter__(self) -> Task:
        try:
            task: Task = await _to_the_end(self.begin)
        except asyncio.CancelledError as error:
            # Cancelled while the task was being written: it exists, and nobody will leave the block.
            if self._open is not None:
                await _to_the_end(self.end, error)
            raise
        self._enter_context(task)
        return task

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_context()
        try:
            await _to_the_end(self.end, error)
        except asyncio.CancelledError:
            if error is None:
                raise

    def _enter_context(self, task: Task) -> None:
        undo = contextlib.ExitStack()
        # Set back rather than reset: a fixture or a generator may leave in another context than it entered.
        undo.callback(_current.set, _current.get())
        _current.set(task)
        if self.actor is not None:
            undo.push(_elsewhere)
            undo.enter_context(acting_as(self.actor))
        self._undo = undo

    def _leave_context(self) -> None:
        if self._undo is not None:
            self._undo.close()
            self._undo = None

    # As a decorator

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Wrap a function or coroutine function: each call is a record of its own.

        Raises:
            TypeError: a class, a generator function (its call would end before its work begins), or no function.
        """
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"@record takes a function, not {function!r}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"@record cannot wrap the generator function {function.__qualname__}: calling it does no work yet. "
                "Write `with record(…):` around the work inside it."
            )
        if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):

            @functools.wraps(function)
            async def recorded_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self._again():
                    return await cast("Callable[P, Any]", function)(*args, **kwargs)

            return cast("Callable[P, R]", recorded_coroutine)

        @functools.wraps(function)
        def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return function(*args, **kwargs)

        return recorded

    def _again(self) -> Recording:
        return record(
            self.action,
            summary=self.summary,
            services=self.services,
            plan=self.plan,
            actor=self.actor,
            parent=self.parent,
            correlation_id=self.correlation_id,
            estimated_resources=self.estimated_resources,
            durable=self.durable,
            using=self.using,
            lease=self.lease,
        )

    # Without a block

    def begin(self) -> Task:
        """Write the task as executing and keep its lease alive until `end`. For callers that cannot use a block.

        Returns:
            The task.

        Raises:
            NotDurable, InvalidValue: as `record` says; nothing is written.
            RuntimeError: this record is open already.
        """
        from audit.models import Task

        if self._open is not None:
            raise RuntimeError(f"This record of {self.action!r} is open; make another with record(…).")
        settings = conf.settings()
        redaction.check()
        duration = lease_of(timedelta(seconds=settings.RECORD_LEASE_SECONDS) if self.lease is None else self.lease)
        values = self._values()
        using = alias_of(self.using)
        if using not in connections:
            raise InvalidValue("using", using, f"is not an alias in DATABASES; known: {', '.join(connections)}")
        joined = self._joins(using)
        meter = Meter()
        task, session = insert_executing(Task, using, values, duration)
        token = cast("UUID", task.claim_token)
        lease = Lease(task_id=task.pk, token=token, duration=duration, actor=task.actor, using=using, session=session)
        self._open = OpenRecord(task=task, lease=lease, joined=joined, meter=meter)
        self._open.open()
        return task

    def end(
        self, error: BaseException | None = None, *, failed: bool = False, again_after: Sequence[float] = ()
    ) -> None:
        """Store how the work ended, with `task.outcome` and what it used; see Note [Ends of a block].

        Args:
            error: the exception that ended it.
            failed: whether it failed without one; the outcome says how.
            again_after: seconds to wait before each further try while the database is away.

        Raises:
            TaskFrozen: recovery has failed the task meanwhile; its log says how the work ended.
            django.db.Error: the end could not be stored. None of these when `error` is given.
        """
        opened, self._open = self._open, None
        if opened is None:
            raise RuntimeError(f"This record of {self.action!r} is not open.")
        if opened.pid != os.getpid():
            return  # a forked child: the work, and its record, are the parent's
        opened.leave_to_itself()
        try:
            finish(opened, error, failed, again_after)
        except Exception as problem:
            if error is None:
                raise
            logger.exception("The end of the record %s (%s) could not be stored.", opened.task.pk, self.action)
            error.add_note(f"The end of the record {opened.task.pk} could not be stored: {problem!r}")

    def _values(self) -> dict[str, Any]:
        named = _inherited_actor() if self.actor is None else validation.label("actor", self.actor)
        worker = f"{socket.gethostname()}:{os.getpid()}"
        parent = self.parent or _current.get()
        rows = inserts.recorded(
            [
                {
                    "action": self.action,
                    "summary": _fitted(self.summary),
                    "services": _fitted_services(self.services),
                    "plan": self.plan,
                    "estimated_resources": self.estimated_resources,
                    "requested_by": named,
                    "parent": parent if parent is None or isinstance(parent, UUID | str) else parent.pk,
                    "correlation_id": self.correlation_id,
                    "claimed_by": worker,
                    "actor": named or worker,
                }
            ]
        )
        inserts.identify(rows)
        return rows[0]

    def _joins(self, using: str) -> bool:
        """Say whether a transaction is open; one that is not a test case's own must be joined knowingly."""
        connection = connections[using]
        if not connection.in_atomic_block and connection.get_autocommit():
            return False
        blocks = connection.atomic_blocks
        if self.durable and not (blocks and getattr(blocks[-1], "_from_testcase", False)):
            raise NotDurable(
                f"record({self.action!r}) stands inside a transaction on {using!r}, whose rollback would take the "
                'record along. Open it outside of atomic(); or let AUDIT["RECORD_USING"] name an alias with a '
                "connection of its own; or pass durable=False to join the transaction knowingly."
            )
        return True


def _inherited_actor() -> str:
    around = os.environ.get(ACTOR_VARIABLE)
    return get_actor() or (validation.label(ACTOR_VARIABLE, around) if around else "")


def _fitted(value: Any) -> Any:
    """Cut what is too long, for that is not a reason to leave work undone; what is not text is refused later."""
    return validation.fitted_text(value) if isinstance(value, str) else value


def _fitted_services(value: Any) -> Any:
    return validation.fitted_services(value) if isinstance(value, list | tuple | set | frozenset) else value


def _elsewhere(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
    """Let pass that a context variable cannot be reset in another context than it was set in."""
    return isinstance(error, ValueError)


async def _to_the_end(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function in Django's thread to its end, also when the caller is cancelled meanwhile.

    Raises:
        asyncio.CancelledError: the caller was cancelled; the function has ended all the same.
    """
    work = asyncio.ensure_future(sync_to_async(function)(*args))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None and not work.cancelled():
        if problem := work.exception():
            logger.error("A record could not be written while its caller was cancelled: %s", problem)
        raise cancelled
    return work.result()
