"""CloudTrail events in every container that tools hand on: the same events, the same tasks, whatever is around them."""

import gzip
import io
import json
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command

from audit.contrib.cloudtrail import SUFFIXES, read_events
from audit.contrib.cloudtrail.window import Window, decoded
from audit.interchange import Read, find_sources
from audit.interchange.sources import TooLong
from audit.models import Task
from tests.interchange.test_cloudtrail import event

EVENTS = [
    event(eventID=f"id-{number}", eventTime=f"2026-03-0{number}T00:00:00Z", sourceIPAddress='192.0.2.9 é \\ "q"')
    for number in range(1, 4)
]
DIGEST = {"awsAccountId": "1", "digestStartTime": "2026-11-20T09:00:00Z", "digestEndTime": "", "logFiles": []}


def texts() -> list[str]:
    return [json.dumps(each, ensure_ascii=False) for each in EVENTS]


def lines(*documents: Any) -> str:
    return "\n".join(json.dumps(each) for each in documents) + "\n"


def envelope(each: Any) -> dict[str, Any]:
    return {"version": "0", "id": "x", "detail-type": "AWS API Call via CloudTrail", "source": "aws.s3", "detail": each}


def looked_up(each: Any) -> dict[str, Any]:
    return {"EventId": each["eventID"], "EventName": "x", "Username": "u", "CloudTrailEvent": json.dumps(each)}


def message(each: Any) -> dict[str, Any]:
    return {"id": "7", "timestamp": 1, "message": json.dumps(each)}


# A container: its text, and the places that its events have in it, behind the name of the file.
CONTAINERS: dict[str, tuple[Callable[[], str | bytes], list[str]]] = {
    "log file": (lambda: json.dumps({"Records": EVENTS}), [": Records[0]", ": Records[1]", ": Records[2]"]),
    "log file, indented": (lambda: json.dumps({"Records": EVENTS}, indent=2), [f": Records[{n}]" for n in range(3)]),
    "list": (lambda: json.dumps(EVENTS), [": [0]", ": [1]", ": [2]"]),
    "lines": (lambda: lines(*EVENTS), [":1", ":2", ":3"]),
    "lines, the last one not ended": (lambda: "\n".join(texts()), [":1", ":2", ":3"]),
    "lines of Windows": (lambda: "\ufeff" + "\r\n".join(texts()) + "\r\n\r\n", [":1", ":2", ":3"]),
    "UTF-16, as PowerShell writes": (lambda: "\n".join(texts()).encode("utf-16"), [":1", ":2", ":3"]),
    "lines with commas": (lambda: ",\n".join(texts()), [":1", ":2", ":3"]),
    "documents without anything between": (lambda: "".join(texts()), [":1", ":1", ":1"]),
    "documents over several lines": (
        lambda: "\n".join(json.dumps(each, indent=1) for each in EVENTS),
        [":1", f":{json.dumps(EVENTS[0], indent=1).count(chr(10)) + 2}", ""],
    ),
    "log files, one after the other": (
        lambda: "".join(json.dumps({"Records": [each]}) for each in EVENTS),
        [": Records[0]", ":1: Records[0]", ":1: Records[0]"],
    ),
    "EventBridge, one": (lambda: lines(*map(envelope, EVENTS)), [":1", ":2", ":3"]),
    "EventBridge, a list": (lambda: json.dumps(list(map(envelope, EVENTS))), [": [0]", ": [1]", ": [2]"]),
    "lookup-events": (
        lambda: json.dumps({"Events": list(map(looked_up, EVENTS)), "NextToken": "x"}, indent=1),
        [": Events[0]", ": Events[1]", ": Events[2]"],
    ),
    "lookup-events, lines": (lambda: lines(*map(looked_up, EVENTS)), [":1", ":2", ":3"]),
    "CloudWatch subscription": (
        lambda: json.dumps({"messageType": "DATA_MESSAGE", "owner": "1", "logEvents": list(map(message, EVENTS))}),
        [": logEvents[0]", ": logEvents[1]", ": logEvents[2]"],
    ),
    "Firehose": (
        lambda: "".join(json.dumps({"messageType": "DATA_MESSAGE", "logEvents": [message(each)]}) for each in EVENTS),
        [": logEvents[0]", ":1: logEvents[0]", ":1: logEvents[0]"],
    ),
    "get-log-events": (
        lambda: json.dumps({"events": list(map(message, EVENTS)), "nextForwardToken": "f"}),
        [": events[0]", ": events[1]", ": events[2]"],
    ),
    "CloudWatch export": (
        lambda: "".join(f"2026-03-01T00:00:00.000Z {text}\n" for text in texts()),
        [":1", ":2", ":3"],
    ),
    "CloudWatch query": (
        lambda: json.dumps(
            {
                "results": [
                    [{"field": "@timestamp", "value": "x"}, {"field": "@message", "value": text}] for text in texts()
                ]
            }
        ),
        [": results[0]", ": results[1]", ": results[2]"],
    ),
    "notification": (
        lambda: lines(*({"Type": "Notification", "Message": text} for text in texts())),
        [":1", ":2", ":3"],
    ),
    "nested": (lambda: json.dumps({"logEvents": [{"message": json.dumps({"Records": EVENTS})}]}), ["", "", ""]),
}


