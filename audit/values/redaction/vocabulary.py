"""The words of which names that hold secrets are made; `keys` says how a name is compared with them."""

import re

__all__ = ["ADDRESS", "ALONE", "ENDING", "GLUED", "GLUED_TEXT", "MASK", "ONLY_WHICH", "OPAQUE", "PLAIN_BEFORE", "TEXT"]

MASK = "[masked]"
"""What stands in place of a secret, whatever its length."""

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
TEXT = frozenset(
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
        *(f"{each} key" for each in _KEYS_OF),
        *(f"{each} keys" for each in ("api", "private", "secret", "signing", "access", "encryption")),
        *("api tokens", "access tokens", "auth tokens", "refresh tokens"),
        *("seed phrase", "recovery phrase", "pin code", "mfa code", "otp code", "verification code", "session cookie"),
        *("recovery code", "backup code", "recovery codes", "backup codes", "shared secret", "auth cookie"),
        *("key material", "key base64", "jwk"),
    }
)
"""Names that end in these words hold a secret when the value is text."""

OPAQUE = frozenset(
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
"""Names that end in these words hold a secret when the value looks like one."""

ADDRESS = frozenset(
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
"""Names that end in these words hold an address, which may have a password in it."""

PLAIN_BEFORE = {
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
}
"""Words before the last one under which nothing is secret: `nextToken` says where a page begins."""

GLUED = re.compile(
    r"(?:password|passwd|passphrase|passwort|apikey|secretkey|privatekey|accountkey|clientsecret|authtoken|accesstoken)$"
)
"""Words of one piece that end so hold a secret, whatever the value is: `dbpassword`."""

GLUED_TEXT = re.compile(
    r"(?:token|secret|pwd|accesskey|masterkey|signingkey|encryptionkey|subscriptionkey|credentials"
    r"|(?<!^com)(?<!^by)(?<!^tres)(?<!^over)(?<!^under)(?<!^sur)(?<!^encom)pass)$"
)
"""Words of one piece that end so hold a secret when the value is text: `storepass`, but not `compass`."""

ONLY_WHICH = frozenset(
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
"""Last words that only say which secret it is: `password_hash`."""
