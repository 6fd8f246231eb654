"""Deployments, prose, code and documents that speak of passwords, tokens and keys, and hold none."""

import json

import pytest

from audit.values.redaction import redact, redact_text

LINES = r"""
Deploying release 2026.01.3 to production (3 hosts)
[web1] $ git fetch origin --tags
[web1] HEAD is now at 3f78685 Fix order totals
Pulling image ghcr.io/example/shop:2026.01.3
Digest: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
deployment.apps/api configured
deployment "api" successfully rolled out
secret/db-credentials unchanged
configmap/app-config configured
Waiting for deployment "api" rollout to finish: 1 of 3 updated replicas are available...
service/api-token-service created
Creating network "shop_default" with the default driver
Step 4/12 : RUN pip install --no-cache-dir -r requirements.txt
 ---> Using cache
Successfully built 5f3c1a2b4d6e
npm WARN deprecated har-validator@5.1.5: this library is no longer supported
added 1043 packages, and audited 1044 packages in 21s
found 0 vulnerabilities
Terraform will perform the following actions:
  # aws_db_instance.shop will be updated in-place
  ~ password = (sensitive value)
Plan: 1 to add, 2 to change, 0 to destroy.
aws_secretsmanager_secret.db: Refreshing state... [id=arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop/db-AbC123]
random_password.db: Creation complete after 0s [id=none]
TASK [Gathering Facts] *********************************************************
ok: [web1]
changed: [web1] => (item=nginx)
PLAY RECAP: web1 : ok=12 changed=3 unreachable=0 failed=0
diff --git a/shop/tokens.py b/shop/tokens.py
index 83db48f..bf2a6b1 100644
@@ -12,7 +12,7 @@ def make_token(user):
-    return signer.sign(user.pk)
+    return signer.sign_object({"u": user.pk})
 3 files changed, 14 insertions(+), 2 deletions(-)
commit 9fceb02d0ae598e95dc970b74767f19372d61af8
Author: Alice Example <alice@example.com>
    Rotate the database password in staging
    Merge pull request #123 from bob/token-refresh
 * [new branch]      feature/api-key-rotation -> origin/feature/api-key-rotation
remote: Enumerating objects: 124, done.
Your branch is ahead of 'origin/main' by 2 commits.
git checkout -b fix/password-reset
The user forgot her password and asked for a reset link.
Passwords must have at least 12 characters and one digit.
A token identifies a session; it is sent with each request.
Please rotate the API key every 90 days.
Secrets are kept in Vault, never in the repository.
The secret of good logs is structure.
We keep the signing key in an HSM.
Tokens expire after 15 minutes of inactivity.
If the password is wrong three times, the account is locked.
Enter your password to continue
The cookie banner is shown once.
Authentication is required to use this API.
Two-factor codes are sent by text message.
A private key never leaves the device.
The key to success is patience.
He passed the token ring exam in 1998.
Password policy: minimum length 14, history 5, maximum age 60 days
Password last changed: 2026-01-01 10:00:00
Password expires: never
token bucket: capacity=100 rate=10/s
session timeout: 1800
session_id is null for anonymous users
Session 42 logged out. Waiting for processes to exit.
auth service started on port 8080
auth.log rotated to auth.log.1
credentials provider: instance-profile
using credential helper osxkeychain
access key age: 45 days
key rotation: enabled
key size: 2048
key usage: digitalSignature, keyEncipherment
key fingerprint: SHA256:uNiVztksCsDhcc0u9e8BrrJXXX0F0r7Yh4hVQx3lAqE
Signature Algorithm: sha256WithRSAEncryption
Subject: C=DE, O=Example, CN=api.example.com
Public Key Algorithm: rsaEncryption
api_key_id=12 created_by=alice
api key created for project shop
api key deleted: ci-bot
token=None user=alice
password=None
password=<redacted>
password: "********"
DB_PASSWORD is not set
DB_PASSWORD must be set
Error: DB_PASSWORD environment variable is missing
missing required argument: --password
usage: login [--password PASSWORD] [--token TOKEN]
  --password TEXT  The password of the account.
  --token-ttl 3600
  -p, --port INTEGER  The port to listen on.
options: -u USER, -p PORT, -k (insecure)
ERROR 1045 (28000): Access denied for user 'app'@'10.0.0.1' (using password: NO)
psql: error: connection to server at "db" (10.0.0.2), port 5432 failed: FATAL: password authentication failed for user "app"
redis.exceptions.AuthenticationError: invalid username-password pair
NOAUTH Authentication required.
botocore.exceptions.NoCredentialsError: Unable to locate credentials
google.auth.exceptions.RefreshError: reauthentication is needed
jwt.exceptions.ExpiredSignatureError: Signature has expired
ValueError: invalid literal for int() with base 10: 'token'
KeyError: 'access_token'
AttributeError: 'NoneType' object has no attribute 'password'
django.core.exceptions.ValidationError: ['This password is too common.']
rest_framework.exceptions.AuthenticationFailed: Invalid token.
  File "/app/auth/tokens.py", line 40, in refresh
    token = cache.get(key)
    password = getpass.getpass()
    secret = load_secret(name)
    api_key=os.getenv("API_KEY"),
    if not check_password(password, user.password):
    def set_password(self, raw_password):
    return self.client.get(url, headers=self.headers)
    raise PermissionError("token may not write")
    conn = psycopg.connect(settings.DSN)
    cursor.execute("SELECT id, token_count FROM sessions WHERE user_id = %s", [user.pk])
SELECT password_changed_at FROM users WHERE id = 42
ALTER TABLE users ADD COLUMN password_hash text NOT NULL
CREATE INDEX users_token_idx ON users (token_prefix)
GRANT SELECT ON api_keys TO reporting
2026-01-01 10:00:00 INFO auth: user alice logged in from 203.0.113.7
2026-01-01 10:00:00 WARN auth: wrong password for alice (2 of 5)
2026-01-01 10:00:00 INFO tokens: 120 tokens pruned in 15 ms
2026-01-01T10:00:00Z INFO http POST /login 302 in 45 ms
2026-01-01T10:00:00Z INFO http GET /password/reset/done 200
2026-01-01T10:00:00Z DEBUG cache hit key=user:42 ttl=300
2026-01-01T10:00:00Z DEBUG cache miss key=session:count
10.0.0.1 - bob [01/Jan/2026:10:00:00 +0000] "POST /api/token/ HTTP/1.1" 200 512
10.0.0.1 - - [01/Jan/2026:10:00:00 +0000] "GET /?token_type=bearer HTTP/1.1" 200 512
GET /login?next=/admin/ 302
https://example.com/docs/passwords#rotation
https://example.com/?utm_source=mail&page=3
https://example.com/a/b/c.html?key=value&sort=asc
postgres://db.example.com:5432/shop
redis://cache:6379/1
amqp://mq.example.com:5672/prod
s3://backups/2026/01/01/shop.dump
git@github.com:example/shop.git
ssh://git@git.example.com:22/shop.git
bob@web1:~$ ls -la /etc/passwd
-rw-r--r-- 1 root root 2412 Jan  1 10:00 /etc/passwd
-rw------- 1 bob bob 1675 Jan  1 10:00 id_rsa
Enter PEM pass phrase:
Generating public/private ed25519 key pair.
Your public key has been saved in /home/bob/.ssh/id_ed25519.pub
ssh-keygen -t ed25519 -C bob@example.com
kubectl get secrets -n prod
kubectl describe secret db -n prod
kubectl rollout restart deployment/api -n prod
helm list --all-namespaces
docker compose up -d --build
docker ps --format '{{.Names}}'
docker run --rm -p 8080:80 nginx
docker login ghcr.io
terraform plan -out tfplan
aws s3 cp s3://backups/a.dump .
aws sts get-caller-identity
aws secretsmanager list-secrets --max-results 10
gcloud config set project shop-prod
gcloud auth list
az account show
mysql -h db -u app -p shop
psql -h db -p 5432 -U app shop
pg_dump -Fc -d shop -p 5432 -f shop.dump
redis-cli -h cache -p 6379 info memory
mongosh --port 27017 --eval 'db.stats()'
curl -sS -o /dev/null -w '%{http_code}' https://example.com/health
curl -u bob https://example.com
curl -k https://localhost:8443/ready
ssh -p 2222 -i ~/.ssh/id_ed25519 bob@web1
rsync -az -e 'ssh -p 22' dist/ bob@web1:/srv/www/
tar -czf backup.tgz /srv/app
systemctl restart gunicorn
journalctl -u api -n 100
ansible-playbook site.yml --ask-vault-pass
ansible-vault edit group_vars/all/vault.yml
python manage.py changepassword alice
python manage.py createsuperuser --username alice
python manage.py migrate sessions 0002
pytest tests/test_tokens.py -k password -q
tests/test_auth.py::test_password_reset PASSED
tests/test_auth.py::test_token_expired FAILED
FAILED tests/test_keys.py::test_rotation - AssertionError: assert 3 == 4
12 passed, 1 failed, 2 skipped in 3.21s
Coverage: auth/tokens.py 98%
{"event": "login", "user": "alice", "method": "password", "ok": true}
{"event": "token.refresh", "ms": 12, "ok": true}
{"level": "info", "msg": "password changed", "user_id": 42}
{"key": "region", "value": "eu-central-1"}
{"name": "PASSWORD_MIN_LENGTH", "value": "12"}
{"name": "LOG_LEVEL", "value": "debug"}
{"prompt_tokens": 12, "completion_tokens": 40, "model": "large-2"}
{"nextToken": null, "items": []}
{"secretName": "db-credentials", "version": "v3"}
{"tokenType": "Bearer", "expiresIn": 3600}
{"auth": {"type": "oauth2", "scopes": ["read", "write"]}}
{"passwordLastChanged": "2026-01-01T10:00:00Z"}
{"mfa": true, "session": {"minutes": 30}}
{"keys": ["id", "name"], "primary_key": "id"}
{"commit": "9fceb02d0ae598e95dc970b74767f19372d61af8", "author": "alice"}
{"id": "0190163d-8694-739b-aea5-966c26f8ad91", "etag": "33a64df551425fcc55e4d42a148795d9f25f89d4"}
{"cookies_accepted": true, "cookie_policy": "2024-05"}
{"url": "https://api.example.com/v1/tokens/count", "status": 200}
{"arn": "arn:aws:iam::123456789012:role/token-reader", "accountId": "123456789012"}
{"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
{"headers": {"Content-Type": "application/json", "X-Request-Id": "4bf92f3577b34da6a3ce929d0e0e4736"}}
""".strip().splitlines()  # noqa: E501


@pytest.mark.parametrize("line", LINES)
def test_an_ordinary_line_stays(line: str) -> None:
    assert redact_text(line) == line


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("{")])
def test_an_ordinary_document_stays(line: str) -> None:
    assert redact(json.loads(line)) == json.loads(line)


def test_the_lines_in_one_log_stay() -> None:
    log = "\n".join(LINES)
    assert redact_text(log) == log
