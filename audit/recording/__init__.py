"""Work recorded as it happens: a block, a call or a command is a task that is executing while it runs.

`record` is in `block`, its ends in `starting` and `ending`, what it holds meanwhile in `open`, commands in `running`.
"""

from audit.recording.block import Recording, current_task, record

__all__ = ["Recording", "current_task", "record"]
