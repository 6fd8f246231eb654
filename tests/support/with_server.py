"""Runs a command against a throwaway server of a chosen version: `python -m tests.support.with_server 15-system CMD …`.

The command finds the server in DATABASE_URL. Without that version on this machine it prints why and exits 0: a
machine without it has nothing to test there.
"""

import os
import subprocess
import sys
from urllib.parse import quote, urlencode

import pytest

from tests.support import memory
from tests.support.servers import VERSIONS, binaries, throwaway


def main(name: str, *command: str) -> int:
    """Run `command` with DATABASE_URL set, and return its exit status."""
    if name not in VERSIONS or not command:
        print(f"usage: python -m tests.support.with_server {{{','.join(VERSIONS)}}} CMD …", file=sys.stderr)  # noqa: T201
        return 2
    try:
        programs = binaries(name)
    except pytest.skip.Exception as reason:
        print(f"skipped: {reason}")  # noqa: T201
        return 0
    memory.directory()
    with throwaway(programs, {"max_connections": "200"}) as server:
        found = server.connection_parameters()
        query = urlencode({"host": found["host"]})
        url = f"postgresql://{quote(found['user'])}@/postgres?{query}"
        return subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
