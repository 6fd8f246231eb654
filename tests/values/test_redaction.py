"""What counts as a secret and what does not, in JSON and in text, and that looking takes linear time."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from audit.exceptions import AuditError, InvalidValue
from audit.values.redaction import ALONE, ENDING, MASK, check, redact, redact_text

CLOUDTRAIL = Path(__file__).resolve().parent.parent.parent.parent / "shared" / "data" / "cloudtrail"

SECRET_KEYS = [
    *sorted(ENDING | ALONE),
    "PASSWORD",
    "dbPassword",
    "DB_PASSWORD",
    "new-password",
    "password2",
    "secretAccessKey",
    "aws_secret_access_key",
    "AWSSecretAccessKey",
    "SecretString",
    "privateKey",
    "SSHPrivateKey",
    "clientSecret",
    "x-api-key",
    "APIKey",
    "accessToken",
    "X-Auth-Token",
    "Authorization",
    "Proxy-Authorization",
    "Set-Cookie",
]
PLAIN_KEYS = [
    "keyId",
    "accessKeyId",
    "tokenized",
    "tokens",
    "secretARN",
    "SecretId",
    "secretVersionId",
    "nextToken",
    "clientRequestToken",
    "passwordPolicy",
    "password_last_changed",
    "forgot",
    "authorizationType",
    "AuthenticationMethod",
    "key",
    "publicKey",
    "cookieDomain",
    "compass",
    "sessionContext",
    "monkey",
]


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize("value", ["hunter2", "", 12345, 1.5, ["a"], {"a": "b"}])
def test_values_of_secret_keys_are_masked(key: str, value: Any) -> None:
    assert redact({"a": [{key: value}]}) == {"a": [{key: MASK}]}


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_values_of_other_keys_stay(key: str) -> None:
    assert redact({key: "hunter2"}) == {key: "hunter2"}


def test_values_that_hold_no_secret_stay() -> None:
    value = {"password": None, "cookie": True, "token": False}
    assert redact(value) == value


def test_the_given_value_is_left_alone() -> None:
    value = {"password": "x", "list": [{"token": "y"}]}
    assert redact(value) == {"password": MASK, "list": [{"token": MASK}]}
    assert value == {"password": "x", "list": [{"token": "y"}]}


@pytest.mark.parametrize("value", [None, True, 0, 12.5, "", "text", [], {}, [1, [2, {"a": None}]]])
def test_harmless_json_is_unchanged(value: Any) -> None:
    assert redact(value) == value


PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC==\n-----END RSA PRIVATE KEY-----"

TEXTS = [
    (f"before\n{PEM}\nafter", f"before\n{MASK}\nafter"),
    (f"{PEM} and {PEM}", f"{MASK} and {MASK}"),
    (PEM.replace("\n", "\\n"), MASK),
    (PEM.replace("RSA ", "") + "!", f"{MASK}!"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nx\n-----END PGP PRIVATE KEY BLOCK-----", MASK),
    ("a cut end: -----BEGIN PRIVATE KEY-----\nMIIEow", f"a cut end: {MASK}"),
    ("a cut start:\nIBAAKC==\n-----END PRIVATE KEY-----\nafter", f"a cut start:\n{MASK}\nafter"),
    ("Authorization: Basic dXNlcjpwYXNz\nHost: x", f"Authorization: {MASK}\nHost: x"),
    ("authorization: Bearer abc", f"authorization: {MASK}"),
    ("HTTP_AUTHORIZATION=Basic dXNl", f"HTTP_AUTHORIZATION={MASK}"),
    ("Cookie: a=b; c=d", f"Cookie: {MASK}"),
    ("< Set-Cookie: sid=1; Path=/\r\nx", f"< Set-Cookie: {MASK}\r\nx"),
    ('curl -H "Authorization: Bearer abc" https://x', f'curl -H "Authorization: {MASK}" https://x'),
    ("{'Authorization': 'Bearer x', 'b': 1}", f"{{'Authorization': '{MASK}', 'b': 1}}"),
    ("got Bearer abc.def-1 back", f"got Bearer {MASK} back"),
    ("password=hunter2 host=db", f"password={MASK} host=db"),
    ("password='a b' host=db", f"password='{MASK}' host=db"),
    ("connect(db_password = x)", f"connect(db_password = {MASK}"),
    ("?user=a&password=b&c=d", f"?user=a&password={MASK}&c=d"),
    ('{"password": "a\\"b", "x": 1}', f'{{"password": "{MASK}", "x": 1}}'),
    ('{\\"password\\": \\"abc\\", \\"x\\": 1}', f'{{\\"password\\": \\"{MASK}\\", \\"x\\": 1}}'),
    ("PGPASSWORD=x psql", f"PGPASSWORD={MASK} psql"),
    ("aws_secret_access_key = wJalr/K7", f"aws_secret_access_key = {MASK}"),
    ("AWS_SECRET_ACCESS_KEY=wJalr/K7", f"AWS_SECRET_ACCESS_KEY={MASK}"),
    ("api-key: abc", f"api-key: {MASK}"),
    ("token=abc&x=1", f"token={MASK}&x=1"),
    ('{"token": "abc"}', f'{{"token": "{MASK}"}}'),
    ("cookies={'a': 'b'}, x=1", f"cookies={MASK}, x=1"),
    ("deploy --db-password hunter2 -x", f"deploy --db-password {MASK} -x"),
    ("deploy --token 'a b' -x", f"deploy --token '{MASK}' -x"),
    ("postgres://u:p@host:1/db", f"postgres://u:{MASK}@host:1/db"),
    ("postgres://u:p@ss@host/db", f"postgres://u:{MASK}@host/db"),
    ("redis://:pw@host", f"redis://:{MASK}@host"),
    (f"eyJ{'a' * 20}.eyJ{'b' * 20}.sig", MASK),
    (f"ghp_{'a' * 36} github_pat_{'b' * 30} glpat-{'c' * 20} xoxb-{'1' * 12}", f"{MASK} {MASK} {MASK} {MASK}"),
]
PLAIN_TEXTS = [
    "/etc/passwd: Permission denied",
    "FATAL: password authentication failed for user",
    "Unexpected token: }",
    "nextToken=abc next-token=abc keyId=abc accessKeyId=AKIA secretARN=arn:aws:x tokenized=yes passwordPolicy=strict",
    "the bearer authentication. failed",
    "Bearer token missing",
    "see http://host:8080/a@b and mail a@b",
    "ssh://git@host/repo",
    "-----BEGIN CERTIFICATE-----\nMIIEow\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIEow\n-----END PUBLIC KEY-----",
    "password:",
    "password=''",
    "2026-01-01T10:00:00 ok",
]


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=range(len(TEXTS)))
def test_secrets_in_text_are_masked(text: str, expected: str) -> None:
    assert redact_text(text) == expected
    assert redact({"said": [text]}) == {"said": [expected]}


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=range(len(TEXTS)))
def test_masked_text_stays_as_it_is(text: str, expected: str) -> None:
    assert redact_text(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dsn=Zx9wQ7pL", f"dsn={MASK}"),
        ("dsn=Zx9wQ7p", "dsn=Zx9wQ7p"),
        ("dsn=0a1b2c3d4e@5f", f"dsn={MASK}"),
        ("dsn=postgres://db1.example.com/Shop2", "dsn=postgres://db1.example.com/Shop2"),
        ("dsn=https://0a1b2c3d4e5f60718293a4b5c6d7e8f9@o1.example.com/22", f"dsn=https://{MASK}@o1.example.com/22"),
        ("connstr='Server=Db1;Database=Shop2'", "connstr='Server=Db1;Database=Shop2'"),
        ("connstr='Server=Db1;Password=Zx9wQ7pL'", f"connstr='Server=Db1;Password={MASK}'"),
        ("database_url=${DB_URL2}", "database_url=${DB_URL2}"),
    ],
)
def test_the_value_of_an_address_is_masked_where_it_is_none(text: str, expected: str) -> None:
    assert redact_text(text) == expected


@pytest.mark.parametrize("text", PLAIN_TEXTS)
def test_other_text_stays(text: str) -> None:
    assert redact_text(text) == text


def test_the_mask_does_not_tell_the_length() -> None:
    assert redact_text("password=a") == redact_text(f"password={'a' * 100}")


def test_settings_add_keys_and_patterns(settings: Any) -> None:
    value = {"tax-id": "123", "taxId": "123", "taxIdentity": "123", "note": "call 555-1234 or 555-9876"}
    assert redact(value) == value
    settings.AUDIT = {"REDACT_KEYS": ["tax_id"], "REDACT_PATTERNS": [r"\d{3}-\d{4}"]}
    assert redact(value) == {
        "tax-id": MASK,
        "taxId": MASK,
        "taxIdentity": "123",
        "note": f"call {MASK} or {MASK}",
    }
    assert redact({"password": "x"}) == {"password": MASK}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("created customer tax_id=DE123456 for you", "created customer tax_id=[masked] for you"),
        ("Tax-Id: 123-456, next", "Tax-Id: [masked], next"),
        ("tax id: 123456", "tax id: [masked]"),
        ("TAXID = '12 34'", "TAXID = '[masked]'"),
        ('said {"taxId": "12 34", "b": 1}', 'said {"taxId": "[masked]", "b": 1}'),
        ("said {'tax_id': 1234}", "said {'tax_id': [masked]}"),
        (r'"{\"tax_id\": \"1234\"}"', r'"{\"tax_id\": \"[masked]\"}"'),
        ("GET /a?tax_id=12&b=1", "GET /a?tax_id=[masked]&b=1"),
        ("run --tax-id=12 --b", "run --tax-id=[masked] --b"),
        ("tax_id=1 tax_id=2", "tax_id=[masked] tax_id=[masked]"),
        (f"tax_id={'a1' * 3000}!", "tax_id=[masked]"),
        ("t\u0430x_id=12", "t\u0430x_id=[masked]"),
        ("passport no: X12 and pass=hunt3r2x", "passport no: [masked] and pass=[masked]"),
    ],
)
def test_keys_of_the_settings_are_masked_in_text(settings: Any, text: str, masked: str) -> None:
    settings.AUDIT = {"REDACT_KEYS": ["tax_id", "passportNo"]}
    assert redact_text(text) == masked
    assert redact({"note": [text]}) == {"note": [masked]}
    assert redact_text(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "the tax id is unknown",
        "tax_id: must be nine digits",
        "tax_id=null tax_id: None tax_id=true",
        "syntax_id=5",
        "customer.tax_id=5",
        "pre-tax-id=5",
        "tax_identity=5",
        "tax_id=",
        "tax_id=${TAX_ID}",
        "tax_id5=5",
    ],
)
def test_other_names_and_words_about_keys_of_the_settings_stay(settings: Any, text: str) -> None:
    settings.AUDIT = {"REDACT_KEYS": ["tax_id"]}
    assert redact_text(text) == text


def test_a_broken_pattern_is_named(settings: Any) -> None:
    settings.AUDIT = {"REDACT_PATTERNS": ["fine", "(broken"]}
    with pytest.raises(AuditError, match=r"REDACT_PATTERNS.*'\(broken'"):
        check()


def test_a_list_of_pairs_is_masked_by_the_names_in_it() -> None:
    headers = [["Authorization", "Bearer abcdefabcdef"], ["Accept", "text/html"]]
    assert redact(headers) == [["Authorization", MASK], ["Accept", "text/html"]]
    assert redact({"h": [("password", "x7"), ("user", "bob"), ("password", None)]}) == {
        "h": [["password", MASK], ["user", "bob"], ["password", None]]
    }
    # What is no list of pairs has no names.
    for other in ([["password", "x7", "z"], ["user", "bob"]], [["password", "x7"], [7, "bob"]]):
        assert redact(other) == other


@pytest.mark.parametrize("key", ["a", "token", "session_cookie"])
def test_400_levels_are_masked_and_no_more(key: str) -> None:
    """Texts stand in the innermost; a list under the name of a secret is read in another way."""

    def nested(levels: int) -> Any:
        value: Any = ["password=Zx9wQ7pLm2Vt"]
        for level in range(levels - 1):
            value = {key if level == 0 else "a": value} if level % 2 == 0 else [value]
        return value

    assert "Zx9wQ7pLm2Vt" not in str(redact(nested(400)))
    if key != "token":  # which is masked whole, whatever is in it
        with pytest.raises(InvalidValue, match="nested deeper than 400 levels"):
            redact(nested(401))


def test_depth_is_bounded() -> None:
    deep: Any = "x"
    for _ in range(1000):
        deep = [deep]
    with pytest.raises(InvalidValue, match="nested deeper"):
        redact(deep)
    loop: dict[str, Any] = {}
    loop["a"] = loop["b"] = loop
    with pytest.raises(InvalidValue, match="nested deeper"):
        redact(loop)


HOSTILE = [
    "password",
    "password=",
    'password="\\',
    "password=[",
    "secret access ",
    "token='",
    "'authorization:",
    "cookie:",
    "bearer ",
    "bearer\t",
    "://",
    "://a:",
    "eyJ",
    "eyJaaaaaaaaaaaaa.",
    "xoxb-",
    "ghp_",
    "--",
    " --aaaaaaaaaaaaaaa-aaa-a",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "-----BEGIN ",
    "a",
    " ",
    "\\",
    '"',
]


@pytest.mark.parametrize("part", HOSTILE)
def test_hostile_megabytes_take_seconds_at_most(part: str) -> None:
    """Quadratic time would be minutes: a hundred thousand starts times a megabyte."""
    text = part * (1_000_000 // len(part))
    started = time.process_time()
    redact_text(text)
    assert time.process_time() - started < 15


def test_the_default_masks_few_of_many_real_events() -> None:
    if not CLOUDTRAIL.is_dir():
        pytest.skip(f"no CloudTrail events at {CLOUDTRAIL}")
    events = [event for path in sorted(CLOUDTRAIL.glob("*.json")) for event in json.loads(path.read_text())["Records"]]
    changed = [event for event in events if redact(event) != event]
    print(f"{len(changed)} of {len(events)} events hold something that is masked")  # noqa: T201
    assert len(events) > 1000
    # The session tokens that AssumeRole handed out, and nothing else.
    assert {event["eventName"] for event in changed} == {"AssumeRole"}
    assert all(
        redact(event["responseElements"]["credentials"])["sessionToken"] == MASK
        and redact(event["responseElements"]["credentials"])["accessKeyId"]
        == event["responseElements"]["credentials"]["accessKeyId"]
        for event in changed
    )


def test_a_masked_key_does_not_take_the_place_of_one_that_comes_later() -> None:
    token = "ghp_" + "a1B2c3D4e5" * 4
    assert redact({token: 1, MASK: 2}) == {f"{MASK} (2)": 1, MASK: 2}


@pytest.mark.parametrize("key", ["", "***"])
def test_a_key_that_names_nothing_is_refused(key: str, settings) -> None:
    settings.AUDIT = {"REDACT_KEYS": [key]}
    with pytest.raises(AuditError, match="names no key"):
        redact_text("a word")
