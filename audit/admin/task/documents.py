"""The JSON columns on the page of a task: each as a tree, suggestions as cards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit.admin.shared.jsontree import Tree, tree
from audit.admin.shared.wording import size
from audit.admin.task.columns import DOCUMENTS
from audit.admin.task.suggestions import MOST, Suggestion, column_suggestions, log_suggestions

__all__ = ["Document", "documents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A JSON column to show: as a tree, or suggestions as cards."""

    name: str
    title: Any
    drawn: Tree | None = None
    size: str = ""
    cards: Sequence[Suggestion] = ()
    more: int = 0
    """How many cards were left out."""


def documents(
    task: dict[str, Any], log: Sequence[dict[str, Any]], now: datetime, without: Sequence[str] = ()
) -> Iterator[Document]:
    """Draw the documents that a task has.

    Args:
        task: what `read_task` read.
        log: the rows of its log, which may hold further suggestions.
        now: when the page is read.
        without: columns that stand elsewhere on the page.
    """
    for name, title in DOCUMENTS.items():
        if name in without:
            continue
        text, length = task[f"{name}_text"], task[f"{name}_length"]
        if name == "suggestions":
            column = [] if text is None else column_suggestions(text, length, now)
            cards = [*(column or ()), *log_suggestions(log, column, task["finished_at"], now)]
            is_tree = column is None
            if cards or is_tree:
                yield Document(
                    name=name,
                    title=title,
                    drawn=tree(text, length) if is_tree else None,
                    size=size(length) if is_tree else "",
                    cards=cards[:MOST],
                    more=max(len(cards) - MOST, 0),
                )
        elif text is not None:
            yield Document(name=name, title=title, drawn=tree(text, length), size=size(length))
