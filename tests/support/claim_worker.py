"""A worker for tests of claims: claims batches of mixed size and finishes each task, until nothing is left.

Run as `python -m tests.support.claim_worker DATABASE NAME LEASE_MS`; killed at any point, it leaves what a crash
leaves.
"""

import os
import random
import sys
import time
from datetime import timedelta


def main(database: str, name: str, lease_ms: int) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.conf import settings

    settings.DATABASES["default"]["NAME"] = database
    django.setup()
    from audit.exceptions import AuditError
    from audit.models import Task

    chance = random.Random(name)
    lease = timedelta(milliseconds=lease_ms)
    while True:
        claimed = Task.objects.claim(worker=name, limit=chance.choice((1, 2, 5, 20, 50)), lease=lease)
        for task in claimed:
            try:
                if chance.random() < 0.05:
                    task.log("step")
                if chance.random() < 0.02:
                    task.heartbeat(lease=lease)
                task.complete({"worker": name})
            except AuditError:
                continue
        if chance.random() < 0.2 or not claimed:
            Task.objects.recover_expired(max_expiries=1000)
        if not claimed:
            if not Task.objects.live().exists():
                return
            time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
