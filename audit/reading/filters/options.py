"""The options by which every command takes the same filters."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.conf import settings

from audit.exceptions import InvalidFilter
from audit.reading.filters.build import Build
from audit.reading.filters.values import BY_NAME
from audit.values.terminal import brief

__all__ = ["add_arguments", "add_database", "database_alias", "positive"]

_HELP = {
    "status": "has one of these statuses; also `live` and `finished`",
    "service": "touched all of these services",
    "any_service": "touched at least one of these services",
    "action": "is one of these kinds of work",
    "actor": "requested, decided or last changed by any of these",
    "since": "created at or after: 2026-11-24, 2026-11-24T05:48+01:00, a span back from now (24h, 7d), or `all`",
    "until": "created before",
    "finished_since": "finished at or after",
    "finished_until": "finished before",
    "correlation_id": "has one of these request, trace or batch ids",
    "id": "a task's id, or its first hexadecimal digits",
    "parent": "belongs to or retries this task",
    "failure": "failed because a `resource` was short, or by an `application` error",
    "seal": "`failed`: the newest stored verification of the ledger found something about the task or its log",
    "error_type": "failed with one of these errors",
}


def add_arguments(parser: ArgumentParser, *, limit: int | None = None) -> None:
    """Add the filters, `--search` and `--database` to a command; `TaskFilter.from_options` reads them back.

    Args:
        parser: the command's.
        limit: adds `--limit` (rows) with this default; no such option when left out.
    """
    group = parser.add_argument_group(
        "which tasks", "A task must meet all conditions. To give several values repeat the option."
    )
    for name, key in BY_NAME.items():
        if name in _HELP:
            group.add_argument(
                f"--{name.replace('_', '-')}",
                dest=name,
                action="append" if key.many else "store",
                type=_checked(name),
                metavar="WHEN" if not key.many else name.rpartition("_")[2].upper(),
                help=_HELP[name],
            )
    group.add_argument(
        "--search",
        type=_checked(None),
        metavar="TEXT",
        help='words, ids, and conditions such as "service:billing outcome.exit_code:1"',
    )
    if limit is not None:
        parser.add_argument(
            "--limit", type=positive, default=limit, metavar="N", help=f"show at most N rows (default {limit})"
        )
    add_database(parser)


def add_database(parser: ArgumentParser) -> None:
    """Add `--database`; without it the option is None, and `AuditCommand` asks the routers."""
    parser.add_argument(
        "--database",
        type=database_alias,
        metavar="ALIAS",
        help="the database to use (default: the one that DATABASE_ROUTERS choose for the audit tables)",
    )


def database_alias(value: str) -> str:
    """Return `value` if the settings name a database so; for argparse `type=`."""
    if value not in settings.DATABASES:
        raise ArgumentTypeError(
            f"{value!r} is no database of this project; DATABASES has {', '.join(settings.DATABASES)}"
        )
    return value


def positive(value: str) -> int:
    """Return `value` as a whole number of at least 1; for argparse `type=`."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if not 1 <= number <= 10**9:
        raise ArgumentTypeError(f"{value!r} is not a whole number from 1 to 1000000000")
    return number


def _checked(name: str | None) -> Callable[[str], Any]:
    """Make an argparse type that refuses what the filter would refuse, and passes the text on."""

    def check(value: str) -> str:
        try:
            build = Build(None)
            if name is None:
                build.text(value)
            else:
                build.add(name, value)
        except InvalidFilter as error:
            raise ArgumentTypeError(f"{brief(error.value)} {error.problem}") from None
        return value

    return check
