"""How the verbs of a task move it: one UPDATE, and the reason when it changed no row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from audit.statements.rows import columns, fetch
from audit.status import Status
from audit.values.failures import LEASE_EXPIRED
from audit.verbs.hook import Hooked
from audit.verbs.runner import acting, adopt, explain, writes_to

__all__ = ["HELD", "UNCLAIMED", "TaskMoves", "starting_in"]

UNCLAIMED = (Status.PENDING, Status.APPROVED, Status.PAUSED)
HELD = "status = 'executing' AND claim_token = %s"


def starting_in(sources: tuple[Status, ...]) -> str:
    """Write the condition on the statuses a verb starts from; executing work is its holder's (one parameter)."""
    if sources == (Status.EXECUTING,):
        return HELD
    return f"status IN ({', '.join(repr(str(status)) for status in sources)})"


class TaskMoves(Hooked):
    """The columns the verbs read, and the statement they share."""

    if TYPE_CHECKING:
        # Fields of `Task`, which mixes this in.
        id: Any
        claim_token: Any
        claimed_by: Any
        cancel_requested_at: Any
        outcome: Any
        priority: Any
        revision: Any
        status: Any

    class Meta:
        abstract = True

    def _as_holder(
        self,
        sets: str,
        params: Sequence[Any],
        actor: str | None,
        using: str | None,
        *,
        to: Status | None = None,
    ) -> None:
        self._move(to, sets, params, (Status.EXECUTING,), actor, using, fenced=True)

    def _move(
        self,
        to: Status | None,
        sets: str,
        params: Sequence[Any],
        sources: tuple[Status, ...],
        actor: str | None,
        using: str | None,
        *,
        fenced: bool = False,
        hint: str = "",
    ) -> None:
        db = writes_to(self, using)
        name = acting(actor, self.claimed_by if fenced else "")
        held = [self.claim_token] if sources == (Status.EXECUTING,) else []
        assignments = [f"status = '{to}'"] if to else []
        assignments += [sets] if sets else []
        sql = (
            f"UPDATE audit_task SET {', '.join(assignments)}{',' if assignments else ''}"  # noqa: S608 - as above
            f" actor = %s, revision = revision + 1 WHERE id = %s AND {starting_in(sources)}"
            f" RETURNING {columns(type(self), 'audit_task')}"
        )
        rows = fetch(type(self), db, sql, [*params, name, self.pk, *held])
        if rows:
            adopt(self, rows[0])
            return
        current = self._current(db)
        # Recovery leaves the token on the row too; what it ended this caller has not.
        recovered = isinstance(current.outcome, dict) and current.outcome.get("error_type") == LEASE_EXPIRED
        if (
            to
            and fenced
            and current.status == to
            and current.claim_token == self.claim_token is not None
            and not recovered
        ):
            adopt(self, current)
            return
        raise explain(
            current,
            to=to,
            sources=sources,
            token=self.claim_token,
            fenced=fenced,
            revision=self.revision,
            hint=hint,
        )

    def _current(self, db: str) -> Self:
        return type(self)._base_manager.using(db).get(pk=self.pk)
