"""What the options of known programs hold, for `-p` is a password here and a port there.

Note [The table]
    Each line names programs and, behind `|`, what they take. A line counts only when all the words before `|` behind
    the programs (after `/`) stand in the command. Options whose names say that they hold a secret (`--password`) need
    no line.

    `-p` is an option whose whole argument is a secret, the next word or glued on (`-pX`, `-p=X`). `-p+` is one only
    when glued on, for mysql asks otherwise. `-u:` takes user and password with that sign between; the user stays. So do
    `-u,` (`user,password`) and `-U%` (`user%password`), and `--from-literal=` takes `name=value`, of which the name
    stays. `-b;` takes a cookie or the name of a file, which stays: of `a=1; b=2`, and of one value that looks like a
    secret, all behind the first `=` is masked.

    `$` is the last word of all; `*=` is what stands behind the sign in each `name=value`. `=password` is the word
    `password` and no option: the next word is a secret. `@/` is the login of Oracle's programs, the first word that is
    no option: of `user/password@host` all behind the first `/` is masked, the host too.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from audit.values.redaction.keys import Kind, kind_of
from audit.values.redaction.looks import is_opaque, is_reference

__all__ = ["programs", "secrets_of", "words_of"]

_TABLE = """
curl wget | -u: --user: -U: --proxy-user: -b; --oauth2-bearer
mysql mysqldump mysqladmin mysqlimport mysqlcheck mysqlshow mysqlpump mysqlslap mysqlbinlog mysqlsh mysql_upgrade mariadb mariadb-dump mariadb-admin mariadb-import mariadb-check mariadb-backup xtrabackup pt-table-checksum mycli | -p+
mydumper myloader | -p
mongo mongosh mongodump mongorestore mongoexport mongoimport mongostat mongotop mongofiles | -p
sshpass | -p
docker podman buildah nerdctl skopeo helm oras crane regctl buildctl / login | -p
docker podman buildah nerdctl skopeo | --creds: --src-creds: --dest-creds:
docker podman / secret create | *=
redis-cli valkey-cli keydb-cli redis-benchmark | -a
redis-cli valkey-cli keydb-cli / auth | $
redis-cli valkey-cli keydb-cli / requirepass | $
redis-cli valkey-cli keydb-cli / masterauth | $
ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami ldapcompare ldapmodrdn ldapexop | -w
ldappasswd | -w -s -a
smbclient rpcclient smbget smbcacls smbpasswd net winexe wmic wmiexec smbmap | -U% --user%
htpasswd / -b | $
htpasswd / -nb | $
htpasswd / -bn | $
htpasswd / -cb | $
htpasswd / -bc | $
htpasswd / -nbB | $
htpasswd / -bB | $
htpasswd / -Bb | $
htpasswd / -nbm | $
openssl | -k -K -passin: -passout: -pass: -passcert:
openssl / passwd | $
zip unzip zipcloak | -P
7z 7za 7zr 7zz | -p+
rar unrar | -p+ -hp+
sqlcmd bcp osql isql fisql freebcp mssql-cli usql | -P
tsql | -P
sqlplus sqlldr exp imp expdp impdp rman | @/
cqlsh nodetool sstableloader | -p -pw
influx influxd | -p -t
rabbitmqctl / add_user | $
rabbitmqctl / change_password | $
rabbitmqctl / authenticate_user | $
rabbitmqadmin | -p
mosquitto_pub mosquitto_sub mosquitto_rr | -P --pw
mosquitto_passwd / -b | $
ipmitool ipmiutil ipmi-sensors fence_ipmilan | -P
snmpwalk snmpget snmpset snmpbulkwalk snmpbulkget snmptrap | -c -A -X
lftp ncftp ncftpput ncftpget | -u, -p
ftp sftp | -u:
ab siege httpie http https xh wrk hey | -a: -A: --auth:
http https xh | -a
twine | -p
poetry / http-basic | $
poetry / pypi-token | $
composer / http-basic | $
composer / github-oauth | $
cargo / login | $
gem hub | --key
npm yarn pnpm / login | --auth
nuget dotnet / push | -k
conan | -p
vault / login | $
vault / put | *=
vault / write | *=
vault / unseal | $
etcdctl | --user:
kubectl oc / secret | --from-literal=
oc cf ibmcloud | -p
aws / put-parameter | --value
az / login | -p
az / sql server | -p
az / mysql | -p
az / postgres | -p
az / secret set | --value
az | --connection-string
gcloud / secrets | --data
gcloud / activate-refresh-token | $
gh / secret set | -b --body
gh glab / login | -t
gh glab / variable set | --value
doctl / init | -t
heroku / config:set | *=
fly flyctl / secrets set | *=
fly flyctl | -t
wrangler vercel netlify railway render | -t --auth
dokku / config:set | *=
ngrok / authtoken | $
ngrok / add-authtoken | $
snyk / auth | $
wandb / login | $
bw / unlock | $
bw / login | $
op / signin | $
mc / alias set | $
mc / host add | $
codecov | -t
stripe twilio sentry-cli newrelic | -k
rclone / config create | =pass
rclone / obscure | $
plink pscp psftp putty | -pw
xfreerdp rdesktop freerdp wlfreerdp | -p /p:
ssh-keygen | -N -P
keytool jarsigner | -storepass -keypass -srcstorepass -deststorepass -srckeypass -destkeypass -new
signtool | /p -p
nmcli / wifi | =password
wpa_passphrase | $
useradd usermod | -p
chpasswd | $
expect crackmapexec netexec nxc evil-winrm hydra medusa | -p
psexec psexec.py impacket-psexec | -p
pass / insert | $
grafana-cli / reset-admin-password | $
""".strip()  # noqa: E501


class _Line(NamedTuple):
    needs: tuple[str, ...]
    options: dict[str, str]
    last: bool
    pairs: bool
    oracle: bool
    names: tuple[str, ...]


_SIGNS = ":%,;+="


def _read() -> dict[str, list[_Line]]:
    table: dict[str, list[_Line]] = {}
    for row in _TABLE.splitlines():
        left, _, right = row.partition(" | ")
        programs, _, needs = left.partition(" / ")
        options: dict[str, str] = {}
        names = []
        rest = right.split()
        for each in rest:
            if each.startswith(("-", "/")):
                sign = each[-1] if each[-1] in _SIGNS and len(each) > 2 else ""
                options[each.removesuffix(sign) if sign else each] = sign
            elif each.startswith("="):
                names.append(each[1:])
        line = _Line(tuple(needs.split()), options, "$" in rest, "*=" in rest, "@/" in rest, tuple(names))
        for program in programs.split():
            table.setdefault(program, []).append(line)
    return table


_PROGRAMS = _read()
# A text is split into words first: to look each of them up takes a third of what a pattern of all names takes.
_WORDS = bytes(each if chr(each) in "abcdefghijklmnopqrstuvwxyz0123456789_.-" else 32 for each in range(256))
_AS_WORDS = frozenset(f"{name}{end}".encode() for name in _PROGRAMS for end in ("", ".exe"))


def words_of(small: str) -> set[bytes]:
    """Return the words of a text in small letters, each once; only ASCII letters make words."""
    return set(small.encode("utf-8", "replace").translate(_WORDS).split())


def programs(small: str, words: set[bytes]) -> Iterator[tuple[int, int]]:
    """Yield where names of programs of the table stand in a text in small letters that has these words."""
    if found := _AS_WORDS & words:
        yield from (match.span() for match in _pattern(found).finditer(small))


@lru_cache(maxsize=64)
def _pattern(names: frozenset[bytes]) -> re.Pattern[str]:
    each = "|".join(rf"{re.escape(name)}(?<![\w.-]{re.escape(name)})" for name in sorted(map(bytes.decode, names)))
    return re.compile(rf"(?:{each})(?![\w.-])(?=[\"',]{{0,3}}\s|[\"'],)")


# `config set KEY VALUE`: what comes next is a secret.
_SETTERS = frozenset(
    ["set", "config", "configure", "put", "config:set", "setenv", "add", "--add", "--global", "--replace-all"]
)
_PASS = re.compile(r"(?:[a-z0-9]+:)?pass:(?=.)")


def secrets_of(argv: Sequence[str]) -> dict[int, int]:
    """Find the words of a command that hold a secret because of the program, or of what stands before them.

    Returns:
        The index of each such word, and where in it the secret begins.
    """
    found: dict[int, int] = {}
    seen: dict[str, int] = {}
    for index, word in enumerate(argv):
        name = word.rpartition("/")[2].removesuffix(".exe").lower() if len(word) < 200 else ""
        if name in _PROGRAMS:
            seen.setdefault(name, index)
    if seen:
        words = [each[:100].lower() if each[:1] != "-" else each for each in argv]
    for name, at in seen.items():
        for line in _PROGRAMS[name]:
            if all(any(each == need or each.startswith(f"{need}.") for each in words) for need in line.needs):
                _apply(argv, at, line, found)
    for index, word in enumerate(argv):
        if index and (match := _PASS.match(word)) and argv[index - 1].startswith("-"):
            found.setdefault(index, match.end())
        if (
            index
            and index + 1 < len(argv)
            and _SETTERS.intersection(argv[max(0, index - 4) : index])
            and _names_secret(word)
        ):
            found.setdefault(index + 1, 0)
    return found


@lru_cache(maxsize=1024)
def _names_secret(word: str) -> bool:
    return (
        not word.startswith("-")
        and "=" not in word
        and kind_of(word.rpartition(":")[2]) in (Kind.ALL, Kind.TEXT, Kind.OPAQUE)
        and not re.fullmatch(r"secrets?|credentials?|pass|auth|session", word)
    )


def _apply(argv: Sequence[str], at: int, line: _Line, found: dict[int, int]) -> None:
    for index in range(at + 1, len(argv)):
        word, following = argv[index], argv[index + 1] if index + 1 < len(argv) else None
        name, sign, _ = word.partition("=")
        option = word if word in line.options else name if sign and name in line.options else ""
        if option:
            how = line.options[option]
            if how == "+":
                continue
            if option != word:
                _mark(argv, index, len(option) + 1, how, found)
            elif following is not None and not (following.startswith("-") and len(following) < 3):
                _mark(argv, index + 1, 0, how, found)
        elif word[:1] in "-/" and word[:2] != "--":
            for option, how in line.options.items():
                if word.startswith(option) and len(word) > len(option) and option[:2] != "--" and len(option) <= 3:
                    if not (len(option) == 2 and kind_of(word) is not None):
                        _mark(argv, index, len(option), how, found)
                    break
        if line.pairs and sign and not word.startswith("-") and len(word) > len(name) + 1:
            found.setdefault(index, len(name) + 1)
        if (
            line.oracle
            and not word.startswith(("-", "@", "/"))
            and "/" in word.partition("@")[0]
            and all(each.startswith("-") for each in argv[at + 1 : index])
        ):
            found.setdefault(index, word.index("/") + 1)
        if following is not None and word in line.names:
            found.setdefault(index + 1, 0)
    if (
        line.last
        and not argv[-1].startswith("-")
        and len(argv) > at + 1 + len(line.needs)
        and argv[-1] not in line.needs
    ):
        found.setdefault(len(argv) - 1, 0)


def _mark(argv: Sequence[str], index: int, offset: int, how: str, found: dict[int, int]) -> None:
    """Mark a word from an offset on; a sign says where between user and password the secret begins."""
    value = argv[index][offset:]
    if not value or is_reference(value):
        return
    if how in {":", "%", ","}:
        cut = value.find(how)
        if cut < 0 or cut + 1 == len(value) or value.startswith(("file:", "env:", "fd:")):
            return
        offset += cut + 1
    elif how == "=":
        cut = value.find("=")
        if cut < 0:
            return
        offset += cut + 1
    elif how == ";":
        # A document of its own: text rules look into it; what is a cookie is masked here.
        if argv[index - 1] not in {"-b", "--cookie"} or "=" not in value or is_reference(value):
            return
        offset += value.index("=") + 1
        if not is_opaque(argv[index][offset:]) and ";" not in value:
            return
    found.setdefault(index, offset)
