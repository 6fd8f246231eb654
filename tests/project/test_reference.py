"""What `docs/reference.md` lists, held to the code: nothing more, nothing less, and the same defaults."""

import re
from dataclasses import fields
from pathlib import Path

from audit import checks, conf

CHECKOUT = Path(__file__).resolve().parent.parent.parent
REFERENCE = (CHECKOUT / "docs" / "reference.md").read_text(encoding="utf-8")


def _rows(heading: str) -> dict[str, str]:
    """The first and the second cell of each row of the table under a heading."""
    _, _, below = REFERENCE.partition(f"\n## {heading}\n")
    table = below.partition("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", table, re.MULTILINE))


def test_every_key_stands_there_with_its_default():
    defaults = conf.AuditSettings()
    assert _rows("The setting `AUDIT`") == {
        each.name: f"`{getattr(defaults, each.name)!r}`" for each in fields(defaults)
    }


def test_every_check_stands_there():
    folder = Path(checks.__file__).parent
    files = [*sorted(folder.glob("*.py")), *sorted((folder.parent / "contrib").rglob("*.py"))]
    source = "".join(each.read_text(encoding="utf-8") for each in files)
    assert set(_rows("System checks")) == set(re.findall(r'"(audit\.[EW]\d{3})"', source))


def test_every_variable_of_the_example_project_stands_there():
    code = "".join(
        (CHECKOUT / "auditproj" / name).read_text(encoding="utf-8") for name in ("settings.py", "environment.py")
    )
    assert set(_rows("The example project")) == set(re.findall(r'(?:text|flag|words)\("([A-Z_]+)"', code))
