"""What CloudTrail's records say: who called, whether it failed, and when."""

import json
from typing import Any

import pytest

from audit.contrib.cloudtrail import task_of_event
from audit.exceptions import InvalidValue
from audit.interchange import Importer, Read, TaskRecord
from audit.models import Task
from tests.interchange.test_cloudtrail import event

SIGN_IN = {"eventSource": "signin.amazonaws.com", "eventType": "AwsConsoleSignIn"}
SERVICE = {"eventType": "AwsServiceEvent", "responseElements": None}


def task(**changes: Any) -> TaskRecord:
    return task_of_event(json.dumps(event(**changes)))


def outcome(record: TaskRecord) -> dict[str, Any]:
    return json.loads(record.outcome or "")


# Whether it failed

FAILED = {
    "code": ({"errorCode": "AccessDenied", "errorMessage": "No."}, "AccessDenied", "No."),
    "code alone": ({"errorCode": "NoSuchBucket"}, "NoSuchBucket", ""),
    "code that is a number": ({"errorCode": 403}, "403", ""),
    "message alone": ({"errorMessage": "Failed authentication"}, "Error", "Failed authentication"),
    "console": (
        SIGN_IN | {"eventName": "ConsoleLogin", "responseElements": {"ConsoleLogin": "Failure"}},
        "Failure",
        "",
    ),
    "console with a message": (
        SIGN_IN
        | {
            "eventName": "ConsoleLogin",
            "errorMessage": "No username found in supplied account",
            "responseElements": {"ConsoleLogin": "Failure"},
        },
        "Failure",
        "No username found in supplied account",
    ),
    "second factor": (SIGN_IN | {"eventName": "CheckMfa", "responseElements": {"CheckMfa": "Failure"}}, "Failure", ""),
    "role": (SIGN_IN | {"eventName": "SwitchRole", "responseElements": {"SwitchRole": "Failure"}}, "Failure", ""),
    "sign-in named otherwise": (
        {"eventSource": "signin.amazonaws.com", "responseElements": {"ConsoleLogin": "Failure"}},
        "Failure",
        "",
    ),
    "single sign-on": (
        SERVICE
        | {
            "eventSource": "signin.amazonaws.com",
            "eventName": "UserAuthentication",
            "serviceEventDetails": {"UserAuthentication": "Failure"},
        },
        "Failure",
        "",
    ),
    "credential": (
        SERVICE
        | {
            "eventSource": "sso.amazonaws.com",
            "eventName": "CredentialVerification",
            "serviceEventDetails": {"CredentialVerification": "Failure"},
        },
        "Failure",
        "",
    ),
    "additional data": ({"eventName": "Login", "additionalEventData": {"Login": "Failure"}}, "Failure", ""),
    "job": (SERVICE | {"serviceEventDetails": {"state": "FAILED", "backupJobId": "b"}}, "FAILED", ""),
    "job that was aborted": (SERVICE | {"serviceEventDetails": {"state": "ABORTED"}}, "ABORTED", ""),
    "stack": (SERVICE | {"serviceEventDetails": {"stackStatus": "CREATE_FAILED"}}, "CREATE_FAILED", ""),
    "status inside": (
        SERVICE | {"serviceEventDetails": {"createManagedAccountStatus": {"state": "FAILED", "message": "m"}}},
        "FAILED",
        "",
    ),
    "no success": (SERVICE | {"serviceEventDetails": {"success": False}}, "Failure", ""),
    "a partner's event": (
        {"eventName": None, "eventData": {"eventName": "Put", "errorCode": "Denied", "errorMessage": "m"}},
        "Denied",
        "m",
    ),
}

SUCCEEDED = {
    "plain": {},
    "code that is null": {"errorCode": "null"},
    "code that is empty": {"errorCode": "", "errorMessage": ""},
    "sign-in": SIGN_IN | {"eventName": "ConsoleLogin", "responseElements": {"ConsoleLogin": "Success"}},
    "sign-in without a second factor": SIGN_IN | {"additionalEventData": {"MFAUsed": "No", "MobileVersion": "No"}},
    "single sign-on": SERVICE | {"serviceEventDetails": {"UserAuthentication": "Success"}},
    "job": SERVICE | {"serviceEventDetails": {"state": "COMPLETED", "message": "failed"}},
    "what is said of something else": SERVICE | {"serviceEventDetails": {"logLevel": "ERROR"}},
    "state of what was asked for": {"responseElements": {"status": "FAILED", "job": {"state": "FAILED"}}},
    "parameters": {"requestParameters": {"ConsoleLogin": "Failure", "status": "FAILED"}},
    "response that is a list": {"responseElements": ["Failure"]},
    "response that is a text": {"responseElements": "Failure"},
    "insight into errors": {
        "insightDetails": {"insightType": "ApiErrorRateInsight", "errorCode": "Throttled", "state": "End"},
    },
}


