"""Administers Kafka from inside the cluster: what `python -m playbook.incluster.kafka_admin REQUEST` does in its Job.

It is given exact changes as a file (a mounted Secret, because one of them holds a password), makes them with
confluent-kafka's AdminClient, and writes one JSON line: what was done, or what was refused. What is there already, or
gone already, counts as done. No value of a password is ever written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

TIMEOUT_S = 20.0
ITERATIONS = 8192
SILENT = ("_TIMED_OUT", "_TIMED_OUT_QUEUE", "_TRANSPORT", "_ALL_BROKERS_DOWN", "REQUEST_TIMED_OUT")
"""The library's names for a server that did not answer, as against one that refused."""
SILENT_CODE = "SFM-KAF-001"


def words() -> Any:
    """The library's names for what Kafka has; it exports them without saying so."""
    from confluent_kafka import admin

    return admin


def settled(futures: dict[Any, Any], harmless: tuple[str, ...] = ()) -> None:
    """Wait for the futures of one admin call; errors named in `harmless` mean that it was done before."""
    from confluent_kafka import KafkaException

    for future in futures.values():
        try:
            future.result(timeout=TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].name() not in harmless:
                raise


def bindings(principal: str, acls: list[dict[str, str]]) -> list[Any]:
    """The ACLs of a request as AclBindings."""
    admin = words()
    return [
        admin.AclBinding(
            admin.ResourceType[a["resource"]],
            a["name"],
            admin.ResourcePatternType[a["pattern"]],
            principal,
            "*",
            admin.AclOperation[a["operation"]],
            admin.AclPermissionType.ALLOW,
        )
        for a in acls
    ]


def everything_of(principal: str) -> Any:
    """The filter for all ACLs of one principal."""
    admin = words()
    return admin.AclBindingFilter(
        admin.ResourceType.ANY, None, admin.ResourcePatternType.ANY, principal, None, admin.AclOperation.ANY,
        admin.AclPermissionType.ANY,
    )  # fmt: skip


def exactly(one: Any) -> Any:
    """The filter for just this ACL."""
    return words().AclBindingFilter(one.restype, one.name, one.resource_pattern_type, one.principal, one.host,
                                    one.operation, one.permission_type)  # fmt: skip


def acl_calls(there: Collection[Any], wanted: Collection[Any]) -> list[tuple[str, list[Any]]]:
    """The calls that make `wanted` of `there`, in order: what is missing comes before what is too much goes, and what
    is right stays, so that an application at work is at no moment without its access."""
    make, take = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
    return [("create_acls", make)] * bool(make) + [("delete_acls", [exactly(one) for one in take])] * bool(take)


def settle_acls(client: Any, principal: str, wanted: Collection[Any]) -> str:
    """Give one principal exactly these ACLs; what changed, in words."""
    there = client.describe_acls(everything_of(principal), request_timeout=TIMEOUT_S).result(timeout=TIMEOUT_S)
    calls = acl_calls(there, wanted)
    for name, acls in calls:
        settled(getattr(client, name)(acls, request_timeout=TIMEOUT_S))
    return ", ".join(f"{len(acls)} {name.removesuffix('_acls')}d" for name, acls in calls) or "as they were"


def reach(client: Any, request: dict[str, Any]) -> list[str]:
    """Have a broker answer, before anything is changed."""
    client.list_topics(timeout=TIMEOUT_S)
    return []


def change_access(client: Any, request: dict[str, Any]) -> list[str]:
    """SCRAM user and ACLs: made as they should be, or taken away."""
    admin = words()
    user, done = request["user"], []
    if request.get("remove_user"):
        settle_acls(client, f"User:{user}", [])
        gone = admin.UserScramCredentialDeletion(user, admin.ScramMechanism.SCRAM_SHA_512)
        settled(client.alter_user_scram_credentials([gone], request_timeout=TIMEOUT_S), ("RESOURCE_NOT_FOUND",))
        return [f"user {user} and its ACLs are gone"]
    if "acls" in request:
        changed = settle_acls(client, f"User:{user}", bindings(f"User:{user}", request["acls"]))
        done.append(f"{len(request['acls'])} ACLs of {user} ({changed})")
    if "password" in request:
        info = admin.ScramCredentialInfo(admin.ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        one = admin.UserScramCredentialUpsertion(user, info, request["password"].encode())
        settled(client.alter_user_scram_credentials([one], request_timeout=TIMEOUT_S))
        done.append(f"user {user}")
    return done


def change_topics(client: Any, request: dict[str, Any]) -> list[str]:
    """Topics: created, grown, their settings changed one by one, or deleted."""
    admin = words()
    done = []
    if request.get("create"):
        new = [admin.NewTopic(t["name"], t["partitions"], t["replicationFactor"], config=t["config"])
               for t in request["create"]]  # fmt: skip
        settled(client.create_topics(new, operation_timeout=TIMEOUT_S), ("TOPIC_ALREADY_EXISTS",))
        done += [f"{t['name']} is made" for t in request["create"]]
    if request.get("grow"):
        more = [admin.NewPartitions(t["name"], t["partitions"]) for t in request["grow"]]
        settled(client.create_partitions(more, operation_timeout=TIMEOUT_S))
        done += [f"{t['name']} has {t['partitions']} partitions" for t in request["grow"]]
    for topic in request.get("configure", []):
        entries = [admin.ConfigEntry(key, value, incremental_operation=admin.AlterConfigOpType.SET)
                   for key, value in topic["config"].items()]  # fmt: skip
        resource = admin.ConfigResource(admin.ResourceType.TOPIC, topic["name"], incremental_configs=entries)
        settled(client.incremental_alter_configs([resource], request_timeout=TIMEOUT_S))
        done.append(f"{topic['name']}: {', '.join(topic['config'])}")
    if request.get("delete"):
        settled(client.delete_topics(request["delete"], operation_timeout=TIMEOUT_S), ("UNKNOWN_TOPIC_OR_PART",))
        done += [f"{name} is deleted" for name in request["delete"]]
    return done


CHANGES = (("SFM-KAF-014", reach), ("SFM-KAF-010", change_access), ("SFM-KAF-017", change_topics))
"""What is done, in order, each with the code of its refusal."""


def refusal(error: Exception, code: str) -> dict[str, str]:
    """The answer for a change that was not made: what Kafka said, and `code` unless it said nothing at all."""
    from confluent_kafka import KafkaException

    if isinstance(error, TimeoutError):
        return {"error": f"no answer within {TIMEOUT_S:g} s", "code": SILENT_CODE}
    name = error.args[0].name() if isinstance(error, KafkaException) else ""
    return {"error": str(error), "code": SILENT_CODE if name in SILENT else code}


def main(argv: list[str]) -> int:
    """Make the changes of the request file; the exit code is 0 when all of them are made."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    request = json.loads(Path(argv[1]).read_text(encoding="utf-8"))
    client = AdminClient({**request["client"], "client.id": "sfmctl"}, logger=None)
    done: list[str] = []
    for code, change in CHANGES:
        try:
            done += change(client, request)
        except (KafkaException, TimeoutError, KeyError, ValueError) as error:
            sys.stdout.write(json.dumps(refusal(error, code)) + "\n")
            return 3
    sys.stdout.write(json.dumps({"done": done}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
