"""Work recorded as it happens: a block, a call or a command is a task that is executing while it runs.

`record` is in `block`. `starting` and `ending` store its start and its end, `open` holds its state in between, and
`running` runs commands.
"""

from audit.recording.block import Recording, current_task, record

__all__ = ["Recording", "current_task", "record"]
