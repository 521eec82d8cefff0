"""What the verification Job asks each server, and what it makes of the answers; each from a server on this machine."""

import json
import socket
import time
from collections.abc import Iterator

import psycopg
import pytest

from playbook.incluster import app_probe
from testing import api, resp
from testing.postgres import PostgresServer, server_programs

FAILED = "fail"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server with the database and role `shop`."""
    programs = server_programs()
    if programs is None:
        pytest.skip("NOT PROVED HERE: what the Job asks PostgreSQL needs a server (apt-get install postgresql)")
    server = PostgresServer(programs)
    server.make("shop")
    with psycopg.connect(server.url("shop"), autocommit=True) as admin:
        for role in ("shop", "other"):
            admin.execute(f"create role {role} login")
        admin.execute("grant create on schema public to shop, other")
    yield server
    server.stop()


def dsn(server: PostgresServer, role: str = "shop") -> dict[str, str]:
    return {"POSTGRES_DSN": server.url("shop").replace("postgres@", f"{role}@")}


def tables(server: PostgresServer) -> list[str]:
    with psycopg.connect(server.url("shop")) as admin:
        found = admin.execute("select tablename from pg_tables where schemaname = 'public' order by 1").fetchall()
    return [name for (name,) in found]


def changed(server: PostgresServer, *statements: str) -> None:
    with psycopg.connect(server.url("shop"), autocommit=True) as admin:
        for one in statements:
            admin.execute(one)


def asked(server: PostgresServer, role: str = "shop") -> tuple[str, str, str]:
    return app_probe.database(dsn(server, role), {"app": "shop"})


def test_a_database_that_is_as_it_should_be_keeps_nothing_of_the_check(postgres):
    assert asked(postgres) == ("pass", "role shop, database shop; wrote a row and read it back", "")
    assert tables(postgres) == []


def test_what_a_killed_job_left_is_dropped_and_what_another_job_uses_now_is_not(postgres):
    now_s = int(time.time())
    left, used, theirs = f"sfmctl_verify_{now_s - 3600:08x}_0badcafe", f"sfmctl_verify_{now_s:08x}_0badcafe", "orders"
    changed(postgres, *(f"create table {name} (one int); alter table {name} owner to shop"
                        for name in (left, used, theirs)))  # fmt: skip
    try:
        assert asked(postgres)[0] == "pass"
        assert tables(postgres) == [theirs, used]
    finally:
        changed(postgres, f"drop table if exists {left}, {used}, {theirs}")


def test_each_trouble_of_a_database_has_its_code(postgres):
    assert asked(postgres, "other")[2] == "SFM-DB-003"
    assert (
        app_probe.database({"POSTGRES_DSN": "postgresql://shop@127.0.0.1:9/shop"}, {"app": "shop"})[2] == "SFM-DB-001"
    )
    changed(postgres, "revoke create on schema public from shop")
    try:
        status, said, code = asked(postgres)
        assert (status, code) == (FAILED, "SFM-DB-006") and "permission denied" in said
    finally:
        changed(postgres, "grant create on schema public to shop", "alter role shop nologin")
    try:
        assert asked(postgres) == (FAILED, "the role shop may not log in", "SFM-DB-004")
    finally:
        changed(postgres, "alter role shop login")


def test_a_statement_that_does_not_end_is_ended(postgres, monkeypatch):
    monkeypatch.setattr(app_probe, "ATTEMPT_S", 1)
    with psycopg.connect(postgres.url("shop")) as admin:
        admin.execute("lock table pg_catalog.pg_type in exclusive mode")  # a new table waits for it
        status, said, code = asked(postgres)
    assert (status, said, code) == (FAILED, "a statement took longer than 1 s", "SFM-DB-006")


def test_a_commit_that_no_standby_confirms_takes_no_other_answer_with_it(postgres, monkeypatch):
    changed(postgres, "alter system set synchronous_standby_names = 'nobody'", "select pg_reload_conf()")
    until = time.monotonic() + 10
    try:
        with psycopg.connect(postgres.url("shop"), autocommit=True) as admin:
            while admin.execute("show synchronous_standby_names").fetchone() != ("nobody",):
                assert time.monotonic() < until
        with resp.serving(cache()) as node:
            records = list(app_probe.told({**REDIS_ASKED, "checks": ["database", "redis"]},
                                          dsn(postgres) | redis_env(node.port), limit_s=2))  # fmt: skip
    finally:
        changed(postgres, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
    assert [(r["check"], r["status"], r["code"]) for r in records] == [
        ("redis", "pass", ""), ("database", "error", "SFM-APP-014"),
    ]  # fmt: skip
    assert records[1]["observed"] == "no answer within 2 s"
    until = time.monotonic() + 10
    while tables(postgres):  # the commit is let go now, and the check takes its table away
        assert time.monotonic() < until


def test_one_line_a_check_is_written_and_a_last_one_with_the_time(monkeypatch, capsys):
    monkeypatch.setenv("SFMCTL_ASKED", json.dumps({"app": "shop", "checks": ["database", "redis"], "ca": {}}))
    for name in ("POSTGRES_DSN", "REDIS_URL", "REDIS_KEY_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    assert app_probe.main() == 0
    *records, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert {r["check"]: r["code"] for r in records} == {"database": "SFM-APP-008", "redis": "SFM-APP-008"}
    assert set(last) == {"asked_ms"}


REDIS_ASKED = {"app": "shop", "ca": {"redis": "", "kafka": "", "vault": ""}}


def redis_env(port: int) -> dict[str, str]:
    return {"REDIS_URL": f"redis://127.0.0.1:{port}", "REDIS_USERNAME": "shop", "REDIS_PASSWORD": "not-a-secret",
            "REDIS_KEY_PREFIX": "shop:"}  # fmt: skip


def cache(prefix: str = "shop:"):
    """A node that keeps keys, and refuses those outside a prefix."""
    kept: dict[str, str] = {}

    def answer(said: str) -> resp.Answer:
        command, key, *more = [*said.split(), ""]
        if command in ("GET", "SET") and not key.startswith(prefix):
            return resp.Refusal("NOPERM No permissions to access a key")
        if command == "SET":
            kept[key] = more[0]
        return {"PING": "PONG", "GET": kept.get(key, "")}.get(command, "OK")

    return answer


def redis(answers: resp.Answers) -> tuple[str, str, str]:
    with resp.serving(answers) as node:
        return app_probe.redis(redis_env(node.port), REDIS_ASKED)


def test_a_redis_user_that_is_confined_to_its_keys_passes():
    assert redis(cache()) == ("pass", "PONG; set and get under shop:*, other keys refused", "")


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (cache(""), "SFM-RED-012"),
        (lambda said: resp.Refusal("WRONGPASS invalid username-password pair or user is disabled."), "SFM-RED-010"),
        (lambda said: resp.Refusal("LOADING Redis is loading the dataset in memory"), "SFM-RED-002"),
        (cache("other:"), "SFM-RED-010"),
    ],
    ids=["reads other keys", "wrong password", "loading", "may not use its own keys"],
)
def test_each_trouble_of_redis_has_its_code(answers, code):
    status, _, found = redis(answers)
    assert (status, found) == (FAILED, code)


def test_servers_that_take_a_connection_and_say_nothing_are_given_up(monkeypatch):
    monkeypatch.setattr(app_probe, "ATTEMPT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        env = {**redis_env(port), "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}", "KAFKA_SASL_USERNAME": "shop",
               "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
               "KAFKA_SASL_PASSWORD": "not-a-secret"}  # fmt: skip
        names = ["redis", "kafka"]
        records = {r["check"]: r for r in app_probe.told({**REDIS_ASKED, "checks": names, "topics": {}}, env)}
    assert {name: (r["status"], r["code"]) for name, r in records.items()} == {
        "redis": (FAILED, "SFM-RED-001"), "kafka": (FAILED, "SFM-KAF-001"),
    }  # fmt: skip
    assert max(r["ms"] for r in records.values()) < 5000


OWN, NOBODY, BILLING = "shared-infra/shop/dev", "shared-infra/sfmctl-verify-other/dev", "shared-infra/billing/dev"
KEPT = {"data": {"data": {"POSTGRES_PASSWORD": "x"}, "metadata": {}}}


@pytest.fixture
def vault(tmp_path, monkeypatch) -> Iterator[api.Api]:
    """A server that lets `shop` read its own path and denies the others."""
    token = tmp_path / "token"
    token.write_text("a.service.account")
    monkeypatch.setattr(app_probe, "TOKEN", token)
    with api.serving(tmp_path / "kubeconfig", "unused") as server:
        server.answer = (200, {"auth": {"client_token": "hvs.one", "policies": ["shop"]}})
        server.objects = {f"/v1/secret/data/{OWN}": KEPT, "/v1/auth/token/lookup-self": {"data": {"ttl": 86400}}}
        server.refused = {f"/v1/secret/data/{path}" for path in (NOBODY, BILLING)}
        yield server


def vault_says(server: api.Api) -> tuple[str, str, str]:
    env = {"VAULT_ADDR": server.url, "VAULT_ROLE": "shop", "VAULT_PATH": f"secret/data/{OWN}"}
    return app_probe.vault(env, {**REDIS_ASKED, "other_paths": [NOBODY, BILLING]})


def test_a_policy_for_the_own_path_alone_passes_and_every_other_was_asked(vault):
    status, said, code = vault_says(vault)
    assert (status, code) == ("pass", ""), said
    assert (
        said
        == f"1 keys at secret/{OWN}, token ttl 86400 s; denied: secret/{NOBODY} and the paths of 1 other applications"
    )
    assert {path for method, path, _ in vault.asked if method == "GET"} >= vault.refused


@pytest.mark.parametrize("there", [True, False], ids=["its values", "that there are none"])
def test_a_policy_that_lets_one_wired_application_be_read_is_found(vault, there):
    vault.refused.discard(f"/v1/secret/data/{BILLING}")
    if there:
        vault.objects[f"/v1/secret/data/{BILLING}"] = KEPT
    assert vault_says(vault) == (FAILED, f"secret/{BILLING} is not denied", "SFM-VLT-018")


def test_each_trouble_of_vault_has_its_code_and_leaves_no_token_behind(vault):
    del vault.objects[f"/v1/secret/data/{OWN}"]
    assert vault_says(vault)[2] == "SFM-VLT-015"
    vault.refused.add(f"/v1/secret/data/{OWN}")
    assert vault_says(vault)[2] == "SFM-VLT-017"
    revoked = [path for method, path, _ in vault.asked if path.endswith("/revoke-self")]
    assert len(revoked) == 2
    vault.answer = (403, {"errors": ["permission denied"]})
    assert vault_says(vault)[2] == "SFM-VLT-016"
