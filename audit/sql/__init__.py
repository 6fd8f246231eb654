"""The SQL of the migrations: one file a rule, `-- forwards` and `-- backwards`, statements set apart by `-- next`.

A released file is never edited: databases out there run what it said. A change is a new file with functions of
the next version, and a migration that installs them. One statement an item, because servers behind Citus take
no more at once.
"""

from importlib.resources import files

__all__ = ["Statements", "read"]

Statements = list[str]


def read(name: str) -> tuple[Statements, Statements]:
    """Read `<name>.sql` from this package.

    Returns:
        The statements forwards and backwards, each list in the order to run it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file lacks one of its two sections.
    """
    text = files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    head, found, rest = text.partition("-- forwards\n")
    forwards, also_found, backwards = rest.partition("-- backwards\n")
    if not (found and also_found) or any(line and not line.startswith("--") for line in head.splitlines()):
        raise ValueError(f"{name}.sql needs a comment, a line '-- forwards' and a line '-- backwards'")
    return _statements(forwards), _statements(backwards)


def _statements(section: str) -> Statements:
    return [statement.strip() for statement in section.split("-- next\n") if statement.strip()]