def read(path: Path) -> list[Read]:
    return [each for source in find_sources([str(path)], SUFFIXES) for each in read_events(source)]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def ids(reads: list[Read]) -> list[str]:
    return [
        json.loads(each.record.outcome)["record"]["eventID"] for each in reads if each.record and each.record.outcome
    ]


def run(*paths: Path, **options: Any) -> SimpleNamespace:
    out, err = StringIO(), StringIO()
    code = 0
    try:
        call_command("audit_import", *map(str, paths), format="cloudtrail", stdout=out, stderr=err, **options)
    except SystemExit as exit_:
        code = exit_.code
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


@pytest.mark.parametrize("size", [1, 7, 4096], ids=["byte by byte", "seven bytes", "at once"])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_each_container_is_read_with_the_places_of_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, size: int
) -> None:
    monkeypatch.setattr("audit.interchange.sources._PIECE", size)
    make, places = CONTAINERS[kind]
    path = write(tmp_path / "a.json", make())
    found = read(path)
    assert [each.problems for each in found] == [(), (), ()]
    assert ids(found) == ["id-1", "id-2", "id-3"]
    for each, place in zip(found, places, strict=True):
        assert each.place == f"{path}{place}" or (not place and each.place.startswith(str(path)))


@pytest.mark.django_db
def test_the_same_event_is_the_same_task_from_every_container(tmp_path: Path) -> None:
    stored = [run(write(tmp_path / "a.json", make())).out for make, _ in CONTAINERS.values()]
    assert stored[0] == "3 stored, 0 already present, 0 refused.\n"
    assert set(stored[1:]) == {"0 stored, 3 already present, 0 refused.\n"}
    assert Task.objects.count() == 3


def test_a_table_of_athena_has_small_letters_and_strings(tmp_path: Path) -> None:
    row = {
        "eventversion": "1.08",
        "useridentity": {"type": "IAMUser", "arn": None, "username": "ann", "accountid": "1"},
        "eventtime": "2026-03-01T00:00:00Z",
        "eventsource": "signin.amazonaws.com",
        "eventname": "ConsoleLogin",
        "awsregion": "eu-west-1",
        "errorcode": None,
        "errormessage": "",
        "requestparameters": '{"price": 12.50}',
        "responseelements": '{"ConsoleLogin":"Failure"}',
        "additionaleventdata": "{broken",
        "requestid": "R",
        "eventid": "id-1",
    }
    [found] = read(write(tmp_path / "a.json", lines(row)))
    task = found.record
    assert task
    assert (task.action, task.services_touched, task.status, task.actor) == (
        "ConsoleLogin",
        ["signin"],
        "failed",
        "ann",
    )
    assert (task.plan, task.correlation_id) == ('{"price": 12.50}', "R")
    assert task.summary == "ConsoleLogin on signin in eu-west-1: Failure"
    outcome = json.loads(task.outcome or "")
    assert outcome["responseElements"] == {"ConsoleLogin": "Failure"}
    assert outcome["record"]["additionaleventdata"] == "{broken"
    [same] = read(
        write(tmp_path / "b.json", json.dumps({"Records": [event(eventID="id-1", eventTime=row["eventtime"])]}))
    )
    assert same.record
    assert same.record.id == task.id


# Compression


