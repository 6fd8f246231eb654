"""One way to say which tasks are meant: the same words in a URL, a search box, a command and Python.

    TaskFilter.from_text('service:billing status:failed since:7d "connection reset"')
    TaskFilter.from_query(request.GET)
    TaskFilter(services=("billing",), statuses=("failed",), since=timedelta(days=7))

Note [What is cheap]
    `apply` writes conditions that an index serves: statuses, services, actions, actors, ids, correlation ids,
    parents, times, error types and words. Other values inside JSON documents have none, so a caller asks
    `needs_window` and bounds them in time with `within`.
"""

from audit.reading.filters.build import Problems
from audit.reading.filters.options import LISTED, add_arguments, add_database, database_alias, positive
from audit.reading.filters.task_filter import DEFAULT_WINDOW, TaskFilter
from audit.reading.filters.values import When, parse_when, span_text, when_text

__all__ = [
    "DEFAULT_WINDOW",
    "LISTED",
    "Problems",
    "TaskFilter",
    "When",
    "add_arguments",
    "add_database",
    "database_alias",
    "parse_when",
    "positive",
    "span_text",
    "when_text",
]
