"""Every row of the table of programs is needed: without it, a sample here is not masked.

In the samples `§` stands for the secret.
"""

import shlex
from collections.abc import Iterator

import pytest

from audit.values.redaction import MASK, commands, masking, redact_command, redact_text

SECRET = "Zx9wQ7pLm2Vt"


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays readable without a row must not be known as plain afterwards."""
    monkeypatch.setattr(masking, "_seen", set())


PROGRAMS = """
curl -u bob:§
wget --user bob:§
curl -U bob:§
wget --proxy-user bob:§
curl -b sid=§
wget --oauth2-bearer §
mysql -p§
mysqldump -p§
mysqladmin -p§
mysqlimport -p§
mysqlcheck -p§
mysqlshow -p§
mysqlpump -p§
mysqlslap -p§
mysqlbinlog -p§
mysqlsh -p§
mysql_upgrade -p§
mariadb -p§
mariadb-dump -p§
mariadb-admin -p§
mariadb-import -p§
mariadb-check -p§
mariadb-backup -p§
xtrabackup -p§
pt-table-checksum -p§
mycli -p§
mydumper -p §
myloader -p §
mongo -p §
mongosh -p §
mongodump -p §
mongorestore -p §
mongoexport -p §
mongoimport -p §
mongostat -p §
mongotop -p §
mongofiles -p §
sshpass -p §
docker login -p §
podman login -p §
buildah login -p §
nerdctl login -p §
skopeo login -p §
helm login -p §
oras login -p §
crane login -p §
regctl login -p §
buildctl login -p §
docker --creds bob:§
podman --src-creds bob:§
buildah --dest-creds bob:§
nerdctl --creds bob:§
skopeo --src-creds bob:§
docker secret create app X=§
podman secret create app X=§
redis-cli -a §
valkey-cli -a §
keydb-cli -a §
redis-benchmark -a §
redis-cli auth bob §
valkey-cli auth bob §
keydb-cli auth bob §
redis-cli requirepass bob §
valkey-cli requirepass bob §
keydb-cli requirepass bob §
redis-cli masterauth bob §
valkey-cli masterauth bob §
keydb-cli masterauth bob §
ldapsearch -w §
ldapadd -w §
ldapmodify -w §
ldapdelete -w §
ldapwhoami -w §
ldapcompare -w §
ldapmodrdn -w §
ldapexop -w §
ldappasswd -w §
ldappasswd -s §
ldappasswd -a §
smbclient -U bob%§
rpcclient --user bob%§
smbget -U bob%§
smbcacls --user bob%§
smbpasswd -U bob%§
net --user bob%§
winexe -U bob%§
wmic --user bob%§
wmiexec -U bob%§
smbmap --user bob%§
htpasswd -b bob §
htpasswd -nb bob §
htpasswd -bn bob §
htpasswd -cb bob §
htpasswd -bc bob §
htpasswd -nbB bob §
htpasswd -bB bob §
htpasswd -Bb bob §
htpasswd -nbm bob §
openssl -k §
openssl -K §
openssl -passin bob:§
openssl -passout bob:§
openssl -pass bob:§
openssl -passcert bob:§
openssl passwd bob §
zip -P §
unzip -P §
zipcloak -P §
7z -p§
7za -p§
7zr -p§
7zz -p§
rar -p§
unrar -hp§
sqlcmd -P §
bcp -P §
osql -P §
isql -P §
fisql -P §
freebcp -P §
mssql-cli -P §
usql -P §
tsql -P §
sqlplus scott/§
sqlplus -S -L scott/§
sqlldr scott/§
exp scott/§
imp scott/§
expdp scott/§
impdp scott/§
rman scott/§
cqlsh -p §
nodetool -pw §
sstableloader -p §
influx -p §
influxd -t §
rabbitmqctl add_user bob §
rabbitmqctl change_password bob §
rabbitmqctl authenticate_user bob §
rabbitmqadmin -p §
mosquitto_pub -P §
mosquitto_sub --pw §
mosquitto_rr -P §
mosquitto_passwd -b bob §
ipmitool -P §
ipmi-sensors -P §
snmpwalk -c §
snmpget -A §
snmpset -X §
snmpbulkwalk -c §
snmpbulkget -A §
snmptrap -X §
lftp -u bob,§
ncftp -p §
ncftpput -u bob,§
ncftpget -p §
ftp -u bob:§
sftp -u bob:§
ab -a bob:§
siege -A bob:§
httpie --auth bob:§
http -a bob:§
https -A bob:§
xh --auth bob:§
wrk -a bob:§
hey -A bob:§
http -a §
https -a §
xh -a §
twine -p §
poetry http-basic bob §
poetry pypi-token bob §
composer http-basic bob §
composer github-oauth bob §
cargo login bob §
gem --key §
hub --key §
npm login --auth §
yarn login --auth §
pnpm login --auth §
nuget push -k §
dotnet push -k §
conan -p §
vault login bob §
vault put app X=§
vault write app X=§
vault unseal bob §
etcdctl --user bob:§
kubectl secret --from-literal=name=§
oc secret --from-literal=name=§
oc -p §
cf -p §
ibmcloud -p §
aws put-parameter --value §
az login -p §
az sql server -p §
az mysql -p §
az postgres -p §
az secret set --value §
az --connection-string §
gcloud secrets --data §
gcloud auth activate-refresh-token bob §
gh secret set -b §
gh secret set --body §
gh login -t §
glab login -t §
gh variable set --value §
glab variable set --value §
doctl init -t §
heroku config:set app X=§
fly secrets set app X=§
flyctl secrets set app X=§
fly -t §
flyctl -t §
wrangler -t §
vercel --auth §
netlify -t §
railway --auth §
render -t §
dokku config:set app X=§
ngrok authtoken bob §
ngrok add-authtoken bob §
snyk auth bob §
wandb login bob §
bw unlock bob §
bw login bob §
op signin bob §
mc alias set bob §
mc host add bob §
codecov -t §
stripe -k §
twilio -k §
sentry-cli -k §
newrelic -k §
rclone config create pass §
rclone obscure bob §
plink -pw §
pscp -pw §
psftp -pw §
putty -pw §
xfreerdp -p §
rdesktop /p bob:§
freerdp -p §
wlfreerdp /p bob:§
ssh-keygen -N §
ssh-keygen -P §
keytool -storepass §
jarsigner -keypass §
keytool -srcstorepass §
jarsigner -deststorepass §
keytool -srckeypass §
jarsigner -destkeypass §
keytool -new §
signtool /p §
signtool -p §
nmcli wifi password §
wpa_passphrase §
useradd -p §
usermod -p §
chpasswd §
expect -p §
crackmapexec -p §
netexec -p §
nxc -p §
evil-winrm -p §
hydra -p §
medusa -p §
psexec -p §
psexec.py -p §
impacket-psexec -p §
pass insert bob §
grafana-cli reset-admin-password bob §
ipmiutil -P §
fence_ipmilan -P §
http -a bob:§
""".strip().splitlines()  # fmt: skip


def _shown(line: str) -> str:
    return redact_command([word.replace("§", SECRET) for word in shlex.split(line)])


@pytest.mark.parametrize("line", PROGRAMS)
def test_a_sample_of_a_program_is_masked_and_no_more(line: str) -> None:
    assert shlex.split(_shown(line)) == [word.replace("§", MASK) for word in shlex.split(line)]


def _without(row: str) -> Iterator[tuple[str, str]]:
    """What is left of a row without one of its parts, and which part that is; without all of it first."""
    yield "", "all"
    left, _, right = row.partition(" | ")
    names, slash, needs = left.partition(" / ")
    for position, parts in (("program", names.split()), ("option", right.split())):
        for part in parts if len(parts) > 1 else ():
            kept = " ".join(each for each in parts if each != part)
            yield (f"{kept}{slash}{needs} | {right}" if position == "program" else f"{left} | {kept}"), part


def _ways(line: str) -> list[str]:
    """A command as it is stored, in the output of a shell and in an exception, with secrets of two kinds."""
    shown = []
    for secret in (SECRET, "swordfish"):
        argv = [word.replace("§", secret) for word in shlex.split(line)]
        shown += [redact_command(argv), redact_text(f"+ {shlex.join(argv)}"), redact_text(f"Command {argv} failed")]
    return shown


_ROWS = commands._TABLE.splitlines()


@pytest.mark.parametrize("index", range(len(_ROWS)), ids=_ROWS.__getitem__)
def test_a_row_of_programs_is_needed_and_each_part_of_it(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    row = _ROWS[index]
    names = set(row.partition(" | ")[0].partition(" / ")[0].split())
    lines = [line for line in PROGRAMS if names & set(line.split())]
    shown = [_ways(line) for line in lines]
    for kept, part in _without(row):
        table = [*_ROWS[:index], *([kept] if kept else []), *_ROWS[index + 1 :]]
        with monkeypatch.context() as patch:
            patch.setattr(commands, "_TABLE", "\n".join(table))
            patch.setattr(commands, "_PROGRAMS", commands._read())
            assert [_ways(line) for line in lines] != shown, f"no sample needs {part} of {row}"


@pytest.mark.parametrize(
    "line",
    [
        "mysql -p shop",
        "mysql -P 3306 -u root shop",
        "psql -p 5432 -U bob shop",
        "ssh -p 2222 bob@host",
        "docker run -p 8080:80 nginx",
        "mkdir -p /srv/app/data",
        "curl -u bob https://example.com",
        "redis-cli -h cache -p 6379 ping",
        "ipmitool -p 623 -H host power status",
        "openssl dgst -sha256 -k",
        "vault read secret/app",
        "kubectl get secret app -o name",
        "gh variable list",
        "aws ssm get-parameter --name /app/db",
        "htpasswd -v /etc/nginx/htpasswd bob",
        "7z x archive.7z -o/srv",
        "sqlplus -v",
        "sqlplus / as sysdba",
        "sqlplus -S /nolog @/opt/run.sql",
        "sqlplus -L /@PROD",
        "zip -r site.zip public",
        "kinit -k -t /etc/krb5.keytab",
        "rclone config show",
        "npm login --scope @example",
        "fly secrets list",
        "nmcli wifi list",
        "useradd -m -s /bin/sh bob",
    ],
)
def test_the_same_programs_without_a_secret_stay_as_they_are(line: str) -> None:
    assert redact_command(shlex.split(line)) == line
    assert redact_text(f"+ {line}\n") == f"+ {line}\n"
