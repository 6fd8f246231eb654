"""Secrets of every kind are masked, and nothing around them: command lines, texts, documents, tokens by their shape.

In the tables `§` stands for the secret; what comes out has the mask in its place and is the same otherwise.
"""

import json
import random
import shlex
import string
from typing import Any

import pytest

from audit.ledger.tlog import note
from audit.values.redaction import MASK, redact, redact_command, redact_text

SECRET = "Zx9wQ7pLm2Vt"
"""What a machine makes."""
WORD = "hunter2"
"""What people choose."""


def filled(value: Any, secret: str) -> Any:
    if isinstance(value, str):
        return value.replace("§", secret)
    if isinstance(value, dict):
        return {filled(key, secret): filled(inner, secret) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, secret) for inner in value]
    return value


# One a line, as a shell reads it.
COMMANDS = """
mysql -u root -p§ shop
mysqldump --user=root -p§ --all-databases
/usr/bin/mysqladmin -u root -p§ status
mariadb-dump -uroot -p§ shop
mongodump --host db -u admin -p § --out /backup
mongorestore -u admin -p=§
sshpass -p§ ssh host
sudo sshpass -p § scp a b:
docker login -u bob -p § registry.example.com
podman login --username bob --password § quay.io
helm registry login -u bob -p § registry.example.com
skopeo copy --src-creds bob:§ docker://a docker://b
docker run -e POSTGRES_PASSWORD=§ postgres:16
docker run --env MYSQL_ROOT_PASSWORD=§ mysql
redis-cli -h cache -a § ping
redis-cli --pass § info
redis-cli AUTH §
redis-cli CONFIG SET requirepass §
ldapsearch -x -D cn=admin -w § -b dc=example
ldappasswd -D cn=admin -s §
smbclient //server/share -U bob%§
rpcclient -U bob%§ 10.0.0.5
mount -t cifs //s/x /mnt -o username=bob,password=§
htpasswd -b /etc/nginx/htpasswd bob §
htpasswd -nb bob §
openssl rsa -in key.pem -passin pass:§ -out plain.pem
openssl pkcs12 -export -passout pass:§
openssl enc -aes-256-cbc -k § -in a -out b
openssl enc -aes-256-cbc -pass pass:§ -in a
kubectl --token § get pods
kubectl --token=§ get pods
kubectl create secret generic db --from-literal=anything=§
kubectl create secret docker-registry reg --docker-password=§
oc login -u bob -p § https://api.example.com:6443
helm install shop ./chart --set db.password=§
helm upgrade shop ./chart --set-string auth.rootPassword=§
terraform apply -var db_password=§
terraform plan -var=admin_token=§
ansible-playbook site.yml -e db_password=§
ansible-playbook site.yml --extra-vars vault_pass=§
curl -u bob:§ https://example.com
curl -ubob:§ https://example.com
curl --user bob:§ https://example.com
curl --proxy-user bob:§ https://example.com
curl -H "X-Api-Key: §" https://example.com
curl -H "PRIVATE-TOKEN: §" https://gitlab.example.com
curl --header "X-Vault-Token: §" https://vault
curl -H "Authorization: §" https://example.com
curl -b sessionid=§ https://example.com
curl -d "user=bob&password=§" https://example.com
curl --data "grant_type=client_credentials&client_secret=§" https://example.com
curl "https://example.com/?access_token=§"
curl -x http://bob:§@proxy:3128 https://example.com
wget --user=bob --http-password=§ https://example.com
wget --password § https://example.com
http -a bob:§ https://example.com
ab -A bob:§ https://example.com/
lftp -u bob,§ sftp://host
psql postgresql://bob:§@db:5432/shop
psql "host=db user=bob password=§ dbname=shop"
env PGPASSWORD=§ psql shop
env MYSQL_PWD=§ mysql
sqlcmd -S server -U sa -P § -Q "select 1"
bcp shop.dbo.t out f -U sa -P §
sqlplus scott/§
cqlsh -u cassandra -p § host
influx -username admin -password § -execute q
rabbitmqctl add_user bob §
rabbitmqctl change_password bob §
mosquitto_pub -h host -u bob -P § -t a -m b
ipmitool -H bmc -U admin -P § power status
snmpwalk -v2c -c § host
zip -P § a.zip a
unzip -P § a.zip
7z x -p§ a.7z
rar a -hp§ a.rar a
twine upload -u __token__ -p § dist/a.whl
poetry config pypi-token.pypi §
poetry config http-basic.internal bob §
composer config http-basic.repo.example.com bob §
npm config set //registry.npmjs.org/:_authToken §
npm config set //registry.npmjs.org/:_password §
aws configure set aws_secret_access_key §
aws ssm put-parameter --name /shop/db --type SecureString --value §
aws secretsmanager create-secret --name db --secret-string §
aws rds modify-db-instance --master-user-password §
az login --service-principal -u id -p § --tenant t
az storage blob list --account-key §
az keyvault secret set --vault-name v --name n --value §
gh secret set DEPLOY --body §
heroku config:set STRIPE=§
vault login §
vault kv put secret/shop anything=§
consul kv get -token=§ a
git clone https://bob:§@git.example.com/x.git
git config http.extraheader "Authorization: §"
java -Djavax.net.ssl.trustStorePassword=§ -jar a.jar
mvn deploy -Dgpg.passphrase=§
gradle publish -PsigningPassword=§
keytool -list -keystore k.jks -storepass §
jarsigner -storepass § -keypass § a.jar alias
gpg --batch --passphrase § -d a.gpg
plink -pw § bob@host
xfreerdp /u:bob /p:§ /v:host
ssh-keygen -t ed25519 -N § -f key
ngrok config add-authtoken §
tailscale up --authkey §
cloudflared tunnel run --token §
rclone copy a b: --sftp-pass §
restic -r s3:x --password § backup
snyk auth §
wandb login §
bw unlock §
mc alias set minio https://minio ADMINUSER §
nmcli dev wifi connect home password §
manage.py x --secret-key § y
worker --api-key § --queue a
worker --webhook-secret=§
worker -storepass §
worker --sasl-password § --x
etcdctl --user root:§ get a
dotnet nuget push a.nupkg -k § -s nuget
conan user -p § bob
mongosh mongodb+srv://bob:§@cluster/db
celery -b amqp://bob:§@mq:5672/ worker
sh -c "PGPASSWORD=§ pg_dump shop"
sh -c "mysql -uroot -p§ shop"
bash -lc "curl -u bob:§ https://example.com | jq ."
sh -c "echo § | docker login -u bob --password-stdin"
export GITHUB_TOKEN=§
setx API_SECRET=§
""".strip().splitlines()

