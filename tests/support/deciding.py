"""What a browser sends to decide about tasks, and what it answers."""

import re
from html import unescape
from typing import Any

from django.http import HttpResponse
from django.test import Client

from audit.models import Task
from tests.support.factories import entry_of
from tests.support.pages import QUEUE, TASKS

__all__ = ["QUEUE", "TASKS", "URL", "form_of", "messages_of", "sent", "token"]

URL = "/admin/audit/task/decide/"


def token(task: Task) -> str:
    """What the check box of a task, or of its entry, holds now."""
    task = Task.objects.get(pk=task.pk)
    if task.status != "paused":
        return f"{task.pk.hex}.{task.revision}"
    entry = entry_of(task)
    return f"{task.pk.hex}.{task.revision}.{entry.pk}.{entry.revision}"


def sent(decision: str, *items: Any, **given: Any) -> dict[str, Any]:
    """What a confirmed form sends."""
    return {
        "decision": decision,
        "item": [each if isinstance(each, str) else token(each) for each in items],
        "confirmed": "1",
        "reason": "looked at it",
        "next": TASKS,
        **given,
    }


def form_of(response: HttpResponse, name: str) -> dict[str, Any]:
    """The hidden fields and checked values of a form on a page, as a browser would send them."""
    html = response.content.decode()
    inner = re.search(rf'<form method="post"[^>]*class="[^"]*{name}[^"]*"[^>]*>(.*?)</form>', html, re.S)[1]
    fields: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", inner):
        given = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if given.get("type") == "hidden":
            fields.setdefault(given["name"], []).append(unescape(given["value"]))
    return fields


def messages_of(client: Client, response: HttpResponse) -> list[str]:
    """The messages on the page a decision leads back to, each after its level."""
    assert response.status_code == 302
    html = client.get(response.url).content.decode()
    found = re.findall(r'<li[^>]*class="(success|warning|error)">\s*(.*?)</li>', html, re.S)
    return [f"{level}: {unescape(text)}" for level, text in found]
