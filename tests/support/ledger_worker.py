"""Writers and sealers for tests with real processes.

`python -m tests.support.ledger_worker DATABASE NAME write SECONDS`: transactions of finished tasks and log rows, with
delays, savepoints and rollbacks. `… seal SECONDS KEY DIRECTORY CHANCE`: seals in batches of mixed size and exports;
at each of several points it kills itself with that chance, as SIGKILL would, and says in `DIRECTORY.deaths` that it
began, and whether it died before the commit.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any


class _Undone(Exception):
    """Rolls back."""


def write(chance: random.Random, until: float) -> None:
    from django.db import transaction

    from audit.models import Task

    rounds = 0
    while time.monotonic() < until or rounds < 10:
        rounds += 1
        try:
            with transaction.atomic():
                Task.objects.bulk_record([{"action": "bulk", "status": "completed"}] * chance.randint(1, 4))
                time.sleep(chance.choice((0, 0, 0.01, 0.05, 0.3)))
                try:
                    with transaction.atomic():
                        task = Task.objects.request("inner", actor="alice")
                        task.reject(actor="bob")
                        if chance.random() < 0.4:
                            raise _Undone
                except _Undone:
                    pass
                task = Task.objects.request("outer", actor="alice")
                task.note("seen")
                time.sleep(chance.choice((0, 0, 0.02)))
                task.reject(actor="bob")
                if chance.random() < 0.25:
                    raise _Undone
        except _Undone:
            pass


def seal(chance: random.Random, until: float, secret: str, directory: Path, risk: float) -> None:
    from audit.ledger import exported
    from audit.ledger import seal as sealer
    from audit.ledger.seal import signed_tree
    from audit.ledger.tlog import files
    from audit.ledger.tlog.note import Signer

    deaths = os.open(f"{directory}.deaths", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(deaths, f"began:{os.getpid()}\n".encode())

    def may_die(when: str = "after") -> None:
        if chance.random() < risk:
            os.write(deaths, f"{when}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def dangerous(function: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            may_die("before")
            result = function(*args, **kwargs)
            may_die("before")
            return result

        return wrapped

    sealer.pick = dangerous(sealer.pick)
    signed_tree.write_tiles = dangerous(signed_tree.write_tiles)
    sealer.append = dangerous(sealer.append)
    files.os = _Os(may_die)
    kept = exported.Exports(directory)
    signer = Signer.parse(secret)
    while time.monotonic() < until:
        newest = kept.newest()
        # Another one may hold the head for as long as this one waits.
        with contextlib.suppress(sealer.Busy):
            for batch in sealer.seal(
                "default", [signer], limit=chance.choice((1, 3, 20, 500)), exported=newest and newest.text
            ):
                may_die()
                if batch.note:
                    kept.write(batch.epoch, batch.size, batch.note)
        time.sleep(chance.choice((0, 0.01, 0.05)))


class _Os:
    """`os`, with a death before a file is on disk."""

    def __init__(self, may_die: Any) -> None:
        self._may_die = may_die

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def link(self, *args: Any) -> None:
        self._may_die()
        os.link(*args)
        self._may_die()

    def open(self, *args: Any, **kwargs: Any) -> int:
        handle = os.open(*args, **kwargs)
        self._may_die()
        return handle

    def fsync(self, handle: int) -> None:
        self._may_die()
        os.fsync(handle)


def main(database: str, name: str, role: str, seconds: str, *rest: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.conf import settings

    settings.DATABASES["default"]["NAME"] = database
    django.setup()
    until = time.monotonic() + float(seconds)
    chance = random.Random(name)
    if role == "write":
        write(chance, until)
    else:
        seal(chance, until, rest[0], Path(rest[1]), float(rest[2]))


if __name__ == "__main__":
    main(*sys.argv[1:])
