"""The commands of a project that has the app installed; HOST_START_METHOD says how its parallel tests start."""

import multiprocessing
import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "hostproject.settings"
    if os.environ.get("HOST_START_METHOD"):
        multiprocessing.set_start_method(os.environ["HOST_START_METHOD"])
    execute_from_command_line(sys.argv)
