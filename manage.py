#!/usr/bin/env python
"""Run Django's commands, and those of this project, with the example project's settings."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "auditproj.settings")
    execute_from_command_line(sys.argv)
