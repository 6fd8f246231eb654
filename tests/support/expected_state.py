"""Writes `audit/inspection/expected.jsonl` from a database that is migrated for it.

Run `python -m tests.support.expected_state` after every change of a migration or of a file in `audit/sql/`.
DATABASE_URL chooses another server than the tests' own; the file is the same.
"""

import os
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command
from django.db import connections

__all__ = ["main", "state"]


def state(alias: str) -> dict[Any, dict[str, Any]]:
    """Read what stands in a database: the facts of each object by its kind, table and name."""
    from audit.inspection.catalog import read
    from audit.inspection.flaws import kept_models
    from audit.inspection.session import plainly

    tables = [model._meta.db_table for model in kept_models()]
    with plainly(alias, tables) as place, connections[alias].cursor() as cursor:
        return read(cursor, place)


def main() -> None:
    """Make a database, migrate it step by step, write the file, drop the database."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    from tests.support import memory

    memory.directory()
    django.setup()
    from audit import inspection
    from audit.inspection.expected import FILE, Expected, written
    from audit.inspection.recorded_migrations import shipped_migrations

    connection = connections["default"]
    kept = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        call_command("migrate", "audit", "zero", verbosity=0)
        before = state("default")
        objects = {key: Expected(facts=facts, since="") for key, facts in before.items()}
        for name in shipped_migrations():
            call_command("migrate", "audit", name, verbosity=0)
            after = state("default")
            objects = {
                key: objects[key] if key in objects and before[key] == facts else Expected(facts=facts, since=name)
                for key, facts in after.items()
            }
            before = after
    finally:
        connection.creation.destroy_test_db(kept, verbosity=0)
    path = Path(inspection.__file__).with_name(FILE)
    path.write_text(written(objects), encoding="utf-8")
    print(f"{len(objects)} objects: {path}")  # noqa: T201


if __name__ == "__main__":
    main()
