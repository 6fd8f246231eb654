"""A process for tests of signals: `python -m tests.support.stopping stop|unwind FOLDER`.

It writes `ready` into the folder, then what becomes of it. `stop` waits for a request and then for the file `end`;
`unwind` waits inside of `terminable`.
"""

import signal
import sys
import time
from pathlib import Path

from audit.process.signals import StopRequest, terminable


def main(what: str, name: str) -> None:
    folder = Path(name)
    if what == "unwind":
        with terminable():
            try:
                (folder / "ready").touch()
                time.sleep(60)
            finally:
                (folder / "unwound").touch()
        return
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    with StopRequest() as stop:
        assert not ignored or signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        (folder / "ready").touch()
        while stop.wait(60):
            pass
        (folder / "stopping").touch()
        while not (folder / "end").exists():
            time.sleep(0.02)
    (folder / "stopped").touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
