#!/usr/bin/env python
"""Run Django's commands, and those of this project, with the example project's settings."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db.utils import OperationalError

from auditproj.environment import explain


def main() -> int:
    """Run the command of ``sys.argv``; returns 2 when settings or database stop it, after a message."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "auditproj.settings")
    try:
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, OperationalError) as error:
        message = explain(error)
        if message is None or "--traceback" in sys.argv:
            raise
        print(f"Error: {message}", file=sys.stderr)  # noqa: T201 - the terminal is meant
        return 2
    except KeyboardInterrupt:  # before any command could take it
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