def test_members_of_gzip_are_read_one_after_the_other(tmp_path: Path) -> None:
    first, second = (json.dumps({"Records": [each]}).encode() for each in EVENTS[:2])
    path = write(tmp_path / "a.json.gz", gzip.compress(first) + gzip.compress(second) + b"\0" * 512)
    assert ids(read(path)) == ["id-1", "id-2"]
    half = gzip.compress(first[:100]) + gzip.compress(first[100:] + second)
    assert ids(read(write(tmp_path / "a.json.gz", half))) == ["id-1", "id-2"]


def test_what_follows_the_compressed_data_is_reported_and_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json.gz", gzip.compress(json.dumps({"Records": EVENTS}).encode()) + b"hush")
    *good, last = read(path)
    assert ids(good) == ["id-1", "id-2", "id-3"]
    message = str(last.problems[0])
    assert message == "file: cannot be read after line 1: what follows the compressed data is not gzip"


def test_of_a_damaged_file_the_events_before_the_damage_are_read(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(EVENTS).encode() + b" " * 5000, 0)
    path = write(tmp_path / "a.json.gz", whole[: len(whole) - 4000])
    *good, last = read(path)
    assert ids(good) == ["id-1", "id-2", "id-3"]
    assert "file: cannot be read after line 1: Compressed file ended" in str(last.problems[0])
    flipped = bytearray(gzip.compress(json.dumps(EVENTS).encode()))
    flipped[-6] ^= 1
    *good, last = read(write(tmp_path / "b.json.gz", bytes(flipped)))
    assert ids(good) == ["id-1", "id-2", "id-3"]
    assert "cannot be read after line 1: CRC check failed" in str(last.problems[0])


def test_a_name_that_lies_about_the_compression_is_no_obstacle(tmp_path: Path) -> None:
    assert ids(read(write(tmp_path / "a.json.gz", lines(*EVENTS)))) == ["id-1", "id-2", "id-3"]
    assert ids(read(write(tmp_path / "a.json", gzip.compress(lines(*EVENTS).encode())))) == ["id-1", "id-2", "id-3"]


# Trees


@pytest.mark.django_db
def test_a_whole_tree_is_read_and_what_is_no_log_passed_over_by_name(tmp_path: Path) -> None:
    below = tmp_path / "AWSLogs" / "111122223333"
    for name in ("CloudTrail/eu/2026", "CloudTrail-Insight/eu", "CloudTrail-Digest/eu", "Config/eu", "Other"):
        (below / name).mkdir(parents=True)
    log = below / "CloudTrail/eu/2026/a.json.gz"
    write(log, gzip.compress(json.dumps({"Records": EVENTS}).encode()))
    insight = {
        "eventID": "i",
        "eventTime": "2026-03-01T00:00:00Z",
        "eventType": "AwsCloudTrailInsight",
        "insightDetails": {"eventName": "RunInstances", "eventSource": "ec2.amazonaws.com"},
    }
    write(below / "CloudTrail-Insight/eu/i.json.gz", gzip.compress(json.dumps({"Records": [insight]}).encode()))
    digest = write(below / "CloudTrail-Digest/eu/d.json.gz", gzip.compress(json.dumps(DIGEST).encode()))
    config = write(below / "Config/eu/snapshot.json", json.dumps({"fileVersion": "1.0", "configurationItems": [{}]}))
    other = write(below / "Other/model.jsonl", lines({"secret": "hush"}, {"secret": "hush"}))
    empty = write(below / "ConfigWritabilityCheckFile.json", "")
    link = below / "CloudTrail/eu/2026/link.json.gz"
    link.symlink_to(log)
    folder = below / "CloudTrail/loop"
    folder.symlink_to(tmp_path)
    result = run(tmp_path)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "4 stored, 0 already present, 0 refused.",
        f"Passed over: {link} (a symbolic link, which is not followed)",
        f"Passed over: {folder} (a symbolic link, which is not followed)",
        f"Passed over: {digest} (a digest: hashes of log files)",
        f"Passed over: {config} (a file without CloudTrail events)",
        f"Passed over: {empty} (an empty file)",
        f"Passed over: {other} (a file without CloudTrail events)",
    ]
    assert run(tmp_path).out.startswith("0 stored, 4 already present, 0 refused.\n")


