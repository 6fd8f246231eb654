"""The filters of the queryset that a claim or a recovery was called on, as SQL for its own statement."""

from typing import Any

from django.db import models

from audit.exceptions import AuditError

__all__ = ["queryset_where"]


def queryset_where(queryset: models.QuerySet[Any], using: str, verb: str) -> tuple[str, list[Any]]:
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
