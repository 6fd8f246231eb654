"""Answers that are a document and no page: to look at in the browser, or to keep as a file."""

from __future__ import annotations

from django.http import HttpResponse

__all__ = ["json_document", "text_file"]


def json_document(text: str, name: str) -> HttpResponse:
    """Answer with a JSON document exactly as PostgreSQL wrote it, to look at or to keep.

    Args:
        text: the document.
        name: what a file of it is called, without `.json`.
    """
    return _answer(text, "application/json", f'inline; filename="{name}.json"')


def text_file(text: str, name: str) -> HttpResponse:
    """Answer with a text to keep, under the name of a file."""
    return _answer(text, "text/plain", f'attachment; filename="{name}"')


def _answer(text: str, content_type: str, disposition: str) -> HttpResponse:
    response = HttpResponse(text, content_type=f"{content_type}; charset=utf-8")
    response["Content-Disposition"] = disposition
    response["X-Content-Type-Options"] = "nosniff"
    return response
