"""Asks every server an application's question, from inside the cluster: what its verification Job runs.

It has exactly what a pod of the application has (its ServiceAccount's token, its runtime Secret and its settings as
environment), so a pass here is a pass there. Checks run side by side; one JSON line says how each came out, as soon as
it has, so that a server that hangs keeps no other's answer back. A value of a secret is never written: what servers say
is searched for them first.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from playbook.scrub import forms

PASS, FAIL = "pass", "fail"
TOKEN = Path("/var/run/secrets/vault/token")
ATTEMPT_S = 8
"""How long one question to a server may take."""
CHECK_S = 20.0
"""How long all questions of one check may."""
SECRET_NAMES = ("POSTGRES_PASSWORD", "POSTGRES_DSN", "REDIS_PASSWORD", "KAFKA_SASL_PASSWORD")

Env = Mapping[str, str]
Found = tuple[str, str, str]
"""Status, what was observed, and the code where it failed."""


SCRATCH = "sfmctl_verify_"
STALE_S = 600
"""How old a scratch table is that nobody will drop any more: its Job was ended first."""


def _drop_stale(connection: Any, now_s: int) -> None:
    """Drop what killed Jobs have left; a table's name says when it was made."""
    mine = "select tablename from pg_tables where tableowner = current_user and tablename ~ %s"
    for (name,) in connection.execute(mine, [f"^{SCRATCH}[0-9a-f]{{8}}_[0-9a-f]{{8}}$"]).fetchall():
        if int(name.split("_")[2], 16) < now_s - STALE_S:
            connection.execute(f"drop table if exists {name}")
    connection.commit()


def _written_and_read(connection: Any) -> tuple[Any, ...] | None:
    """Commit a row to a table of its own (another check of the application may be under way), read it, drop all."""
    now_s = int(time.time())
    _drop_stale(connection, now_s)
    table = f"{SCRATCH}{now_s:08x}_{secrets.token_hex(4)}"
    connection.execute(f"create table {table} as select 1 as one")
    connection.commit()
    try:
        back: tuple[Any, ...] | None = connection.execute(f"table {table}").fetchone()
    finally:
        connection.rollback()
        connection.execute(f"drop table {table}")
        connection.commit()
    return back


def database(env: Env, asked: Mapping[str, Any]) -> Found:
    """A login with the application's own connection string, its role and database, a write that is read back."""
    import psycopg

    app = asked["app"]
    try:
        with psycopg.connect(
            env["POSTGRES_DSN"], connect_timeout=ATTEMPT_S, tcp_user_timeout=ATTEMPT_S * 1000
        ) as connection:
            connection.execute("select set_config('statement_timeout', %s, false)", [f"{ATTEMPT_S}s"])
            row = connection.execute("select 1, current_user::text, current_database()::text").fetchone()
            if row != (1, app, app):
                return FAIL, f"logged in as {row and row[1:]}, wanted role and database {app}", "SFM-DB-003"
            # Pgpool lends out sessions that were opened before: one that answers does not say that a new one would.
            may = connection.execute("select rolcanlogin from pg_roles where rolname = current_user").fetchone()
            if may != (True,):
                return FAIL, f"the role {app} may not log in", "SFM-DB-004"
            back = _written_and_read(connection)
        if back != (1,):
            return FAIL, "a committed row was not read back", "SFM-DB-006"
    except psycopg.errors.QueryCanceled:
        return FAIL, f"a statement took longer than {ATTEMPT_S} s", "SFM-DB-006"
    except psycopg.OperationalError as error:
        said = str(error)
        if "not permitted to log in" in said:
            return FAIL, f"the role {app} may not log in", "SFM-DB-004"
        if "password authentication failed" in said or "authentication" in said.lower():
            return FAIL, f"the login of {app} is refused", "SFM-DB-005"
        return FAIL, said, "SFM-DB-001"
    except psycopg.Error as error:
        return FAIL, str(error), "SFM-DB-006"
    return PASS, f"role {app}, database {app}; wrote a row and read it back", ""


def redis(env: Env, asked: Mapping[str, Any]) -> Found:
    """PING, a scratch key under the application's prefix set and read, and a key outside of it refused."""
    import redis as client

    prefix = env["REDIS_KEY_PREFIX"]
    ca = asked["ca"]["redis"]
    tls = {"ssl_ca_certs": ca} if env["REDIS_URL"].startswith("rediss://") and ca else {}
    try:
        login = {"username": env["REDIS_USERNAME"], "password": env["REDIS_PASSWORD"]}
        patience = {"socket_timeout": ATTEMPT_S, "socket_connect_timeout": ATTEMPT_S}
        with client.Redis.from_url(env["REDIS_URL"], **login, **patience, **tls) as server:
            pong, key, value = server.ping(), f"{prefix}sfmctl-verify:{secrets.token_hex(4)}", secrets.token_hex(8)
            server.set(key, value, ex=60)
            back = server.get(key)
            server.delete(key)
            if not pong or back is None or bytes(back).decode() != value:
                return FAIL, "a scratch key did not come back as it was set", "SFM-RED-010"
            try:
                server.get("sfmctl-verify-outside")
            except client.exceptions.NoPermissionError:
                return PASS, f"PONG; set and get under {prefix}*, other keys refused", ""
            return FAIL, f"the user may read keys outside {prefix}*", "SFM-RED-012"
    except client.exceptions.BusyLoadingError as error:
        return FAIL, str(error), "SFM-RED-002"
    except (client.exceptions.AuthenticationError, client.exceptions.NoPermissionError) as error:
        return FAIL, f"the login of {env['REDIS_USERNAME']} is refused: {error}", "SFM-RED-010"
    except client.exceptions.RedisError as error:
        return FAIL, str(error), "SFM-RED-001"


