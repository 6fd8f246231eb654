"""What looks a little like a secret and is none stays as it is: texts, commands, documents, whole files."""

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from audit.models import Task
from audit.values.redaction import MASK, redact, redact_command, redact_text
from auditproj.demo import history

ROOT = Path(__file__).resolve().parents[2]
CLOUDTRAIL = ROOT.parent / "shared" / "data" / "cloudtrail"

TEXTS = """
password reset requested for alice@example.com
Password reset e-mail sent to bob
The password is required
password is incorrect
Your password has expired and must be changed
password authentication failed for user "bob"
FATAL: password authentication failed for user "bob" (SQLSTATE 28P01)
ERROR 1045 (28000): Access denied for user 'root'@'localhost' (using password: YES)
Permission denied (publickey,password).
bob@host's password:
Enter passphrase for key '/home/bob/.ssh/id_ed25519':
password: This field is required.
password: must be at least 12 characters long
sudo: a password is required
passwd: password updated successfully
/etc/passwd: Permission denied
root:x:0:0:root:/root:/bin/bash
Unexpected token: }
SyntaxError: Unexpected token < in JSON at position 0
invalid token at line 3, column 17
token expired at 2026-01-01T10:00:00Z
token is invalid
Token refresh took 12 ms
CSRF token missing
prompt_tokens=1200 completion_tokens=300 total_tokens=1500
"max_tokens": 100, "temperature": 0.2
{"usage": {"input_tokens": 1200, "output_tokens": 300}}
nextToken=AAbbCC112233 continuationToken=xyz123abc pageToken=CAoQAA12
fencing_token=17 lease_token=3
eos_token: </s> pad_token: <pad>
KeyError: 'password'
KeyError: 'API_KEY'
django.core.exceptions.ImproperlyConfigured: The SECRET_KEY setting must not be empty.
duplicate key value violates unique constraint "audit_task_pkey"
DETAIL:  Key (id)=(0190163d-8694-739b-aea5-966c26f8ad91) already exists.
primary key: id, foreign key: user_id
cache key: user:42:profile
object key: backups/2026/01/01/db.dump
s3 key=backups/2026/db.dump size=12345
sort_key=created_at partition_key=tenant_id
idempotency_key=0190163d-8694-739b-aea5-966c26f8ad91
key=value other=thing
public_key=ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1 bob@host
ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 bob@host
SHA256:uNiVztksCsDhcc0u9e8BrrJXXX0F0r7Yh4hVQx3lAqE (ED25519)
The authenticity of host 'example.com (203.0.113.7)' can't be established.
commit 3f786850e387550fdab836ed7e6dc881de23001b
index 83db48f..bf2a6b1 100644
Author: Bob <bob@example.com>
Merge branch 'rotate-secret' into main
fix: rotate the token of the deploy user (#1234)
sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
image: ghcr.io/example/app:v1.2.3@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
Status: Downloaded newer image for postgres:16
etag: "33a64df551425fcc55e4d42a148795d9f25f89d4"
d41d8cd98f00b204e9800998ecf8427e  empty.bin
request_id=0190163d-8694-739b-aea5-966c26f8ad91 user=alice status=200
trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7
arn:aws:secretsmanager:us-east-1:123456789012:secret:shop/db-a1B2c3
arn:aws:iam::123456789012:role/deploy
secretName: shop-db-credentials
existingSecret: shop-db
imagePullSecrets:\n- name: registry
secretKeyRef:\n  name: shop-db\n  key: password
    valueFrom:\n      secretKeyRef:\n        name: shop-db\n        key: password
created secret/shop-db
secret "shop-db" deleted
serviceaccount/default patched
--password-file /run/secrets/db
--password-file=/run/secrets/db
--token-file /var/run/token
DB_PASSWORD_FILE=/run/secrets/db
POSTGRES_PASSWORD_FILE=/run/secrets/pw
password = os.environ["DB_PASSWORD"]
    password=settings.DB_PASSWORD,
    return connect(password=password, token=self.token)
password: ${DB_PASSWORD}
DB_PASSWORD=$DB_PASSWORD
password: "{{ vault_db_password }}"
password=****** user=bob
password: <hidden>
"password": null, "token": false
def login(username: str, password: str) -> bool:
  File "/app/auth/password.py", line 12, in check_password
  File "/app/tokens.py", line 3, in <module>
    token = self.get_token()
ssl_key=/etc/ssl/private/server.key
ssh_key: ~/.ssh/id_ed25519
private_key_path = /etc/ssl/private/server.pem
IdentityFile ~/.ssh/id_rsa
PWD=/home/bob
OLDPWD=/srv/app
pass: 12, fail: 3, skip: 1
12 passed, 3 failed in 4.20s
PASS tests/test_key.py::test_token
auth: required
auth=basic
auth method: oauth2
Authorization required
Basic authentication is disabled
the bearer of this certificate
Bearer token missing
signature verified by key ABCD
Good signature from "Bob <bob@example.com>"
gpg: Signature made Thu Jan  1 10:00:00 2026 UTC
gpg:                using RSA key 4AEE18F83AFDEB23
session opened for user root by (uid=0)
session closed for user bob
sshd[812]: Accepted publickey for bob from 203.0.113.7 port 51122 ssh2: ED25519 SHA256:uNiVztksCsDh
systemd[1]: Started Session 42 of user bob.
GET /static/app.3f786850.js HTTP/1.1 200
GET /?page=2&sort=key&q=token HTTP/1.1
http://localhost:8000/admin/audit/task/?q=key
http://host:8080/a@b
https://user@example.com/path
postgresql://localhost:5432/shop
git@github.com:example/app.git
ssh://git@example.com/app.git
scp a.tgz bob@host:/srv/app/
mailto:bob@example.com
10:30@room-3
redis://cache:6379/0
amqp://mq:5672/
pin the version to 1.2.3
pip==24.0 pin: 1.2.3
cookie consent accepted
cookieDomain=example.com cookie_secure=true
tokenizer.json saved
keyboard: de, monkey: 1, turkey: 2
compass=north bypass=yes
conn=12 connections=40
certificate expires in 30 days
-----BEGIN CERTIFICATE-----\nMIIBszCCARygAwIBAgIE\n-----END CERTIFICATE-----
-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYI\n-----END PUBLIC KEY-----
2026-01-01 10:00:00,123 INFO worker.py:118 key rotation of kuma done in 3.2 s
rotate-key: create key, distribute key, revoke old key
token may not write to kuma
credentials were rotated
using default credentials from the instance profile
secret rotation scheduled for 2026-02-01
Secrets: 3, ConfigMaps: 5
the code is 42 and the signal 9
exit code: 137
postal code: 12345
error code=E1234567
status_code=200 response_code=404
sk-learn is not scikit-learn
hf_hub_download("model")
npm_lifecycle_event=build
pypi-attestations-cli 0.0.1
key-value store
xox
""".strip().splitlines()
TEXTS = [line.replace("\\n", "\n") for line in TEXTS]

