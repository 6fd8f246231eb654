"""What files may cost and show: bounded memory, bounded messages, no links, no text that is not a task."""

import gzip
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command

from audit import ids
from audit.interchange import OriginRecord, Read, TaskRecord, find_sources, importing, read_json_lines, sources
from audit.interchange.importing import Refusal
from audit.management.commands import audit_import
from audit.models import Task

CHECKOUT = Path(__file__).resolve().parent.parent.parent


def line(**values: Any) -> str:
    return json.dumps({"id": str(ids.uuid7()), "action": "deploy", "status": "completed", **values}) + "\n"


def read(path: Path) -> list[Read]:
    return [each for source in find_sources([str(path)], sources.JSON_LINES) for each in read_json_lines(source)]


def messages(reads: list[Read]) -> list[str]:
    return [str(Refusal(place=each.place, problems=each.problems)) for each in reads if each.problems]


def run(*paths: Path, **options: Any) -> SimpleNamespace:
    out, err = StringIO(), StringIO()
    code = 0
    try:
        call_command("audit_import", *map(str, paths), stdout=out, stderr=err, **options)
    except SystemExit as exit_:
        code = exit_.code
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


# What a small file grows to


def test_a_compressed_file_stops_at_the_bound_and_names_it(tmp_path: Path, settings: Any) -> None:
    text = (line() * 100).encode()
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(text))
    settings.AUDIT = {"IMPORT_MAX_BYTES": len(text)}
    assert len([each for each in read(path) if each.record]) == 100
    settings.AUDIT = {"IMPORT_MAX_BYTES": len(text) - 1}
    [refusal] = messages(read(path))
    assert refusal == (
        f"{path}: file: cannot be read: more than the {len(text) - 1} bytes that may come out of one compressed file; "
        'if it is sound, raise AUDIT["IMPORT_MAX_BYTES"]'
    )
    plain = tmp_path / "b.jsonl"
    plain.write_bytes(text)
    assert len([each for each in read(plain) if each.record]) == 100


_BOUNDED = """
import sys, resource
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.postgres", "audit"], AUDIT={"IMPORT_MAX_BYTES": 150_000_000})
django.setup()
from audit.contrib.cloudtrail import read_events
from audit.interchange import Refusal, find_sources, read_json_lines
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reader = {"cloudtrail": read_events, "jsonl": read_json_lines}[sys.argv[1]]
refused = [str(Refusal(place=r.place, problems=r.problems)) for s in find_sources(sys.argv[2:], []) for r in reader(s)]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, sum(map(len, refused)))
"""

_MILLION = 1_000_000
BOMBS = {
    "one line": (b"", b"x" * _MILLION, 400),
    "blank lines": (b"", b"\n" * _MILLION, 200),
    "white space": (b'{"Records": [', b" \r\n\t" * 250_000, 200),
    "one string": (b'{"Records": ["', b"x" * _MILLION, 400),
    "brackets": (b"", b"[" * _MILLION, 40),
    "keys": (b"", b"{" + b",".join(b'"key%d":1' % number for number in range(_MILLION)) + b"}", 1),
    "lines of a log": (
        b"",
        b'{"id": "%s", "action": "a", "status": "completed", "origin": {"log": [%s]}}'
        % (str(ids.uuid7()).encode(), b",".join([b"{}"] * _MILLION)),
        1,
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("reader", ["jsonl", "cloudtrail"])
def test_a_bomb_costs_bounded_memory_and_few_words(tmp_path: Path, reader: str, kind: str) -> None:
    begin, piece, times = BOMBS[kind]
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(begin)
        for _ in range(times):
            file.write(piece)
    process = subprocess.run(
        [sys.executable, "-c", _BOUNDED, reader, str(path)],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    megabytes, characters = map(int, process.stdout.split())
    assert megabytes < 250
    assert 0 < characters < 2000


def test_blank_lines_are_counted_though_they_are_skipped_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"\n \n{line()}{chr(10) * 1000}\t\r\n  {line()}\n{line().strip()}")
    for size in (1, 3, 50, 1 << 20):
        monkeypatch.setattr(sources, "_PIECE", size)
        assert [each.place for each in read(path) if each.record] == [f"{path}:{number}" for number in (3, 1005, 1007)]


@pytest.mark.parametrize("size", [1, 1000])
def test_the_longest_line_is_read_and_no_longer_one(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(sources, "_PIECE", size)
    good = line()
    settings.AUDIT = {"IMPORT_MAX_RECORD_BYTES": len(good)}
    path = tmp_path / "a.jsonl"
    path.write_text(f"{good}{good}\n {good}{good[:-1]}  \n{good.strip()}")
    assert [(each.place, bool(each.record)) for each in read(path)] == [
        (f"{path}:{number}", sound) for number, sound in ((1, True), (2, True), (4, True), (5, False), (6, True))
    ]


# What is said of it


def test_many_unknown_members_are_named_by_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    names = {f"{'k' * 70}{number}": "hush" for number in range(101)}
    path.write_text(line(**names) + line(pause_entry=names) + line(**dict(list(names.items())[:100])))
    first, second, third = messages(read(path))
    shown = ", ".join(["k" * 50] * 3)
    assert first == f"{path}:1: line: has more than 100 unknown members: {shown} …"
    assert second == f"{path}:2: pause_entry: has more than 100 unknown members: {shown} …"
    assert third.count("is not a known field") == 20
    assert third.endswith("; line: has 80 more problems")
    assert "hush" not in third


def test_a_name_without_end_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(**{"k" * 100_000: 1}) + '{"' + "k" * 100_000 + '": 1, "' + "k" * 100_000 + '": 2}\n')
    assert all(len(each) < 500 + len(str(path)) for each in messages(read(path)))
    problem = importing.InvalidValue("plan." + "k" * 100_000, 1, "is wrong")
    assert len(str(Refusal(place="", problems=(problem,)))) < 1100


@pytest.mark.parametrize(
    "text",
    [
        b"hush",
        b"password=hush",
        b'"hush"',
        b'["hush"]',
        b'{"password": "hush"}',
        b'{"password": "hush"',
        b'{"password": hush}',
        b'{"a": 1, "a": "hush"}',
        b"\xff\xfehush",
        b'{"hush',
        b'{"eventVersion": "hush"}',
    ],
)
def test_text_that_is_no_task_is_not_shown(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(text + b"\n")
    [refusal] = messages(read(path))
    assert refusal.startswith(f"{path}:1: ")
    assert "hush" not in refusal


def test_a_file_of_something_else_is_left_after_many_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_HOPELESS", 5)
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n" * 4 + line() + "{}\n" * 5 + line())
    *_, last = found = read(path)
    assert [bool(each.record) for each in found] == [False] * 4 + [True] + [False] * 6
    assert (
        str(last.problems[0])
        == "file: does not seem to hold tasks: 5 records in a row were refused, and the rest is not read"
    )


@pytest.mark.django_db
def test_a_command_names_so_many_refusals_and_counts_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_import, "_REFUSALS_NAMED", 3)
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n" * 7 + line())
    result = run(path)
    assert (result.code, result.out) == (1, "1 stored, 0 already present, 7 refused.\n")
    assert [each.partition(": id")[0] for each in result.err.splitlines()] == [
        *(f"refused: {path}:{number}" for number in (1, 2, 3)),
        "refused: more than 3; the others are counted and not named",
    ]


@pytest.mark.django_db
def test_a_command_names_so_much_that_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_import, "_PASSED_OVER_NAMED", 2)
    (tmp_path / "z.jsonl").write_text(line())
    for number in range(5):
        (tmp_path / f"{number}.jsonl").symlink_to(tmp_path / "z.jsonl")
    result = run(tmp_path)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "1 stored, 0 already present, 0 refused.",
        f"Passed over: {tmp_path / '0.jsonl'} (a symbolic link, which is not followed)",
        f"Passed over: {tmp_path / '1.jsonl'} (a symbolic link, which is not followed)",
        "Passed over: 3 more.",
    ]


