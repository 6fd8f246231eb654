"""Whether a database still is what this app made of it: its tables as they were, and its guards in force.

The expectation is what the applied migrations ran and what the models say; a migration that is not applied yet is not
missed. What an owner changed since is a `Flaw`.
"""

from audit.inspection.flaws import Flaw, keeps_audit
from audit.inspection.guards import inspect_guards
from audit.inspection.relations import inspect_relations
from audit.inspection.session import plainly

__all__ = ["Flaw", "inspect", "keeps_audit"]


def inspect(alias: str) -> list[Flaw]:
    """Compare a PostgreSQL database with what its applied migrations installed.

    A few short queries on the catalog, in the schema that the connection's search_path finds. Reads only, so a hot
    standby can be inspected.

    Args:
        alias: a database of the settings that `keeps_audit`.

    Returns:
        The flaws, in the order tables, columns, functions, triggers, CHECKs, rules; empty when all is as installed or
        when nothing is installed yet.
    """
    with plainly(alias):
        return [*inspect_relations(alias), *inspect_guards(alias)]
