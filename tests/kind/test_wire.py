"""Two applications wired side by side on a real cluster: each has what is its own, and nothing of the other's.

Both are wired once; each test makes what it reads, and the last takes one of them away for good.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from typing import Any

import pytest

from playbook.kube import Writer
from playbook.wiring import kafka_job
from testing.wired import Wired, journals, records
from tests.kind.conftest import CLUSTER, CONTEXT, ROOT, Ran, Sfmctl

pytestmark = pytest.mark.kind
APPS = ("orders", "billing")


def app_run(sfmctl: Sfmctl, *arguments: str) -> Ran:
    return sfmctl.run(*arguments, "--cluster", CLUSTER, "-o", "json", timeout_s=400)


def command(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.fixture(scope="module")
def wired(stack: None, sfmctl: Sfmctl) -> dict[str, Ran]:
    """Both applications, wired."""
    runs = {name: app_run(sfmctl, "app", "wire", name, "--env", "dev", "--yes") for name in APPS}
    for name, ran in runs.items():
        assert ran.code == 0, f"{name}: {ran.err}"
    return runs


@pytest.fixture
def orders(wired: dict[str, Ran]) -> Any:
    with Wired.on(CONTEXT, "orders") as app:
        yield app


@pytest.fixture
def billing(wired: dict[str, Ran]) -> Any:
    with Wired.on(CONTEXT, "billing") as app:
        yield app


def watched(api: Writer) -> dict[str, str]:
    """Every object that a wire-up could touch, with its resourceVersion."""
    places = [f"/api/v1/namespaces/{ns}/{kind}" for ns in (*APPS, "soma-infra")
              for kind in ("secrets", "configmaps", "serviceaccounts", "pods")]  # fmt: skip
    places += [f"/apis/external-secrets.io/v1beta1/namespaces/{ns}/{kind}" for ns in APPS
               for kind in ("secretstores", "externalsecrets")]  # fmt: skip
    places += ["/api/v1/namespaces", "/apis/batch/v1/namespaces/soma-infra/jobs"]
    return {f"{place}/{i['metadata']['name']}": i["metadata"]["resourceVersion"] for place in places
            for i in api.items(place)}  # fmt: skip


def test_a_second_wire_and_a_dry_run_of_its_undoing_change_nothing(wired: dict[str, Ran], sfmctl: Sfmctl) -> None:
    with contextlib.closing(Writer(CONTEXT)) as api:
        before = watched(api)
        again = app_run(sfmctl, "app", "wire", "orders", "--env", "dev", "--yes", "--dry-run", "--exit-code")
        assert (again.code, again.document["changes"]) == (0, 0), again.out
        undo = app_run(sfmctl, "app", "unwire", "orders", "--delete-data", "--dry-run", "--exit-code")
        assert undo.code == 10
        assert {s["id"] for s in undo.document["steps"] if s["verdict"] == "do"} >= {"app.erase_database",
                                                                                    "app.erase_topics"}  # fmt: skip
        assert watched(api) == before
    second = app_run(sfmctl, "app", "wire", "orders", "--env", "dev", "--yes")
    assert (second.code, second.document["changed"]) == (0, 0), second.out


def test_the_pods_get_every_secret_value_and_setting(orders: Wired) -> None:
    assert orders.secret.lacking() == []
    assert set(orders.secret.values) == {"POSTGRES_PASSWORD", "POSTGRES_DSN", "REDIS_PASSWORD", "KAFKA_SASL_PASSWORD"}
    space = orders.reader.get("/api/v1/namespaces/orders")
    assert space["metadata"]["labels"]["soma.sh/allow-shared-infra"] == "true"
    settings = orders.reader.get("/api/v1/namespaces/orders/configmaps/orders-settings")
    assert settings["data"]["VAULT_ROLE"] == "orders" and settings["data"]["POSTGRES_DB"] == "orders"
    mine = orders.reader.get("/api/v1/namespaces/orders/configmaps/sharedinfra-endpoints")
    assert mine["data"] == dict(orders.at.values)


def test_vault_gives_an_application_its_own_path_alone(orders: Wired, billing: Wired) -> None:
    from hvac.exceptions import Forbidden, InvalidRequest

    def read(client: Any, app: Wired) -> dict[str, str]:
        found = client.secrets.kv.v2.read_secret_version(app.app.secret_path, raise_on_deleted_version=True)
        return dict(found["data"]["data"])

    with orders.vault() as client:
        assert read(client, orders) == orders.secret.values
        assert 0 < client.auth.token.lookup_self()["data"]["ttl"] <= 24 * 3600
        with pytest.raises(Forbidden):
            read(client, billing)
        with pytest.raises(Forbidden):
            client.secrets.kv.v2.create_or_update_secret(orders.app.secret_path, {"x": "y"})
        with pytest.raises(Forbidden):
            client.secrets.kv.v2.list_secrets("shared-infra")
    for role, audience in (("billing", "vault"), ("orders", "https://kubernetes.default.svc")):
        with pytest.raises((Forbidden, InvalidRequest)), orders.vault(role, audience):
            pass


def test_a_store_cannot_fetch_anothers_secrets(orders: Wired, billing: Wired) -> None:
    api = orders.reader
    assert isinstance(api, Writer)
    path = "/apis/external-secrets.io/v1beta1/namespaces/orders/externalsecrets/theft"
    body = {
        "apiVersion": "external-secrets.io/v1beta1",
        "kind": "ExternalSecret",
        "metadata": {"name": "theft"},
        "spec": {
            "secretStoreRef": {"name": "soma-infra-vault", "kind": "SecretStore"},
            "target": {"name": "theft"},
            "dataFrom": [{"extract": {"key": billing.app.secret_path}}],
        },
    }
    api.apply(path, body)
    try:
        until = time.monotonic() + 60
        conditions: list[dict[str, Any]] = []
        while not conditions and time.monotonic() < until:
            time.sleep(0.5)
            conditions = ((api.get(path) or {}).get("status") or {}).get("conditions", [])
        assert [c["status"] for c in conditions if c["type"] == "Ready"] == ["False"]
        assert api.get("/api/v1/namespaces/orders/secrets/theft") is None
    finally:
        api.delete(path)


def test_a_database_lets_only_its_own_application_in(orders: Wired, billing: Wired) -> None:
    import psycopg

    with orders.database() as connection:
        assert connection.execute("select current_user, current_database()").fetchone() == ("orders", "orders")
        connection.execute("create table if not exists kept (id int primary key, body text)")
        connection.execute("insert into kept values (1, 'orders') on conflict do nothing")
        assert connection.execute("select body from kept").fetchone() == ("orders",)
        for statement in ("create database loot", "create role loot", "create extension pgcrypto",
                          "drop database orders",
                          "alter role postgres password 'x'", "select pg_read_file('/etc/passwd')"):  # fmt: skip
            with pytest.raises(psycopg.Error):
                connection.execute(statement)
        connection.execute("grant connect on database orders to billing")  # a warning, and nothing is granted
        allowed = connection.execute("select has_database_privilege('billing', 'orders', 'CONNECT')").fetchone()
        assert allowed == (False,)
    for name in ("billing", "postgres", "repmgr", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"), orders.database(name):
            pass
    with pytest.raises(psycopg.OperationalError), orders.database(secret=billing.secret):
        pass


def test_redis_keeps_each_to_its_own_keys_also_after_a_restart(orders: Wired, billing: Wired) -> None:
    from redis.exceptions import AuthenticationError, NoPermissionError

    with billing.cache() as theirs:
        theirs.set("billing:secret", "1")
    with orders.cache() as mine:
        mine.set("orders:x", "1")
        for refused in (("GET", "billing:secret"), ("SET", "billing:x", "1"), ("DEL", "billing:secret"), ("SCAN", "0"),
                        ("KEYS", "*"), ("RANDOMKEY",), ("DBSIZE",), ("FLUSHALL",), ("CONFIG", "GET", "*"),
                        ("ACL", "LIST"), ("PUBLISH", "billing:events", "x"), ("COPY", "billing:secret", "orders:y"),
                        ("EVAL", "return redis.call('get', KEYS[1])", "1", "billing:secret")):  # fmt: skip
            with pytest.raises(NoPermissionError):
                mine.execute_command(*refused)
    with pytest.raises(AuthenticationError), orders.cache(billing.secret) as client:
        client.ping()
    command("kubectl", "--context", CONTEXT, "-n", "soma-infra", "delete", "pod", "sharedinfra-redis-0")
    command("kubectl", "--context", CONTEXT, "-n", "soma-infra", "rollout", "status", "statefulset/sharedinfra-redis",
            "--timeout", "180s")  # fmt: skip
    with orders.cache() as mine:
        assert mine.get("orders:x") == "1"


async def produced(client: Any, topic: str) -> int:
    """Send one marker with the client's own login; the error code of the answer."""
    from aiokafka.protocol.metadata import MetadataRequest

    answer = await client.send(client.get_random_node(), MetadataRequest([topic]))
    return int(answer.to_object()["topics"][0]["error_code"])


