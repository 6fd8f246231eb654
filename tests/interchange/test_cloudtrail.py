"""CloudTrail events become tasks, and nothing of an event is lost."""

import gzip
import json
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from audit import ids
from audit.contrib.cloudtrail import SUFFIXES, read_events
from audit.exceptions import InvalidValue
from audit.interchange import Importer, Read, find_sources
from audit.models import Task
from tests.support.factories import sql

# Real events lie beside the checkout, at some height above it.
SHARED = Path("shared", "data", "cloudtrail")
DATA = next((above / SHARED for above in Path(__file__).resolve().parents if (above / SHARED).is_dir()), None)
real_data = pytest.mark.skipif(DATA is None, reason=f"there are no CloudTrail files in {SHARED} above the checkout")

EVENT = {
    "eventVersion": "1.08",
    "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ann", "userName": "ann"},
    "eventTime": "2024-02-03T04:05:06Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetBucketAcl",
    "awsRegion": "eu-central-1",
    "requestParameters": {"bucketName": "logs", "password": "kept"},
    "responseElements": {"size": "NUMBER", "secret": "kept"},
    "requestID": "REQ1",
    "eventID": "11111111-2222-3333-4444-555555555555",
    "additionalEventData": {"bytes": "NUMBER", "none": None},
    "readOnly": True,
}


def event(**changes: Any) -> dict[str, Any]:
    """The event with these members; None leaves one out, `null` is JSON's."""
    changed = {key: value for key, value in (EVENT | changes).items() if value is not None}
    return {key: None if value == "null" else value for key, value in changed.items()}


def write(path: Path, *events: dict[str, Any]) -> Path:
    text = json.dumps({"Records": events}).replace('"NUMBER"', "12.50")
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(path: Path) -> list[Read]:
    return [each for source in find_sources([str(path)], SUFFIXES) for each in read_events(source)]


def store(*paths: Path) -> tuple[int, int, int]:
    importer = Importer()
    for path in paths:
        importer.run(read(path))
    counts = importer.counts
    return counts.stored, counts.present, counts.refused


def rebuilt() -> list[dict[str, Any]]:
    """The events, made of nothing but the stored tasks; numbers as their text tells them."""
    events = []
    for plan, outcome in sql("SELECT plan::text, outcome::text FROM audit_task ORDER BY id"):
        stored = json.loads(outcome, parse_float=Decimal, parse_int=Decimal)
        made = stored["record"]
        if "responseElements" in stored:
            made["responseElements"] = stored["responseElements"]
        if plan is not None:
            made["requestParameters"] = json.loads(plan, parse_float=Decimal, parse_int=Decimal)
        events.append(made)
    return events


def numbers(value: Any) -> Any:
    """A value in which numbers that are equal and written differently differ."""
    if isinstance(value, dict):
        return {key: numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner) for inner in value]
    return ("number", str(value)) if isinstance(value, Decimal) else value


@pytest.mark.django_db
def test_an_event_is_a_task(tmp_path: Path) -> None:
    assert store(write(tmp_path / "a.json", event())) == (1, 0, 0)
    task = Task.objects.get()
    assert (task.action, task.services_touched, task.status) == ("GetBucketAcl", ["s3"], "completed")
    assert task.requested_by == task.actor == "arn:aws:iam::111122223333:user/ann"
    assert task.created_at == task.finished_at
    assert task.created_at.isoformat() == "2024-02-03T04:05:06+00:00"
    assert task.plan == {"bucketName": "logs", "password": "kept"}
    assert task.summary == "GetBucketAcl on s3 in eu-central-1"
    assert task.correlation_id == "REQ1"
    assert task.outcome["success"] is True
    assert task.outcome["error_type"] is None
    assert task.outcome["responseElements"] == {"size": 12.5, "secret": "kept"}
    assert task.id == ids.uuid7(at=task.created_at, key=EVENT["eventID"])
    [(text,)] = sql("SELECT outcome::text FROM audit_task")
    assert text.count("12.50") == 2


@pytest.mark.django_db
def test_an_error_is_a_failed_task(tmp_path: Path) -> None:
    store(write(tmp_path / "a.json", event(errorCode="AccessDenied", errorMessage="No.")))
    task = Task.objects.get()
    assert task.status == "failed"
    assert {key: task.outcome[key] for key in ("success", "error_type", "output_summary")} == {
        "success": False,
        "error_type": "AccessDenied",
        "output_summary": "No.",
    }
    assert task.summary == "GetBucketAcl on s3 in eu-central-1: AccessDenied"


