"""A directory in memory for what a test run writes, where there is one with room enough.

Each flush and each copy of a database makes and removes hundreds of files, and before ext4 makes one it looks through
those that were removed a moment ago. A copied database took 0.28 s there, nearly all of it in that search, and takes
0.02 s in memory.
"""

import atexit
import fcntl
import os
import shutil
import sys
import tempfile
from pathlib import Path

import psutil

__all__ = ["VARIABLE", "directory", "share_compiled"]

VARIABLE = "AUDIT_TEST_MEMORY"
"""The environment variable that names the directory to the processes of a run; empty where there is none."""
_SHARED = Path("/dev/shm")
_PREFIX = "audit-test-"
_ROOM_BYTES = 4 * 2**30  # a run takes 2


def directory() -> Path | None:
    """Where this test run may write: made by its first process, which removes it at its end.

    The processes that it starts find it in their environment, and temporary files lie there too, and compiled modules
    where none lie beside their sources.

    Returns:
        The directory, or None where memory is scarce or cannot be used.
    """
    if VARIABLE not in os.environ:
        made = _make() if _roomy() else None
        os.environ[VARIABLE] = str(made or "")
        if made:
            os.environ["TMPDIR"] = str(made)
            tempfile.tempdir = None
            _keep_compiled(made / "compiled")
    found = os.environ[VARIABLE]
    return Path(found) if found else None


def _roomy() -> bool:
    # Programs are run from temporary directories, which containers often forbid there.
    if not _SHARED.is_dir() or os.statvfs(_SHARED).f_flag & os.ST_NOEXEC:
        return False
    free = [shutil.disk_usage(_SHARED).free, psutil.virtual_memory().available]
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        free.append(int(text) // 2)
    return min(free) >= _ROOM_BYTES


def _make() -> Path | None:
    for left in _SHARED.glob(f"{_PREFIX}*/lock"):  # by a run that was killed
        if _locked(left) is not None:
            shutil.rmtree(left.parent, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_SHARED))
    made.chmod(0o711)  # the account of the server passes through
    if _locked(made / "lock") is None:
        return None
    # What was registered later, as the end of a server, runs before.
    atexit.register(_remove, made, os.getpid())
    return made


def _keep_compiled(folder: Path) -> None:
    """Let the processes of a run share compiled modules where none may be written beside the sources.

    Without them each of many hundred short processes compiles this app once more, which takes longer than its task.
    """
    if sys.dont_write_bytecode and os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def share_compiled() -> None:
    """Copy the compiled code of the modules that are loaded now to where the processes of the run look for it.

    Otherwise each worker would compile Django and pytest once more. Does nothing where they look beside the sources.
    """
    folder = os.environ.get("PYTHONPYCACHEPREFIX")
    if sys.pycache_prefix or not folder:
        return
    for module in list(sys.modules.values()):
        compiled = Path(getattr(module, "__cached__", None) or "")
        if compiled.is_file():
            kept = Path(folder, *compiled.parent.parent.parts[1:], compiled.name)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(compiled, kept)


def _locked(path: Path) -> int | None:
    """Lock a file for as long as this process lives; None when another one has it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # another account's, or just removed
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _remove(made: Path, maker: int) -> None:
    if os.getpid() == maker:  # not a fork of it
        shutil.rmtree(made, ignore_errors=True)
