"""Capacity gates for tests of the worker."""

import os
import time
from pathlib import Path


def never_answer(task):
    """Hold a worker between the commit of its claim and the start of the handler."""
    Path(os.environ["AUDIT_WORKER_GATE"]).touch()
    while True:
        time.sleep(1)
