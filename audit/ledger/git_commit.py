"""Commits to a git repository without running anything that the repository's configuration names.

Note [A directory of our own]
    Git runs programs that a repository's configuration names: filters, hooks, signers, monitors of the file system.
    Who can write that configuration would run as the sealer, who holds the signing key. So git never reads it. Each
    commit is made through a private git directory with a configuration of ours, in which the objects, the branches and
    the index of the repository are mounted by name. A list of settings to override would be incomplete with the
    next release of git.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GitError", "commit"]

SECONDS = 60.0
"""How long one command of git may take."""

_CONFIGURATION = """\
[core]
    repositoryFormatVersion = {version}
    bare = false
    hooksPath = /dev/null
    fsmonitor = false
    logAllRefUpdates = false
{shared}[gc]
    auto = 0
[maintenance]
    auto = false
{extensions}"""
_ATTRIBUTES = "* -text -filter -ident -working-tree-encoding -diff -merge\n"
_IDENTITY = {"NAME": "audit_seal", "EMAIL": "audit_seal@localhost"}
_BRANCH = re.compile(r"ref: (refs/heads/[^\x00-\x20]+)\n?")


class GitError(Exception):
    """Nothing could be committed; the message says why."""


def commit(directory: Path, pattern: str, *others: str) -> None:
    """Commit the files of a directory whose name fits a pattern and that are not committed as they are.

    Those that are gone stay in git, and what else is staged stays staged. The identity is that of git's variables in
    the environment (`GIT_AUTHOR_NAME`, …), or a fixed one.

    Args:
        directory: somewhere in a work tree.
        pattern: a glob for names in it.
        others: further names in it.

    Raises:
        GitError: there is no repository, it is at no branch, or git failed.
    """
    with _opened(directory.resolve()) as git:
        if names := git.changed(pattern, others):
            git.commit(names)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Git:
    program: str
    private: Path
    directory: Path
    top: Path
    index: Path
    objects: Path
    branch: str

    def changed(self, pattern: str, others: Iterable[str]) -> list[str]:
        """Name the files that are there and are not committed as they are."""
        ours = ("--", f":(glob){pattern}", *(f":(literal){each}" for each in others))
        base = self._head() or self._empty_tree()
        listed = self.run("ls-files", "-z", "--modified", "--others", *ours)
        listed += self.run("diff-index", "-z", "--cached", "--name-only", "--relative", "--no-renames", base, *ours)
        names = {each for each in listed.split("\0") if each and "/" not in each}
        return sorted(name for name in names if _is_file(self.directory / name))

    def commit(self, names: list[str]) -> None:
        """Commit files as they are, and bring the index up to date with them."""
        head, given = self._head(), "".join(f"{each}\0" for each in names)
        base = head or self._empty_tree()
        copies = self.private / "copies"
        copies.mkdir()
        for place, name in enumerate(names):
            (copies / str(place)).write_bytes(_content(self.directory / name))
        paths = "".join(f"{copies / str(place)}\n" for place in range(len(names)))
        blobs = self.run("hash-object", "-w", "--no-filters", "--stdin-paths", given=paths).split()
        within = self.directory.relative_to(self.top)
        entries = "".join(f"100644 {blob}\t{within / name}\0" for blob, name in zip(blobs, names, strict=True))
        beside = self.private / "index"
        self.run("read-tree", base, index=beside)
        self.run("update-index", "-z", "--index-info", given=entries, index=beside)
        tree = self.run("write-tree", index=beside).strip()
        if tree != self.run("rev-parse", "--verify", f"{base}^{{tree}}").strip():
            parents = ("-p", head) if head else ()
            made = self.run("commit-tree", "--no-gpg-sign", tree, *parents, given=_message(names)).strip()
            self.run("update-ref", self.branch, made, head or "0" * len(made))
        self.run("update-index", "--add", "-z", "--stdin", given=given)

    def run(self, command: str, *arguments: str, given: str = "", index: Path | None = None) -> str:
        """Run git in its private directory, with nothing of this process's environment that it does not need."""
        environment = {
            "PATH": _search_path(),
            "LC_ALL": "C",
            "GIT_DIR": str(self.private),
            "GIT_WORK_TREE": str(self.top),
            "GIT_INDEX_FILE": str(index or self.index),
            "GIT_OBJECT_DIRECTORY": str(self.objects),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "none",
        } | {
            variable: os.environ.get(variable) or default
            for role in ("AUTHOR", "COMMITTER")
            for variable, default in ((f"GIT_{role}_{part}", value) for part, value in _IDENTITY.items())
        }
        return _run([self.program, "--no-pager", command, *arguments], self.directory, environment, given)

    def _head(self) -> str:
        found = self.run("for-each-ref", "--format=%(objectname)", self.branch).split()
        return found[0] if found else ""

    def _empty_tree(self) -> str:
        return self.run("hash-object", "-w", "-t", "tree", "--stdin").strip()


