"""Tasks as files: JSON Lines that hold a task and its log, byte for byte the same after import and export.

`docs/interchange.md` describes the format.
"""

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
