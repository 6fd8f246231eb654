"""`manage.py` of the tests' settings on a database that only the test knows.

Run as `python -m tests.support.managing JSON COMMAND …`; the JSON is merged into the settings of the default database.
"""

import json
import os
import sys


def main(database: str, *argv: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    from django.conf import settings
    from django.core.management import execute_from_command_line

    settings.DATABASES["default"].update(json.loads(database))
    execute_from_command_line(["manage.py", *argv])


if __name__ == "__main__":
    main(*sys.argv[1:])