TEXTS = [
    # Variables and settings files.
    "JWT_SECRET=§",
    "export MYSQL_PWD=§",
    "SMTP_PASS=§\nSMTP_HOST=mail",
    "DB_PWD: §",
    "ADMIN_PW=§",
    "SLACK_BOT_TOKEN=§",
    "ENCRYPTION_KEY=§",
    "SECRET_KEY_BASE=§",
    "DJANGO_SECRET_KEY='§'",
    "STRIPE_KEY=§",
    "LICENSE_KEY=§",
    "DD_APP_KEY=§",
    'SECRET_KEY = "§"',
    "[default]\naws_secret_access_key = §\nregion = eu-central-1",
    "db_password = '§'  # changed in May",
    "password: §\nuser: bob",
    "password:\n  §\nuser: bob",
    "password: |\n  §\nuser: bob",
    "password: >-\n  §\nuser: bob",
    'password: "§"',
    "  - password: '§'",
    "spring.datasource.password=§",
    "masterauth=§",
    "machine example.com login bob password §",
    "machine example.com\nlogin bob\npassword §\n",
    "db.example.com:5432:shop:bob:§",
    "*:*:*:bob:§",
    "//registry.npmjs.org/:_authToken=§",
    "_auth=§",
    "PresharedKey = §=",
    "PrivateKey = §=",
    # Connection strings.
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=§;EndpointSuffix=core.windows.net",
    "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=§",
    "Server=db;Database=shop;User Id=bob;Password=§;Encrypt=True",
    "Server=db;Uid=bob;Pwd=§;",
    "Driver={ODBC Driver 18 for SQL Server};Server=db;UID=bob;PWD=§",
    "jdbc:postgresql://db/shop?user=bob&password=§&ssl=true",
    "jdbc:sqlserver://db;user=bob;password=§;encrypt=true",
    "Data Source=db;User ID=bob;Password=§;Pooling=false",
    "host=db user=bob password=§ dbname=shop",
    "postgresql+psycopg://bob:§@db/shop",
    "mysql://bob:§@db:3306/shop?charset=utf8",
    "redis://:§@cache:6379/0",
    "rediss://default:§@cache:6379",
    "amqps://bob:§@mq/vhost",
    "ftp://bob:§@host/file",
    "smtp://bob:§@mail:587",
    "ldap://cn=admin:§@ldap",
    "mongodb://bob:§@a:27017,b:27017/db?replicaSet=x",
    "bob:§@tcp(127.0.0.1:3306)/shop",
    "https://§@git.example.com/x.git",
    # URLs.
    "GET /callback?code=1&access_token=§&state=x HTTP/1.1",
    "https://example.com/hook?api_key=§",
    "https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA&X-Amz-Expires=3600&X-Amz-Signature=§abcdef0123456789",
    "https://a.blob.core.windows.net/c/b?sv=2022-11-02&sp=r&sig=§abc%3D",
    "https://d.cloudfront.net/x?Expires=1&Signature=§~ab&Key-Pair-Id=K2",
    "https://storage.googleapis.com/b/o?GoogleAccessId=a&Signature=§",
    # Headers.
    "> X-Api-Key: §\n> Accept: */*",
    "X-Auth-Token: §",
    "X-Amz-Security-Token: §",
    "api-key: §",
    "Ocp-Apim-Subscription-Key: §",
    "Proxy-Authorization: §\r\nHost: x",
    "Cookie: §",
    "used Basic §== for it",
    "got Bearer §.§ back",
    # Python.
    "environ({'DB_PASS': '§', 'HOME': '/root'})",
    "{'user': 'bob', 'db_password': '§', 'port': 5432}",
    "CalledProcessError: Command '['mysql', '--password', '§', 'shop']' returned non-zero exit status 1.",
    "Command '['mysqldump', '-uroot', '-p§', 'shop']' returned non-zero exit status 2.",
    "Command '['curl', '-u', 'bob:§', 'https://x']' timed out after 3 seconds",
    "subprocess.run(['sshpass', '-p', '§', 'ssh', 'h'])",
    '["tool", "--api-key", "§", "--verbose"]',
    '[\n  "tool",\n  "--token",\n  "§"\n]',
    "Config(host='db', password='§', port=1)",
    "password=SecretStr('§')",
    "password=b'§'",
    "{'password': b'§'}",
    "  os.environ['API_TOKEN'] = '§'",
    "  client = Client(api_key='§', timeout=3)",
    "  requests.get(url, auth=('bob', '§'))",
    "  HTTPBasicAuth('bob', '§')",
    "  user.set_password('§')",
    "  os.putenv('PGPASSWORD', '§')",
    '  $config["password"] = "§";',
    ":password => '§'",
    # JSON, escaped and not, XML, SQL.
    '{"clientSecret":"§","a":1}',
    '{"password"   :   "§"}',
    '{\\"password\\": \\"§\\", \\"a\\": 1}',
    '{\\\\\\"token\\\\\\": \\\\\\"§\\\\\\"}',
    "&quot;password&quot;:&quot;§&quot;",
    "%22password%22%3A%22§%22",
    "user=bob&password%3D§",
    '[{"name": "DB_PASSWORD", "value": "§"}, {"name": "A", "value": "b"}]',
    '[{"Name":"API_TOKEN","Value":"§"}]',
    '{"value": "§", "name": "DB_PASSWORD"}',
    "{'key': 'api_secret', 'value': '§'}",
    "env:\n- name: DB_PASSWORD\n  value: §\n- name: A\n  value: b",
    'env:\n  - name: DB_PASSWORD\n    value: "§"',
    "<password>§</password>",
    '<db:Password encrypted="no">§</db:Password>',
    "<ApiKey><![CDATA[§]]></ApiKey>",
    '<add key="DbPassword" value="§" />',
    '<property name="connection.password" value="§"/>',
    '<property name="hibernate.connection.password">§</property>',
    '<input type="hidden" name="csrfmiddlewaretoken" value="§">',
    '<user name="bob" password="§"/>',
    "<key>Password</key>\n<string>§</string>",
    "CREATE USER bob IDENTIFIED BY '§';",
    "ALTER ROLE bob WITH PASSWORD '§';",
    "SET PASSWORD FOR 'bob'@'%' = '§';",
    "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n  anything: §\ntype: Opaque",
    "apiVersion: v1\nstringData:\n  anything: §\nkind: Secret\n",
    "apiVersion: v1\nkind: Config\nusers:\n- name: a\n  user:\n    token: §",
    "    client-key-data: §",
    # Sentences and shells.
    "Password for bob: §",
    "The new password is §",
    "password set to §",
    "Invalid API key provided: §",
    "logged in with password §",
    "your token is '§'",
    "+ mysql -uroot -p§ shop",
    "$ curl -u bob:§ https://example.com",
    "10:00 root: sshpass -p § ssh host",
    "echo § | docker login -u bob --password-stdin",
    "echo '§' | sudo -S reboot",
    "docker login -u bob -p § && docker push a",
    "run --db-password § --verbose",
    "PASSWORD -> §",
    "passcode: §",
    "pw=§",
    "\x1b[1mpassword\x1b[0m=\x1b[31m§\x1b[0m done",
    "pаssword=§",  # noqa: RUF001 - a Cyrillic letter
    "ｐａｓｓｗｏｒｄ=§",  # noqa: RUF001 - full-width letters
    "pass\u200bword=§",
    "contraseña=§",
    "пароль: §",
    "密码=§",
]

