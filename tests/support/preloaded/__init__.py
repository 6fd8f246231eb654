"""Starts Python programs as forks of a process that has loaded Django, which saves most of the time that a start takes.

`Popen` and `run` are used like those of `subprocess`. They fork for `python -m MODULE`, `python -c CODE` and
`python FILE.py`, and start anything else in the usual way. A fork is a process of its own, with its own arguments,
working directory, environment, settings, streams, signals and exit status. `for_shells` gives the words that stand for
`python` in a shell.

Note [Whose child it is]
    Only a parent can wait for a process and learn how it ended. So the fork must be a child of the test's process,
    the asker, though the server makes it. The server forks an intermediate process, which forks the child and ends.
    The child is then an orphan, and goes to the nearest ancestor that takes orphans (`PR_SET_CHILD_SUBREAPER`). For
    this moment that is the asker. An orphan of something else that ends in the same moment goes there too.

Note [What a fork inherits]
    The server has imported modules and called `django.setup()`. It has no thread and no connection. A fork reads the
    settings again, in its own environment. If they cannot be read, or differ in something that `setup()` or an import
    has used, the fork executes the interpreter instead.
"""

from tests.support.preloaded.processes import Popen, for_shells, run
from tests.support.preloaded.servers import ServerGone

__all__ = ["Popen", "ServerGone", "for_shells", "run"]
