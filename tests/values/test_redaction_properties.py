"""Whatever the input: masking raises nothing, happens once, keeps what stands around, and takes linear time."""

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.values.redaction import MASK, redact, redact_command, redact_text

_PIECES = st.sampled_from(
    [
        *(
            "password",
            "DB_PASS",
            "token",
            "api_key",
            "secret",
            "auth",
            "sessionid",
            "--token",
            "-p",
            "Authorization",
            "Cookie",
        ),
        *(
            "mysql",
            "curl",
            "-u",
            "htpasswd",
            "-b",
            "vault",
            "login",
            "kind: Secret",
            "data:",
            "name",
            "value",
            "database_url",
        ),
        *(
            "=",
            ":",
            ": ",
            " -> ",
            "%3D",
            '"',
            "'",
            "\\",
            '\\"',
            "`",
            "&quot;",
            "[",
            "]",
            "{",
            "}",
            "(",
            ")",
            "<",
            ">",
            "</",
        ),
        *(
            ",",
            ", ",
            ";",
            "&",
            "@",
            "://",
            "#",
            "?",
            "\n",
            "\n  ",
            "\r\n",
            "\t",
            " ",
            "|",
            ">",
            "-",
            ".",
            "/",
            "b'",
            "$",
            "${",
        ),
        *(
            "Zx9wQ7pLm2Vt",
            "hunter2",
            "bob",
            "bob:Zx9wQ7pLm2Vt",
            "12345678",
            "None",
            "is",
            "for",
            MASK,
            "[mask",
            "masked]",
        ),
        *(
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "PRIVATE+KEY+",
            "+0123abcd+AQ",
            "eyJ",
            "AKIA",
            "Bearer ",
        ),
        *("\x1b[31m", "\u200b", "\0", "\ud800", "İ", "а", "密码", "ｐ"),  # noqa: RUF001 - look-alike letters are the point
    ]
)
_TEXTS = st.lists(_PIECES | st.text(max_size=4), max_size=14).map("".join)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)
_OFTEN = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