DOCUMENTS: list[Any] = [
    {"password": "§"},
    {"MYSQL_PWD": "§", "HOME": "/root"},
    {"smtp_pass": "§"},
    {"JWT_SECRET": "§"},
    {"webhookSecret": "§"},
    {"PRIVATE-TOKEN": "§"},
    {"github_token": "§"},
    {"accountKey": "§", "accountName": "a"},
    {"primary": {"signing_key": "§"}},
    {"encryptionKey": "§"},
    {"api_keys": ["§", "§"]},
    {"credentials": "§"},
    {"secrets": {"a": "§"}},
    {"connectionString": "Server=db;Password=§;Pooling=false"},
    {"databaseUrl": "postgres://bob:§@db/shop"},
    {"password_hash": "§"},
    {"passwordConfirmation": "§"},
    {"auths": {"registry.example.com": {"auth": "§"}}},
    {"headers": [["Authorization", "§"], ["Host", "x"]]},
    {"headers": {"X-Api-Key": "§", "Accept": "*/*"}},
    {"env": [{"name": "DB_PASSWORD", "value": "§"}, {"name": "A", "value": "b"}]},
    {"environment": [{"value": "§", "name": "API_TOKEN"}]},
    {"containers": [{"environment": [{"name": "STRIPE_SECRET", "value": "§", "type": "PLAINTEXT"}]}]},
    {"Parameters": [{"ParameterKey": "DbPassword", "ParameterValue": "§"}]},
    {"apiVersion": "v1", "kind": "Secret", "data": {"anything": "§"}, "type": "Opaque"},
    {"argv": ["mysql", "--password", "§", "shop"]},
    {"argv": ["mysql", "-p§", "shop"]},
    {"cmd": ["curl", "-u", "bob:§", "https://x"]},
    {"args": ["--token=§", "-v"]},
    {"command": "sshpass -p § ssh host"},
    {"body": '{"db": {"password": "§"}}'},
    {"password=§": 1},
    {"sessionid": "§"},
    {"signature": "§"},
    {"pin": "§"},
    {"sas": "§"},
    {"x-auth-token": "§"},
    {"spring.datasource.password": "§"},
    {"x" * 300 + "_password": "§"},
    {"пароль": "§"},
    {"sentry_dsn": "https://§@o1.ingest.example.com/1"},
]

