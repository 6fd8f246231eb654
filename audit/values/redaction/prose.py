"""Secrets in sentences, SQL and calls: `the password is …`, `IDENTIFIED BY '…'`, `login('bob', '…')`."""

import re
from collections.abc import Iterator

from audit.values.redaction.keys import MASK
from audit.values.redaction.looks import is_opaque
from audit.values.redaction.value import LITERAL, Span

__all__ = ["calls", "said", "sql"]

_SAID = re.compile(
    # `(?<!\w.)` behind a first letter is `\b` before it, but the search looks for the letters first.
    r"""(?P<what>p(?<!\w.)(?:ass(?:word|phrase|code|wd)|wd)|s(?<!\w.)ecret|t(?<!\w.)oken
        |a(?<!\w.)(?:pi|ccess|uth)[ _-]?(?:key|token)|s(?<!\w.)ecret[ _-]?(?:key|token)
        |p(?<!\w.)rivate[ _-]?(?:key|token)|l(?<!\w.)icense[ _-]?(?:key|token)
        |p(?<!\w.)in|c(?<!\w.)redentials?)\b['"]?
        (?P<how>
            (?:[ ]+(?:for|of|provided|received|found|given|supplied|in|by))(?:[ ]+[^\s:=]{1,60}){0,4}?
            (?:[ ]*[:=]|[ ]+(?:is|was)(?:[ ]+now)?)
          | [ ]+(?:is|was|are|will[ ]be|set[ ]to|changed[ ]to|reset[ ]to|now|to|as|being)(?:[ ]+now)?[ ]*[:=]?
          | (?=[ ])
        )
        [ ]+(?:["'`](?P<quoted>[^"'`\s]{1,300})["'`]|(?P<value>[^\s"'`,;]{6,300}))""",
    re.VERBOSE,
)


def said(text: str, small: str) -> Iterator[Span]:
    """`password is …`, `Password for bob: …`, `PASSWORD '…'`."""
    for match in _SAID.finditer(small):
        if match["quoted"]:
            span = match.span("quoted")
            value = text[slice(*span)]
            sql = (
                match["what"].startswith("pass")
                and not match["how"].strip()
                and text[match.start() : match.start() + 8].isupper()
            )
            if value.startswith(MASK) or not (sql or is_opaque(value)):
                continue
        else:
            span = match.span("value")
            value = text[slice(*span)].rstrip(".,;:!?)")
            least = 6 if match["how"].strip() else 8
            if (
                MASK[1:-1] in value
                or not is_opaque(value, least=least)
                or (least == 8 and not any(map(str.isdigit, value)))
            ):
                continue
            span = span[0], span[0] + len(value)
        yield span


_SQL = re.compile(
    r"""\bidentified[ ]+by[ ]+(?:password[ ]+)?['"]([^'"\r\n]+)['"]|\bset[ ]+password[^\r\n;'=]{0,80}=[ ]*(?:password\()?'([^'\r\n]+)'""",  # noqa: E501
    re.VERBOSE,
)


def sql(text: str, small: str) -> Iterator[Span]:
    """`IDENTIFIED BY '…'`, `SET PASSWORD = '…'`."""
    for match in _SQL.finditer(small):
        yield match.span(match.lastindex or 1)


_CALLED = (
    r"login|log_in|signin|sign_in|authenticate|set_password|check_password|make_password|basicauth|basic_auth"
    r"|httpbasicauth|httpdigestauth|connect|set_secret|create_superuser|create_user|set_token|add_user"
    r"|auth=|auth\s=\s|auth:|auth:\s|auth':|auth':\s|auth\":|auth\":\s|auth'\":|auth'\":\s|credentials=|plaincredentials"
    r"|encrypt|decrypt|hashpw|setenv|putenv|hset|setex|put_secret|set_env|_set"
)
_CALL = re.compile(rf"(?:\b|_)(?:{_CALLED}|usernamepassword\w{{0,20}})\(([^()\r\n]{{1,300}})\)?")
# The same from the bracket on, for brackets are few.
_MAY_CALL = re.compile(rf"\((?:{'|'.join(rf'(?<={name}[(])' for name in _CALLED.split('|'))})")


def calls(text: str, small: str) -> Iterator[Span]:
    """`login('bob', '…')`, `auth=('bob', '…')`: the last text, if it looks like a secret."""
    if not _MAY_CALL.search(small) and "usernamepassword" not in small:
        return
    for match in _CALL.finditer(small):
        literals = list(LITERAL.finditer(text, *match.span(1)))
        if literals and is_opaque(literals[-1]["value"]):
            yield literals[-1].span("value")