def streamed(app: Wired, topic: str, group: str, marker: bytes) -> bytes:
    """Produce a marker to `topic` and consume it in `group`, over tunnels, as the application."""
    import asyncio

    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    from playbook.wiring.kafka import bootstrap, silenced, through_tunnels

    login = {
        "bootstrap_servers": bootstrap(app.reach, app.at, 9092), "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": app.app.name,
        "sasl_plain_password": app.secret.get("KAFKA_SASL_PASSWORD"), "request_timeout_ms": 20_000,
    }  # fmt: skip

    async def whole() -> bytes:
        producer = AIOKafkaProducer(**login, acks="all")
        try:
            await producer.start()
            await asyncio.wait_for(producer.send_and_wait(topic, marker, key=b"marker"), 30)
        finally:
            await producer.stop()
        consumer = AIOKafkaConsumer(topic, **login, group_id=group, auto_offset_reset="earliest")
        try:
            await consumer.start()
            while True:
                record = await asyncio.wait_for(consumer.getone(), 30)
                if record.value == marker:
                    await consumer.commit()
                    return bytes(record.value)
        finally:
            await consumer.stop()

    with contextlib.ExitStack() as stack, silenced("aiokafka"):
        return through_tunnels(app.reach, stack, whole())


def test_kafka_keeps_each_to_its_own_topics_and_groups(orders: Wired, billing: Wired) -> None:
    from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

    assert streamed(orders, "orders.events", "orders.test", b"a marker") == b"a marker"
    with pytest.raises(TopicAuthorizationFailedError):
        streamed(orders, "billing.events", "orders.test", b"loot")
    with pytest.raises(GroupAuthorizationFailedError):
        streamed(orders, "orders.events", "billing.test", b"loot")
    assert orders.broker(lambda c: produced(c, "orders.events")) == 0
    assert orders.broker(lambda c: produced(c, "billing.events")) == TopicAuthorizationFailedError.errno
    assert orders.broker(lambda c: produced(c, "orders.made-up")) != 0, "an application makes no topics"
    from playbook.trouble import Unknown

    with pytest.raises(Unknown):
        orders.broker(lambda c: produced(c, "orders.events"), billing.secret)


