"""What the claims share: their arguments, and the conditions of the queryset they were called on."""

from datetime import timedelta
from typing import Any

from django.db import models

from audit import conf
from audit.context import get_actor
from audit.exceptions import AuditError, InvalidValue
from audit.values import validation

__all__ = ["claim_arguments", "condition", "lease_of"]


def claim_arguments(worker: str, limit: int, lease: timedelta | None) -> tuple[str, int, timedelta, str]:
    """Check worker, limit and lease, and return them with the actor: the named one, else the worker.

    Raises:
        InvalidValue: an empty worker, a limit or lease that is not positive.
    """
    validation.label("worker", worker)
    return worker, validation.whole("limit", limit), lease_of(lease), get_actor() or worker


def lease_of(lease: timedelta | None) -> timedelta:
    """Return the lease, or the configured one when there is none.

    Raises:
        InvalidValue: not a timedelta, or not positive.
    """
    if lease is None:
        return timedelta(seconds=conf.settings().LEASE_SECONDS)
    if not isinstance(lease, timedelta) or not timedelta(0) < lease <= timedelta(seconds=conf.LONGEST_S):
        raise InvalidValue("lease", lease, "must be a timedelta between zero and ten years")
    return lease


def condition(queryset: models.QuerySet[Any], using: str, verb: str) -> tuple[str, list[Any]]:
    """Compile a queryset's own filters into `AND …` over its table, for use inside a claim or a recovery.

    Args:
        queryset: what the verb was called on.
        using: the alias of the database.
        verb: its name, for the error.

    Returns:
        SQL and parameters; an empty string for an unfiltered queryset.

    Raises:
        AuditError: the queryset is sliced, combined, distinct or grouped; the verb has its own order and limit.
        EmptyResultSet: the filters can match no row (Django knows it without asking).
    """
    query = queryset.query
    if query.is_sliced or query.combinator or query.distinct or query.group_by is not None:
        raise AuditError(
            f"{verb}() takes a queryset with filters alone: no slice, union, distinct or aggregate. "
            "Use limit=… for the number of rows."
        )
    if not query.where:
        return "", []
    inner = queryset.order_by().values("pk").query
    compiler = inner.get_compiler(using)
    sql, params = compiler.as_sql()
    if sum(count > 0 for count in inner.alias_refcount.values()) == 1:
        sql, params = compiler.compile(inner.where)
        return f"AND ({sql})", list(params)
    return f"AND {queryset.model._meta.db_table}.{queryset.model._meta.pk.column} IN ({sql})", list(params)