_CHARACTERS = string.ascii_letters + string.digits


def _random(length: int, alphabet: str = _CHARACTERS) -> str:
    chance = random.Random(f"{length}{alphabet}")
    return "".join(chance.choice(alphabet) for _ in range(length - 1)) + "7"


_HEX = "0123456789abcdef"
_UPPER = string.ascii_uppercase + "234567"
# Put together here, so that no scanner takes this file for a leak.
TOKENS = {
    "GitHub": ["gh" + each + "_" + _random(36) for each in "pousr"] + ["github" + "_pat_" + _random(60)],
    "GitLab": ["gl" + each + "-" + _random(20) for each in ("pat", "rt", "dt", "ptt", "soat", "cbt")],
    "Slack": ["xox" + each + "-1234567890-" + _random(24) for each in "bpaers"] + ["xapp" + "-1-A1-" + _random(30)],
    "OpenAI": ["sk" + "-" + _random(48), "sk" + "-proj-" + _random(60), "sk" + "-svcacct-" + _random(60)],
    "Anthropic": ["sk" + "-ant-api03-" + _random(80), "sk" + "-ant-" + _random(24)],
    "OpenRouter": ["sk" + "-or-v1-" + _random(60, _HEX)],
    "Google": ["AI" + "za" + _random(35), "ya" + "29." + _random(60), "GOC" + "SPX-" + _random(28)],
    "Hugging Face": ["h" + "f_" + _random(34)],
    "Groq, Replicate, xAI": ["gs" + "k_" + _random(52), "r" + "8_" + _random(37), "xa" + "i-" + _random(80)],
    "Stripe": ["sk" + "_live_" + _random(24), "rk" + "_test_" + _random(24), "wh" + "sec_" + _random(32)],
    "Shopify, Square": ["shp" + "at_" + _random(32, _HEX), "sq0" + "csp-" + _random(43)],
    "npm, PyPI, RubyGems": ["np" + "m_" + _random(36), "py" + "pi-AgEIcHlwaS5vcmc" + _random(60), "ruby" + "gems_" + _random(48, _HEX)],
    "SendGrid, Mailgun, Mailchimp": ["SG" + "." + _random(22) + "." + _random(43), "key" + "-" + _random(32, _HEX), _random(32, _HEX) + "-us" + "12"],
    "Twilio": ["S" + "K" + _random(32, _HEX)],
    "Telegram, Discord": ["123456789" + ":AA" + _random(33), "M" + _random(23) + "." + _random(6) + "." + _random(30)],
    "DigitalOcean": ["do" + each + "_v1_" + _random(64, _HEX) for each in "opr"],
    "Docker": ["dckr" + "_pat_" + _random(27)],
    "HashiCorp": ["hv" + each + "." + _random(90) for each in "sbr"] + [_random(14) + ".atlas" + "v1." + _random(60)],
    "New Relic, Grafana, Sentry": ["NR" + "AK-" + _random(27, _UPPER), "gl" + "sa_" + _random(32) + "_abcdef12", "sntry" + "s_" + _random(60)],
    "Databricks, Doppler, PlanetScale": ["da" + "pi" + _random(32, _HEX), "dp" + ".pt." + _random(43), "pscale" + "_tkn_" + _random(40)],
    "Linear, Notion, Figma, Postman": ["lin" + "_api_" + _random(40), "nt" + "n_" + _random(46), "fig" + "d_" + _random(40), "PMA" + "K-" + _random(24, _HEX) + "-" + _random(34, _HEX)],
    "Tailscale, Pulumi, age": ["ts" + "key-auth-" + _random(20), "pu" + "l-" + _random(40, _HEX), "AGE-SECRET" + "-KEY-1" + _random(58, _UPPER)],
    "JSON web tokens": ["ey" + "J" + _random(20) + ".ey" + "J" + _random(40) + "." + _random(43)],
    "hashes": ["$2b$" + "12$" + _random(53), "pbkdf2_sha256" + "$600000$" + _random(22) + "$" + _random(43) + "=", "$6$" + "salt$" + _random(86)],
}  # fmt: skip


