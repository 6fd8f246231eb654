"""Which names hold a secret, and what their values have to look like.

Note [Names]
    A name counts by its last words: `DB_PASSWORD`, `awsSecretAccessKey`, `spring.datasource.password`. Case, hyphens,
    underscores, dots and the humps of camelCase make no difference; a number at the end (`password2`) and a word that
    only says which one (`password_hash`, `passwordConfirm`) are passed over. `keyId`, `secretARN`, `nextToken` and
    `passwordPolicy` end in other words and hold none.
"""

import re
from enum import Enum
from functools import lru_cache

__all__ = ["ALONE", "ENDING", "MASK", "Kind", "fold", "is_opaque", "is_reference", "is_strong", "kind_of", "words"]


MASK = "[masked]"
"""What stands in place of a secret, whatever its length."""


class Kind(Enum):
    """What is masked under a name."""

    ALL = "everything but null, true and false"
    TEXT = "text, whatever it says"
    OPAQUE = "text that no person would have written as words"
    ADDRESS = "text that is not a URL; in a URL its password"


ENDING = frozenset(
    {
        "password",
        "passwd",
        "passphrase",
        "pass phrase",
        "passcode",
        "pgpassword",
        "private key",
        "secret key",
        "secret access key",
        "secret string",
        "secret binary",
        "secret value",
        "client secret",
        "api key",
        "api token",
        "access token",
        "auth token",
        "bearer token",
        "id token",
        "refresh token",
        "session token",
        "account key",
        "shared access key",
        "signing key",
        # The same word in other languages.
        "passwort",
        "kennwort",
        "mot de passe",
        "contraseña",
        "contrasena",
        "senha",
        "wachtwoord",
        "hasło",
        "lösenord",
        "salasana",
        "heslo",
        "пароль",
        "密码",
        "密碼",
        "口令",
        "パスワード",
        "비밀번호",
    }
)
"""Names that end in these words hold a secret, whatever the value is."""

ALONE = frozenset(
    {
        "secret",
        "token",
        "authorization",
        "proxy authorization",
        "cookie",
        "cookies",
        "set cookie",
    }
)
"""Names that are exactly these words hold a secret, whatever the value is."""