# Directories


@pytest.mark.django_db
def test_links_pipes_and_links_to_directories_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jsonl").write_text("hush\n")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a.jsonl").write_text(line())
    (inside / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (inside / "dangling.jsonl").symlink_to(tmp_path / "nowhere")
    (inside / "folder").symlink_to(outside)
    os.mkfifo(inside / "pipe.jsonl")
    result = run(inside)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "1 stored, 0 already present, 0 refused.",
        f"Passed over: {inside / 'dangling.jsonl'} (a symbolic link, which is not followed)",
        f"Passed over: {inside / 'folder'} (a symbolic link, which is not followed)",
        f"Passed over: {inside / 'link.jsonl'} (a symbolic link, which is not followed)",
        f"Passed over: {inside / 'pipe.jsonl'} (no regular file)",
    ]
    # Who names a link means what it leads to.
    assert "is not JSON" in run(inside / "link.jsonl").err
    assert "secret.jsonl:1: line: is not JSON" in run(inside / "folder").err
    assert Task.objects.count() == 1


def test_a_file_that_became_a_link_or_a_pipe_is_not_opened(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl").write_text(line())
    found = find_sources([str(tmp_path)], sources.JSON_LINES)
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "c.jsonl")
    (tmp_path / "b.jsonl").unlink()
    os.mkfifo(tmp_path / "b.jsonl")
    first, second, third = ([*read_json_lines(source)] for source in found)
    assert "Too many levels of symbolic links" in messages(first)[0]
    assert "it is not a regular file" in messages(second)[0]
    assert third[0].record


def test_a_directory_that_cannot_be_listed_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text(line())
    closed = tmp_path / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    good, bad = read(tmp_path)
    assert good.record
    assert bad.place == str(closed)
    assert "file: cannot be read" in messages([bad])[0]


def test_files_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b", "a/z", "a-b", "a/b/c"):
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    names = [str(Path(each.name).relative_to(tmp_path)) for each in find_sources([str(tmp_path)], sources.JSON_LINES)]
    assert names == ["a/b/c.jsonl", "a/z.jsonl", "a-b.jsonl", "b.jsonl"]


# Origins


def test_each_line_of_a_log_is_checked() -> None:
    good = {"at": "2026-01-01T00:00:00Z", "kind": "note"}
    for log, place in (
        ([good, good, {}], "origin.log.2.at"),
        ([good, 7], "origin.log.1"),
        ({}, "origin.log"),
        ([good | {"at": "2026-01-01T00:00:00"}], "origin.log.0.at"),
    ):
        [refusal] = [str(problem) for problem in importing_problems(line(origin={"log": log}))]
        assert refusal.startswith(f"{place}: ")
    assert len(OriginRecord.of_text(json.dumps({"log": [good, good]})).log) == 2


def importing_problems(text: str) -> list[Any]:
    from pydantic import ValidationError

    from audit.interchange.records import problems

    with pytest.raises(ValidationError) as caught:
        TaskRecord.of_line(text)
    return problems(caught.value)
