"""Processes for tests of records: `python -m tests.support.recorder DATABASE hang LEASE_S` opens a record and waits to
be killed; `python -m tests.support.recorder DATABASE manage COMMAND …` runs a management command.
"""

import os
import sys
import time
from datetime import timedelta


def main(database: str, what: str, *words: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django
    from django.conf import settings

    if database:
        settings.DATABASES["default"]["NAME"] = database
    if what == "manage":
        from django.core.management import execute_from_command_line

        execute_from_command_line(["manage.py", *words])
        return
    django.setup()
    from audit import record

    with record("hang", lease=timedelta(seconds=float(words[0]))) as task:
        sys.stdout.write(f"{task.pk}\n")
        sys.stdout.flush()
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
