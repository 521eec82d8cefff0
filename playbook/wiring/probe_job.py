"""The verification Job: one short pod in the application's namespace, under its ServiceAccount, with its Secret.

All questions that only an application's pod can ask go into one Job, because starting a pod is what takes the time. Its
answer is kept for the run, so each check reads its own line of it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from playbook.kube import Json, Writer
from playbook.trouble import Trouble, Unknown
from playbook.wiring import kafka_job, objects, topics
from playbook.wiring.access import AUDIENCE
from playbook.wiring.application import Application
from playbook.wiring.endpoints import Endpoints
from playbook.wiring.image import reference
from playbook.wiring.reach import Reach
from playbook.wiring.secrets import CA_FILE

ASKED = ("database", "redis", "kafka", "vault")
DEADLINE_S = 45
WAIT_S = 60.0
PAUSE_S = 0.25
OTHER = "sfmctl-verify-other"
"""The application whose path is tried and must be denied; no application can have a name that is read from it."""


def question(app: Application, at: Endpoints) -> Json:
    """What the Job is asked; nothing of it is secret."""
    wanted = {t.name: {"partitions": t.partitions, "replicas": t.replication_factor} for t in topics.wanted(app, at)}
    return {
        "app": app.name,
        "checks": list(ASKED),
        "topics": wanted,
        "min_isr": at.number("KAFKA_TOPIC_MIN_INSYNC_REPLICAS"),
        "other_path": f"shared-infra/{OTHER}/{app.env}",
        "ca": CA_FILE if at.ca else "",
    }


def manifest(reach: Reach, at: Endpoints, name: str) -> Json:
    """The Job: one try, the application's own identity, nothing writable, gone after two minutes whatever happens."""
    app = reach.app
    labels = {**objects.labels(app), "app.kubernetes.io/name": "sfmctl-verify"}
    mounts = [{"name": "vault-token", "mountPath": "/var/run/secrets/vault", "readOnly": True}]
    token = {"path": "token", "audience": AUDIENCE, "expirationSeconds": 600}
    volumes: list[Json] = [{"name": "vault-token", "projected": {"sources": [{"serviceAccountToken": token}]}}]
    if at.ca:
        mounts.append({"name": "ca", "mountPath": CA_FILE.rpartition("/")[0], "readOnly": True})
        volumes.append({"name": "ca", "configMap": {"name": objects.CA}})
    container = {
        "name": "verify",
        "image": reference(reach.target),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/sfmctl/bin/python", "-m", "playbook.incluster.app_probe"],
        "envFrom": [{"configMapRef": {"name": app.settings}}, {"secretRef": {"name": app.runtime}}],
        "env": [{"name": "SFMCTL_ASKED", "value": json.dumps(question(app, at))}],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    spec = {
        "serviceAccountName": app.account,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": kafka_job.USER,
            "runAsGroup": kafka_job.USER,
            "fsGroup": kafka_job.USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": app.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": DEADLINE_S,
            "ttlSecondsAfterFinished": 120,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def run(reach: Reach, writer: Writer) -> Mapping[str, Any]:
    """Run the Job and return its records by check; Trouble when it cannot start, Unknown when it gives no answer."""
    at = reach.endpoints()
    name = f"sfmctl-verify-{secrets.token_hex(3)}"
    base = f"/namespaces/{reach.app.namespace}"
    path = f"/apis/batch/v1{base}/jobs/{name}"
    writer.apply(path, manifest(reach, at, name))
    try:
        return answered(writer, base, name, path, time.monotonic() + WAIT_S)
    finally:
        writer.delete(path, propagationPolicy="Background")


def answered(writer: Writer, base: str, name: str, path: str, deadline: float) -> Mapping[str, Any]:
    """Wait for the Job's pod to end and read its answer."""
    while time.monotonic() < deadline:
        pods = writer.items(f"/api/v1{base}/pods", labelSelector=f"job-name={name}")
        stuck = next((w for p in pods if (w := kafka_job.waiting(p))), "")
        if stuck:
            raise Trouble("SFM-APP-009", "the verification Job cannot start", why=stuck)
        if pods and pods[0]["status"].get("phase") in ("Succeeded", "Failed"):
            return records(writer.text(f"/api/v1{base}/pods/{pods[0]['metadata']['name']}/log"))
        conditions = ((writer.get(path) or {}).get("status") or {}).get("conditions", [])
        failed = next((c for c in conditions if c["type"] == "Failed" and c["status"] == "True"), None)
        if failed and not pods:
            raise Unknown("SFM-APP-013", "the verification Job ended without a pod", why=failed.get("message", ""))
        time.sleep(PAUSE_S)
    raise Unknown("SFM-APP-013", "the verification Job did not end in time")


def records(text: str) -> Mapping[str, Any]:
    """The records in the last line of the Job's log that has them; the clients' own lines may stand around it."""
    lines = [line for line in text.splitlines() if line.strip()]
    for line in reversed(lines):
        try:
            found: Mapping[str, Any] = json.loads(line)["checks"]
        except (ValueError, KeyError, TypeError):
            continue
        return found
    raise Unknown("SFM-APP-013", "the verification Job gave no answer", why=" / ".join(lines[-3:])[:400])