def test_topics_are_planned_grown_and_set(orders: Wired, sfmctl: Sfmctl) -> None:
    api = orders.reader
    assert isinstance(api, Writer)
    small = {"name": "orders.events.dlq", "partitions": 1, "replicationFactor": 1, "config": {"retention.ms": "1000"}}

    def left() -> float:
        return 60.0

    kafka_job.run(orders.reach, api, orders.at, {"user": "orders", "delete": ["orders.events.dlq"]}, left)
    kafka_job.run(orders.reach, api, orders.at, {"user": "orders", "create": [small]}, left)
    plan = app_run(sfmctl, "topics", "plan", "orders", "--exit-code")
    assert plan.code == 10, plan.err
    topics = {t["topic"]: t for t in plan.document["topics"]}
    assert topics["orders.events"]["action"] == "keep"
    found = topics["orders.events.dlq"]
    assert (found["action"], found["partitionGrowth"], found["current"]["partitions"]) == ("change", 2, 1)
    assert found["configChanges"]["retention.ms"] == {"current": "1000", "wanted": str(72 * 3600 * 1000)}
    done = app_run(sfmctl, "topics", "apply", "orders", "--yes")
    assert (done.code, done.document["changed"]) == (0, 1), done.err
    assert app_run(sfmctl, "topics", "plan", "orders", "--exit-code").code == 0