@pytest.mark.parametrize("secret", [SECRET, "aB3/x+Y=" + SECRET])
@pytest.mark.parametrize("line", COMMANDS)
def test_secrets_in_commands_are_masked(line: str, secret: str) -> None:
    argv = filled(shlex.split(line), secret)
    shown = redact_command(argv)
    assert secret not in shown
    assert SECRET not in shown
    assert MASK in shown
    expected = filled(shlex.split(line), MASK)
    assert shlex.split(shown) == expected or [len(shlex.split(shown)), "-c" in argv] == [len(expected), True]


@pytest.mark.parametrize("line", COMMANDS)
def test_secrets_in_the_same_commands_in_lists_and_lines_are_masked(line: str) -> None:
    argv = filled(shlex.split(line), SECRET)
    assert SECRET not in json.dumps(redact({"argv": argv}))
    assert SECRET not in redact_text(
        f"subprocess.CalledProcessError: Command '{argv}' returned non-zero exit status 1."
    )
    assert SECRET not in redact_text(f"+ {shlex.join(argv)}\n")


@pytest.mark.parametrize("text", TEXTS)
def test_secrets_in_texts_are_masked_and_nothing_else(text: str) -> None:
    once = redact_text(filled(text, SECRET))
    assert SECRET not in once
    assert redact_text(once) == once
    before, after = text.partition("§")[0], text.rpartition("§")[2]
    assert once.startswith(before)
    if not after.startswith((")", "=", "~", "abc", "x1")):
        assert once.endswith(after)


