"""The verification Job: one short pod in the application's namespace, under its ServiceAccount, with its Secret.

All questions that only an application's pod can ask go into one Job, because starting a pod is what takes the time. Its
answer is kept for the run, so each check reads its own line of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from playbook.kube import Json, Writer
from playbook.trouble import Unknown
from playbook.wiring import job, objects, topics
from playbook.wiring.access import AUDIENCE
from playbook.wiring.application import Application
from playbook.wiring.endpoints import CA_FOLDER, SERVERS, Endpoints
from playbook.wiring.job import Job, named
from playbook.wiring.reach import Reach

ASKED = ("database", "redis", "kafka", "vault")
DEADLINE_S = 45
KEPT_S = 120
WAIT_S = 60.0
WHAT = "the verification Job"
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
        "ca": {server: at.trusted_file(server) for server in SERVERS},
    }


def described(reach: Reach, at: Endpoints) -> Job:
    """The Job: the application's own ServiceAccount, settings, Secret and token for Vault."""
    app = reach.app
    mounts = [{"name": "vault-token", "mountPath": "/var/run/secrets/vault", "readOnly": True}]
    token = {"path": "token", "audience": AUDIENCE, "expirationSeconds": 600}
    volumes: list[Json] = [{"name": "vault-token", "projected": {"sources": [{"serviceAccountToken": token}]}}]
    if at.authorities():
        mounts.append({"name": "ca", "mountPath": CA_FOLDER, "readOnly": True})
        volumes.append({"name": "ca", "configMap": {"name": objects.CA}})
    container = {
        "envFrom": [{"configMapRef": {"name": app.settings}}, {"secretRef": {"name": app.runtime}}],
        "env": [{"name": "SFMCTL_ASKED", "value": json.dumps(question(app, at))}],
        "volumeMounts": mounts,
    }
    return Job(
        named("sfmctl-verify"), app.namespace, "playbook.incluster.app_probe",
        {**objects.labels(app), "app.kubernetes.io/name": "sfmctl-verify"}, DEADLINE_S, KEPT_S,
        pod={"serviceAccountName": app.account, "volumes": volumes}, container=container,
    )  # fmt: skip


def run(reach: Reach, writer: Writer, deadline: float) -> Mapping[str, Any]:
    """Run the Job and return its records by check; Trouble when it cannot start, Unknown when it gives no answer.

    deadline: when it is too late for an answer (monotonic).
    """
    one, until = described(reach, reach.endpoints()), min(deadline, time.monotonic() + WAIT_S)
    with job.running(reach, writer, one):
        text = job.said(writer, one, lambda: until - time.monotonic(), WHAT)
    if text is None and until == deadline:
        raise Unknown("SFM-CLI-025", f"{WHAT} did not end before the whole run had to")
    if text is None:
        raise Unknown("SFM-APP-013", f"{WHAT} did not end in time, or has no pod")
    return records(text)


def records(text: str) -> Mapping[str, Any]:
    """The records in the Job's log."""
    found = job.answer(text, "checks")
    if found is None:
        raise Unknown("SFM-APP-013", f"{WHAT} gave no answer", why=job.tail(text))
    return dict(found["checks"])
