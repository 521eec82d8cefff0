"""The Job that changes Kafka from inside the cluster: made, waited for, read, and taken away with its Secret.

The changes are computed outside and given to it whole, so what runs is what the plan showed. They travel in a Secret
that belongs to the Job (deleted with it, and by its time to live if this program dies), because one is a password.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from playbook.kube import Json, Writer
from playbook.trouble import Trouble, Unknown
from playbook.wiring.access import Acl, kafka_acls
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.image import reference
from playbook.wiring.kafka import ADMIN, INTERNAL_PORT, administrator
from playbook.wiring.reach import Reach
from playbook.wiring.topics import TopicChange

ADMINISTERS = "soma.sh/infra-client"
"""The label that admits a pod of the infra namespace to the administrators' listener."""
DEADLINE_S = 90
PAUSE_S = 0.4
USER = 10001
STUCK = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")


def client_settings(reach: Reach, at: Endpoints) -> dict[str, str]:
    """librdkafka's settings of the administrator, inside the cluster."""
    host = at.need("KAFKA_BOOTSTRAP_SERVERS").split(",")[0].rsplit(":", 1)[0]
    login = administrator(reach)
    tls = {"ssl.ca.pem": at.ca} if at.tls and at.ca else {}
    return {
        "bootstrap.servers": f"{host}:{INTERNAL_PORT}",
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
    return {"user": user, "acls": listed, "replace_acls": True, "password": password}


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


def manifest(reach: Reach, name: str) -> Json:
    """The Job: one try, no token, nothing writable, gone after five minutes whatever happens."""
    labels = {"app.kubernetes.io/managed-by": "sfmctl", "app.kubernetes.io/name": "sfmctl", ADMINISTERS: "true"}
    container = {
        "name": "kafka",
        "image": reference(reach.target),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/sfmctl/bin/python", "-m", "playbook.incluster.kafka_admin", "/request/request.json"],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "request", "mountPath": "/request", "readOnly": True}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "request", "secret": {"secretName": name, "defaultMode": 0o440}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": reach.target.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": DEADLINE_S,
            "ttlSecondsAfterFinished": 300,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def run(reach: Reach, writer: Writer, at: Endpoints, request: Json, left_s: Callable[[], float]) -> list[str]:
    """Make the changes of `request` in the cluster; what was done, in words."""
    name = f"sfmctl-kafka-{reach.app.name[:30].rstrip('-')}-{secrets.token_hex(3)}"
    namespace = f"/namespaces/{reach.target.namespace}"
    job_path = f"/apis/batch/v1{namespace}/jobs/{name}"
    made = writer.apply(job_path, manifest(reach, name))
    try:
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": made["metadata"]["uid"]}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "ownerReferences": [owner]},
            "stringData": {"request.json": json.dumps({"client": client_settings(reach, at), **request})},
        }
        writer.apply(f"/api/v1{namespace}/secrets/{name}", body)
        return finished(writer, namespace, name, job_path, left_s)
    finally:
        writer.delete(job_path, propagationPolicy="Background")
        writer.delete(f"/api/v1{namespace}/secrets/{name}")


def finished(writer: Writer, namespace: str, name: str, job_path: str, left_s: Callable[[], float]) -> list[str]:
    """Wait for the Job and read what it said; Trouble as soon as it cannot end well."""
    while left_s() > 1:
        conditions = {c["type"] for c in ((writer.get(job_path) or {}).get("status") or {}).get("conditions", [])
                      if c["status"] == "True"}  # fmt: skip
        pods = writer.items(f"/api/v1{namespace}/pods", labelSelector=f"job-name={name}")
        stuck = next((w for p in pods if (w := waiting(p))), "")
        if stuck:
            raise Trouble("SFM-APP-009", "the Job that administers Kafka cannot start", why=stuck)
        if {"Complete", "Failed"} & conditions:
            text = writer.text(f"/api/v1{namespace}/pods/{pods[0]['metadata']['name']}/log") if pods else ""
            return answer(text)
        time.sleep(PAUSE_S)
    raise Trouble("SFM-APP-010", "the Job that administers Kafka did not end in time")


def waiting(pod: Json) -> str:
    """Why a pod will never start; empty when it may."""
    for status in (pod.get("status") or {}).get("containerStatuses", []):
        state: dict[str, Any] = status.get("state", {}).get("waiting") or {}
        if state.get("reason") in STUCK:
            return f"{state['reason']}: {state.get('message', '')}"[:300]
    return ""


def answer(text: str) -> list[str]:
    """The Job's answer: the last line of its log that is one. The client's own lines stand around it."""
    lines = [line for line in text.splitlines() if line.strip()]
    said = next((found for line in reversed(lines) if (found := parsed(line)) is not None), None)
    if said is None:
        raise Unknown("SFM-APP-011", "the Job that administers Kafka ended without an answer",
                      why=" / ".join(lines[-3:])[:500])  # fmt: skip
    if "error" in said:
        raise Trouble("SFM-KAF-010", "Kafka refused a change", why=str(said["error"])[:500])
    return [str(one) for one in said["done"]]


def parsed(line: str) -> Json | None:
    """A line as an answer; None when it is something else."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and ("done" in found or "error" in found) else None


def wanted_access(reach: Reach, password: str) -> Json:
    """The request that gives the application its access."""
    return access_request(reach.app.name, kafka_acls(reach.app), password)
