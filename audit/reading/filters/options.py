"""The options by which every command takes the same filters."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.conf import settings

from audit.exceptions import InvalidFilter
from audit.reading.filters.build import Build
from audit.reading.filters.conditions import CONDITIONS
from audit.reading.filters.task_filter import DEFAULT_WINDOW
from audit.reading.filters.values import BY_NAME, ROOTS
from audit.values.terminal import brief

__all__ = ["LISTED", "add_arguments", "add_database", "database_alias", "positive"]


LISTED = f"all time, or at the last {DEFAULT_WINDOW.days} days if it must search the documents of every task"
"""What a list looks at without `--since`, in words."""


def add_arguments(parser: ArgumentParser, *, limit: int | None = None, window: str = "all time") -> None:
    """Add the filters, `--search` and `--database` to a command; `TaskFilter.from_options` reads them back.

    Args:
        parser: the command's.
        limit: adds `--limit` (rows) with this default; no such option when left out.
        window: what the command looks at without `--since`, in words.
    """
    group = parser.add_argument_group(
        "which tasks",
        "A task must meet all conditions. To give several values, repeat the option. Without --since, the command "
        f"looks at {window}.",
    )
    for name, key in BY_NAME.items():
        if name in CONDITIONS:
            group.add_argument(
                f"--{name.replace('_', '-')}",
                dest=name,
                action="append" if key.many else "store",
                type=_checked(name),
                metavar="WHEN" if not key.many else name.rpartition("_")[2].upper(),
                help=str(CONDITIONS[name]).replace("%", "%%"),
            )
    group.add_argument(
        "--search",
        type=_checked(None),
        metavar="TEXT",
        help='words, ids and conditions, as in the search box: "timeout service:billing outcome.exit_code:1"; '
        f"the conditions are {', '.join(CONDITIONS)}, and paths into {', '.join(ROOTS)}",
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
        help="the alias of the database (default: the one that DATABASE_ROUTERS choose for the audit tables)",
    )


def database_alias(value: str) -> str:
    """Return `value` if the settings name a database so; for argparse `type=`."""
    if value not in settings.DATABASES:
        raise ArgumentTypeError(
            f"{value!r} is not a database of this project; DATABASES has {', '.join(settings.DATABASES)}"
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
