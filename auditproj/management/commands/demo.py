"""`manage.py demo`: everything there is to see, from an empty folder, in one command."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import socket
import sys
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import BaseCommand, CommandError, call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler, get_internal_wsgi_application
from django.db import connection
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from audit.inspection import recorded_migrations
from audit.management.output import count as counted
from audit.models import LedgerLeaf, Task
from audit.process.signals import terminable
from auditproj.demo import ledger, tied
from auditproj.demo.history import fill
from auditproj.demo.tampering import attempts
from auditproj.demo.workers import Workers

_GOES_ON = """
Two workers claim and run tasks; a sealer signs what has finished, and a verifier looks at it every minute.
Roll-outs wait for a person in their middle: the pause queue has them, and the decider may approve.
Some work waits for events, is tried again, or is paused while orch-2 is short of memory.
Now and then orch-1 is killed with SIGKILL, and orch-2 recovers what it ran. Ctrl-C ends everything."""

_VIEWER = "viewer"
_DECIDER = "decider"
_DECIDES = ["decide_task", "drain_agent", "add_event"]


class Command(BaseCommand):
    """Fills, attacks, works and serves."""

    help = (
        "Set up a database with a month of realistic tasks, show that it refuses tampering, and seal and verify the "
        "tasks. Then serve the audit browser on 127.0.0.1, while two workers, a sealer and a verifier run. Ctrl-C "
        "ends the demo. The next run continues with the same data."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "--tasks", type=_count, default=20_000, metavar="N", help="how many tasks to make (default 20000)"
        )
        parser.add_argument(
            "--port",
            type=_port,
            default=8000,
            metavar="PORT",
            help="the port to serve on, or the next free one (default 8000)",
        )
        parser.add_argument("--no-serve", action="store_true", help="stop after the verification, and serve no pages")

    def handle(self, *args: Any, **options: Any) -> None:
        with terminable():
            try:
                self._show(**options)
            except KeyboardInterrupt:
                self.stdout.write("\nStopped. Run it again to go on with what is there.")

    def _show(self, *, tasks: int, port: int, no_serve: bool, **options: Any) -> None:
        self._heading("Database")
        if problem := recorded_migrations.unreleased("default"):
            embedded = settings.DATABASES["default"]["ENGINE"] == "auditproj.embedded"
            way_out = f"remove {settings.AUDIT_HOME}" if embedded else "name a new, empty database in DATABASE_URL"
            raise CommandError(f"{problem} To start afresh, {way_out}.")
        call_command("migrate", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            (version,) = cursor.fetchone()
        self.stdout.write(f"PostgreSQL {version.split()[0]}, tables and guards in place.")
        self._fill(tasks)
        self._tamper()
        key = self._seal()
        if no_serve:
            return
        password = self._account(_VIEWER)
        deciding = self._account(_DECIDER, decide=True)
        workers = Workers(settings.AUDIT_HOME)
        with (
            self._served(port) as address,
            workers.at_work(),
            tied.ending([tied.started("auditproj.demo.ticker")]),
            self._ledger(key),
        ):
            self._heading("Audit browser")
            self.stdout.write(f"  address   {address}{reverse('admin:audit_task_changelist')}")
            self.stdout.write(f"  user      {_VIEWER}")
            self.stdout.write(f"  password  {password}")
            self.stdout.write(f"  or        {_DECIDER} with {deciding}: may also approve, reject and resume")
            self.stdout.write(f"  integrity {address}{reverse('admin:audit_ledgerverification_changelist')}")
            self.stdout.write(f"  agents    {address}{reverse('admin:audit_agent_changelist')}")
            self.stdout.write(f"  logs      {workers.logs}")
            self.stdout.write(_GOES_ON)
            self.stdout.flush()
            threading.Event().wait()

    def _heading(self, words: str) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(f"\n{words}"))

    def _fill(self, count: int) -> None:
        self._heading("History")
        if Task.objects.exists():
            self.stdout.write("There are tasks already; going on with them.")
            return
        started = time.monotonic()
        live = self.stdout.isatty()
        start = "\r" if live else ""

        def progress(stored: int) -> None:
            if live:
                self.stdout.write(f"\r{counted(stored)} of {counted(count, 'task')}", ending="")
                self.stdout.flush()

        fill(count, timezone.now(), progress)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE audit_task, audit_executionlog")
        self.stdout.write(
            f"{start}Filled in {counted(count, 'finished task')} of the last 30 days, in "
            f"{time.monotonic() - started:.1f} s."
        )

    def _tamper(self) -> None:
        self._heading("Tampering")
        task = Task.objects.failed().order_by("-created_at").first() or Task.objects.finished().first()
        if task is None:
            return
        self.stdout.write(f'The failed task "{task.summary}" would look better as a success. As the database\'s owner:')
        for attempt in attempts(task):
            self.stdout.write("")
            for line in attempt.sql.splitlines():
                self.stdout.write(f"  {self.style.SQL_KEYWORD('SQL>')} {line}")
            if not attempt.answer:
                raise CommandError("The database took it! Is a guard missing? See: manage.py check --database default")
            self.stdout.write(f"  {self.style.ERROR('ERROR')} {attempt.sqlstate}: {attempt.answer}")

    def _seal(self) -> ledger.Key | None:
        """Seal and verify everything; the key, or None where this database was sealed with another one."""
        self._heading("Seals")
        key = ledger.key()
        verifier = key.made()
        known = settings.AUDIT["LEDGER_VERIFIERS"]
        if not known:
            known.append(verifier)  # this process read its settings before there was a key
        if verifier not in known:
            self.stdout.write("Not sealed: AUDIT_LEDGER_VERIFIERS names other keys than the demo's.")
            return None
        sealed = ledger.once("audit_seal", environment=key.environment())
        if sealed.returncode:
            self.stdout.write(f"Not sealed: {_last_line(sealed.stderr)}")
            return None
        said = [line for line in sealed.stderr.splitlines() if line.startswith("Sealed")]
        self.stdout.write(" ".join(said) or _last_line(sealed.stderr))
        verified = ledger.once("audit_verify")
        verdict = [line for line in verified.stdout.splitlines() if line.startswith(("INTACT", "TAMPERING", "Covered"))]
        self.stdout.write(". ".join(verdict) or _last_line(verified.stderr))
        leaf = LedgerLeaf.objects.filter(task_id__isnull=False).order_by("-index").values_list("task_id").first()
        if leaf and not verified.returncode:
            self.stdout.write("\nA proof of one task, to be checked by anybody, without this database:")
            python = shlex.quote(sys.orig_argv[0])  # as it was typed: its environment need not be activated
            self.stdout.write(f"  {python} manage.py audit_prove {leaf[0]} --with-log > task.tlog-proof")
            self.stdout.write(f"  {python} -m audit.ledger check task.tlog-proof --key {verifier}")
        return key

    def _account(self, name: str, *, decide: bool = False) -> str:
        """Create an account that may look at everything, and perhaps decide, or give it a new password."""
        password = secrets.token_urlsafe(9)
        user, _ = get_user_model().objects.get_or_create(username=name, defaults={"is_staff": True})
        user.set_password(password)
        user.save()
        wanted = Q(codename__startswith="view_") | Q(codename__in=_DECIDES if decide else [])
        user.user_permissions.set(Permission.objects.filter(wanted, content_type__app_label="audit"))
        return password

    @contextlib.contextmanager
    def _served(self, port: int) -> Iterator[str]:
        """Serve the site from threads of this process."""
        server = ThreadedWSGIServer(("127.0.0.1", _free(port)), _QuietHandler)
        server.daemon_threads = True
        server.set_app(get_internal_wsgi_application())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()

    @contextlib.contextmanager
    def _ledger(self, key: ledger.Key | None) -> Iterator[None]:
        """Seal and verify while the demo serves."""
        if key is None:
            yield
            return
        with tied.ending([ledger.started("seal", key.environment()), ledger.started("verify")]):
            yield


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep the terminal for what matters."""


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 10_000_000:
        raise ArgumentTypeError(f"{text!r} is not a number of tasks from 1 to 10000000")
    return number


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def _free(first: int) -> int:
    """Find the first free port from `first` on."""
    for port in range(first, min(first + 50, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise CommandError(f"No port from {first} to {first + 49} is free; name another with --port.")