def kafka_settings(env: Env, asked: Mapping[str, Any]) -> dict[str, Any]:
    """librdkafka's settings of the application."""
    ca = asked["ca"]["kafka"]
    tls = {"ssl.ca.location": ca} if "SSL" in env["KAFKA_SECURITY_PROTOCOL"].split("_") and ca else {}
    return {
        "bootstrap.servers": env["KAFKA_BOOTSTRAP_SERVERS"],
        "security.protocol": env["KAFKA_SECURITY_PROTOCOL"],
        "sasl.mechanism": env["KAFKA_SASL_MECHANISM"],
        "sasl.username": env["KAFKA_SASL_USERNAME"],
        "sasl.password": env["KAFKA_SASL_PASSWORD"],
        "socket.timeout.ms": ATTEMPT_S * 1000,
        **tls,
    }


def judge_topics(topics: Mapping[str, Any], wanted: Mapping[str, Mapping[str, int]], min_isr: int) -> Found | None:
    """What of partitions, replication and in-sync replicas is not as the mode says; None when all is. `topics`: name to
    a list of (replicas, in-sync replicas) per partition in their order, absent when the topic is not there."""
    for name, want in wanted.items():
        parts = topics.get(name)
        if not parts:
            return FAIL, f"the topic {name} is not there", "SFM-KAF-015"
        if len(parts) < want["partitions"]:
            return FAIL, f"{name} has {len(parts)} partitions, wanted {want['partitions']}", "SFM-KAF-016"
        other = [f"{n} ({replicas})" for n, (replicas, _) in enumerate(parts) if replicas != want["replicas"]]
        if other:
            told = f"partitions with another number of replicas than {want['replicas']}: {', '.join(other)}"
            return FAIL, f"{name}: {told}", "SFM-KAF-011"
        thin = [n for n, (_, in_sync) in enumerate(parts) if in_sync < min_isr]
        if thin:
            return FAIL, f"{name}: partitions {thin} have fewer than {min_isr} in-sync replicas", "SFM-KAF-002"
    return None


def kafka(env: Env, asked: Mapping[str, Any]) -> Found:
    """Metadata against the mode, and a marker produced to the events topic and consumed again."""
    from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient

    settings = kafka_settings(env, asked)
    said: list[str] = []
    settings["error_cb"] = lambda error: said.append(str(error))
    try:
        found = AdminClient(settings, logger=None).list_topics(timeout=ATTEMPT_S)
        topics = {
            name: [(len(p.replicas), len(p.isrs)) for _, p in sorted(topic.partitions.items())]
            for name, topic in found.topics.items() if topic.error is None
        }  # fmt: skip
        wrong = judge_topics(topics, asked["topics"], asked["min_isr"])
        if wrong is not None:
            return wrong
        topic, marker = env["KAFKA_TOPIC_EVENTS"], secrets.token_hex(8).encode()
        kept: list[Any] = []
        producer = Producer({**settings, "acks": "all", "enable.idempotence": True,
                             "message.timeout.ms": ATTEMPT_S * 1000}, logger=None)  # fmt: skip
        producer.produce(topic, key=b"sfmctl.verify", value=marker, headers={"sfmctl": "verify"},
                         on_delivery=lambda error, message: kept.append((error, message)))  # fmt: skip
        producer.flush(ATTEMPT_S)
        if not kept or kept[0][0] is not None:
            return FAIL, f"a marker was not taken: {kept[0][0] if kept else '; '.join(said)}", "SFM-KAF-010"
        message = kept[0][1]
        consumer = Consumer({**settings, "group.id": f"{asked['app']}.sfmctl-verify", "enable.auto.commit": False},
                            logger=None)  # fmt: skip
        try:
            consumer.assign([TopicPartition(topic, message.partition(), message.offset())])
            back = consumer.poll(ATTEMPT_S)
        finally:
            consumer.close()
        if back is None or back.error() or back.value() != marker:
            return FAIL, "the marker was not read back", "SFM-KAF-010"
    except KafkaException as error:
        refused = any("authentication" in s.lower() for s in [str(error), *said])
        return FAIL, "; ".join([str(error), *said[:1]]), "SFM-KAF-010" if refused else "SFM-KAF-001"
    sizes = ", ".join(f"{name} x{len(topics[name])}" for name in asked["topics"])
    return PASS, f"{sizes}; a marker produced and consumed", ""