@pytest.mark.parametrize("kind", FAILED)
def test_an_event_failed_if_any_field_says_so(kind: str) -> None:
    changes, error_type, summary = FAILED[kind]
    record = task(**changes)
    result = outcome(record)
    assert (record.status, result["success"], result["error_type"]) == ("failed", False, error_type)
    assert result["output_summary"] == summary
    assert record.summary.endswith(f": {changes.get('errorCode') or summary or error_type}")


@pytest.mark.parametrize("kind", SUCCEEDED)
def test_an_event_of_which_nothing_says_so_did_not_fail(kind: str) -> None:
    record = task(**SUCCEEDED[kind])
    result = outcome(record)
    assert (record.status, result["success"], result["error_type"]) == ("completed", True, None)
    assert result["output_summary"] == ""


def test_a_long_message_is_whole_in_the_outcome_and_cut_in_the_summary() -> None:
    record = task(errorMessage="x" * 5000)
    assert outcome(record)["output_summary"] == "x" * 5000
    assert record.summary == f"GetBucketAcl on s3 in eu-central-1: {'x' * 200}"


# Who called

ARN = "arn:aws:iam::111122223333:role/web"
CALLERS: list[tuple[dict[str, Any], str]] = [
    ({"type": "IAMUser", "arn": "arn:aws:iam::1:user/a", "userName": "a"}, "arn:aws:iam::1:user/a"),
    (
        {"type": "IAMUser", "accountId": "1", "userName": "HIDDEN_DUE_TO_SECURITY_REASONS"},
        "HIDDEN_DUE_TO_SECURITY_REASONS",
    ),
    ({"type": "SAMLUser", "principalId": "q=:sam", "userName": "sam", "identityProvider": "q="}, "sam"),
    ({"type": "Directory", "accountId": "1", "userName": "dora"}, "dora"),
    ({"type": "WebIdentityUser", "principalId": "idp:app:7", "identityProvider": "idp"}, "idp:app:7"),
    ({"type": "WebIdentityUser", "identityProvider": "accounts.example.com"}, "accounts.example.com"),
    ({"type": "IdentityCenterUser", "accountId": "1", "onBehalfOf": {"userId": "u-2"}, "credentialId": "c"}, "u-2"),
    ({"type": "IdentityCenterUser", "accountId": "1", "credentialId": "c"}, "c"),
    ({"type": "AWSAccount", "principalId": "AROAX:s", "accountId": "4"}, "AROAX:s"),
    ({"type": "AWSAccount", "principalId": "AIDAX", "accountId": "4", "invokedBy": "x.amazonaws.com"}, "AIDAX"),
    ({"type": "AWSAccount", "accountId": "444455556666"}, "account 444455556666"),
    ({"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}, "ec2.amazonaws.com"),
    ({"accountId": "1", "invokedBy": "kms.amazonaws.com"}, "kms.amazonaws.com"),
    (
        {"type": "AssumedRole", "accountId": "1", "sessionContext": {"sessionIssuer": {"arn": ARN, "userName": "web"}}},
        ARN,
    ),
    ({"type": "AssumedRole", "sessionContext": {"sessionIssuer": {"userName": "web"}}}, "web"),
    ({"type": "AssumedRole", "sessionContext": {"webIdFederationData": {"federatedProvider": "idp"}}}, "idp"),
    ({"type": "Root", "principalId": "1", "accountId": "1"}, "root of account 1"),
    ({"type": "Unknown", "principalId": "1", "arn": "", "accountId": "1", "accessKeyId": ""}, "account 1"),
    ({"type": "Unknown", "arn": "  ", "userName": None}, "Unknown"),
    ({"type": "AWSAccount", "accessKeyId": "AKIAX"}, "AKIAX"),
    ({"inScopeOf": {"sourceArn": "arn:aws:lambda:x"}}, "arn:aws:lambda:x"),
    ({"arn": {"a": 1}, "userName": ["x"], "type": 7}, "7"),
    ({}, "unknown"),
]


@pytest.mark.parametrize(("identity", "caller"), CALLERS)
def test_the_caller_is_named_by_what_the_record_has(identity: dict[str, Any], caller: str) -> None:
    record = task(userIdentity=identity)
    assert (record.requested_by, record.actor) == (caller, caller)


@pytest.mark.parametrize(
    ("changes", "caller"),
    [
        ({"recipientAccountId": "1"}, "account 1"),
        ({"eventType": "AwsServiceEvent", "recipientAccountId": "1"}, "s3.amazonaws.com"),
        (
            {"insightDetails": {"insightType": "ApiCallRateInsight"}, "recipientAccountId": "1"},
            "cloudtrail.amazonaws.com",
        ),
        ({"additionalEventData": {"UserName": "sean"}}, "sean"),
        ({"eventData": {"userIdentity": {"principalId": "p"}}, "recipientAccountId": "1"}, "p"),
    ],
)
def test_a_record_without_a_caller_is_named_by_the_rest_of_it(changes: dict[str, Any], caller: str) -> None:
    assert task(userIdentity=None, **changes).actor == caller


def test_who_signs_in_is_named_where_the_identity_does_not_say_it() -> None:
    unknown = {"type": "Unknown", "principalId": "1", "arn": "", "accountId": "1"}
    assert task(userIdentity=unknown, additionalEventData={"UserName": "sean"}).actor == "sean"


@pytest.mark.django_db
def test_the_importer_is_never_the_actor() -> None:
    identities = [identity for identity, _ in CALLERS] + [None, "null", "text", []]
    reads = [
        Read(place="", record=task(eventID=str(number), userIdentity=identity))
        for number, identity in enumerate(identities)
    ]
    assert Importer().run(reads).stored == len(identities)
    assert not Task.objects.filter(actor__startswith="db:").exists()
    assert not Task.objects.filter(requested_by="").exists()


# Other kinds of records


def test_an_insight_is_what_it_found() -> None:
    details = {
        "state": "Start",
        "eventSource": "ec2.amazonaws.com",
        "eventName": "RunInstances",
        "insightType": "ApiCallRateInsight",
        "insightContext": {"statistics": {"baseline": {"average": 0.5}}},
    }
    given = {"eventName": None, "eventSource": None, "userIdentity": None, "requestID": None, "sharedEventID": "shared"}
    record = task(eventCategory="Insight", eventType="AwsCloudTrailInsight", insightDetails=details, **given)
    assert (record.action, record.services_touched, record.status) == ("ApiCallRateInsight", ["ec2"], "completed")
    assert record.summary == "ApiCallRateInsight of RunInstances on ec2 in eu-central-1"
    assert record.correlation_id == "shared"
    assert outcome(record)["record"]["insightDetails"] == details


def test_an_event_that_names_little_is_imported_under_what_it_says() -> None:
    record = task(eventName=None, eventSource=None, awsRegion=None, requestID=None, eventType="AwsNewKindOfEvent")
    assert (record.action, record.services_touched) == ("AwsNewKindOfEvent", [])
    assert (record.summary, record.correlation_id) == ("AwsNewKindOfEvent", "")
    partner = task(eventName=None, eventSource=None, eventData={"eventName": "Put", "eventSource": "shop"})
    assert (partner.action, partner.services_touched) == ("Put", ["shop"])


@pytest.mark.parametrize("name", ["eventID", "eventTime", "eventName"])
@pytest.mark.parametrize("value", [None, "", "null", 7])
def test_what_identifies_an_event_is_required(name: str, value: Any) -> None:
    if (name, value) == ("eventName", 7):
        assert task(eventName=7).action == "7"
        return
    with pytest.raises(InvalidValue, match=f"^{name}: is required, as a string"):
        task(**{name: value})


@pytest.mark.parametrize("time", ["2026-11-20 10:00:26.000", "2026-11-20T10:00:26"])
def test_a_time_without_a_zone_is_answered_with_the_way_out(time: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        task(eventTime=time)
    assert str(caught.value) == (
        f"eventTime: names no time zone; write {time}Z if it is UTC, else its offset, as in {time}+01:00 (got '{time}')"
    )
    assert task(eventTime=f"{time}Z").id == task(eventTime=f"{time}+00:00").id
    assert task(eventTime=f"{time}Z").id != task(eventTime=f"{time}+01:00").id