def test_a_part_that_was_broken_by_hand_is_named_and_mended(orders: Wired, sfmctl: Sfmctl) -> None:
    with orders.vault() as before:
        assert before.token
    from playbook.wiring import vault

    with vault.opened(orders.reach, orders.at, writing=True) as admin:
        admin.write_data("auth/kubernetes/role/orders", data={
            "bound_service_account_names": ["default"], "bound_service_account_namespaces": ["orders"],
            "audience": "vault", "token_policies": ["orders"], "token_ttl": 86400, "token_max_ttl": 86400,
        })  # fmt: skip
    shown = app_run(sfmctl, "app", "show", "orders")
    assert shown.code == 3, shown.err
    states = {p["part"]: p for p in shown.document["parts"]}
    assert [n for n, p in states.items() if p["state"] == "wanting" and "bound_service_account_names" in p["why"]] == [
        "role"
    ]
    assert app_run(sfmctl, "vault", "role", "apply", "orders", "--yes").document["changed"] == 1
    with orders.vault() as again:
        assert again.token


def test_acls_that_drifted_are_mended_one_by_one(orders: Wired, sfmctl: Sfmctl) -> None:
    from playbook.wiring import kafka
    from playbook.wiring.access import kafka_acls

    api, mine = orders.reader, sorted(kafka_acls(orders.app))
    assert isinstance(api, Writer)
    stray = {"resource": "TOPIC", "pattern": "LITERAL", "name": "billing.events", "operation": "READ"}
    drifted = [{"resource": a.resource, "pattern": a.pattern, "name": a.name, "operation": a.operation}
               for a in mine[1:]]  # fmt: skip
    done = kafka_job.run(orders.reach, api, orders.at, {"user": "orders", "acls": [*drifted, stray]}, lambda: 60.0)
    assert done == [f"{len(mine)} ACLs of orders (1 created, 1 deleted)"]
    _, make, take = kafka.looked(orders.reach, orders.at)
    assert (make, [acl.name for acl in take]) == (mine[:1], ["billing.events"])
    mended = app_run(sfmctl, "app", "wire", "orders", "--env", "dev", "--yes")
    assert (mended.code, mended.document["changed"]) == (0, 1), mended.err
    assert kafka.looked(orders.reach, orders.at)[1:] == ([], [])


def test_another_environment_is_refused(wired: dict[str, Ran], sfmctl: Sfmctl) -> None:
    ran = app_run(sfmctl, "app", "wire", "orders", "--env", "staging", "--yes")
    assert ran.code == 2 and ran.document["error"]["code"] == "SFM-APP-006", ran.out


def test_two_applications_do_not_share_a_namespace(wired: dict[str, Ran], sfmctl: Sfmctl) -> None:
    ran = app_run(sfmctl, "app", "wire", "lodger", "--env", "dev", "--namespace", "billing", "--dry-run")
    assert ran.code == 2 and ran.document["error"]["code"] == "SFM-APP-020", ran.out


