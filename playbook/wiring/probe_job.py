"""The verification Job: one short pod in the application's namespace, under its ServiceAccount, with its Secret.

All questions that only an application's pod can ask go into one Job, because starting a pod is what takes the time. Its
answers are kept for the run, so each check reads its own line of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from playbook.incluster import app_probe
from playbook.kube import Json, Writer
from playbook.trouble import Unknown
from playbook.wiring import cluster, job, objects, topics
from playbook.wiring.access import AUDIENCE
from playbook.wiring.application import Application
from playbook.wiring.endpoints import CA_FOLDER, SERVERS, Endpoints
from playbook.wiring.job import Job, named
from playbook.wiring.reach import Reach

ASKED = ("database", "redis", "kafka", "vault")
RUN_S = 45
KEPT_S = 120
WHAT = "the verification Job"
OTHER = "sfmctl-verify-other"
"""An application that is not there, whose path has to be denied like those of the others that are."""
MOST_OTHERS = 50


@dataclass(frozen=True, slots=True)
class Answers:
    """What the Job found, by check, and how long it took until it could ask, and to ask."""

    records: Mapping[str, Json]
    start_ms: int
    asked_ms: int


def question(app: Application, at: Endpoints, others: Sequence[str] = ()) -> Json:
    """What the Job is asked; nothing of it is secret. `others`: further applications on the same Vault."""
    wanted = {t.name: {"partitions": t.partitions, "replicas": t.replication_factor} for t in topics.wanted(app, at)}
    return {
        "app": app.name,
        "checks": list(ASKED),
        "topics": wanted,
        "min_isr": at.number("KAFKA_TOPIC_MIN_INSYNC_REPLICAS"),
        "other_paths": [f"shared-infra/{name}/{app.env}" for name in (OTHER, *others[:MOST_OTHERS])],
        "ca": {server: at.trusted_file(server) for server in SERVERS},
    }


def described(reach: Reach, at: Endpoints, others: Sequence[str] = ()) -> Job:
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
        "env": [{"name": "SFMCTL_ASKED", "value": json.dumps(question(app, at, others))}],
        "volumeMounts": mounts,
    }
    return Job(
        named("sfmctl-verify"), app.namespace, app_probe.__name__,
        {**objects.labels(app), "app.kubernetes.io/name": "sfmctl-verify"}, RUN_S, KEPT_S,
        pod={"serviceAccountName": app.account, "volumes": volumes}, container=container,
    )  # fmt: skip


def run(reach: Reach, writer: Writer, deadline: float) -> Answers:
    """Run the Job and return what it found; Trouble when it cannot start, Unknown when it gives no answer.

    deadline: when it is too late for an answer (monotonic).
    """
    made = time.monotonic()
    one = described(reach, reach.endpoints(), neighbours(reach))
    try:
        with job.running(reach, writer, one):
            text = job.said(writer, one, lambda: deadline - time.monotonic(), WHAT)
            took_ms = round((time.monotonic() - made) * 1000)
    except job.Late as late:
        over = deadline - time.monotonic() <= 1
        raise Unknown("SFM-CLI-025" if over else "SFM-APP-013", str(late), why=late.why) from late
    return answered(text, took_ms)


def neighbours(reach: Reach) -> list[str]:
    """The other applications of this cluster; none where we may look into our own namespace alone."""
    try:
        return cluster.wired(reach.reader, besides=reach.app)
    except Unknown as unknown:
        if unknown.code != "SFM-K8S-003":
            raise
        return []


def answered(text: str, took_ms: int) -> Answers:
    """The Job's log, read; a check without a line of its own is undetermined, and only that one."""
    found = {str(one["check"]): one for one in job.answers(text, "check")}
    if not found:
        raise Unknown("SFM-APP-013", f"{WHAT} gave no answer", why=job.tail(text))
    lacking = {"status": "error", "observed": f"{WHAT} ended before it had an answer", "code": "SFM-APP-014", "ms": 0}
    asked_ms = max((int(one["asked_ms"]) for one in job.answers(text, "asked_ms")), default=0)
    records = {name: found.get(name, lacking) for name in ASKED}
    return Answers(records, max(0, took_ms - asked_ms), asked_ms)
