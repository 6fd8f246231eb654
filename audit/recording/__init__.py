"""Work recorded as it happens: a block, a call or a command is a task that is executing while it runs.

`record` and its ends are in `block` and `ending`, the leases of open records in `keeping`, commands in `running`.
"""

from audit.recording.block import Recording, current_task, record

__all__ = ["Recording", "current_task", "record"]
