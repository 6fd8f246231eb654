"""Files: read line by line, compressed or not, and written whole or not at all."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from audit.exceptions import AuditError
from audit.interchange import (
    Read,
    Source,
    find_sources,
    read_json_lines,
    whole_file,
)
from tests.support.importing import line


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_an_export_is_never_readable_by_more_than_the_file_that_it_replaces(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("before")
    path.chmod(mode)
    umask = os.umask(0)
    try:
        with whole_file(path) as file:
            [temporary] = tmp_path.glob(".tasks.jsonl.*.tmp")
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
            file.write("after")
    finally:
        os.umask(umask)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("after", mode)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_export_is_as_readable_as_the_umask_leaves_it(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "tasks.jsonl"
    before = os.umask(umask)
    try:
        with whole_file(path) as file:
            file.write("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_an_export_without_the_group_of_the_file_that_it_replaces_gives_its_own_group_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: int) -> None:
        raise PermissionError

    path = tmp_path / "tasks.jsonl"
    path.write_text("before")
    path.chmod(0o664)
    fstat = os.fstat

    def of_another_group(descriptor: int) -> os.stat_result:
        found = list(fstat(descriptor))
        found[stat.ST_GID] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fchown", refused)
    monkeypatch.setattr(os, "fstat", of_another_group)
    with whole_file(path) as file:
        file.write("after")
    monkeypatch.undo()
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("after", 0o604)


def read_file(path: Path) -> list[Read]:
    [source] = find_sources([str(path)], [])
    return list(read_json_lines(source))


def test_lines_are_counted_and_empty_ones_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    good = json.dumps(line(summary="é"), ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + f"{good}\r\n\n  \n{{\n{good}".encode() + b"\n\xff\xfe\n")
    found = read_file(path)
    assert [each.place for each in found] == [f"{path}:{number}" for number in (1, 4, 5, 6)]
    assert [each.record is not None for each in found] == [True, False, True, False]
    assert "is not UTF-8, at byte 0" in str(found[3].problems[0])


def test_a_line_without_end_is_refused_without_reading_it_into_memory(tmp_path: Path, settings: Any) -> None:
    settings.AUDIT = {"IMPORT_MAX_RECORD_BYTES": 2000}
    path = tmp_path / "tasks.jsonl"
    good = json.dumps(line())
    path.write_text(f"{good}\n{'x' * 9000}\n{good}\n{'y' * 3000}")
    found = read_file(path)
    assert [each.place.rpartition(":")[2] for each in found] == ["1", "2", "3", "4"]
    assert [each.record is not None for each in found] == [True, False, True, False]
    assert str(found[1].problems[0]) == (
        'line: is longer than 2000 bytes; if it is sound, raise AUDIT["IMPORT_MAX_RECORD_BYTES"]'
    )


def test_compressed_files_and_damaged_ones(tmp_path: Path) -> None:
    import gzip

    text = "".join(json.dumps(line()) + "\n" for _ in range(200)).encode()
    whole, cut, plain = (tmp_path / f"{name}.jsonl.gz" for name in ("a", "b", "c"))
    whole.write_bytes(gzip.compress(text))
    cut.write_bytes(gzip.compress(text)[:-2000])
    plain.write_bytes(text)  # as a browser stores what a server sent compressed
    assert all(each.record for each in read_file(whole))
    *good, last = read_file(cut)
    assert all(each.record for each in good)
    assert "cannot be read after line" in str(last.problems[0])
    assert [each.record is not None for each in read_file(plain)] == [True] * 200


def test_directories_are_searched_and_missing_paths_named(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.jsonl", "a.ndjson.gz", "deep/c.ndjson", "README.md", "x.json"):
        (tmp_path / name).touch()
    names = [
        str(Path(each.name).relative_to(tmp_path))
        for each in find_sources([str(tmp_path)], [".jsonl", ".ndjson", ".ndjson.gz"])
    ]
    assert names == ["a.ndjson.gz", "b.jsonl", "deep/c.ndjson"]
    assert find_sources(["-"], [])[0] == Source(name="standard input", path=None)
    with pytest.raises(AuditError, match=r"nowhere\.jsonl does not exist"):
        find_sources([str(tmp_path / "nowhere.jsonl")], [])
    with pytest.raises(AuditError, match=r"contains no file whose name ends in \.xml"):
        find_sources([str(tmp_path)], [".xml"])


def test_a_whole_file_appears_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    interrupted = whole_file(path)
    interrupted.__enter__().write("half")
    assert interrupted.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None) is False
    assert path.read_text() == "before"
    before = path.stat().st_ino
    with whole_file(path) as file:
        file.write("é\n")
        assert path.read_text() == "before"
    assert path.stat().st_ino != before
    assert path.read_bytes() == "é\n".encode()
    assert list(tmp_path.iterdir()) == [path]
    link = tmp_path / "link"
    link.symlink_to(path)
    with whole_file(link) as file:
        file.write("through")
    assert link.is_symlink()
    assert path.read_text() == "through"
    with whole_file(Path("/dev/null")) as file:
        file.write("gone")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "no" / "where"):
        pass
