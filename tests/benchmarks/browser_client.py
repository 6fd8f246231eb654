"""One process that looks at pages: `python -m tests.benchmarks.browser_client fill|pages|export …`, answers in JSON.

It finds its database in the environment, as `tests.benchmarks.settings` says.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import psutil

__all__ = ["OURS", "STOCK", "fill", "main"]

OURS = "ours"
STOCK = "stock"
LIMIT_S = 30
"""After so long a page of the stock admin is given up."""
_BUDGET_S = 1.5
_MOST = 12


def fill(rows: int) -> float:
    """Migrate and fill the database; return the seconds."""
    from django.core.management import call_command
    from django.db import connection

    from tests.support.filling import fill as fill_tables

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        return fill_tables(cursor.connection, rows)


def pages(rounds: int, scale: float) -> Iterator[dict[str, Any]]:
    """Look at each case in turn, warm; yield what `_look` found in each round."""
    from tests.benchmarks.measure import rotated

    client = _client()
    given_up: set[tuple[str, str]] = set()
    for number in range(-1, rounds):
        for case, urls in _cases().items():
            for subject in rotated([OURS, STOCK], number):
                if (case, subject) in given_up:
                    continue
                most = max(2, int(_MOST * scale)) if number >= 0 else 1
                seconds, cpu, status = _look(client, urls[subject], most)
                if status != 200:
                    given_up.add((case, subject))
                if number >= 0 or status != 200:
                    yield {"case": case, "subject": subject, "seconds": seconds, "cpu": cpu, "status": status}


def _look(client: Any, url: str, most: int) -> tuple[list[float], float, int]:
    """Look at a page a few times.

    Returns:
        The seconds of each look; the seconds of CPU of one, ours and the server's together, which are the same when the
        machine is busy; and the last status, 0 for a page that was given up.
    """
    from django.db import DatabaseError, connection

    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{LIMIT_S}s'")
        cursor.execute("SELECT pg_backend_pid()")
        postmaster = psutil.Process(cursor.fetchone()[0]).parent()
    seconds: list[float] = []
    status = 200
    used, began = _server_cpu(postmaster) + time.process_time(), time.perf_counter()
    while status == 200 and len(seconds) < most and time.perf_counter() - began < _BUDGET_S:
        start = time.perf_counter()
        try:
            status = client.get(url).status_code
        except DatabaseError:
            status = 0
        seconds.append(time.perf_counter() - start)
    cpu = (_server_cpu(postmaster) + time.process_time() - used) / len(seconds)
    if status == 0:
        connection.close()
    return seconds, cpu, status


def _server_cpu(postmaster: Any) -> float:
    """Seconds of CPU that all processes of a server have used so far, or had when they ended."""
    used = sum(postmaster.cpu_times()[:4])
    for process in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:2])
    return float(used)


def export(rows: int) -> dict[str, Any]:
    """Take the newest rows as a file of JSON Lines; return bytes, seconds and the memory that the process reached."""
    from audit.models import Task

    client = _client()
    client.get("/ours/audit/task/")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    newest = Task.objects.order_by("-created_at").values_list("created_at", flat=True)
    oldest = newest[min(rows, newest.count()) - 1]
    began = time.perf_counter()
    url = f"/ours/audit/task/export/?{urlencode({'since': oldest.isoformat(), 'format': 'jsonl'})}"
    size = lines = 0
    for piece in client.get(url).streaming_content:
        size += len(piece)
        lines += piece.count(b"\n")
    return {
        "rows": lines,
        "bytes": size,
        "seconds": time.perf_counter() - began,
        "before_mb": before / 1024,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _client() -> Any:
    """Log in as somebody who may look at everything: stock pages have no decisions to offer."""
    from django.contrib.auth.models import Permission, User
    from django.test import Client

    user, _ = User.objects.get_or_create(username="viewer", is_staff=True)
    wanted = Permission.objects.filter(content_type__app_label="audit", codename__startswith="view_")
    user.user_permissions.set(wanted)
    client = Client()
    client.force_login(user)
    return client


def _cases() -> dict[str, dict[str, str]]:
    """The address of each case on both sites."""
    from django.utils import timezone

    from audit.models import Task

    ours, stock = "/ours/audit/task/", "/stock/audit/task/"
    now = timezone.now()

    def since(span: timedelta) -> str:
        return urlencode({"created_at__gte": (now - span).isoformat()})

    total = Task.objects.count()
    page = int(total * 0.9) // 50
    newest = Task.objects.order_by("-created_at", "-id")
    at, key = newest.values_list("created_at", "id")[page * 50 - 1]
    place = f"{round(at.timestamp() * 1_000_000)}_{key.hex}"
    one = newest.filter(status="completed").values_list("id", flat=True)[1000 if total > 5000 else 10]
    day, week = timedelta(days=1), timedelta(days=7)
    return {
        "list, last 24 h": {OURS: ours, STOCK: f"{stock}?{since(day)}"},
        "list, last 7 days": {OURS: f"{ours}?since=7d", STOCK: f"{stock}?{since(week)}"},
        "list, all time": {OURS: f"{ours}?since=all", STOCK: stock},
        "list, all time, with facets": {OURS: f"{ours}?since=all", STOCK: f"{stock}?_facets=True"},
        "all time, one service": {OURS: f"{ours}?since=all&service=svc-3", STOCK: f"{stock}?service=svc-3"},
        "all time, failed": {OURS: f"{ours}?since=all&status=failed", STOCK: f"{stock}?status__exact=failed"},
        "all time, a rare word": {OURS: f"{ours}?since=all&q=zanzibar", STOCK: f"{stock}?q=zanzibar"},
        "all time, page at 90 %": {OURS: f"{ours}?since=all&after={place}", STOCK: f"{stock}?p={page + 1}"},
        "one task": {OURS: f"{ours}{one}/change/", STOCK: f"{stock}{one}/change/"},
    }


def main(step: str, *given: str) -> None:
    """Do one step and print what it found, a line of JSON each."""
    import django

    django.setup()
    answers: Any
    if step == "fill":
        answers = [fill(int(given[0]))]
    elif step == "pages":
        answers = pages(int(given[0]), float(given[1]))
    else:
        answers = [export(int(given[0]))]
    for answer in answers:
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer to the parent


if __name__ == "__main__":
    main(*sys.argv[1:])
