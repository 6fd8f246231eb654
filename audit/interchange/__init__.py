"""Tasks as files: JSON Lines that hold a task and its log, byte for byte the same after import and export.

`docs/interchange.md` describes the format.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.interchange.exporting import csv_lines, json_lines, whole_file
    from audit.interchange.importing import Counts, Importer, Read, Refusal
    from audit.interchange.records import LogRecord, OriginRecord, PauseQueueEntryRecord, TaskRecord
    from audit.interchange.sources import Source, find_sources, read_json_lines

__all__ = [
    "Counts",
    "Importer",
    "LogRecord",
    "OriginRecord",
    "PauseQueueEntryRecord",
    "Read",
    "Refusal",
    "Source",
    "TaskRecord",
    "csv_lines",
    "find_sources",
    "json_lines",
    "read_json_lines",
    "whole_file",
]

_HOMES = {
    **dict.fromkeys(("csv_lines", "json_lines", "whole_file"), "exporting"),
    **dict.fromkeys(("Counts", "Importer", "Read", "Refusal"), "importing"),
    **dict.fromkeys(("LogRecord", "OriginRecord", "PauseQueueEntryRecord", "TaskRecord"), "records"),
    **dict.fromkeys(("Source", "find_sources", "read_json_lines"), "sources"),
}


def __getattr__(name: str) -> Any:
    # The app's `ready()` loads this package in every process; what reads files loads pydantic.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
