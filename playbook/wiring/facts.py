"""What is observed of one application: per part what is wanting, what still gives it access, what data it has.

Every fact is a list of words; an empty one means that nothing is left to do. A part whose server cannot be looked at is
unknown, which refuses the plan instead of guessing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from playbook.facts import Observer
from playbook.trouble import Trouble, Unknown
from playbook.wiring import access, cluster, objects, topics, vault
from playbook.wiring.reach import Reach
from playbook.wiring.secrets import Sealed

Values = Mapping[str, Any]


TRANSIENT = frozenset({"SFM-VLT-002", "SFM-DB-001", "SFM-KAF-001", "SFM-RED-002", "SFM-RED-011"})
"""What a busy or just started server says, and a moment later no more."""
ATTEMPTS = 3
PAUSE_S = 1.0


def patient(look: Callable[[Observer], Values]) -> Callable[[Observer], Values]:
    """`look`, tried again while a server is only slow to answer; everything else is told at once."""

    def looked(seen: Observer) -> Values:
        for left in range(ATTEMPTS - 1, -1, -1):
            try:
                return look(seen)
            except Unknown as error:
                if error.code not in TRANSIENT or not left:
                    raise
                time.sleep(PAUSE_S)
        raise AssertionError("the last attempt returns or raises")

    return looked


def reach_of(seen: Observer) -> Reach:
    """The target as the wire-up sees it, with hands that cannot write."""
    return Reach(seen.target, seen.reader)


def env(seen: Observer) -> Values:
    """Whether the environment that was asked for is the one that this cluster has."""
    reach = reach_of(seen)
    mode = reach.endpoints().mode
    wrong = [] if mode == reach.app.env else [f"the shared infrastructure here is {mode}, not {reach.app.env}"]
    return {"app.env.unfit": wrong}


def require_env(seen: Observer) -> None:
    """Trouble when another environment was asked for than this cluster has: the gate of what has no plan."""
    wrong = env(seen)["app.env.unfit"]
    if wrong:
        raise Trouble("SFM-APP-006", wrong[0])


def namespace(seen: Observer) -> Values:
    """The application's namespace and its label."""
    reach = reach_of(seen)
    return {
        "app.namespace.wanting": cluster.namespace_wanting(seen.reader, reach.app),
        "app.namespace.access": cluster.namespace_admitted(seen.reader, reach.app),
    }


def account(seen: Observer) -> Values:
    """The ServiceAccount."""
    wanted = objects.account(reach_of(seen).app)
    return {"app.account.wanting": cluster.wanting(seen.reader, wanted),
            "app.account.access": cluster.there(seen.reader, wanted)}  # fmt: skip


def settings(seen: Observer) -> Values:
    """The ConfigMaps."""
    reach = reach_of(seen)
    wanted = objects.settings(reach.app, reach.endpoints())
    return {"app.settings.wanting": cluster.wanting(seen.reader, *wanted),
            "app.settings.access": cluster.there(seen.reader, *wanted)}  # fmt: skip


def secrets(seen: Observer) -> Values:
    """Vault: mounts, policy, role and the secret values of the application."""
    reach = reach_of(seen)
    app, at = reach.app, reach.endpoints()
    with vault.opened(reach, at) as client:
        away = at.elsewhere("vault")
        left = [vault.left_to_the_owner(client, away)] if away else []
        mounts = [] if away else vault.mounts_wanting(client)
        policy, role = vault.policy_wanting(client, app), vault.role_wanting(client, app)
        others = [name for name in vault.bound_to(client, app) if name != app.namespace]
        has = vault.secrets_of(client, app) if not any("KV" in m for m in mounts) else Sealed({})
    looked = (("policy", policy), ("role", role))
    return {
        "app.elsewhere": [
            f"{app.name} is wired into the namespace {name} (--namespace {name})"
            for name in others
            if cluster.owner_of(seen.reader, name) == app.name
        ],
        "app.mounts.elsewhere": left,
        "app.mounts.wanting": mounts,
        "app.policy.wanting": policy,
        "app.role.wanting": role,
        "app.secrets.wanting": secrets_wanting(reach, has),
        "app.vault.access": [f"{w} {app.name}" for w, wrong in looked if f"{w} {app.name} is absent" not in wrong],
        "app.vault.data": [f"secret/{app.secret_path}"] if has.values else [],
    }


def secrets_wanting(reach: Reach, has: Sealed) -> list[str]:
    """Which keys of the Vault path are missing, and whether the connection string is the one of these addresses."""
    from playbook.wiring.secrets import dsn

    lacking = [f"{key} is missing at secret/{reach.app.secret_path}" for key in has.lacking()]
    if not lacking and has.get("POSTGRES_DSN") != dsn(reach.app, reach.endpoints(), has.get("POSTGRES_PASSWORD")):
        return ["POSTGRES_DSN is for other addresses or another password"]
    return lacking


