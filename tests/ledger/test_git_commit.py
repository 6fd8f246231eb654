"""Checkpoints in git: nothing that the repository names is run, whatever variable names it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from audit.ledger import git_commit
from audit.ledger.exported import CannotExport, Exports
from audit.ledger.tlog import keys

TEXT = "example.org/audit\n1\nroot\n\n— example.org/audit c2lnbmF0dXJl\n"
NAME = "0001-00000000000000000007.checkpoint"


def git(directory: Path, *arguments: str, **options: Any) -> str:
    identity = ("-c", "user.name=owner", "-c", "user.email=owner@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True, **options)
    return done.stdout.decode()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    git(tmp_path, "init", "-q", "-b", "main", str(work))
    return work


def kept(directory: Path, name: str = NAME) -> bytes:
    shown = subprocess.run(["git", "show", f"HEAD:./{name}"], cwd=directory, check=True, capture_output=True)
    return shown.stdout


PROGRAMS = {
    "filter": ["filter.x.clean={}", "filter.x.smudge={}", "filter.x.required=true"],
    "filter process": ["filter.x.process={}", "filter.x.required=true"],
    "gpg": ["commit.gpgSign=true", "gpg.program={}", "user.signingKey=x", "tag.gpgSign=true"],
    "gpg of openpgp": ["commit.gpgSign=true", "gpg.format=openpgp", "gpg.openpgp.program={}"],
    "gpg ssh": ["commit.gpgSign=true", "gpg.format=ssh", "gpg.ssh.program={}", "gpg.ssh.defaultKeyCommand={}"],
    "gpg x509": ["commit.gpgSign=true", "gpg.format=x509", "gpg.x509.program={}"],
    "fsmonitor": ["core.fsmonitor={}", "core.fsmonitorHookVersion=1"],
    "hooksPath": ["core.hooksPath={hooks}"],
    "configured hooks": [
        f"hook.x.{key}" for key in ("command={}", "event=pre-commit", "event=reference-transaction", "enabled=true")
    ],
    "editor": ["core.editor={}", "sequence.editor={}", "commit.verbose=2", "commit.template=/etc/hostname"],
    "pager": ["core.pager={}", *(f"pager.{each}={{}}" for each in ("log", "config", "diff-index", "ls-files"))],
    "transport": ["core.sshCommand={}", "core.gitProxy={}", "uploadpack.packObjectsHook={}", "credential.helper=!{}"],
    "partial clone": [
        *("remote.origin.url=ext::{}", "remote.origin.promisor=true", "extensions.partialClone=origin"),
        *("protocol.allow=always", "remote.origin.uploadpack={}", "remote.origin.vcs=x", "core.sshCommand={}"),
    ],
    "alias": [f"alias.{each}=!{{}}" for each in ("commit", "add", "commit-tree", "update-index", "hash-object")],
    "diff": ["diff.x.command={}", "diff.x.textconv={}", "diff.external={}", "diff.tool=x", "difftool.x.cmd={}"],
    "merge": ["merge.x.driver={}", "merge.tool=x", "mergetool.x.cmd={}"],
    "askpass": ["core.askPass={}"],
    "trailer": ["trailer.x.command={}", "trailer.x.cmd={}", "trailer.x.key=x", "trailer.ifmissing=add"],
    "interactive": ["interactive.diffFilter={}", "sendemail.sendmailCmd={}", "browser.x.cmd={}", "man.x.cmd={}"],
    "gc": ["gc.auto=1", "gc.recentObjectsHook={}", "maintenance.auto=true", "core.alternateRefsCommand={}"],
}


@pytest.mark.parametrize("included", [False, True], ids=["in the configuration", "included"])
@pytest.mark.parametrize("what", PROGRAMS)
def test_no_program_of_the_repository_runs(
    tmp_path: Path, work: Path, what: str, included: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keys.KEY_VARIABLE, "PRIVATE+KEY+example.org+secret")
    (work / "other").write_text("other\n")
    git(work, "add", "other")
    git(work, "commit", "-q", "-m", "first")
    program, seen = tmp_path / "program", tmp_path / "seen"
    program.write_text(f"#!/bin/sh\ncat /proc/$PPID/environ >> {seen}\necho ran $0 >> {seen}\ncat\n")
    program.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    every = "pre-commit commit-msg prepare-commit-msg post-commit reference-transaction post-index-change pre-auto-gc"
    for folder in (hooks, work / ".git" / "hooks"):
        folder.mkdir(exist_ok=True)
        for each in every.split():
            shutil.copy(program, folder / each)
    file = tmp_path / "included" if included else work / ".git" / "config"
    for each in PROGRAMS[what]:
        name, _, value = each.partition("=")
        git(tmp_path, "config", "--file", str(file), "--add", name, value.format(program, hooks=hooks))
    if included:
        git(tmp_path, "config", "--file", str(work / ".git" / "config"), "include.path", str(file))
    for attributes in (work / ".gitattributes", work / ".git" / "info" / "attributes"):
        attributes.write_text("* filter=x diff=x merge=x ident\n")
    # The index was written in the same moment as a file that is in it: git looks into that file again.
    (work / "other").write_text("OTHER\n")
    os.utime(work / "other", (2_000_000_000, 2_000_000_000))
    assert Exports(work, git=True).write(1, 7, TEXT)
    assert not seen.exists(), seen.read_text()
    monkeypatch.delenv(keys.KEY_VARIABLE)
    for each in (work / ".git" / "config", *(work / ".git" / "hooks").iterdir()):
        each.unlink()
    (work / ".git" / "info" / "attributes").unlink()
    git(work, "config", "core.repositoryFormatVersion", "0")
    assert kept(work) == TEXT.encode()
    assert not git(work, "status", "--porcelain", "--", NAME)


def test_a_repository_inside_is_not_asked(tmp_path: Path, work: Path) -> None:
    inner = work / "z.checkpoint"
    git(tmp_path, "init", "-q", str(inner))
    git(inner, "commit", "-q", "--allow-empty", "-m", "inner")
    git(work, "add", "-f", inner.name)
    git(work, "commit", "-q", "-m", "first")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/seen\n")
    program.chmod(0o755)
    git(inner, "config", "core.fsmonitor", str(program))
    (inner / "new").touch()
    Exports(work, git=True).write(1, 7, TEXT)
    assert not (tmp_path / "seen").exists()
    assert kept(work) == TEXT.encode()


def test_git_knows_nothing_of_this_process(tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    script = f'tr "\\0" "\\n" < /proc/$$/environ >> {tmp_path}/seen\nexec {real} "$@"\n'
    (tmp_path / "bin" / "git").write_text(f"#!/bin/sh\n{script}")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    planted = ("GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_PARAMETERS", "GIT_DIR", "LD_PRELOAD")
    for name in (keys.KEY_VARIABLE, keys.FILE_VARIABLE, "DATABASE_URL", "PGPASSWORD", "SECRET_KEY", *planted):
        monkeypatch.setenv(name, "hidden-from-git")
    monkeypatch.delenv("LD_PRELOAD")
    Exports(work, git=True).write(1, 7, TEXT)
    seen = (tmp_path / "seen").read_text()
    assert "GIT_CONFIG_NOSYSTEM=1" in seen
    assert "hidden-from-git" not in seen


def test_a_program_named_git_in_the_directory_is_not_run(work: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (work / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/seen\n")
    (work / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(work)
    Exports(work, git=True).write(1, 7, TEXT)
    monkeypatch.undo()
    assert not (tmp_path / "seen").exists()
    assert kept(work) == TEXT.encode()


def test_anybody_may_read_what_is_kept_and_nobody_else_may_write_it(work: Path) -> None:
    umask = os.umask(0)
    try:
        Exports(work, git=True).write(1, 7, TEXT)
    finally:
        os.umask(umask)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in work.iterdir() if each.is_file()}
    assert modes == {NAME: 0o644, ".gitattributes": 0o644}


def test_a_clone_on_windows_has_the_same_bytes(tmp_path: Path, work: Path) -> None:
    Exports(work / "deep" / "er [*]", git=True).write(1, 7, TEXT)
    git(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", str(work), "clone")
    assert (tmp_path / "clone" / "deep" / "er [*]" / NAME).read_bytes() == TEXT.encode()
    assert (tmp_path / "clone" / "deep" / "er [*]" / ".gitattributes").read_bytes() == b"*.checkpoint -text\r\n"


def test_attributes_of_somebody_else_are_kept_and_overruled(tmp_path: Path, work: Path) -> None:
    (work / ".gitattributes").write_text("* text=auto eol=crlf")
    Exports(work, git=True).write(1, 7, TEXT)
    assert (work / ".gitattributes").read_text() == "* text=auto eol=crlf\n*.checkpoint -text\n"
    git(tmp_path, "clone", "-q", str(work), "clone")
    assert (tmp_path / "clone" / NAME).read_bytes() == TEXT.encode()


@pytest.mark.parametrize("name", [".gitattributes", "z.checkpoint"])
def test_a_planted_link_commits_nothing_that_it_leads_to(tmp_path: Path, work: Path, name: str) -> None:
    (tmp_path / "key").write_text("PRIVATE+KEY")
    (work / name).symlink_to(tmp_path / "key")
    if name == ".gitattributes":
        with pytest.raises(CannotExport, match="is a link"):
            Exports(work, git=True).write(1, 7, TEXT)
    else:
        Exports(work, git=True).write(1, 7, TEXT)
        assert name not in git(work, "ls-files")
    assert "PRIVATE+KEY" not in git(work, "log", "-p", "--all")


@pytest.mark.parametrize("kind", ["linked work tree", "sha256", "packed"])
def test_every_layout_of_a_repository(tmp_path: Path, kind: str) -> None:
    form = ["--object-format=sha256"] if kind == "sha256" else []
    work = tmp_path / "work"
    git(tmp_path, "init", "-q", "-b", "main", *form, str(work))
    (work / "other").write_text("other")
    git(work, "add", "other")
    git(work, "commit", "-q", "-m", "first")
    if kind == "linked work tree":
        git(work, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
        work = tmp_path / "side"
    if kind == "packed":
        git(work, "gc", "-q")
    (work / "staged").touch()
    git(work, "add", "staged")
    exports = Exports(work / "deep", git=True)
    for size in (7, 8):
        exports.write(1, size, TEXT)
        exports.write(1, size, TEXT)
    assert git(work, "log", "--format=%s|%an").split("\n")[:3] == [
        "Checkpoint 0001-00000000000000000008|audit_seal",
        "Checkpoint 0001-00000000000000000007|audit_seal",
        "first|owner",
    ]
    assert git(work, "status", "--porcelain") == "A  staged\n"
    assert git(work, "show", "HEAD:other") == "other"
    git(work, "fsck", "--strict")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda work: git(work, "checkout", "-q", "--detach"), "is at no branch, where commits would be lost"),
        (lambda work: (work / ".git" / "HEAD").unlink(), "No such file"),
        (lambda work: git(work, "config", "extensions.refStorage", "reftable"), "reftable"),
        (lambda work: (work / ".git" / "refs" / "heads" / "main.lock").touch(), "git update-ref failed"),
    ],
    ids=["detached", "broken", "reftable", "locked"],
)
def test_what_cannot_be_committed_says_why(work: Path, make: Any, message: str) -> None:
    git(work, "commit", "-q", "--allow-empty", "-m", "first")
    make(work)
    with pytest.raises(CannotExport, match=message):
        Exports(work, git=True).write(1, 7, TEXT)
    assert (work / NAME).read_text() == TEXT


def test_git_that_is_not_there(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(git_commit.GitError, match="no such program"):
        git_commit.commit(work, "*")