@pytest.mark.django_db
def test_what_should_have_been_readable_and_is_not_ends_with_1(tmp_path: Path) -> None:
    write(tmp_path / "a.json", lines(*EVENTS))
    write(tmp_path / "b.json.gz", gzip.compress(lines(*EVENTS).encode())[:-20])
    result = run(tmp_path)
    assert result.code == 1
    assert f"refused: {tmp_path / 'b.json.gz'}: file: cannot be read" in result.err


@pytest.mark.parametrize("content", ["", "\n\r\n  \n", "\ufeff", b"", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_passed_over(tmp_path: Path, content: str | bytes) -> None:
    [found] = read(write(tmp_path / "a.json.gz", content))
    assert (found.place, found.passed_over) == (str(tmp_path / "a.json.gz"), "an empty file")


@pytest.mark.parametrize("content", ['{"Records": []}', "[]", '{"Events": [], "NextToken": "x"}'])
def test_a_list_without_events_is_nothing(tmp_path: Path, content: str) -> None:
    assert read(write(tmp_path / "a.json", content)) == []


def test_other_records_among_events_are_passed_over_or_refused(tmp_path: Path) -> None:
    """What is of a known kind is passed over; among events nothing else is expected."""
    other = {"detail-type": "EC2 Instance State-change Notification", "detail": {"state": "running"}}
    control = {"messageType": "CONTROL_MESSAGE", "logEvents": [{"message": "CWL CONTROL MESSAGE: Checking health."}]}
    (tmp_path / "d").mkdir()
    path = write(tmp_path / "d" / "a.json", lines(EVENTS[0], other, control, DIGEST, {"a": "hush"}, EVENTS[1]))
    found = read(tmp_path / "d")
    assert [each.passed_over for each in found] == [
        "",
        "an EventBridge event of something else than CloudTrail",
        "a control message of CloudWatch Logs",
        "a digest: hashes of log files",
        "",
        "",
    ]
    assert [each.place for each in found[1:3]] == [f"{path}:2", f"{path}:3: logEvents[0]"]
    assert [bool(each.record) for each in found] == [True, False, False, False, False, True]
    assert str(found[4].problems[0]) == "event: is missing; what stands here is not a CloudTrail event"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"message": "hush"}', "message: is not JSON; it must be an event as a string"),
        ('{"CloudTrailEvent": "{hush"}', "event: is not JSON: a key in double quotes is missing, at character 1"),
        ('{"EventId": "hush", "EventName": "x"}', "event: is missing; what stands here is not a CloudTrail event"),
        ('{"detail-type": "x", "detail": "hush"}', "event: is missing"),
        ('{"eventID": 1, "eventID": 2}', "eventID: is a key that occurs twice"),
        ('{"eventID": "hush", "a": NaN}', "a: is NaN or infinite, which JSON cannot express"),
    ],
)
def test_what_is_no_event_is_refused_without_its_text(tmp_path: Path, content: str, message: str) -> None:
    [found] = read(write(tmp_path / "a.json", content))
    assert str(found.problems[0]).startswith(message)
    assert "hush" not in str(found.problems[0])


def test_envelopes_do_not_go_on_for_ever(tmp_path: Path) -> None:
    text = json.dumps(EVENTS[0])
    for _ in range(5):
        text = json.dumps({"message": text})
    assert ids(read(write(tmp_path / "a.json", text))) == ["id-1"]
    [found] = read(write(tmp_path / "b.json", json.dumps({"message": text})))
    assert str(found.problems[0]) == "event: stands in more than 5 envelopes"


# Damage


@pytest.mark.parametrize("size", [1, 4096])
@pytest.mark.parametrize(
    "broken",
    [
        '{"eventID": "hush',
        '{"eventID": "hush"',
        '{"eventID": hush}',
        '{"eventID" "hush"}',
        '{"eventID": "hush" "b": 1}',
        '{"eventID": "hush\\x"}',
        "{hush}",
        "hush hush",
        "[1, 2",
        '[{"a": 1} {"b": 2}]',
        '{"Records": [{"eventID": hush}, {}]}',
    ],
)
def test_behind_a_broken_document_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, size: int
) -> None:
    monkeypatch.setattr("audit.interchange.sources._PIECE", size)
    first, second, third = texts()
    path = write(tmp_path / "a.json", f"{first}\n{broken}\n{second}\n{third}\n")
    found = read(path)
    assert ids(found) == ["id-1", "id-2", "id-3"]
    bad = [each for each in found if each.problems]
    assert bad[0].place.startswith(f"{path}:")
    assert "hush" not in "".join(str(each.problems[0]) for each in bad)


