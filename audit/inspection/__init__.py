"""Whether a database still is what this app made of it: its tables as they were, and its guards in force.

What should stand is in `expected.jsonl`; what does, the catalogs say. What an owner changed since is a `Flaw`. That a
migration is recorded proves nothing, and that it is not, nothing either.
"""

from collections.abc import Mapping

from django.db import connections

from audit.inspection import recorded_migrations
from audit.inspection.catalog import Facts, Key, read
from audit.inspection.compare import compare
from audit.inspection.expected import expected
from audit.inspection.flaws import Flaw, keeps_audit, kept_models
from audit.inspection.session import plainly
from audit.inspection.surroundings import surroundings

__all__ = ["Flaw", "inspect", "keeps_audit"]


_NOTHING = Flaw(
    kind="unfinished",
    table="",
    name="audit",
    problem="There are no audit tables here, so nothing can be recorded.",
    remedy="Run manage.py migrate. If the tables are in another schema, set search_path in OPTIONS.",
    minor=True,
)


def inspect(alias: str, *, minor: bool = False) -> list[Flaw]:
    """Compare a PostgreSQL database with what the migrations of this app leave.

    Some short queries on the catalog, in the schema that the connection's search_path finds. Reads only, so a hot
    standby can be inspected.

    Args:
        alias: a database of the settings that `keeps_audit`.
        minor: also report what weakens no guard, such as a missing index.

    Returns:
        The flaws, in the order surroundings, tables, columns, functions, triggers, constraints; empty when all is as
        installed. A database in which nothing is installed yet has one minor flaw.
    """
    if problem := recorded_migrations.unreleased(alias):
        return [Flaw(kind="unreleased", table="", name="audit", problem=problem, remedy=recorded_migrations.REMEDY)]
    applied = recorded_migrations.applied_migrations(alias)
    tables = [model._meta.db_table for model in kept_models()]
    with plainly(alias, tables) as place, connections[alias].cursor() as cursor:
        if not place.tables and not applied:
            return [_NOTHING] if minor else []
        found = read(cursor, place)
        wanted, pending = _wanted(applied, found)
        functions = [name for kind, _, name in expected() if kind == "function"]
        flaws = [*pending, *surroundings(cursor, place, functions), *compare(wanted, found)]
    return [flaw for flaw in flaws if minor or not flaw.minor]


def _wanted(applied: frozenset[str], found: Mapping[Key, Facts]) -> tuple[dict[Key, Facts], list[Flaw]]:
    """Tell what should stand: everything, unless a migration that is not recorded has left nothing of its own yet."""
    pending = set(recorded_migrations.shipped_migrations()) - applied
    later = {key for key, each in expected().items() if each.since in pending}
    if not applied or not later or any(found.get(key) == expected()[key].facts for key in later):
        return {key: each.facts for key, each in expected().items()}, []
    names = ", ".join(sorted(pending))
    flaw = Flaw(
        kind="unfinished",
        table="",
        name=names,
        problem=f"The migrations {names} of audit are not applied: what they install is not there.",
        remedy="Run manage.py migrate.",
        minor=True,
    )
    return {key: each.facts for key, each in expected().items() if key not in later}, [flaw]