_KEYS_OF = [
    "access",
    "admin",
    "aes",
    "anthropic",
    "app",
    "application",
    "auth",
    "aws",
    "azure",
    "cipher",
    "client",
    "consumer",
    "crypto",
    "decryption",
    "encrypt",
    "encryption",
    "fernet",
    "function",
    "gemini",
    "google",
    "hmac",
    "host",
    "ingest",
    "integration",
    "jwt",
    "ledger",
    "license",
    "licence",
    "master",
    "openai",
    "pre-shared",
    "preshared",
    "recovery",
    "root",
    "rsa",
    "sas",
    "secret",
    "server",
    "service",
    "session",
    "shared",
    "sign",
    "ssh",
    "ssl",
    "stripe",
    "subscription",
    "tls",
    "tsig",
    "unseal",
    "webhook",
    "wep",
    "write",
]
# Names that end in these words hold a secret when the value is text.
_TEXT = frozenset(
    {
        *[
            "pass",
            "passw",
            "pswd",
            "psw",
            "pwd",
            "pw",
            "psk",
            "secret",
            "secrets",
            "token",
            "passwords",
            "passphrases",
            "credential",
            "credentials",
            "cred",
            "creds",
        ],
        *["pin", "otp", "totp", "mnemonic", "requirepass", "masterauth", "authkey"],
        *(f"{each} key" for each in _KEYS_OF if each not in {"host"}),
        *(f"{each} keys" for each in ("api", "private", "secret", "signing", "access", "encryption")),
        *("api tokens", "access tokens", "auth tokens", "refresh tokens"),
        *("seed phrase", "recovery phrase", "pin code", "mfa code", "otp code", "verification code", "session cookie"),
        *("recovery code", "backup code", "recovery codes", "backup codes", "shared secret", "auth cookie"),
        *("key material", "key base64", "jwk"),
    }
)
# Names that end in these words hold a secret when the value looks like one.
_OPAQUE = frozenset(
    {
        *[
            "auth",
            "sig",
            "signature",
            "sas",
            "sessionid",
            "jsessionid",
            "phpsessid",
            "session",
            "csrf",
            "xsrf",
            "bearer",
            "jwt",
            "hmac",
        ],
        *(
            "session id",
            "connect sid",
            "csrf token",
            "basic auth",
            "auth code",
            "authorization code",
            "authorization",
            "code verifier",
        ),
        *("client assertion", "saml response", "saml assertion", "shared access signature", "auth header", "cookie"),
    }
)
_ADDRESS = frozenset(
    {
        *["dsn", "connstr"],
        *("connection string", "connection strings", "connection uri", "connection url", "conn string", "conn str"),
        *(
            f"{what} {form}"
            for what in (
                "database",
                "db",
                "redis",
                "mongo",
                "mongodb",
                "broker",
                "amqp",
                "postgres",
                "postgresql",
                "mysql",
            )
            for form in ("url", "uri", "dsn")
        ),
    }
)
# `xToken` and `x_secret` that say where a page begins or where something else is kept.
_PLAIN_BEFORE = {
    "token": frozenset(
        [
            "next",
            "continuation",
            "continue",
            "page",
            "paging",
            "pagination",
            "request",
            "client",
            "idempotency",
            "marker",
            "start",
            "starting",
            "end",
            "previous",
            "prev",
            "resume",
            "cursor",
            "eos",
            "bos",
            "pad",
            "unk",
            "mask",
            "sep",
            "cls",
            "special",
            "stop",
            "unexpected",
            "invalid",
            "illegal",
            "missing",
            "per",
            "cancellation",
            "cancel",
            "fencing",
            "lease",
            "claim",
            "first",
            "last",
            "max",
            "min",
            "total",
            "input",
            "output",
            "prompt",
            "completion",
            "cached",
            "ordering",
            "lock",
            "change",
        ]
    ),
    "secret": frozenset(["existing", "pull", "tls"]),
    "secrets": frozenset(["pull", "existing", "list"]),
    "credential": frozenset(["amz", "goog", "verifiable"]),
    "credentials": frozenset(["allow", "with"]),
    "signature": frozenset(["method", "function", "type", "call"]),
    "session": frozenset(["db", "database", "http", "ssh", "tmux"]),
    "key": frozenset(),
}
# Words of one piece that end so: `dbpassword`, `storepass`, `authtoken`; but not `compass`.
_GLUED = re.compile(
    r"(?:password|passwd|passphrase|passwort|apikey|secretkey|privatekey|accountkey|clientsecret|authtoken|accesstoken)$"
)
_GLUED_TEXT = re.compile(
    r"(?:token|secret|pwd|accesskey|masterkey|signingkey|encryptionkey|subscriptionkey|credentials"
    r"|(?<!^com)(?<!^by)(?<!^tres)(?<!^over)(?<!^under)(?<!^sur)(?<!^encom)pass)$"
)
_ONLY_WHICH = frozenset(
    [
        "hash",
        "data",
        "value",
        "base64",
        "b64",
        "base",
        "plain",
        "plaintext",
        "text",
        "new",
        "old",
        "current",
        "again",
        "confirm",
        "confirmation",
        "repeat",
        "verify",
        "prod",
        "production",
        "staging",
        "dev",
        "live",
        "default",
        "hex",
        "pem",
    ]
)

# Letters that look like Latin ones, and full-width forms, each for one character.
_LOOKALIKE = str.maketrans(
    dict(zip("аеорсухікмтвнАЕОРСУХІКМТВНѕԁӏοαΟΑΕΚ", "aeopcyxikmtbhAEOPCYXIKMTBHsdloaOAEK", strict=True))
    | {chr(0xFF01 + each): chr(0x21 + each) for each in range(94)}
)
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


def fold(text: str) -> str:
    """Write look-alike letters as the Latin ones; the length stays."""
    return text if text.isascii() else text.translate(_LOOKALIKE)


_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[^\W_A-Za-z]+")


def words(name: str) -> list[str]:
    """Split a name into its words, in small letters."""
    name = name if name.isascii() else _UNSEEN.sub("", fold(name))
    if name.isascii():
        return [word.lower() for word in _WORD.findall(name)]
    return [word.lower() for word in re.findall(r"[A-Z]?[^\W_A-Z0-9]+|[A-Z]+|[0-9]+", name)]


def _joined(names: frozenset[str]) -> frozenset[str]:
    return frozenset("".join(words(name)) for name in names)


_TABLE: dict[str, Kind] = {}
for _names, _kind in ((_ADDRESS, Kind.ADDRESS), (_OPAQUE, Kind.OPAQUE), (_TEXT, Kind.TEXT), (ENDING, Kind.ALL)):
    _TABLE |= dict.fromkeys(_joined(_names), _kind)
_ALONE = _joined(ALONE)
_LONGEST = 4
_MAX_NAME = 200


