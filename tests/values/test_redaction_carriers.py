"""Secrets where people meet them: tracebacks, command lines, settings files, headers, connection strings.

`§` stands for the secret, and `\\n` for the end of a line.
"""

import pytest

from audit.values.redaction import MASK, redact_text

# As a generator of passwords makes them, and as an API hands them out.
SECRETS = ["Kd83nQzP1vRt", "t7#Lw!q2Xb", "aK4mZ9xWq7Rt2LpV8sYb"]

CARRIERS = r"""
subprocess.CalledProcessError: Command '['pg_restore', '--dbname', 'postgresql://etl:§@10.0.3.4:5432/dw', '/tmp/d.dump']' returned non-zero exit status 1.
  File "/app/db.py", line 31, in connect\n    psycopg.connect(host='db', user='app', password='§')
TypeError: connect() got an unexpected keyword argument 'passwrd'; called with ('db', 3306), {'user': 'root', 'passwd': '§', 'db': 'shop'}
subprocess.TimeoutExpired: Command '['sshpass', '-p', '§', 'ssh', 'bob@web1']' timed out after 30 seconds
docker run -d -e POSTGRES_PASSWORD=§ -e POSTGRES_USER=app -p 5432:5432 postgres:16
docker run --env MYSQL_ROOT_PASSWORD='§' mysql:8
echo "§" | docker login ghcr.io -u deploy --password-stdin
docker service create --name api --env SECRET_KEY_BASE=§ api:2.3
docker build --build-arg NPM_TOKEN=§ -t web .
kubectl create secret generic db --from-literal=password=§ -n prod
kubectl create secret docker-registry regcred --docker-server=r.example.com --docker-username=bob --docker-password=§
kubectl set env deployment/api DB_PASSWORD=§
kubectl config set-credentials bob --token=§
kubectl --token § get pods
helm upgrade --install pg bitnami/postgresql --set auth.postgresPassword=§ --wait
helm repo add priv https://charts.example.com --username bob --password §
terraform apply -var 'db_password=§' -auto-approve
terraform plan -var="api_token=§"
TF_VAR_admin_password=§ terraform apply
aws configure set aws_secret_access_key §
aws rds modify-db-instance --db-instance-identifier shop --master-user-password § --apply-immediately
aws secretsmanager put-secret-value --secret-id shop/db --secret-string §
aws iam create-login-profile --user-name bob --password § --password-reset-required
aws cognito-idp admin-set-user-password --user-pool-id p --username bob --password § --permanent
gcloud sql users set-password postgres --instance=shop --password=§
gcloud auth activate-refresh-token bob@example.com §
az sql server create -n shop -g rg -u admin -p §
az ad sp create-for-rbac; az login --service-principal -u 1234 -p § --tenant t
az storage blob upload --account-name shop --account-key § -f a.txt
az keyvault secret set --vault-name v --name DbPw --value §
psql "host=db user=app password=§ dbname=shop sslmode=require"
PGPASSWORD=§ psql -h db -U app -c 'select 1'
psql postgresql://app:§@db/shop -c "select 1"
mysql -h db -u root -p§ shop < dump.sql
mysqldump --user=root --password=§ shop
mysql> ALTER USER 'app'@'%' IDENTIFIED BY '§';
postgres=# ALTER ROLE app WITH LOGIN PASSWORD '§';
CREATE USER reporting WITH ENCRYPTED PASSWORD '§' VALID UNTIL 'infinity';
redis-cli -h cache -a § ping
redis-cli -u redis://default:§@cache:6379/0 info
REDISCLI_AUTH=§ redis-cli ping
127.0.0.1:6379> AUTH default §
config set requirepass §
curl -u bob:§ https://api.example.com/v1
curl -H "X-Api-Key: §" https://api.example.com
curl -H 'PRIVATE-TOKEN: §' https://gitlab.example.com/api/v4/projects
curl -d 'grant_type=client_credentials&client_id=web&client_secret=§' https://idp/token
curl -X POST -d '{"username":"bob","password":"§"}' https://api/login
curl --proxy http://bob:§@proxy:3128 https://example.com
git clone https://oauth2:§@gitlab.example.com/shop/api.git
git remote set-url origin https://bob:§@github.com/shop/api
git -c http.extraheader="AUTHORIZATION: basic §" fetch
fatal: unable to access 'https://bob:§@git.example.com/a.git/': The requested URL returned error: 403
DJANGO_SECRET_KEY='§'
export SLACK_SIGNING_SECRET="§"
SMTP_PASS=§
JWT_SIGNING_KEY=§
SENTRY_AUTH_TOKEN=§
MAILGUN_API_KEY=§
spring.datasource.password=§
database:\n  host: db\n  password: "§"\n  port: 5432
redis:\n  auth:\n    password: §
auth:\n  clientSecret: §\n  issuer: https://idp.example.com
env:\n  - name: DB_PASSWORD\n    value: "§"
<add key="SmtpPassword" value="§" />
<connectionStrings><add name="Shop" connectionString="Server=db;Database=shop;User Id=app;Password=§;" /></connectionStrings>
<server><id>nexus</id><username>deploy</username><password>§</password></server>
<property name="hibernate.connection.password">§</property>
[database]\nhost = "db"\npassword = "§"
[client]\nuser=root\npassword=§
{"db": {"host": "db", "password": "§"}, "debug": false}
{"environment": [{"name": "DB_PASSWORD", "value": "§"}, {"name": "DB_HOST", "value": "db"}]}
{"ParameterKey": "MasterUserPassword", "ParameterValue": "§"}
Server=tcp:shop.database.windows.net,1433;Initial Catalog=shop;User ID=app;Password=§;Encrypt=True;
DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=§==;EndpointSuffix=core.windows.net
Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey=§=
Data Source=//ora:1521/SHOP;User Id=app;Password=§;
jdbc:mysql://db:3306/shop?user=app&password=§&useSSL=false
jdbc:oracle:thin:app/§@//ora:1521/SHOP
jdbc:sqlserver://db:1433;databaseName=shop;user=app;password=§;encrypt=true
mongodb+srv://app:§@cluster0.abcde.mongodb.net/shop?retryWrites=true
amqps://app:§@mq.example.com:5671/prod
CELERY_BROKER_URL=redis://:§@cache:6379/1
kafka: sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="app" password="§";
nats://app:§@nats:4222
clickhouse://default:§@ch:9000/logs
snowflake://app:§@acct/shop
mssql+pyodbc://sa:§@db/shop?driver=ODBC
ldap://cn=admin:§@ldap:389
smtp://mailer:§@mail:587
ftp://bob:§@ftp.example.com/in
https://shop.blob.core.windows.net/c/a.txt?sv=2022-11-02&sr=b&sig=§%3D&se=2026-01-01
https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=§&X-Amz-Expires=60
https://storage.googleapis.com/b/o?GoogleAccessId=a&Expires=1&Signature=§
https://api.example.com/v1?access_token=§&x=1
https://maps.example.com/api?key=AIzaSyA1234567890abcdefghijklmnopqrstuv§
Authorization: Bearer §
authorization: Basic §
AUTHORIZATION: Token §
"Authorization": "Bearer §"
{'headers': {'Authorization': 'Token §', 'Accept': '*/*'}}
> Authorization: Digest username="bob", response="§"
Cookie: sessionid=§; csrftoken=x
Set-Cookie: session=§; HttpOnly; Path=/
set-cookie: connect.sid=s%3A§; Path=/
requests.get(url, auth=('bob', '§'))
boto3.client('s3', aws_access_key_id='AKIAIOSFODNN7EXAMPLE', aws_secret_access_key='§')
smtplib.SMTP('mail').login('bob', '§')
openssl pkcs12 -export -passout pass:§ -out a.p12
keytool -importkeystore -srcstorepass § -deststorepass § -noprompt
ansible-playbook site.yml -e 'ansible_password=§'
ansible-playbook site.yml --extra-vars '{"db_password": "§"}'
vault kv put secret/shop db_password=§
vault login -method=userpass username=bob password=§
consul kv put -token=§ a b
npm config set //registry.npmjs.org/:_authToken §
//registry.npmjs.org/:_authToken=§
twine upload -u __token__ -p § dist/*
pip install --index-url https://bob:§@pypi.example.com/simple shop
wget --http-user=bob --http-password=§ https://x
mc alias set minio https://minio:9000 admin §
rclone config create s3 s3 access_key_id=AK secret_access_key=§
sqlcmd -S db -U sa -P § -Q "select 1"
mongosh --username app --password § mongodb://db/shop
influx -username admin -password § -database m
rabbitmqctl add_user app §
smbclient //fs/share -U bob%§
ldapsearch -x -D cn=admin -w § -b dc=x
htpasswd -b .htpasswd bob §
snmpwalk -v3 -u bob -A § -l authNoPriv host
xfreerdp /u:bob /p:§ /v:host
nmcli dev wifi connect Home password §
wpa_passphrase: psk="§"
machine api.example.com login bob password §
db.example.com:5432:shop:app:§
The temporary password for bob is §
Your new API key is: §
password changed to §
Login with user admin and password §
export AWS_SECRET_ACCESS_KEY=§
set PGPASSWORD=§
$env:DB_PASSWORD = "§"
setx API_TOKEN "§"
ENV APP_SECRET=§
ARG GITHUB_TOKEN=§
  "SecretString": "{\"username\":\"app\",\"password\":\"§\"}",
\"client_secret\": \"§\"
token: §
x-vault-token: §
X-Auth-Token=§
X-Amz-Security-Token: §
OTP=§
apikey=§
api-key: §
"refresh_token":"§"
secret_key_base: §
encryption_key = §
webhook_secret: "§"
private_key_passphrase: §
ssh_key_passphrase=§
--api-key=§
--client-secret §
--vault-password §
-Dspring.datasource.password=§
-Djavax.net.ssl.trustStorePassword=§
--requirepass §
--set-string image.pullSecret.password=§
java -jar app.jar --db.password=§
""".strip().splitlines()  # noqa: E501


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_secret_is_masked_where_people_meet_it(carrier: str, secret: str) -> None:
    if "#" in secret and ("://" in carrier or "sid=s%3A" in carrier):
        pytest.skip("such a character is escaped in a URL")
    carrier = carrier.replace("\\n", "\n")
    once = redact_text(carrier.replace("§", secret))
    assert secret not in once
    assert MASK in once
    assert redact_text(once) == once
    # What stands before it stays, but for the parts of a header or a command.
    kept = once.split(MASK)[0]
    assert kept
    assert carrier.startswith(kept)
