"""The process that has loaded Django and forks; see Note [What a fork inherits]."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import select
import signal
import socket
import sys
import threading

from tests.support.preloaded.fork import Loaded, become, values_of
from tests.support.preloaded.request import Request, receive

__all__ = ["main", "serve"]

_PACKAGES = ("audit.management.commands", "audit.worker", "audit.ledger.tlog")
"""Their modules are loaded before the first fork, with what they import."""
_LATE_IMPORTS = ("audit.checks.database", "rich.text")
"""What the app imports only where it is used; loaded with them."""


def main(number: str, address: str) -> None:
    # A signal to the group is meant for the forks. A fork gets it once it is ready.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    control = socket.socket(fileno=int(number))
    control.set_inheritable(False)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    found = _load()
    gc.collect()
    gc.freeze()
    serve(control, listener, found)
    os._exit(0)


def _load() -> Loaded:
    before = set(sys.modules)
    path = sys.path[1:]
    from django.conf import settings

    made = values_of(settings)
    modules = tuple(
        each
        for each in sys.modules.keys() - before
        if each.rpartition(".")[2].endswith("settings") and not each.startswith("django.")
    )
    import django

    django.setup()
    import django.core.management.commands.migrate
    import django.db.backends.postgresql.base

    for name in _PACKAGES:
        package = importlib.import_module(name)
        for each in pkgutil.iter_modules(package.__path__, f"{name}."):
            importlib.import_module(each.name)
    for name in _LATE_IMPORTS:
        importlib.import_module(name)
    assert threading.active_count() == 1, "something that is loaded before a fork has started a thread"
    return Loaded(settings=made, modules=modules, path=path)


def serve(control: socket.socket, listener: socket.socket | None, loaded: Loaded) -> None:
    control.sendall(os.getpid().to_bytes(4, "big"))
    poll = select.poll()
    for each in (control, listener):
        if each is not None:
            poll.register(each, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if number == control.fileno():
                if (asked := receive(control)) is None:
                    return
                _fork_for_asker(control, *asked, loaded)
            elif listener is not None:
                client, _ = listener.accept()
                with client:
                    if (asked := receive(client)) is not None:
                        _fork_for_client(client, *asked, loaded)


def _fork_for_asker(control: socket.socket, request: Request, descriptors: list[int], loaded: Loaded) -> None:
    reader, writer = os.pipe()
    between = os.fork()
    if not between:
        if os.fork():
            control.recv(1)
            os._exit(0)
        os.close(writer)
        if request.new_session:
            os.setsid()
        if request.group >= 0:
            os.setpgid(0, request.group)
        control.sendall(os.getpid().to_bytes(4, "big"))
        os.read(reader, 1)  # ends when it has its new parent
        become(request, descriptors, loaded)
    for each in (reader, *descriptors):
        os.close(each)
    os.waitpid(between, 0)
    os.close(writer)
    with contextlib.suppress(OSError):
        control.sendall(b".")


def _fork_for_client(client: socket.socket, request: Request, descriptors: list[int], loaded: Loaded) -> None:
    if not os.fork():
        worker = os.fork()
        if not worker:
            become(request, descriptors, loaded)
        status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        with contextlib.suppress(OSError):
            client.sendall(str(status if status >= 0 else 128 - status).encode())
        os._exit(0)
    for each in descriptors:
        os.close(each)
