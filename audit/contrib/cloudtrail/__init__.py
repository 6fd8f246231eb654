"""Reads events of AWS CloudTrail as tasks, in whatever form they are handed on.

An event becomes a finished task: its name the action, its source the service, its request parameters the plan, its
response and all the rest of it the outcome, as the text they are. The id is made of the event's time and its own id,
so that reading the same event again, from whatever container, gives the same task.
"""

from audit.contrib.cloudtrail.containers import SUFFIXES, read_events
from audit.contrib.cloudtrail.events import task_of_event

__all__ = ["SUFFIXES", "read_events", "task_of_event"]
