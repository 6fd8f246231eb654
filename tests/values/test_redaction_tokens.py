"""Every row of the table of vendors' tokens is needed: without it, a sample here is not masked.

Tokens are put together when the test runs, so that no scanner takes this file for a leak.
"""

import random
import re
import string
from collections.abc import Iterable
from functools import cache

import pytest

from audit.values.redaction import MASK, masking, redact_text, shapes


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays readable without a row must not be known as plain afterwards."""
    monkeypatch.setattr(masking, "_seen", set())


# Tokens: their beginning in two pieces, then how many characters of which alphabet, `n` for letters and digits.
# ruff: noqa: E501

_ALPHABETS = {
    "n": string.ascii_letters + string.digits,
    "h": "0123456789abcdef",
    "l": string.ascii_lowercase + string.digits,
    "u": string.ascii_uppercase + "234567",
    "d": string.digits,
    "b": "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
}
TOKENS = """
ey J n20 .ey J n40 . n43|ey J n30 . n20
gh p_ n36|gh o_ n36|gh r_ n36|gh s_ n36|gh u_ n36|github _pat_ n60
gl pat- n20|gl rt- n20|gl dt- n20|gl ptt- n40|gl ft- n20|gl soat- n20|gl cbt- n20|gl agent- n50|gl imt- n25|gl ffct- n20|gl oas- n64|gl oat- n40|gl wt- n20|gl rtr- n20|gl cib- n20|GR134 8941 n20
ATB B n32|ATAT T3 n60|ATCT T3 n60
xo xb- d11 - n24|xo xp- d11 - n24|xoxe .xoxb- d1 - n40|xoxe .xoxp- d1 - n40|xa pp-1- n11 - n40
M n23 . n6 . n30|N n23 . n6 . n38|O n23 . n6 . n30
d9 :A A n33|bot d9 :A A n33
s k-proj- n40|s k-ant-api03- n80|s k-svcacct- n40|s k-admin- n40|s k-or-v1- h60|s k-lf- h30|s k- n48|s k- n12 -7 n12
AI za n35|ya 29. n60|GOC SPX- n28|1/ /0 n40|AQ .Ab8 n40
h f_ n34|api _org_ n34|r 8_ n37|gs k_ n52|xa i- n80
pp lx- n48|ls v2_pt_ h32 _ h10|ls v2_sk_ h32|nv api- n60|f w_ n24|tgp _v1_ n43
c o_ n40|fa l- h36 : h32|pc sk_ n60|tv ly- n32|ji na_ n60
s k_live_ n24|r k_live_ n24|s k_test_ n24|s k_prod_ n24|wh sec_ n32|sq 0csp- n43|EA AA n60
shp at_ h32|shp ca_ h32|shp pa_ h32|shp ss_ h32|shp ua_ h32|access -sandbox- h8 - h4 - h4 - h12|access -production- h8 - h4 - h4 - h12|access -development- h8 - h4 - h4 - h12|rzp _live_ n14|rzp _test_ n14
access_token $production$ l16 $ h32|access_token $sandbox$ l16 $ h32|AQ E n70
np m_ n36|py pi-AgE n60|ruby gems_ h48|ci o n32|oy 2 l43|AK C n40
dckr _pat_ n27|dckr _oat_ n27|cmV md n60|Npm Token. h8 - h4 - h12|clo jars_ h60|js rt_ h40|js rp_ h40
S G. n22 . n43|S G. n22|key - h32|xke ysib- h64 - n16|r e_ n8 _7 n24
S K h32|ml sn. h64|PM AK- h24 - h34
do p_v1_ h64|do o_v1_ h64|do r_v1_ h64|s l. n80|v1 .0- h24 - h146|cf ut_ n40|cf at_ n40|cf k_ n40|HR KU- n60|rn d_ n32
fo 1_ n43|fm 1_ n80|fm 2_ n80|nf p_ n36|nf c_ n36|nf o_ n36|nf u_ n36|ver cel_ n24|vc a_ n24|vc p_ n24|vc i_ n24|vc k_ n24|vc r_ n24
LT AI n20|psc ale_tkn_ n40|psc ale_pw_ n40|psc ale_oauth_ n40|psc ale_otkn_ n40|sb p_ h40|sb s_ h40|sb _secret_ n31|na pi_ l50
da pi h32|da pi h32 -2|dp .pt. n43|dp .st. n43|dp .ct. n43|dp .sa. n43|dp .scim. n43|dp .audit. n43|AB SK n120|bedrock -api-key- n100
hv s. n90|hv b. n90|hv r. n90|pu l- h40|s .7 n23
NR AK- u27|NR II- n32|NR IQ- n32|NR JS- n32|NR AA- n32|NR RA- n32|gl c_ n60|gl sa_ n32 _ h8
sntry s_ n60|sntry u_ h64|hc aik_ n58|hc bik_ n58|hc xik_ n58|dt 0c01. u24 . u64|dd p_ n34|dd a_ n34
ph c_ n43|ph x_ n43|sg p_ h40|sq u_ h40|sq p_ h40|sq a_ h40|CC IPAT_ n22 _ h40|bk ua_ h40
lin _api_ n40|lin _oauth_ n40|nt n_ n46|sec ret_ n43|fig d_ n40|fig o_ n40|fig u_ n40|fig pr_ n40|pa t n14 . h64
ops _ey J n200|A 3- u6 - u6 - u5 - u5 - u5 - u5|ts key-auth- n20|pt rk_ n40|EA A n120|CF PAT- n43
AGE-SECRET -KEY-1 u58|xp rv9s b107|yp rv9s b107|zp rv9s b107|ns ec1 l58|S UA u54|S A u56
$2 b$12$ n53|$2 y$10$ n53|$ap r1$ n8 $ n22|$ 6$ n16 $ n86|$ 5$ n16 $ n43|$ y$j9T$ n22 $ n43|$arg on2id$v=19$m=65536,t=3,p=4$ n22 $ n43|$sc rypt$ln=16,r=8,p=1$ n22 $ n43
pbkdf2 _sha256$600000$ n22 $ n43 =|bcrypt _sha256$$2b$12$ n53|argon2 $argon2id$v=19$ n43|scr ypt$16384$ n22 $8$1$ n60|md 5$ n10 $ h32|sha 1$ n10 $ h40|SCRAM -SHA-256$4096: n24 $ n44 : n44|{S SHA} n40|{S HA} n28 =|{SS HA512} n80
""".strip()  # fmt: skip
OTHERS = {
    "hooks.slack.com/": "https://hooks.slack .com/ services/T n9 /B n9 / n24",
    ".webhook.office.com/": "https://x.webhook .office.com/ webhookb2/ h8 @ h8 /IncomingWebhook/ h32",
    "/webhooks/": "https://discord .com/api/webhooks/ d18 / n68",
    "-us": "h32 -us 12",
    "8Q~": "n3 8Q ~ n34",
    ".atlasv1.": "n14 .atlas v1. n60",
    "NRAL": "h36 NR AL",
}


def _made(text: str) -> str:
    """Put a token together; of each run of characters some are letters and some digits."""
    chance = random.Random(text)

    def run(piece: str) -> str:
        alphabet, length = _ALPHABETS.get(piece[:1]), piece[1:]
        if alphabet is None or not length.isdigit():
            return piece
        return "".join(chance.choice(alphabet) for _ in range(int(length) - 1)) + "7"

    return "".join(map(run, text.split()))


_SAMPLES = [[_made(text) for text in line.split("|")] for line in TOKENS.splitlines()]


def _alternatives(row: str) -> list[str]:
    """The alternatives of a regular expression that stand in no parentheses or brackets."""
    parts, depth, bracket, escaped = [""], 0, False, False
    for each in row:
        if escaped or each == "\\":
            escaped = not escaped
        elif bracket:
            bracket = each != "]"
        elif each == "[":
            bracket = True
        elif each in "()":
            depth += 1 if each == "(" else -1
        elif each == "|" and not depth:
            parts.append("")
            continue
        parts[-1] += each
    return parts


def test_every_row_of_tokens_has_samples_of_its_own() -> None:
    # The first row is the trail's own key, which test_redaction_secrets has.
    assert len(_SAMPLES) == len(shapes._TOKENS) - 1
    found = [[needed.pattern for needed, _ in shapes._RARE if needed.search(_made(text))] for text in OTHERS.values()]
    assert sorted(found) == sorted([needed] for needed, _ in shapes._OTHERS)


@pytest.mark.parametrize("index", range(len(_SAMPLES)), ids=TOKENS.splitlines().__getitem__)
def test_a_row_of_tokens_masks_its_samples_and_each_alternative_is_needed(index: int) -> None:
    row = shapes._TOKENS[index + 1]
    for token in _SAMPLES[index]:
        assert re.fullmatch(row, token), token
        for text in ("{}", "got {} back", "('{}',)", "https://x/{}", '{{"a": "{}"}}', "\\n{}\\n"):
            assert redact_text(text.format(token)) == text.format(MASK), token
    parts = _alternatives(row)
    for part in parts:
        others = "|".join(each for each in parts if each is not part) or "(?!)"
        assert [token for token in _SAMPLES[index] if not re.fullmatch(others, token)], f"no sample needs {part}"


def _seen(tokens: Iterable[str]) -> int:
    return sum(MASK in redact_text(f"got {token} back") for token in tokens)


@pytest.mark.parametrize("index", range(len(_SAMPLES)), ids=TOKENS.splitlines().__getitem__)
def test_without_a_row_of_tokens_some_stay_readable(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [row for number, row in enumerate(shapes._TOKENS) if number != index + 1]
    shape = rf"(?P<token>{shapes._LONG}(?:{shapes._by_first_letter(kept)}))"
    monkeypatch.setattr(shapes, "_tokens", cache(lambda before: re.compile(before + shape)))
    assert _seen(_SAMPLES[index]) < len(_SAMPLES[index])


@pytest.mark.parametrize("needed", OTHERS)
def test_a_rare_token_is_masked_by_its_row_alone(needed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = _made(OTHERS[needed])
    secret = token[token.index(needed) + len(needed) :] if needed[-1] in "/=" else token
    assert secret not in redact_text(f"got {token} back")
    assert MASK in redact_text(f"got {token} back")
    monkeypatch.setattr(shapes, "_RARE", [each for each in shapes._RARE if not each[0].search(token)])
    assert redact_text(f"got {token} back") == f"got {token} back"


@pytest.mark.parametrize(
    "text",
    [
        "ghp_short gho_ github_pattern glpat-x xoxb- sk-learn sk-SK hf_hub npm_config_registry pypi-server",
        "sk_buff sk_live rk_ whsec shpat AIzawa ya29 SG.1 key-value key-0 dop_v1 dckr_pat eyJ.eyJ",
        "SKU 12345 LTAI dapi pul-request hvs hvs. s.split(', ') NRAK AKIAIOSFODNN7EXAMPLE",
        "$1.99 $2 $5 $6 {SHA} md5 sha1 5d41402abc4b2a76b9719d911017c592 A3-size paper",
        "0190163d-8694-739b-aea5-966c26f8ad91 sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "https://hooks.slack.com/ https://discord.com/api/webhooks/ ?sig= us-east-1 eu-us 8Q~",
    ],
)
def test_words_that_begin_as_tokens_do_stay_as_they_are(text: str) -> None:
    assert redact_text(text) == text
