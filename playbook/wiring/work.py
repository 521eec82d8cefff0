"""What the steps of a wire-up and of its undoing do. Each is idempotent: what is right is written again or left.

An action returns what it did in names; a secret value never leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playbook.engine import Hands
from playbook.wiring import cluster, objects, vault
from playbook.wiring.reach import Reach
from playbook.wiring.secrets import Sealed, completed

Params = Mapping[str, Any]


def reach_of(hands: Hands) -> Reach:
    """The target as the wire-up sees it."""
    return Reach(hands.target, hands.api)


def apply_namespace(hands: Hands, params: Params) -> str:
    """Make the namespace, or give it the label that admits it."""
    return cluster.apply(hands.api, objects.namespace(reach_of(hands).app))


def release_namespace(hands: Hands, params: Params) -> str:
    """Take the label away; the namespace and whatever else is in it stay."""
    app = reach_of(hands).app
    hands.api.merge(f"/api/v1/namespaces/{app.namespace}", {"metadata": {"labels": {objects.ADMITS: None}}})
    return f"{app.namespace} is no longer admitted"


def apply_account(hands: Hands, params: Params) -> str:
    """Make the ServiceAccount."""
    return cluster.apply(hands.api, objects.account(reach_of(hands).app))


def remove_account(hands: Hands, params: Params) -> str:
    """Delete the ServiceAccount."""
    return cluster.remove(hands.api, objects.account(reach_of(hands).app))


def apply_settings(hands: Hands, params: Params) -> str:
    """Write the ConfigMaps."""
    reach = reach_of(hands)
    return cluster.apply(hands.api, *objects.settings(reach.app, reach.endpoints()))


def remove_settings(hands: Hands, params: Params) -> str:
    """Delete the ConfigMaps."""
    reach = reach_of(hands)
    return cluster.remove(hands.api, *objects.settings(reach.app, reach.endpoints()))


def apply_mounts(hands: Hands, params: Params) -> str:
    """Enable KV version 2 and Kubernetes auth where they are off."""
    reach = reach_of(hands)
    with vault.opened(reach, reach.endpoints(), writing=True) as client:
        vault.make_mounts(client)
    return "KV version 2 at secret/, Kubernetes auth"


def apply_policy(hands: Hands, params: Params) -> str:
    """Write the policy."""
    reach = reach_of(hands)
    with vault.opened(reach, reach.endpoints(), writing=True) as client:
        vault.apply_policy(client, reach.app)
    return f"policy {reach.app.name} reads secret/{reach.app.secret_path}"


def apply_role(hands: Hands, params: Params) -> str:
    """Write the role."""
    reach = reach_of(hands)
    with vault.opened(reach, reach.endpoints(), writing=True) as client:
        vault.apply_role(client, reach.app)
    return f"role {reach.app.name} is bound to {reach.app.namespace}/{reach.app.account}"


def apply_secrets(hands: Hands, params: Params) -> str:
    """Write the secret values that are missing; those that are there are kept."""
    reach = reach_of(hands)
    app, at = reach.app, reach.endpoints()
    in_cluster = reach.secret(app.runtime, app.namespace) or Sealed({})
    with vault.opened(reach, at, writing=True) as client:
        has = vault.secrets_of(client, app)
        whole = completed(app, at, has, in_cluster)
        written = has.differing(whole)
        if written:
            vault.write_secrets(client, app, whole)
    return f"wrote {', '.join(written)} at secret/{app.secret_path}" if written else "every key is there"


def remove_vault_access(hands: Hands, params: Params) -> str:
    """Take the role and the policy away."""
    reach = reach_of(hands)
    with vault.opened(reach, reach.endpoints(), writing=True) as client:
        vault.remove_access(client, reach.app)
    return f"role and policy {reach.app.name} are gone"


def remove_secrets(hands: Hands, params: Params) -> str:
    """Erase the secret values for good."""
    reach = reach_of(hands)
    with vault.opened(reach, reach.endpoints(), writing=True) as client:
        vault.remove_secrets(client, reach.app)
    return f"secret/{reach.app.secret_path} is erased"


def apply_store(hands: Hands, params: Params) -> str:
    """Make the SecretStore and wait until it is valid."""
    reach = reach_of(hands)
    return cluster.apply_store(hands.api, reach.app, reach.endpoints(), lambda: hands.left_s)


def apply_runtime(hands: Hands, params: Params) -> str:
    """Make the ExternalSecret and wait until the Secret has what Vault has."""
    from playbook.wiring.facts import values_in_vault

    reach = reach_of(hands)
    in_vault = values_in_vault(reach)

    def look() -> list[str]:
        has = reach.secret(reach.app.runtime, reach.app.namespace)
        wrong = cluster.runtime_wanting(hands.api, reach.app, in_vault, has)
        hands.tell("; ".join(wrong))
        return wrong

    return cluster.apply_runtime(hands.api, reach.app, look, lambda: hands.left_s)


def remove_runtime(hands: Hands, params: Params) -> str:
    """Delete the ExternalSecret, the Secret and the SecretStore."""
    reach = reach_of(hands)
    version = cluster.eso_version(hands.api)
    done = cluster.remove(hands.api, objects.external_secret(reach.app, version))
    hands.api.delete(f"/api/v1/namespaces/{reach.app.namespace}/secrets/{reach.app.runtime}")
    return f"{done}, {cluster.remove(hands.api, objects.store(reach.app, reach.endpoints(), version))}"


def kafka(hands: Hands, request: dict[str, Any]) -> str:
    """Run one request as the Job inside."""
    from playbook.wiring import kafka_job

    reach = reach_of(hands)
    done = kafka_job.run(reach, hands.api, reach.endpoints(), request, lambda: hands.left_s)
    return ", ".join(done) or "nothing to do"


def password(reach: Reach, key: str) -> str:
    """One of the application's passwords; Trouble when Vault does not have it."""
    from playbook.trouble import Trouble
    from playbook.wiring.facts import values_in_vault

    value = values_in_vault(reach).get(key)
    if not value:
        raise Trouble("SFM-VLT-015", f"{key} is missing at secret/{reach.app.secret_path}")
    return value