COMMANDS = """
mkdir -p /srv/app1/Data2
ssh -p 2222 bob@host
docker run -p 8080:80 -u 1000:1000 nginx:1.25
docker compose -p shop2A up
pg_dump -h db -p 5432 -U bob shop
psql -p 5432 -c "select count(*) from token"
mysql -u root -p shop
mysql -P 3306 -h db shop
python -m pytest -p no:cacheprovider -k token
git log -p HEAD~1
git commit -m "rotate the secret token"
git push -u origin feature/Auth2Token
cp -p File1 File2
nmap -p 1-1000 host
tar -xzf a.tgz -C /srv
curl -u bob https://example.com
curl -s -o /dev/null -w "%{http_code}" https://example.com
curl -H "Accept: application/json" https://example.com/api/v1/tokens?limit=10
kubectl get secret shop-db -o yaml
kubectl -n shop rollout restart deployment/app
kubectl create secret generic shop-db --from-file=key=./key.pem
kubectl delete pod app-7d4b9c6f5d-x2x9z
helm upgrade shop ./chart --set image.tag=v1.2.3 --set auth.existingSecret=shop-db
terraform apply -var region=eu-central-1 -auto-approve
aws s3 cp a s3://bucket/key
aws secretsmanager get-secret-value --secret-id shop/db
vault kv get secret/shop
openssl x509 -in cert.pem -noout -dates
openssl rsa -in key.pem -passin file:/run/pass
openssl s_client -connect host:443
ssh-keygen -t ed25519 -f key
gpg --verify a.sig a
redis-cli -h cache -p 6379 info
rsync -a --password-file /run/secrets/rsync a b
manage.py audit_seal --key-file /run/secrets/ledger
manage.py changepassword bob
manage.py reset_password --user bob
worker --max-tokens 100 --no-password --token-bucket-size 5
grep -r password src
grep -rn "SECRET_KEY" settings.py
systemctl restart app
ansible-playbook site.yml -e env=prod -e version=1.2.3
zip -r a.zip a
7z a a.7z dir
unzip -p a.zip file
npm config get registry
gh auth status
gh pr list -t bug
apt-get install -y passwd
sudo -u postgres psql
useradd -m bob
java -Xmx512m -jar app.jar
""".strip().splitlines()