def test_an_application_is_not_wired_into_a_second_namespace(wired: dict[str, Ran], sfmctl: Sfmctl) -> None:
    for verb in ("wire", "unwire"):
        ran = app_run(sfmctl, "app", verb, "orders", "--env", "dev", "--namespace", "elsewhere", "--yes")
        assert ran.code == 2 and ran.document["error"]["code"] == "SFM-APP-021", ran.out
        assert "--namespace orders" in ran.document["error"]["why"]


def test_no_secret_value_is_printed_or_journalled(
    orders: Wired, billing: Wired, wired: dict[str, Ran], sfmctl: Sfmctl
) -> None:
    values = [value for app in (orders, billing) for value in app.secret.values.values()]
    values += [v for name in ("postgres", "redis", "kafka", "vault")
               for v in (orders.reach.secret(f"sharedinfra-{name}") or billing.secret).values.values()]  # fmt: skip
    assert len(values) >= 12 and all(len(value) > 15 for value in values)
    written = journals(str(sfmctl.home / "state"))
    assert {r["event"] for r in records(written)} >= {"plan", "started", "changed", "finished"}
    for text in (written, *(ran.out + ran.err for ran in wired.values())):
        assert not [value for value in values if value in text]


def test_unwire_takes_access_and_keeps_data_and_wire_gives_it_back(
    orders: Wired, billing: Wired, sfmctl: Sfmctl
) -> None:
    import psycopg
    from hvac.exceptions import Forbidden, InvalidRequest
    from redis.exceptions import AuthenticationError

    from playbook.trouble import Unknown

    had, token = orders.secret, orders.token()
    with orders.database() as mine, billing.cache() as theirs:
        mine.execute("create table if not exists kept (id int primary key, body text)")
        mine.execute("insert into kept values (1, 'orders') on conflict do nothing")
        theirs.set("billing:secret", "1")
    gone = app_run(sfmctl, "app", "unwire", "orders", "--yes")
    assert gone.code == 0, gone.err
    with pytest.raises(psycopg.OperationalError), orders.database(secret=had):
        pass
    with pytest.raises(AuthenticationError), orders.cache(had) as client:
        client.ping()
    with pytest.raises(Unknown):
        orders.broker(lambda c: produced(c, "orders.events"), had)
    with pytest.raises((Forbidden, InvalidRequest)), orders.vault(token=token):
        pass
    assert orders.reader.get("/api/v1/namespaces/orders/secrets/orders-runtime") is None
    with billing.database() as theirs, billing.cache() as cache:
        assert theirs.execute("select 1").fetchone() == (1,)
        assert cache.get("billing:secret") == "1"
    back = app_run(sfmctl, "app", "wire", "orders", "--env", "dev", "--yes")
    assert back.code == 0, back.err
    assert orders.secret.values == had.values
    with orders.database() as connection:
        assert connection.execute("select body from kept").fetchone() == ("orders",)


def test_delete_data_leaves_nothing_of_it(orders: Wired, billing: Wired, sfmctl: Sfmctl) -> None:
    gone = app_run(sfmctl, "app", "unwire", "orders", "--delete-data", "--yes")
    assert gone.code == 0, gone.err
    shown = app_run(sfmctl, "app", "show", "orders")
    assert shown.code == 3
    states = {p["part"]: p["state"] for p in shown.document["parts"]}
    assert {n for n, s in states.items() if s == "ok"} - {"image"} == {"api.ready", "env", "place", "mounts"}
    again = app_run(sfmctl, "app", "unwire", "orders", "--delete-data", "--dry-run")
    assert again.document["changes"] == 0, json.dumps(again.document["steps"])
    with billing.database() as theirs:
        assert theirs.execute("select 1").fetchone() == (1,)
