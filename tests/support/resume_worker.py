"""A resumer, or a worker, for tests of capacity: goes on until nothing of the work is left.

Run as `python -m tests.support.resume_worker DATABASE resumer|worker NAME`; killed at any point, it leaves what a crash
leaves.
"""

import os
import random
import sys
import time


def main(database: str, role: str, name: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django
    from django.conf import settings

    settings.DATABASES["default"]["NAME"] = database
    settings.AUDIT = {
        "CAPACITY_BACKOFF_SECONDS": 1,
        "CAPACITY_BACKOFF_MAX_SECONDS": 2,
        # However slow the machine, the agents count as there.
        "AGENT_STALE_SECONDS": 1000,
        "AGENT_OFFLINE_SECONDS": 2000,
    }
    django.setup()
    from audit.models import Task
    from audit.pausing import PauseManager

    chance = random.Random(name)
    manager = PauseManager()
    while Task.objects.live().exists():
        if role == "resumer":
            manager.resume_due()
        else:
            for task in Task.objects.claim(name):
                if not manager.pause_for_capacity(task):
                    task.complete({"worker": name})
        time.sleep(chance.uniform(0.0, 0.02))


if __name__ == "__main__":
    main(*sys.argv[1:])
