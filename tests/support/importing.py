"""Lines to import, and an import with what it refused."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from audit import ids
from audit.exceptions import InvalidValue
from audit.interchange import Importer, Read, Refusal, TaskRecord
from audit.interchange.records import problems

both = pytest.mark.django_db(databases=["default", "other"])

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def line(**values: Any) -> dict[str, Any]:
    return {"id": str(ids.uuid7()), "action": "deploy", "status": "completed", **values}


def reads(*lines: dict[str, Any] | str) -> Iterator[Read]:
    for number, each in enumerate(lines, 1):
        text = each if isinstance(each, str) else json.dumps(each)
        try:
            yield Read(place=f"f:{number}", record=TaskRecord.of_line(text))
        except InvalidValue as error:
            yield Read.bad(f"f:{number}", error)
        except ValidationError as error:
            yield Read.bad(f"f:{number}", *problems(error))


class Run:
    """An import, with what it refused."""

    def __init__(self, lines: Iterable[dict[str, Any] | str], **options: Any) -> None:
        self.refusals: list[Refusal] = []
        importer = Importer(on_refusal=self.refusals.append, **options)
        importer.run(reads(*lines))
        counts = importer.counts
        self.counts = (counts.stored, counts.present, counts.refused)

    @property
    def messages(self) -> str:
        return "\n".join(map(str, self.refusals))