DOCUMENTS: list[Any] = [
    {"usage": {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150}, "max_tokens": 100},
    {"nextToken": "AAbbCC112233", "clientRequestToken": "0190163d-8694-739b-aea5-966c26f8ad91", "pageToken": "CAoQ12"},
    {"fencing_token": 17, "tokens": ["the", "cat"], "tokenizer": "bpe"},
    {"secretName": "shop-db", "secretArn": "arn:aws:secretsmanager:eu:1:secret:x", "secret_id": "shop/db"},
    {"passwordPolicy": {"minLength": 12, "requireDigit": True}, "passwordLastChanged": "2026-01-01T10:00:00Z"},
    {"password_file": "/run/secrets/db", "key_file": "/etc/ssl/server.key", "ssl_key": "/etc/ssl/private/server.key"},
    {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "shop-db", "key": "password"}}},
    {"name": "LOG_LEVEL", "value": "debug"},
    {"key": "backups/2026/db.dump", "bucket": "b", "etag": "33a64df551425fcc55e4d42a148795d9"},
    {"Tags": [{"Key": "team", "Value": "payments2B"}, {"Key": "cost-center", "Value": "A1b2C3d4"}]},
    {"accessKeyId": "AKIAIOSFODNN7EXAMPLE", "keyId": "alias/shop", "kmsKeyId": "1234abcd-12ab-34cd-56ef-1234567890ab"},
    {"encryptionKey": "arn:aws:kms:eu-central-1:1:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
    {"public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1", "fingerprint": "SHA256:uNiVztksCsDhcc0u9e8Brr"},
    {"auth": "basic", "auth_type": "oauth2", "authenticated": True, "authMethod": "password"},
    {"pass": 12, "fail": 3, "passed": ["a1B2c3D4"]},
    {"signatureVersion": "SigV4", "signature_algorithm": "sha256", "signature": "f(a, b)"},
    {"session": "open", "sessionContext": {"mfa": "false"}, "session_seconds": 300},
    {"commit": "3f786850e387550fdab836ed7e6dc881de23001b", "digest": "sha256:9f86d081884c7d659a2feaa0c55ad015"},
    {"required": ["username", "password"], "errors": {"password_field": ["This field is required."]}},
    {"argv": ["pg_dump", "-p", "5432", "-U", "bob", "shop"], "cwd": "/srv/app"},
    {"database_url": "postgres://localhost:5432/shop", "dsn": "host=db dbname=shop"},
    {"imagePullSecrets": [{"name": "registry"}], "secrets": 3},
    {"kind": "ConfigMap", "data": {"a": "Zx9wQ7pLm2Vt"}},
    {"cookieDomain": "example.com", "primary_key": "id", "foreign_key": "user_id", "sort_key": "createdAt2"},
    {"steps": [{"name": "create key", "ms": 12}, {"name": "revoke old key", "ms": 8}], "success": True},
]


@pytest.mark.parametrize("text", TEXTS)
def test_ordinary_texts_stay(text: str) -> None:
    assert redact_text(text) == text
    assert redact({"stdout": text, "lines": [text]}) == {"stdout": text, "lines": [text]}


def test_ordinary_texts_stay_in_one_log() -> None:
    # Lines that open a block would take in the next one; each stands apart.
    log = "\n\n".join(TEXTS)
    assert redact_text(log) == log


@pytest.mark.parametrize("line", COMMANDS)
def test_ordinary_commands_stay(line: str) -> None:
    argv = shlex.split(line)
    assert redact_command(argv) == shlex.join(argv)
    assert redact({"argv": argv}) == {"argv": argv}
    assert redact_text(line) == line
    assert redact_text(f"Command '{argv}' returned non-zero exit status 1.") == (
        f"Command '{argv}' returned non-zero exit status 1."
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=json.dumps)
def test_ordinary_documents_stay(document: Any) -> None:
    assert redact(document) == document
    for text in (json.dumps(document), json.dumps(document, indent=2), repr(document)):
        assert redact_text(text) == text


@pytest.mark.django_db
def test_the_history_of_the_demo_stays() -> None:
    history.fill(400, datetime.now(UTC), lambda stored: None)
    tasks = list(Task.objects.all())
    assert len(tasks) == 400
    for task in tasks:
        for document in (task.plan, task.outcome, task.suggestions, task.resources_used):
            assert redact(document) == document
            assert redact_text(json.dumps(document)) == json.dumps(document)
        assert redact_text(task.summary) == task.summary


def test_few_lines_of_source_and_prose_are_masked() -> None:
    """What tracebacks and diffs quote: this project's own code and documents, which talk of secrets all the time."""
    paths = [path for folder in ("audit", "auditproj", "docs") for path in (ROOT / folder).rglob("*.[pm][yd]")]
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    masked = [line for line in lines if redact_text(line) != line]
    assert len(lines) > 10_000
    assert len(masked) < len(lines) / 200, masked


def test_few_of_many_real_events_are_masked_as_text() -> None:
    if not CLOUDTRAIL.is_dir():
        pytest.skip(f"no CloudTrail events at {CLOUDTRAIL}")
    events = [event for path in sorted(CLOUDTRAIL.glob("*.json")) for event in json.loads(path.read_text())["Records"]]
    wrong = [event for event in events if MASK in redact_text(json.dumps(event)) and redact(event) == event]
    assert len(events) > 1000
    assert wrong == []