def values_in_vault(reach: Reach) -> Sealed:
    """The application's secret values, for checks that log in with them."""
    with vault.opened(reach, reach.endpoints()) as client:
        return vault.secrets_of(client, reach.app)


def runtime(seen: Observer) -> Values:
    """The SecretStore, the ExternalSecret and the Secret that pods read."""
    reach = reach_of(seen)
    app, at, reader = reach.app, reach.endpoints(), seen.reader
    version = cluster.eso_version(reader)
    has = reach.secret(app.runtime, app.namespace)
    return {
        "app.store.wanting": cluster.store_wanting(reader, app, at),
        "app.runtime.wanting": cluster.runtime_wanting(reader, app, values_in_vault(reach), has),
        "app.runtime.access": [
            *cluster.there(reader, objects.external_secret(app, version), objects.store(app, at, version)),
            *([f"Secret {app.runtime}"] if has is not None else []),
        ],
    }


def database(seen: Observer) -> Values:
    """The application's role and database."""
    from playbook.wiring import postgres

    reach = reach_of(seen)
    found = postgres.look(reach, reach.endpoints(), values_in_vault(reach).get("POSTGRES_PASSWORD"))
    return {
        "app.database.wanting": found.wanting,
        "app.database.access": found.access,
        "app.database.data": found.data,
    }


def redis(seen: Observer) -> Values:
    """The application's Redis user and keys."""
    from playbook.wiring import redis as server

    reach = reach_of(seen)
    at = reach.endpoints()
    let_in, data = server.access(reach, at)
    return {
        "app.redis.wanting": server.wanting(reach, at, values_in_vault(reach).get("REDIS_PASSWORD")),
        "app.redis.access": let_in,
        "app.redis.data": data,
    }


def kafka(seen: Observer) -> Values:
    """The application's SCRAM user with its ACLs, and its topics, where Kafka is ours."""
    from playbook.wiring import kafka as server

    reach = reach_of(seen)
    at = reach.endpoints()
    if away := at.elsewhere("kafka"):
        left = f"{away}, whose operator makes the user, ACLs and topics of {reach.app.name}"
        return {**{name: [] for name in NAMES["app.kafka"]}, "app.kafka.elsewhere": [left]}
    password = values_in_vault(reach).get("KAFKA_SASL_PASSWORD")
    changes, make, take = server.looked(reach, at)
    let_in = server.logs_in(reach, at, password)
    lacking = server.access_words(reach.app, make, take, let_in=let_in)
    has_acls = len(make) < len(access.kafka_acls(reach.app)) or take
    return {
        "app.kafka.elsewhere": [],
        "app.kafka.wanting": lacking,
        "app.kafka.access": [f"login of {reach.app.name}"] * let_in + [f"ACLs of {reach.app.name}"] * bool(has_acls),
        "app.topics.wanting": [words for change in changes for words in change.words],
        "app.topics.unfit": topics.left_alone(changes),
        "app.topics.data": [change.wanted.name for change in changes if change.current is not None],
    }


def image(seen: Observer) -> Values:
    """The image of the Jobs inside: what of it is not built, or not on a node of the kind cluster."""
    from playbook.wiring import image as supply

    return {"app.image.wanting": supply.wanting(seen.target, seen.shell)}


def jobs(seen: Observer) -> Values:
    """The image of the Jobs inside, where it is not built: what `images build` makes beside the charts' own."""
    from playbook.wiring import image as supply

    return {"jobs.unbuilt": supply.unbuilt(seen.target, seen.shell)}


GROUPS = {
    "jobs": jobs,
    "app.env": env,
    "app.image": image,
    "app.namespace": namespace,
    "app.account": account,
    "app.settings": settings,
    "app.secrets": patient(secrets),
    "app.runtime": patient(runtime),
    "app.database": patient(database),
    "app.redis": patient(redis),
    "app.kafka": patient(kafka),
}
NAMES: Mapping[str, tuple[str, ...]] = {
    "jobs": ("jobs.unbuilt",),
    "app.env": ("app.env.unfit",),
    "app.image": ("app.image.wanting",),
    "app.namespace": ("app.namespace.wanting", "app.namespace.access"),
    "app.account": ("app.account.wanting", "app.account.access"),
    "app.settings": ("app.settings.wanting", "app.settings.access"),
    "app.secrets": ("app.elsewhere", "app.mounts.elsewhere", "app.mounts.wanting", "app.policy.wanting",
                    "app.role.wanting", "app.secrets.wanting", "app.vault.access", "app.vault.data"),
    "app.runtime": ("app.store.wanting", "app.runtime.wanting", "app.runtime.access"),
    "app.database": ("app.database.wanting", "app.database.access", "app.database.data"),
    "app.redis": ("app.redis.wanting", "app.redis.access", "app.redis.data"),
    "app.kafka": ("app.kafka.elsewhere", "app.kafka.wanting", "app.kafka.access", "app.topics.wanting",
                  "app.topics.unfit", "app.topics.data"),
}  # fmt: skip