@pytest.mark.parametrize("document", DOCUMENTS, ids=json.dumps)
def test_secrets_in_documents_are_masked_and_nothing_else(document: Any) -> None:
    once = redact(filled(document, SECRET))
    assert once == filled(document, MASK)
    assert redact(once) == once
    assert SECRET not in redact_text(json.dumps(filled(document, SECRET), ensure_ascii=False))
    assert SECRET not in redact_text(json.dumps(filled(document, SECRET), indent=2, ensure_ascii=False))
    assert SECRET not in redact_text(repr(filled(document, SECRET)))


STRONG = [
    "password={}",
    "DB_PASS={}",
    "'db_password': '{}'",
    "--password {}",
    "MYSQL_PWD={}",
    "<password>{}</password>",
]


@pytest.mark.parametrize("text", STRONG)
@pytest.mark.parametrize(
    "secret", [WORD, "swordfish", "p#s?x", "a;b1c", "a,b1c", "a&b1c", "$ecret1", "correct-horse", "1234567"]
)
def test_what_people_choose_is_masked_too(text: str, secret: str) -> None:
    assert redact_text(text.format(secret)) == text.format(MASK)


@pytest.mark.parametrize("vendor", TOKENS)
def test_tokens_of_a_known_shape_are_masked(vendor: str) -> None:
    for token in TOKENS[vendor]:
        for text in ("{}", "got {} back", "('{}',)", "x={}", "\\n{}\\n", '{{"a": "{}"}}', "https://x/{}"):
            assert redact_text(text.format(token)) == text.format(MASK), token


KEYS = [note.generate("example.com/audit"), note.generate("w", note.KeyKind.COSIGNATURE), note.generate("näme/ü")]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.kind.name)
@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{}\n",
        "AUDIT_LEDGER_KEY={}",
        "HOME=/root\nAUDIT_LEDGER_KEY={}\nLANG=C",
        "environ({{'AUDIT_LEDGER_KEY': '{}', 'A': 'b'}})",
        "InvalidKey: {} is none",
        '{{"out": "{}\\n"}}',
        "keys: {},{}",
    ],
)
def test_the_signing_key_of_the_trail_is_masked(key: note.Signer, text: str) -> None:
    secret = key.secret()
    material = secret.rpartition("+")[2] if "+" not in secret[-45:-40] else secret[-30:]
    shown = redact_text(text.format(secret, secret))
    assert material not in shown
    assert secret[-40:] not in shown
    assert shown == text.format(MASK, MASK)
    assert redact({"a": [text.format(secret, secret)]}) == {"a": [shown]}
    assert secret[-40:] not in redact_command(["env", f"AUDIT_LEDGER_KEY={secret}", "audit_seal"])
    assert secret[-40:] not in redact_command(["printf", secret])


def test_the_public_half_of_a_key_stays() -> None:
    verifier = str(KEYS[0].verifier)
    assert redact_text(f"The verifier key is public:\n  {verifier}\n") == f"The verifier key is public:\n  {verifier}\n"
    assert redact({"LEDGER_VERIFIERS": [verifier]}) == {"LEDGER_VERIFIERS": [verifier]}


@pytest.mark.parametrize("lost", range(1, 13))
def test_a_tail_that_begins_inside_the_signing_key_holds_no_key(lost: int) -> None:
    secret = KEYS[0].secret()
    assert redact_text(f"{secret[lost - 1 :]}\nnext") == (f"{MASK}\nnext")


def test_keys_of_other_programs_are_masked() -> None:
    putty = f"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{SECRET}{SECRET}=\nPrivate-MAC: 00ff\n"
    assert redact_text(putty) == f"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{MASK}\nPrivate-MAC: 00ff\n"
    for kind in ("", "RSA ", "OPENSSH ", "EC ", "ENCRYPTED "):
        pem = f"-----BEGIN {kind}PRIVATE KEY-----\n{SECRET}\n-----END {kind}PRIVATE KEY-----"
        assert redact_text(f"a\n{pem}\nb") == f"a\n{MASK}\nb"
    assert SECRET not in redact_text(f"AKIA{'A' * 16},{SECRET}{SECRET}{SECRET}abcd")
