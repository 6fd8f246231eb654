"""Places at which a worker stands still until it is killed; it touches a file when it has come there."""

import os
import time
from pathlib import Path

from audit.worker.store import Store


def never_answer(task):
    """Hold a worker between the commit of its claim and the start of the handler."""
    _stand_still(os.environ["AUDIT_WORKER_GATE"])


def before_an_end():
    """Hold a worker between the end of its first handler and whatever it stores of it, where a test asks for it."""
    if file := os.environ.get("AUDIT_WORKER_GATE_END"):
        Store.save_end = lambda *_: _stand_still(file)


def _stand_still(file):
    Path(file).touch()
    while True:
        time.sleep(1)
