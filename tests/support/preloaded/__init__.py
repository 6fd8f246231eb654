"""Starts Python programs as forks of a process that has loaded Django, which saves most of the time that a start takes.

`Popen` and `run` stand for those of `subprocess`. Started so, `python -m MODULE`, `python -c CODE` and `python FILE.py`
run in a process of their own, with its own arguments, working directory, environment, settings, streams, signals and
exit status. Whatever else they are asked for they start in the usual way. `for_shells` is for what shells start.

Note [Whose child it is]
    Who starts a process can wait for it, learn how it died and what it used, so the process must be a child of the
    asker, though another one forks it. The server forks a process between, which forks the child and ends; the child
    then belongs to its nearest ancestor that takes orphans (`PR_SET_CHILD_SUBREAPER`), and the asker does for this
    moment. A process whose parent happens to end in the same moment comes to the asker too.

Note [What a fork inherits]
    The server has imported modules and called `django.setup()`. It has no thread, no connection, and has run nothing.
    A fork reads the settings anew, in its own environment. Where they differ in what `setup()` or an import has
    used, it executes the interpreter instead. So it does where they cannot be read.
"""

from tests.support.preloaded.processes import Popen, for_shells, run
from tests.support.preloaded.servers import ServerGone

__all__ = ["Popen", "ServerGone", "for_shells", "run"]