@lru_cache(maxsize=8192)
def kind_of(name: str) -> Kind | None:
    """Tell what is masked under a name; None for nothing."""
    split = words(name[-_MAX_NAME:])
    while split and split[-1].isdigit():
        split.pop()
    if "".join(split) in _ALONE:
        return Kind.ALL
    kind = _ends(split)
    while kind is None and len(split) > 1 and split[-1] in _ONLY_WHICH:
        split.pop()
        kind = _ends(split)
        if kind in (Kind.OPAQUE, Kind.ADDRESS):
            return None
    return kind


def _ends(split: list[str]) -> Kind | None:
    if not split:
        return None
    for count in range(min(_LONGEST, len(split)), 0, -1):
        kind = _TABLE.get("".join(split[-count:]))
        if kind is not None:
            before = split[-count - 1] if len(split) > count else ""
            return None if before in _PLAIN_BEFORE.get(split[-1], ()) else kind
    last = split[-1]
    if _GLUED.search(last):
        return Kind.ALL
    if match := _GLUED_TEXT.search(last):
        return None if last[: match.start()] in _PLAIN_BEFORE.get(match[0], ()) else Kind.TEXT
    return None


def is_strong(name: str) -> bool:
    """Whether a name holds a secret whatever its value looks like."""
    return kind_of(name) in (Kind.ALL, Kind.TEXT)


_REFERENCE = re.compile(
    r"""
      \((?:sensitive|known)\b  # as Terraform shows one
    | \$\{[^}:]*\}? | \$\( | \$[A-Za-z_]+$ | %?\{\{ | %\( | %[sdr]$ | \{\w*\} | <[^<>]*> | [*xX•.…]{3,}$ | %\w+%$
    | (?:~|\.{1,2})/ | /(?:etc|home|usr|var|run|root|opt|tmp|mnt|srv|dev|proc|secrets?|keys?|app|data|vault|Users)/
    | /?(?:[\w.-]+/)+[\w.-]+\.[a-z]{2,4}$ | [A-Za-z]:\\ | [\w-]+\.(?:pem|key|crt|txt|json|ya?ml|env|ppk|py|sh)$
    | [A-Z]+(?:_[A-Z]+){2,}$ | arn:aws | (?:op|vault|ssm|file|gcp-?sm|aws-?sm|secretsmanager|awskms|projects):?/
    | (?:self|os|settings|config|env|cls|process|request|args|kwargs|options|data|secrets?|var|local|module)\.[A-Za-z_]
    | (?:[a-z_]+|[A-Z_]+)(?:\.(?:[a-z_]+|[A-Z_]+))+(?:[(\[]|$) | [a-z_][a-z_.]*\( | (?:lambda|await|new)\s
    """,
    re.VERBOSE,
)


def is_reference(value: str) -> bool:
    """Whether a value only says where the secret is: a variable, a path, a template, a call, stars."""
    return bool(_REFERENCE.match(value))


_PLAIN = re.compile(
    r"""
      [0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}
    | [a-z]+(?:[-_./:][a-z0-9]+)+ | v?\d[\d.,:/_-]* | v\d+ | \d+(?:\.\d+)?[A-Za-z]{1,3} | \d{4}-\d\d-\d\d[\dTZ:.+-]*
    | [A-Z][a-z]+\d? | [a-z]+\d{0,2} | [A-Z]+[-_]?\d{0,2} | [A-Z_]+\d? | (?:https?|arn|s3|gs):.* | [\w.-]+:\d{2,5}
    | (?:[\w.-]*/){2,}[\w.-]* | [A-Za-z]+/\d[\d.]* | sha(?:1|256|512)[:=-][0-9A-Za-z+/=]+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    """,
    re.VERBOSE,
)
_NOT_IN_SECRETS = re.compile(r"[\s()<>{}\"'|]|\[(?!masked)")


_DIGIT = re.compile(r"\d")
_LETTER = re.compile(r"[^\W\d_]")


def is_opaque(value: str, *, least: int = 6) -> bool:
    """Whether a text looks as if a machine had made it: letters with digits, with signs, or long and in mixed case."""
    if len(value) < least or _NOT_IN_SECRETS.search(value) or _PLAIN.fullmatch(value) or is_reference(value):
        return False
    digits = bool(_DIGIT.search(value))
    letters = bool(_LETTER.search(value))
    if digits and letters:
        return True
    mixed = letters and value != value.lower() and value != value.upper()
    if len(value) >= 20 and (mixed or letters) and value.isascii() and re.fullmatch(r"[A-Za-z0-9+/_=-]+", value):
        return mixed or len(set(value)) <= 3
    return letters and any(each in "!@#$%^&*~" for each in value[1:-1])