@contextmanager
def _opened(directory: Path) -> Iterator[_Git]:
    """Find the repository of a directory and make the private one: Note [A directory of our own]."""
    # Looked for here: where PATH names the working directory, a `git` in it would be the repository's.
    program = shutil.which("git", path=_search_path())
    if program is None:
        raise GitError("git cannot be run: there is no such program")
    try:
        top, own, common = _found(directory)
        branch = _BRANCH.fullmatch((own / "HEAD").read_text(encoding="utf-8"))
        if branch is None:
            raise GitError(f"{own}/HEAD is at no branch, where commits would be lost: git switch -c NAME")
        with tempfile.TemporaryDirectory(prefix="audit-git-") as name:
            private = Path(name)
            (private / "HEAD").write_text(f"ref: {branch[1]}\n", encoding="utf-8")
            (private / "info").mkdir()
            (private / "info" / "attributes").write_text(_ATTRIBUTES)
            (private / "refs").symlink_to(common / "refs")
            (private / "packed-refs").symlink_to(common / "packed-refs")
            (private / "config").write_text(_CONFIGURATION.format(version=0, shared="", extensions=""))
            git = _Git(
                program=program,
                private=private,
                directory=directory,
                top=top,
                index=own / "index",
                objects=common / "objects",
                branch=branch[1],
            )
            (private / "config").write_text(_configuration(git, common / "config"))
            yield git
    except (OSError, UnicodeDecodeError) as error:
        raise GitError(str(error)) from None


def _found(directory: Path) -> tuple[Path, Path, Path]:
    """Find the work tree's root, its git directory, and the one that it shares with other work trees."""
    for top in (directory, *directory.parents):
        own = top / ".git"
        if own.is_file():  # a linked work tree, or a submodule
            own = top / own.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        if own.is_dir():
            shared = own / "commondir"
            return top, own, own / shared.read_text(encoding="utf-8").strip() if shared.is_file() else own
    raise GitError(f"it is in no git work tree: git init {directory}")


def _configuration(git: _Git, theirs: Path) -> str:
    """Take from a repository's configuration how its data is laid out, as data, and nothing else."""
    # `--file` follows no include.
    read = git.run("config", "--file", str(theirs), "--no-includes", "--null", "--list") if theirs.exists() else ""
    values = dict(each.partition("\n")[::2] for each in read.split("\0"))
    if values.get("extensions.refstorage", "files") != "files":
        raise GitError("it keeps its branches as reftable, and files are needed: git refs migrate --ref-format=files")
    hashed = values.get("extensions.objectformat", "sha1") == "sha256"
    shared = values.get("core.sharedrepository", "")
    return _CONFIGURATION.format(
        version=int(hashed),
        shared=f"    sharedRepository = {shared}\n" if re.fullmatch("[0-9a-z]+", shared) else "",
        extensions="[extensions]\n    objectFormat = sha256\n" if hashed else "",
    )


def _run(command: list[str], directory: Path, environment: dict[str, str], given: str) -> str:
    process = subprocess.Popen(  # noqa: S603 - git, with our own arguments
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="surrogateescape",
        process_group=0,
    )
    what = f"git {command[2]}"
    with process:
        try:
            out, err = process.communicate(given, timeout=SECONDS)
        except BaseException as error:
            # With what it started, which may hold its output open.
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise GitError(f"{what} took longer than {SECONDS:g} s, and was ended") from None
            raise
    if process.returncode:
        raise GitError(f"{what} failed: {err.strip() or out.strip()}")
    return out


def _message(names: list[str]) -> str:
    kept = [name for name in names if name.endswith(".checkpoint")] or names
    return f"Checkpoint {kept[0].removesuffix('.checkpoint')}\n" if len(kept) == 1 else f"{len(kept)} checkpoints\n"


def _content(path: Path) -> bytes:
    """Read a file of the directory; a link that was put in its place could lead to the signing key."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise GitError(f"{path} is not a regular file")
        return file.read()


def _search_path() -> str:
    return os.pathsep.join(filter(os.path.isabs, os.get_exec_path()))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