@_OFTEN
@given(_TEXTS | st.text(st.characters(exclude_categories=())))
def test_a_text_is_masked_once_and_keeps_what_stands_around(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once
    # What is left is the text with pieces taken out: the parts between the masks stand in it, in this order.
    position = 0
    parts = once.split(MASK)
    assert text.startswith(parts[0])
    assert text.endswith(parts[-1])
    for part in parts:
        position = text.index(part, position) + len(part)


@_OFTEN
@given(_JSON)
def test_a_document_is_masked_once_and_keeps_its_form(document: Any) -> None:
    before = repr(document)
    once = redact(document)
    assert repr(document) == before
    assert redact(once) == once
    assert _is_like(document, once)


def _is_like(before: Any, after: Any) -> bool:
    if after == MASK:
        return before is not None and not isinstance(before, bool)
    if isinstance(before, dict):
        return len(before) == len(after) and all(map(_is_like, before.values(), after.values()))
    if isinstance(before, list):
        return len(before) == len(after) and all(map(_is_like, before, after))
    return isinstance(after, str) if isinstance(before, str) else bool(before == after)


@_OFTEN
@given(st.lists(_TEXTS, max_size=8))
def test_a_command_is_masked_without_a_word_of_trouble(argv: list[str]) -> None:
    assert isinstance(redact_command(argv), str)


@_OFTEN
@given(st.binary(max_size=60))
def test_bytes_as_text_are_masked_without_a_word_of_trouble(data: bytes) -> None:
    for text in (repr(data), data.decode(errors="surrogateescape"), data.decode("latin-1")):
        once = redact_text(text)
        assert redact_text(once) == once


HOSTILE = [
    *(
        "password=",
        "password ",
        "password: ",
        "pass",
        "pass.",
        "key-",
        "sig=",
        "sig=;",
        "sig=,",
        "auth=&",
        "token=[",
        "token={",
    ),
    *(
        "secret='",
        'secret="',
        'secret=\\"',
        "secret=`",
        "secret=\\",
        "secret='a\"",
        "secret -> ",
        "secret%3d",
        "'secret', '",
    ),
    *(
        "['secret', '",
        "--secret ",
        "'--secret', ",
        "pwd:\n ",
        "pwd: |\n  a\n",
        "pwd: |\n",
        "a:pwd:",
        "code=(",
        "code=A(",
    ),
    *(
        "mysql ",
        "mysql -p",
        "curl -u ",
        "'curl', ",
        '"curl",',
        "curl '",
        'curl "',
        "htpasswd -b ",
        "vault put a=b ",
        "a|curl ",
    ),
    *(
        "name=",
        "name: a, ",
        '"name": "a", ',
        "value=",
        '"value": "',
        "name: password value: ",
        "name: password\n",
        "kind: secret\n",
    ),
    *(
        "data:\n a: b\n",
        "data: {",
        "'data': {",
        "---\nkind: secret\n",
        "<a>",
        "<password>",
        "</",
        "<a name='",
        "<key>a</key>",
    ),
    *(
        "://",
        "://a:",
        "://a:b@",
        "://a:/@",
        "a:b@",
        "a:bbb@c.",
        "@",
        "password for ",
        "password for a ",
        "api key is ",
        "token is ",
    ),
    *(
        "echo a |",
        "echo ",
        "login a password ",
        "machine a ",
        "a:5432:a:a:",
        "login(",
        "login('a', ",
        "auth=('",
        "'-p', '",
        "-p ",
    ),
    *(
        "PRIVATE+KEY+",
        "PRIVATE+KEY+a+0+",
        "-----BEGIN PRIVATE KEY-----",
        "Private-Lines: 1\na\n",
        "eyJ",
        "eyJ-",
        "eyJaaaaaaaa.",
    ),
    *(
        "AKIA",
        "sk-",
        "sk-a",
        "xox",
        "$2b$",
        "md5$",
        "SG.",
        "AA:",
        "1:AA",
        "sig=",
        "-us1",
        "8Q~",
        ".atlasv1.",
        "NRAL",
        "a" * 31,
    ),
    *(
        "bearer ",
        "basic a",
        "cookie: ",
        "'cookie: ",
        "authorization:",
        "\x1b[",
        "\x1b[0m",
        "\u200b",
        "а",  # noqa: RUF001
        "\ud800",
        "%",
        "\\",
        "$(",
    ),
    *(
        "identified by '",
        "set password ",
        "connstr=a=",
        "dsn=://",
        "a.b.",
        "self.",
        "[a-z]",
        "A_B_",
        "Pass",
        "passWord",
    ),
]


@pytest.mark.parametrize("part", HOSTILE)
def test_twice_the_text_takes_twice_the_time(part: str) -> None:
    """Quadratic time would be hours here: a hundred thousand starts times a fifth of a megabyte."""
    text = part * (200_000 // len(part))
    started = time.process_time()
    redact_text(text)
    assert time.process_time() - started < 15


def test_keys_that_are_masked_stay_apart() -> None:
    document = {"password=Zx9wQ7pLm2Vt": 1, "password=Qw8eR5tYu1Io": 2, "plain": 3}
    assert redact(document) == {f"password={MASK}": 1, f"password={MASK} (2)": 2, "plain": 3}
    assert redact(redact(document)) == redact(document)


def test_ordinary_output_is_masked_in_milliseconds() -> None:
    """The tail of a command's output, 16 KiB; a hundred times what it takes is allowed."""
    line = (
        "2026-01-01T10:00:00Z INFO app.worker request id={} path=/api/v1/things token_count=200 took 12ms user=alice\n"
    )
    tail = "".join(line.format(number) for number in range(200))[-16_384:]
    started = time.process_time()
    assert redact_text(tail) == tail
    assert redact_text(json.dumps({"out": tail})) == json.dumps({"out": tail})
    assert time.process_time() - started < 1