def vault(env: Env, asked: Mapping[str, Any]) -> Found:
    """A login with the ServiceAccount's own token, the application's path, the token's time to live, and that the paths
    of other applications are denied."""
    import hvac
    import requests

    path = env["VAULT_PATH"].removeprefix("secret/data/")
    try:
        client = hvac.Client(url=env["VAULT_ADDR"], verify=asked["ca"]["vault"] or True, timeout=ATTEMPT_S)
        try:
            client.auth.kubernetes.login(role=env["VAULT_ROLE"], jwt=TOKEN.read_text())
        except (
            hvac.exceptions.Forbidden,
            hvac.exceptions.InvalidRequest,
            hvac.exceptions.InternalServerError,
        ) as error:
            return FAIL, f"Vault refuses the login with role {env['VAULT_ROLE']}: {error.text or error}", "SFM-VLT-016"
        try:
            return _own_and_no_other(client, path, asked)
        finally:
            with contextlib.suppress(hvac.exceptions.VaultError, requests.RequestException):
                client.auth.token.revoke_self()
    except (hvac.exceptions.VaultError, requests.RequestException) as error:
        return FAIL, str(error), "SFM-VLT-002"


def _own_and_no_other(client: Any, path: str, asked: Mapping[str, Any]) -> Found:
    """What a client that is logged in may read: the application's own path, and none of the others."""
    import hvac

    try:
        kept = client.secrets.kv.v2.read_secret_version(path, raise_on_deleted_version=True)["data"]["data"]
    except hvac.exceptions.Forbidden:
        return FAIL, f"the policy does not let {asked['app']} read secret/{path}", "SFM-VLT-017"
    except hvac.exceptions.InvalidPath:
        return FAIL, f"there is nothing at secret/{path}", "SFM-VLT-015"
    ttl_s = int(client.auth.token.lookup_self()["data"]["ttl"])
    if not kept or ttl_s <= 0:
        return FAIL, f"{len(kept)} keys, token ttl {ttl_s} s", "SFM-VLT-015"
    for other in asked["other_paths"]:
        try:
            client.secrets.kv.v2.read_secret_version(other, raise_on_deleted_version=True)
        except hvac.exceptions.Forbidden:
            continue
        except hvac.exceptions.InvalidPath:
            pass  # nothing is there, and that could be seen
        return FAIL, f"secret/{other} is not denied", "SFM-VLT-018"
    first, *more = asked["other_paths"]
    denied = f"secret/{first}" + (f" and the paths of {len(more)} other applications" if more else "")
    return PASS, f"{len(kept)} keys at secret/{path}, token ttl {ttl_s} s; denied: {denied}", ""


CHECKS: Mapping[str, Callable[[Env, Mapping[str, Any]], Found]] = {
    "database": database, "redis": redis, "kafka": kafka, "vault": vault,
}  # fmt: skip


def scrubbed(text: str, env: Env) -> str:
    """`text` without any secret value in any form, on one line and not long."""
    for name in SECRET_NAMES:
        if len(env.get(name, "")) > 3:
            for form in sorted(forms(env[name]), key=len, reverse=True):
                text = text.replace(form, f"<{name}>")
    return " ".join(text.split())[:400]


def asked_one(name: str, env: Env, asked: Mapping[str, Any]) -> dict[str, Any]:
    """One check's record; an exception that nobody expected is an `error`, never a pass."""
    started = time.monotonic()
    try:
        status, observed, code = CHECKS[name](env, asked)
    except KeyError as missing:
        status, observed, code = FAIL, f"the settings lack {missing.args[0]}", "SFM-APP-008"
    except Exception as error:  # noqa: BLE001 - told as undetermined, by name
        status, observed, code = "error", f"{type(error).__name__}: {error}", "SFM-APP-014"
    return {"status": status, "observed": scrubbed(observed, env), "code": code,
            "ms": round((time.monotonic() - started) * 1000)}  # fmt: skip


def told(asked: Mapping[str, Any], env: Env, limit_s: float = CHECK_S) -> Iterator[dict[str, Any]]:
    """The record of each check as soon as it is there; one still open after `limit_s` is an error of that check."""
    records: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def ask(name: str) -> None:
        records.put({"check": name, **asked_one(name, env, asked)})

    for name in asked["checks"]:
        threading.Thread(target=ask, args=(name,), daemon=True).start()
    missing, until = list(asked["checks"]), time.monotonic() + limit_s
    while missing:
        try:
            record = records.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            break
        missing.remove(record["check"])
        yield record
    for name in missing:
        yield {"check": name, "status": "error", "observed": f"no answer within {limit_s:g} s", "code": "SFM-APP-014",
               "ms": round(limit_s * 1000)}  # fmt: skip


def main() -> int:
    """Run the checks that SFMCTL_ASKED names; one JSON line each, and a last one with how long all of it took."""
    started = time.monotonic()
    for record in told(json.loads(os.environ["SFMCTL_ASKED"]), os.environ):
        print(json.dumps(record), flush=True)  # noqa: T201 - the log is the answer
    print(json.dumps({"asked_ms": round((time.monotonic() - started) * 1000)}), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
