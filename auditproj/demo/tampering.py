"""Tries to rewrite history, in front of the person who watches, and returns what the database answered."""

from dataclasses import dataclass

from django.db import DatabaseError, connection, transaction

from audit.models import Task

__all__ = ["Attempt", "attempts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try: the SQL, and the SQLSTATE and words of the refusal; both empty when it went through."""

    sql: str
    sqlstate: str
    answer: str


def attempts(task: Task) -> list[Attempt]:
    """Try to change, delete and truncate away a finished task, each in a transaction that is rolled back."""
    # Written out as a person would type them, and as they are shown; the id is the database's own.
    statements = [
        [f"UPDATE audit_task SET outcome = '{{\"success\": true}}' WHERE id = '{task.pk}'"],  # noqa: S608
        [f"DELETE FROM audit_task WHERE id = '{task.pk}'"],  # noqa: S608
        ["TRUNCATE audit_task CASCADE"],
        [
            "SET LOCAL session_replication_role = replica",
            f"UPDATE audit_task SET decided_by = 'nobody' WHERE id = '{task.pk}'",  # noqa: S608
        ],
        [f"UPDATE audit_executionlog SET actor = 'nobody' WHERE task_id = '{task.pk}'"],  # noqa: S608
    ]
    return [_attempt(each) for each in statements]


class _RolledBack(Exception):
    pass


def _attempt(statements: list[str]) -> Attempt:
    sql = ";\n".join(statements)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            raise _RolledBack
    except _RolledBack:
        return Attempt(sql=sql, sqlstate="", answer="")
    except DatabaseError as error:
        cause = error.__cause__
        diagnosis = getattr(cause, "diag", None)
        answer = getattr(diagnosis, "message_primary", None) or str(error)
        return Attempt(sql=sql, sqlstate=getattr(cause, "sqlstate", None) or "", answer=answer)