def apply_database(hands: Hands, params: Params) -> str:
    """Make or mend role, database and grants."""
    from playbook.wiring import postgres

    reach = reach_of(hands)
    postgres.provision(reach, reach.endpoints(), password(reach, "POSTGRES_PASSWORD"))
    return f"database and role {reach.app.name}; nobody else may connect"


def lock_database(hands: Hands, params: Params) -> str:
    """Take the login away; the data stays."""
    from playbook.wiring import postgres

    reach = reach_of(hands)
    postgres.lock_out(reach, reach.endpoints())
    return f"role {reach.app.name} may not log in"


def erase_database(hands: Hands, params: Params) -> str:
    """Drop database and role."""
    from playbook.wiring import postgres

    reach = reach_of(hands)
    postgres.erase(reach, reach.endpoints())
    return f"database and role {reach.app.name} are dropped"


def apply_redis(hands: Hands, params: Params) -> str:
    """Make or mend the Redis user."""
    from playbook.wiring import redis

    reach = reach_of(hands)
    return redis.apply(reach, hands.api, reach.endpoints(), password(reach, "REDIS_PASSWORD"))


def remove_redis(hands: Hands, params: Params) -> str:
    """Take the Redis user away; the keys stay."""
    from playbook.wiring import redis

    reach = reach_of(hands)
    return redis.remove(reach, hands.api, reach.endpoints())


def erase_redis(hands: Hands, params: Params) -> str:
    """Delete the application's keys."""
    from playbook.wiring import redis

    reach = reach_of(hands)
    return redis.erase(reach, reach.endpoints())


def apply_kafka(hands: Hands, params: Params) -> str:
    """Make or mend the SCRAM user and its ACLs."""
    from playbook.wiring import kafka_job

    reach = reach_of(hands)
    return kafka(hands, kafka_job.wanted_access(reach, password(reach, "KAFKA_SASL_PASSWORD")))


def remove_kafka(hands: Hands, params: Params) -> str:
    """Take the SCRAM user and its ACLs away; the topics stay."""
    return kafka(hands, {"user": reach_of(hands).app.name, "remove_user": True})


def apply_topics(hands: Hands, params: Params) -> str:
    """Create topics, add partitions, set settings; whatever else differs is left."""
    from playbook.wiring import kafka as looking
    from playbook.wiring import kafka_job

    reach = reach_of(hands)
    changes = looking.topic_changes(reach, reach.endpoints())
    return kafka(hands, {"user": reach.app.name, **kafka_job.topics_request(changes)})


def erase_topics(hands: Hands, params: Params) -> str:
    """Delete the topics with all that is in them."""
    app = reach_of(hands).app
    return kafka(hands, {"user": app.name, "delete": list(app.topics)})
