"""The Job that changes Kafka from inside the cluster, and the Secret with its request.

The changes are computed outside and given to it whole, so what runs is what the plan showed. They travel in a Secret
that belongs to the Job (deleted with it, and by its time to live if this program dies), because one is a password.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from playbook.incluster import kafka_admin
from playbook.kube import Json, Writer
from playbook.trouble import Trouble, Unknown
from playbook.wiring import job
from playbook.wiring.access import Acl, kafka_acls
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.job import Job, named
from playbook.wiring.kafka import ADMIN, INTERNAL_PORT, administrator
from playbook.wiring.reach import Reach
from playbook.wiring.topics import TopicChange

ADMINISTERS = "soma.sh/infra-client"
"""The label that admits a pod of the infra namespace to the administrators' listener."""
WHAT = "the Job that administers Kafka"
RUN_S = 90
KEPT_S = 300
"""How long an ended Job stays when this program died and could not take it away."""


def client_settings(reach: Reach, at: Endpoints) -> dict[str, str]:
    """librdkafka's settings of the administrator, inside the cluster."""
    login = administrator(reach)
    tls = {"ssl.ca.pem": at.ca} if at.tls and at.ca else {}
    return {
        "bootstrap.servers": f"{at.host('kafka')}:{INTERNAL_PORT}",
        "security.protocol": "SASL_SSL" if at.tls else "SASL_PLAINTEXT",
        "sasl.mechanism": login.mechanism,
        "sasl.username": ADMIN,
        "sasl.password": login.password,
        **tls,
    }


def access_request(user: str, acls: frozenset[Acl], password: str) -> Json:
    """Exactly these ACLs for this user, with this password."""
    listed = [{"resource": a.resource, "pattern": a.pattern, "name": a.name, "operation": a.operation}
              for a in sorted(acls)]  # fmt: skip
    return {"user": user, "acls": listed, "password": password}


def topics_request(changes: tuple[TopicChange, ...]) -> Json:
    """What has to be created, grown and set."""
    new, there = [c for c in changes if c.current is None], [c for c in changes if c.current is not None]
    return {
        "create": [{"name": c.wanted.name, **c.wanted.as_dict()} for c in new],
        "grow": [{"name": c.wanted.name, "partitions": c.wanted.partitions} for c in there if c.grow],
        "configure": [
            {"name": c.wanted.name, "config": {k: new_value for k, (_, new_value) in c.settings.items()}}
            for c in there
            if c.settings
        ],
    }


def described(reach: Reach) -> Job:
    """The Job: in the infra namespace, with its request mounted from a Secret of its own name."""
    name = named(f"sfmctl-kafka-{reach.app.name[:30].rstrip('-')}")
    labels = {"app.kubernetes.io/managed-by": "sfmctl", "app.kubernetes.io/name": "sfmctl", ADMINISTERS: "true"}
    return Job(
        name, reach.target.namespace, kafka_admin.__name__, labels, RUN_S, KEPT_S,
        arguments=["/request/request.json"],
        pod={"volumes": [{"name": "request", "secret": {"secretName": name, "defaultMode": 0o440}}]},
        container={"volumeMounts": [{"name": "request", "mountPath": "/request", "readOnly": True}]},
    )  # fmt: skip


def run(reach: Reach, writer: Writer, at: Endpoints, request: Json, left_s: Callable[[], float]) -> list[str]:
    """Make the changes of `request` in the cluster; what was done, in words."""
    one = described(reach)
    secret = f"/api/v1/namespaces/{one.namespace}/secrets/{one.name}"
    try:
        with job.running(reach, writer, one) as made:
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": one.name, "uid": made["metadata"]["uid"]}
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": one.name, "ownerReferences": [owner]},
                "stringData": {"request.json": json.dumps({"client": client_settings(reach, at), **request})},
            }
            writer.apply(secret, body)
            return done(job.said(writer, one, left_s, WHAT))
    except job.Late as late:
        raise Trouble("SFM-APP-010", str(late), why=late.why) from late
    finally:
        writer.delete(secret)


def done(text: str) -> list[str]:
    """What the Job says it did."""
    found = job.answers(text, "done", "error")
    if not found:
        raise Unknown("SFM-APP-011", f"{WHAT} ended without an answer", why=job.tail(text))
    said = found[-1]
    if "error" in said:
        code = str(said.get("code", "SFM-KAF-010"))
        what = f"{WHAT} had no answer" if code == kafka_admin.SILENT_CODE else "Kafka refused a change"
        raise Trouble(code, what, why=str(said["error"])[:500])
    return [str(one) for one in said["done"]]


def wanted_access(reach: Reach, password: str) -> Json:
    """The request that gives the application its access."""
    return access_request(reach.app.name, kafka_acls(reach.app), password)