def test_behind_a_broken_element_of_a_list_the_lines_after_it_are_read(tmp_path: Path) -> None:
    first, second, third = texts()
    path = write(tmp_path / "a.json", f"[\n{first},\n{{broken}},\n{second},\n{third}\n]\n")
    found = read(path)
    assert ids(found) == ["id-1", "id-2", "id-3"]
    assert [(each.place, str(each.problems[0])) for each in found if each.problems] == [
        (f"{path}: [1]", "line 3: is not JSON: Expecting property name enclosed in double quotes")
    ]


def test_bytes_that_are_no_text_cost_one_event(tmp_path: Path) -> None:
    first, second, third = (text.encode() for text in texts())
    path = write(tmp_path / "a.json", b"\n".join((first, second.replace("é".encode(), b"\xe9"), third)))
    found = read(path)
    assert ids(found) == ["id-1", "id-3"]
    assert "event: is not UTF-8, at character" in str(found[1].problems[0])


def test_an_event_deeper_than_python_reads_costs_nothing_else(tmp_path: Path) -> None:
    deep = json.dumps(EVENTS[0]).replace('"kept"', f"{'[' * 5000}{']' * 5000}", 1)
    path = write(tmp_path / "a.json", f'{{"Records": [{deep}, {json.dumps(EVENTS[1])}]}}')
    found = read(path)
    assert [each.problems for each in found] == [(), ()]
    assert ids(found[1:]) == ["id-2"]
    [found] = read(write(tmp_path / "b.json", '{"Records": [' + "[" * 200_000))
    assert str(found.problems[0]) == "line 1: is not JSON: it is nested too deep"


@pytest.mark.django_db
def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.BufferedReader(io.BytesIO(gzip.compress(lines(*EVENTS).encode())))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=given))
    out = StringIO()
    call_command("audit_import", "-", format="cloudtrail", stdout=out)
    assert out.getvalue() == "3 stored, 0 already present, 0 refused.\n"


# Bounds


def test_an_event_that_is_too_long_is_refused_and_the_next_one_read(tmp_path: Path, settings: Any) -> None:
    first, _, third = texts()
    settings.AUDIT = {"IMPORT_MAX_RECORD_BYTES": 2 * len(first)}
    long = json.dumps(EVENTS[1] | {"eventID": "x" * 5 * len(first)})
    found = read(write(tmp_path / "a.json", f"{first}\n{long}\n{third}\n"))
    assert ids(found) == ["id-1", "id-3"]
    assert str(found[1].problems[0]) == (
        f'event: is longer than {2 * len(first)} characters; if it is sound, raise AUDIT["IMPORT_MAX_RECORD_BYTES"]'
    )
    # A whole file may be longer than that.
    assert ids(read(write(tmp_path / "b.json", json.dumps({"Records": EVENTS})))) == ["id-1", "id-2", "id-3"]


def test_members_without_end_are_no_event(tmp_path: Path) -> None:
    many = {f"key{number}": number for number in range(1001)}
    for content in (json.dumps(many), json.dumps({"Records": [many]}), json.dumps({"message": json.dumps(many)})):
        [found] = read(write(tmp_path / "a.json", content))
        assert str(found.problems[0]) == "event: has more than 1000 members; no event of CloudTrail has so many"
    del many["key0"]
    [found] = read(write(tmp_path / "a.json", json.dumps(many | {"key1": 0})))
    assert "is missing; what stands here" in str(found.problems[0])


def test_a_window_forgets_what_was_read() -> None:
    pieces = (b'{"Records": [' + b'"xxxxxxxxxx",' * 100 + b" " * 100 for _ in range(50))
    window = Window(decoded(pieces), 100)
    assert window.take("{")
    assert window.value()[0] == "Records"
    assert window.take(":")
    assert window.take("[")
    for _ in range(100):
        assert window.value() == ("xxxxxxxxxx", '"xxxxxxxxxx"')
        assert window.take(",")
    assert window.peek() == "{"
    assert len(window._text) < 3000
    window.keep()
    window._move(window._at + 101)
    with pytest.raises(TooLong, match="is longer than 100 characters"):
        window.since()
