"""People who look at the admin, tasks to look at, and what a page asked the database."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

from django.contrib.auth.models import Permission, User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Task

__all__ = [
    "AGENTS",
    "EVENTS",
    "HOSTILE",
    "LOG",
    "OVERVIEW",
    "QUEUE",
    "STATISTICS",
    "TASKS",
    "Asked",
    "asking",
    "client_of",
    "ids_in",
    "inline_code",
    "link_in",
    "past",
    "text_of",
]

TASKS = "/admin/audit/task/"
LOG = "/admin/audit/executionlog/"
QUEUE = "/admin/audit/pausequeueentry/"
AGENTS = "/admin/audit/agent/"
EVENTS = "/admin/audit/event/"
STATISTICS = f"{TASKS}statistics/"
OVERVIEW = "/admin/audit/"

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "quotes": "\"'><b onmouseover=alert(2)>x</b>{{ 7|add:7 }}{% now 'Y' %}",
    "bidi": "invoice\u202egnp.exe\u2066\u200f",
    "control": "a\x1b[31mred\x07\x7f",
}


def client_of(kind: str) -> Client:
    """A browser of `anonymous`, of `staff` without permissions, of a `viewer`, a `decider` who may also decide, a
    `blind` one who may decide and not look, a `changer` with all model permissions, or a `superuser`."""
    client = Client()
    if kind == "anonymous":
        return client
    user = User.objects.create_user(kind, password="pw", is_staff=kind != "nobody", is_superuser=kind == "superuser")
    permissions = Permission.objects.filter(content_type__app_label="audit")
    if kind == "viewer":
        user.user_permissions.set(permissions.filter(codename__startswith="view_"))
    elif kind == "decider":
        user.user_permissions.set(permissions.filter(codename__regex="^(view_.*|decide_task)$"))
    elif kind == "blind":
        user.user_permissions.set(permissions.filter(codename="decide_task"))
    elif kind == "changer":
        user.user_permissions.set(permissions)
    client.force_login(user)
    return client


def past(count: int, *, every: timedelta = timedelta(minutes=1), **given: Any) -> list[Any]:
    """Store finished tasks, the newest one `every` ago, and return their ids, newest first."""
    now = timezone.now()
    rows = []
    for number in range(count):
        created = now - every * (number + 1)
        rows.append(
            {
                "action": "deploy",
                "summary": f"task {number}",
                "status": "completed",
                "services": ["billing"],
                "requested_by": "alice",
                "actor": "orch-1",
                "created_at": created,
                "started_at": created + timedelta(seconds=2),
                "finished_at": created + timedelta(seconds=5),
                **given,
            }
        )
    return Task.objects.bulk_record(rows)


class Asked:
    """What was sent to the database while a page was made."""

    def __init__(self, captured: CaptureQueriesContext) -> None:
        self._captured = captured

    @property
    def statements(self) -> list[str]:
        """Everything, savepoints and settings too."""
        return [each["sql"] for each in self._captured.captured_queries]

    @property
    def data(self) -> list[str]:
        """What reads tables of the audit trail."""
        return [sql for sql in self.statements if re.search(r'FROM "?audit_', sql)]


@contextmanager
def asking() -> Iterator[Asked]:
    """Note what is asked inside the block."""
    with CaptureQueriesContext(connection) as captured:
        yield Asked(captured)


def text_of(response: HttpResponse) -> str:
    """The text of a page, as a reader sees it: no tags, entities resolved."""
    reader = _Reader()
    reader.feed(response.content.decode())
    return " ".join("".join(reader.texts).split())


def inline_code(response: HttpResponse) -> list[str]:
    """Whatever a Content-Security-Policy of `'self'` would refuse, in our part of a page or anywhere else."""
    reader = _Reader()
    reader.feed(response.content.decode())
    return reader.inline


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inline: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._inside = tag
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.inline.append(self.get_starttag_text() or tag)
        for name, value in attrs:
            if name == "style" or name.startswith("on") or "javascript:" in (value or "").lower():
                self.inline.append(f"{tag} {name}={value}")
            if name in ("src", "href") and re.match(r"(https?:)?//", value or ""):
                self.inline.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def ids_in(response: HttpResponse, pattern: str = r"/admin/audit/task/([0-9a-f-]{36})/change/") -> list[str]:
    """Which rows a page links to, in order."""
    return list(dict.fromkeys(re.findall(pattern, response.content.decode())))


def link_in(response: HttpResponse, rel: str) -> str | None:
    """Where the link of a page to its `next` or `prev` leads."""
    found = re.search(rf'rel="{rel}" href="([^"]*)"', response.content.decode())
    return found[1].replace("&amp;", "&") if found else None
