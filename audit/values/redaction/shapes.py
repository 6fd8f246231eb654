"""Tokens that say what they are by their shape, and key files.

One line a vendor. What a scanner for source code adds (exact lengths, check sums, entropy) is left out: a token in an
error message is often cut short, and one that is masked without need costs nothing.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from audit.values.redaction.value import Span

__all__ = ["key_blocks", "shapes"]


_W = "[A-Za-z0-9_-]"
_PLUS = r"(?:\+|%2[Bb]|\\u002[Bb])"
_TOKENS = (
    # The trail's own signing key. A tail of output may begin inside it.
    (
        rf"PRIVATE{_PLUS}KEY{_PLUS}(?:[^\s+%<>\"'\\]|\\[ux][0-9a-f]{{2,4}}|%[0-9A-F]{{2}}){{1,300}}?{_PLUS}[0-9a-f]{{1,8}}"
        rf"(?:{_PLUS}(?:[A-Za-z0-9+/=]|%2[BbFf]|%3[Dd]|\\u002[Bb]|\\u003[Dd])*)?"
    ),
    # JSON web tokens, one that is cut short too
    rf"eyJ{_W}{{6,1000}}+\.(?:eyJ)?{_W}{{6,}}(?:\.{_W}*){{0,3}}",
    # GitHub, GitLab, Bitbucket
    r"gh[oprsu]_[A-Za-z0-9_.]{16,}|github_pat_[A-Za-z0-9_]{16,}",
    rf"gl(?:pat|rt|dt|ptt|ft|soat|cbt|agent|imt|ffct|oas|oat|wt|rtr|cib)-{_W}{{12,}}(?:\.{_W}+)*|GR1348941{_W}{{12,}}",
    r"ATBB[A-Za-z0-9]{20,}|ATATT3[A-Za-z0-9_=-]{16,}|ATCTT3[A-Za-z0-9_=-]{16,}",
    # Slack, Discord, Telegram, Microsoft Teams
    r"xox[a-z]-[A-Za-z0-9-]{8,}|xoxe\.xox[bp]-[A-Za-z0-9-]{8,}|xapp-[0-9]-[A-Za-z0-9-]{8,}",
    rf"[MNO][A-Za-z0-9_-]{{22,26}}\.{_W}{{6}}\.{_W}{{26,}}",
    rf"(?:bot)?[0-9]{{5,11}}:AA{_W}{{8,}}",
    # OpenAI, Anthropic and others that begin with sk-; Google, Hugging Face, Replicate, Groq, xAI, Perplexity …
    (
        rf"sk-(?:(?:proj|ant|svcacct|admin|or|lf|live|test|api\d\d|[a-z]{{2,8}}-v\d)-{_W}{{8,}}|(?=[A-Za-z_-]{{0,40}}\d){_W}{{20,}}"
        rf"|[A-Za-z0-9]{{32,}})"
    ),
    rf"AIza{_W}{{20,}}|ya29\.{_W}{{8,}}|GOCSPX-{_W}{{12,}}|1//0{_W}{{20,}}|AQ\.Ab8{_W}{{20,}}",
    r"hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|r8_[A-Za-z0-9]{16,}|gsk_[A-Za-z0-9]{16,}|xai-[A-Za-z0-9]{16,}",
    r"pplx-[A-Za-z0-9]{16,}|lsv2_(?:pt|sk)_[a-f0-9_]{16,}|nvapi-[A-Za-z0-9_-]{16,}|fw_[A-Za-z0-9]{20,}|tgp_v1_[A-Za-z0-9_.+/=-]{16,}",
    rf"co_[A-Za-z0-9]{{36,}}|fal-[A-Za-z0-9:-]{{24,}}|pcsk_[A-Za-z0-9_]{{16,}}|tvly-{_W}{{16,}}|jina_[A-Za-z0-9]{{20,}}",
    # Stripe, Square, PayPal, Shopify, Plaid, Razorpay, Adyen
    r"(?:sk|rk)_(?:live|test|prod)_[A-Za-z0-9]{8,}|whsec_[A-Za-z0-9+/=_-]{8,}|sq0[a-z]{3}-[A-Za-z0-9_-]{16,}|EAAA[A-Za-z0-9_-]{40,}",
    r"shp(?:at|ca|pa|ss|ua)_[A-Za-z0-9]{16,}|access-(?:sandbox|development|production)-[0-9a-f-]{20,}|rzp_(?:live|test)_[A-Za-z0-9]{10,}",
    r"access_token\$(?:production|sandbox)\$[0-9a-z$]{16,}|AQE[A-Za-z0-9+/]{60,}={0,2}",
    # Package registries
    rf"npm_[A-Za-z0-9]{{16,}}|pypi-AgE{_W}{{8,}}|rubygems_[a-f0-9]{{16,}}|cio[A-Za-z0-9]{{32}}|oy2[a-z0-9]{{43}}|AKC[a-zA-Z0-9]{{20,}}",
    rf"dckr_(?:pat|oat)_{_W}{{12,}}|cmVmd[A-Za-z0-9]{{30,}}|NpmToken\.[0-9a-f-]{{16,}}|clojars_[a-f0-9]{{16,}}|jsr[pt]_[a-f0-9]{{20,}}",
    # Mail, messages, telephone
    rf"SG\.{_W}{{8,}}(?:\.{_W}{{8,}})?|key-[0-9a-f]{{32}}|xkeysib-[A-Za-z0-9-]{{20,}}|re_(?=[A-Za-z]{{0,12}}[0-9])[A-Za-z0-9_]{{20,}}",
    r"SK[0-9a-f]{32}|mlsn\.[0-9a-f]{20,}|PMAK-[0-9a-f-]{20,}",
    # Clouds and hosters
    rf"do[oprt]_v1_[a-f0-9]{{16,}}|sl\.[A-Za-z0-9_.-]{{60,}}|v1\.0-[0-9a-f]{{24}}-[0-9a-f]{{16,}}|cf(?:ut|at|k)_[A-Za-z0-9]{{20,}}|HRKU-{_W}{{20,}}|rnd_[A-Za-z0-9]{{20,}}",
    rf"fo1_{_W}{{20,}}|fm[12]_[A-Za-z0-9+/=_,-]{{20,}}|nf[cpou]_[A-Za-z0-9_]{{20,}}|vercel_[A-Za-z0-9_]{{16,}}|vc[apikr]_[A-Za-z0-9]{{20,}}",
    r"LTAI[A-Za-z0-9]{12,}|pscale_(?:tkn|pw|oauth|otkn)_[A-Za-z0-9_.-]{16,}|sb[ps]_[a-z0-9_]{20,}|sb_secret_[A-Za-z0-9_-]{16,}|napi_[a-z0-9]{20,}",
    r"dapi[a-f0-9]{24,}(?:-\d)?|dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{16,}|ABSK[A-Za-z0-9+/=]{40,}|bedrock-api-key-[A-Za-z0-9+/=]{16,}",
    # HashiCorp, Pulumi, observability
    rf"hv[sbr]\.{_W}{{12,}}|pul-[a-f0-9]{{20,}}|s\.(?=[A-Za-z]{{0,20}}[0-9])[A-Za-z0-9]{{24}}(?![A-Za-z0-9.(])",
    rf"NRAK-[A-Z0-9]{{16,}}|NR(?:II|IQ|JS|AA|RA)-{_W}{{16,}}|glc_[A-Za-z0-9+/=]{{16,}}|glsa_[A-Za-z0-9_]{{16,}}",
    r"sntry[su]_[A-Za-z0-9+/=_-]{16,}|hc[abx]ik_[A-Za-z0-9]{20,}|dt0[a-z]\d\d\.[A-Z0-9]{16,}\.[A-Z0-9]{20,}|dd[pa]{1,2}_[A-Za-z0-9]{24,}",
    r"phc_[A-Za-z0-9]{24,}|phx_[A-Za-z0-9]{24,}|sgp_[A-Za-z0-9_]{24,}|squ_[a-f0-9]{24,}|sq[pa]_[a-f0-9]{24,}|CCIPAT_[A-Za-z0-9_.+/=-]{16,}|bkua_[a-f0-9]{20,}",
    # Work and design
    r"lin_(?:api|oauth)_[A-Za-z0-9]{16,}|ntn_[A-Za-z0-9]{20,}|secret_[A-Za-z0-9]{32,}|fig[dopu]r?_[A-Za-z0-9_-]{20,}|pat[A-Za-z0-9]{14}\.[a-f0-9]{32,}",
    rf"ops_eyJ[A-Za-z0-9_.+/=-]{{16,}}|A3-[A-Z0-9]{{6}}(?:-[A-Z0-9]{{5,11}}){{4,6}}|tskey-{_W}{{12,}}|ptrk_[A-Za-z0-9_.+/=-]{{16,}}|EAA[A-Za-z0-9]{{60,}}|CFPAT-{_W}{{20,}}",
    r"AGE-SECRET-KEY-1[A-Za-z0-9]{16,}|(?:xprv|yprv|zprv)[1-9A-HJ-NP-Za-km-z]{60,}|nsec1[a-z0-9]{40,}|SU?A[A-Z2-7]{54,}",
    # Hashes of passwords
    r"\$(?:2[abxy]\$\d\d\$[./A-Za-z0-9]{20,}|(?:apr1|[1567]|y|gy|sha1|md5|scrypt|argon2(?:id?|d))\$[./A-Za-z0-9$=,+-]{12,})",
    r"(?:pbkdf2_sha\d+|bcrypt(?:_sha256)?|argon2|scrypt|md5|sha1|salted_sha1|pbkdf2_sha1)\$[^\s\"\'\\,;)\]}]{20,}|SCRAM-SHA-256\$[^\s\"\'\\,;)\]}]{20,}|\{S?SHA(?:512)?\}[A-Za-z0-9+/=]{20,}",
)
# Tokens that begin with anything; each is looked for only in a text that has what stands first, which is found fast.
_OTHERS = (
    (r"hooks\.slack\.com/", r"(?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[A-Za-z0-9+/_-]{12,}"),
    (r"\.webhook\.office\.com/", r"(?<=\.webhook\.office\.com/)webhookb2/[^\s\"'<>]+"),
    ("/webhooks/[0-9]", rf"(?<=/webhooks/)[0-9]+/{_W}{{8,}}"),
    ("-us(?<=[0-9a-f]-us)[0-9]", r"(?<![0-9a-f])[0-9a-f]{32}-us[0-9]{1,2}(?![A-Za-z0-9])"),  # Mailchimp
    ("8Q~", r"(?<![A-Za-z0-9_-])[A-Za-z0-9_.~-]{1,8}8Q~[A-Za-z0-9_.~-]{24,}"),  # Azure
    (r"\.atlasv1\.", rf"(?:(?<=\\[nrt])|(?<![A-Za-z0-9\\]))[A-Za-z0-9]{{10,18}}\.atlasv1\.{_W}{{16,}}"),  # Terraform
    ("NRAL", r"(?<![A-Za-z0-9])[a-f0-9]{30,40}NRAL"),  # New Relic
)
_RARE = tuple((re.compile(needed), re.compile(pattern)) for needed, pattern in _OTHERS)


def _by_first_letter(patterns: Iterable[str]) -> str:
    """Join patterns into one that looks at a letter once, and not at a hundred patterns: most words are no tokens."""
    groups: dict[str, list[str]] = {}
    for pattern in patterns:
        depth = start = 0
        for match in re.finditer(r"\\.|\[[^\]]*\]|[()|]|\Z", pattern):
            depth += {"(": 1, ")": -1}.get(match[0], 0)
            if not depth and match[0] in {"|", ""}:
                one = pattern[start : match.start()]
                groups.setdefault(one[0] if one[0].isalnum() else "", []).append(one)
                start = match.end()
    others = groups.pop("")
    return "|".join([*(f"{each}(?:{'|'.join(one[1:] for one in ones)})" for each, ones in groups.items()), *others])


_LONG = r"(?=[A-Za-z0-9_$.+/:=%{}~-]{12})"
_SHAPE = rf"(?P<token>{_LONG}(?:{_by_first_letter(_TOKENS)}))"
# What stands before a token is searched for: such characters are fewer than those that tokens begin with. Behind an
# escape a token follows a letter, as in `\\nghp_…`.
_BEFORE, _BEFORE_ESCAPED = "[^A-Za-z0-9_]", r"[^A-Za-z0-9_](?:[nrt](?<=\\[nrt]))??"


@cache
def _tokens(before: str) -> re.Pattern[str]:
    """Compile what finds tokens, which takes as long as many other rules together; few texts have escapes."""
    return re.compile(before + _SHAPE)


# The secret half of a pair stands near its id: by commas, blanks, quotes.
_AWS_PAIR = re.compile(r"(?:AKIA|ASIA)[A-Z0-9]{12,16}[\"']?[\s,;:|]{1,4}[\"']?([A-Za-z0-9/+=]{40})(?![A-Za-z0-9/+=])")
# A tail of output that begins inside the signing key.
_CUT_OWN = re.compile(r"[PRIVATE]{0,6}\+?K?E?Y?\+[^\s+\"'<>]+\+[0-9a-f]{8}\+A[A-Za-z0-9+/]{20,}={0,2}")


def shapes(text: str) -> Iterator[Span]:
    """Yield where tokens of a known shape stand."""
    if match := _CUT_OWN.match(text):
        yield match.span()
    tokens, shifted = _tokens(_BEFORE_ESCAPED if "\\" in text else _BEFORE), f" {text}"
    found = tokens.search(shifted)
    while found:
        start, end = found.span("token")
        yield start - 1, end - 1
        found = tokens.search(shifted, end - 1)
    for needed, pattern in _RARE:
        if needed.search(text):
            yield from (match.span() for match in pattern.finditer(text))
    if "AKIA" in text or "ASIA" in text:
        yield from (match.span(1) for match in _AWS_PAIR.finditer(text))


_KEY_BEGINS = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----"
)
_KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|---- END SSH2 ENCRYPTED PRIVATE KEY ----")
_PUTTY = re.compile(
    r"Private-Lines: ?\d+(?:\r?\n|\\r\\n|\\n)([A-Za-z0-9+/=]+(?:(?:\r?\n|\\r\\n|\\n)[A-Za-z0-9+/=]++(?![-:]))*)"
)


def key_blocks(text: str) -> Iterator[Span]:
    """Yield each private key from its first line to its last; a text cut inside one loses the part that is there."""
    for match in _PUTTY.finditer(text):
        yield match.span(1)
    position = 0
    first = _KEY_BEGINS.search(text)
    for end in _KEY_ENDS.finditer(text, 0, first.start() if first else len(text)):
        start = end.start()
        for line in reversed(text[position:start].splitlines(keepends=True)):
            if " " in line.strip():
                break
            start -= len(line)
        yield start, end.end()
        position = end.end()
    while begin := _KEY_BEGINS.search(text, position):
        closing = _KEY_ENDS.search(text, begin.end())
        yield begin.start(), closing.end() if closing else len(text)
        if closing is None:
            return
        position = closing.end()
