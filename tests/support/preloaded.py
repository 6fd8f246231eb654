"""Runs `manage.py` in a fork of a process that has loaded Django, which saves most of the time that a start takes.

The commands of a page are many and short. Each still runs in a process of its own, with its own working directory,
environment, arguments, standard streams and exit status. `client` is what stands for `python manage.py` in the shell.
"""

from __future__ import annotations

import array
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["serving"]

# Without any import of this project: it starts for each command.
_CLIENT = """
import array, os, pickle, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
asked = pickle.dumps((os.getcwd(), dict(os.environ), sys.argv[2:]))
rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
server.sendmsg([len(asked).to_bytes(4, "big")], [rights])
server.sendall(asked)
sys.exit(int(server.makefile().read() or 70))
"""


@contextmanager
def serving(folder: Path, environment: dict[str, str]) -> Iterator[list[str]]:
    """Serve while the block runs.

    Args:
        folder: where the socket goes.
        environment: of the process that loads Django.

    Yields:
        The words that run a command, before `manage.py` and its arguments.
    """
    address, client = folder / "socket", folder / "client.py"
    client.write_text(_CLIENT)
    words = [sys.executable, "-m", "tests.support.preloaded", str(address)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == b"ready\n"
            yield [sys.executable, "-I", "-S", str(client), str(address)]
        finally:
            server.kill()


def _serve(address: str) -> None:
    import django

    django.setup()
    import rich.text  # noqa: F401 - as the commands below

    import audit.management.commands.audit_prove
    import audit.management.commands.audit_record
    import audit.management.commands.audit_seal
    import audit.management.commands.audit_stats
    import audit.management.commands.audit_verify  # noqa: F401 - loaded for those that are forked

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    os.write(1, b"ready\n")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    while True:
        asker, _ = listener.accept()
        if os.fork():
            asker.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        descriptors = array.array("i")
        length, [(_, _, data)], _, _ = asker.recvmsg(4, socket.CMSG_SPACE(3 * descriptors.itemsize))
        descriptors.frombytes(data)
        cwd, given, argv = pickle.loads(asker.makefile("rb").read(int.from_bytes(length, "big")))
        worker = os.fork()
        if not worker:
            asker.close()
            _run(cwd, given, argv, list(descriptors))
            return
        status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        asker.sendall(str(status if status >= 0 else 128 - status).encode())
        os._exit(0)


def _run(cwd: str, given: dict[str, str], argv: list[str], descriptors: list[int]) -> None:
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(given)
    from django.conf import settings
    from django.core.management import execute_from_command_line

    # The page may have made a key since Django was loaded.
    settings.AUDIT = runpy.run_path("settings_of_page.py")["AUDIT"]
    execute_from_command_line(argv)


if __name__ == "__main__":
    _serve(sys.argv[1])