@pytest.mark.parametrize(
    ("identity", "caller"),
    [
        ({"arn": "A", "userName": "U", "invokedBy": "S"}, "A"),
        ({"userName": "U", "invokedBy": "S"}, "U"),
        ({"arn": "", "invokedBy": "S"}, "S"),
        ({"type": "Unknown"}, "Unknown"),
        ("null", "account 111122223333"),
        (None, "account 111122223333"),
    ],
)
def test_the_caller_is_the_arn_else_the_name_else_the_service(tmp_path: Path, identity: Any, caller: str) -> None:
    given = event(userIdentity=identity, recipientAccountId="111122223333")
    [found] = read(write(tmp_path / "a.json", given))
    assert found.record
    assert found.record.requested_by == caller


@pytest.mark.django_db
@pytest.mark.parametrize("parameters", [None, "null", {}, {"a": None}, "text"])
@pytest.mark.parametrize("response", [None, "null", [], {"n": "NUMBER"}])
def test_what_is_absent_null_and_empty_stays_so(tmp_path: Path, parameters: Any, response: Any) -> None:
    given = event(requestParameters=parameters, responseElements=response)
    path = write(tmp_path / "a.json", given)
    assert store(path) == (1, 0, 0)
    expected = json.loads(path.read_text(), parse_float=Decimal, parse_int=Decimal)["Records"]
    assert numbers(rebuilt()) == numbers(expected)
    assert Task.objects.get().plan == (None if parameters == "null" else parameters)
    assert store(path) == (0, 1, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eventID": None}, "eventID: is required, as a string (got None)"),
        ({"eventTime": "yesterday"}, "eventTime: is not a moment such as"),
        ({"eventTime": "1969-12-31T23:59:59Z"}, "is before 1970"),
        ({"eventName": ""}, "eventName: is required"),
        ({"eventSource": 7}, "eventSource: is required, as a string (got '7')"),
        ({"eventName": "x" * 101}, "action: has 101 characters"),
        ({"requestParameters": {"a": "\0"}}, "plan: contains a NUL character"),
        ({"userAgent": "\ud800"}, "outcome: contains a lone surrogate"),
    ],
)
def test_bad_events_are_named_and_the_others_read(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.json", event(), event(**changes), event())
    first, second, third = read(path)
    assert first.record
    assert third.record
    [problem] = second.problems
    assert second.place == f"{path}: Records[1]"
    assert message in str(problem)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is not JSON"),
        (b"hello", "line 1: is not JSON: an object or a list must stand here"),
        (b"[1]", "event: must be an object"),
        (b'{"a": 1}', "event: is missing; what stands here is not a CloudTrail event"),
        (b'{"Records": 1}', "event: is missing"),
        (b'{"Records": [1]}', "event: must be an object"),
        (b"\xff", "line 1: is not JSON: it is not UTF-8"),
    ],
)
def test_files_that_are_none_of_cloudtrail_are_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(text)
    [found] = read(tmp_path / "a.json")
    assert isinstance(found.problems[0], InvalidValue)
    assert "(got" not in str(found.problems[0])
    assert message in str(found.problems[0])


@pytest.mark.django_db
def test_directories_are_read_to_any_depth_compressed_or_not(tmp_path: Path) -> None:
    (tmp_path / "2024" / "02").mkdir(parents=True)
    write(tmp_path / "2024" / "02" / "a.json.gz", event(eventID="a"), event(eventID="b"))
    write(tmp_path / "2024" / "b.json", event(eventID="c"))
    (tmp_path / "README.md").write_text("nothing")
    (tmp_path / "digest.json").write_text('{"digestStartTime": "2024-02-03T04:00:00Z"}')
    out = StringIO()
    call_command("audit_import", str(tmp_path), format="cloudtrail", stdout=out)
    call_command("audit_import", str(tmp_path), format="cloudtrail", stdout=out)
    assert out.getvalue().splitlines() == [
        "3 stored, 0 already present, 0 refused.",
        f"Passed over: {tmp_path / 'digest.json'} (a digest: hashes of log files)",
        "0 stored, 3 already present, 0 refused.",
        f"Passed over: {tmp_path / 'digest.json'} (a digest: hashes of log files)",
    ]


@real_data
@pytest.mark.django_db
def test_every_real_event_comes_back_as_it_was() -> None:
    assert DATA
    expected = [
        each
        for path in sorted(DATA.rglob("*.json"))
        for each in json.loads(path.read_text(), parse_float=Decimal, parse_int=Decimal)["Records"]
    ]
    assert len(expected) == 1448
    assert store(DATA) == (1448, 0, 0)
    by_id = {each["eventID"]: each for each in rebuilt()}
    for each in expected:
        assert numbers(by_id.pop(each["eventID"])) == numbers(each)
    assert not by_id
    for task in Task.objects.all():
        record = task.outcome["record"]
        assert task.action == record["eventName"]
        assert task.services_touched == [record["eventSource"].removesuffix(".amazonaws.com")]
        assert (task.status, task.outcome["error_type"]) == (
            ("failed", record["errorCode"]) if "errorCode" in record else ("completed", None)
        )
        assert task.requested_by
    assert store(DATA) == (0, 1448, 0)
    assert Task.objects.count() == 1448
