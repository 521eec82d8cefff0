"""A short Job of the sfmctl image: a pod that Pod Security "restricted" admits; made, waited for, read, taken away.

What runs in the cluster for us runs here and nowhere else, so that no two Jobs differ in what they may do: no
privileges, nothing writable, one try, and an end by itself if this program dies.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from playbook.kube import Json, Writer
from playbook.trouble import Trouble
from playbook.wiring.image import reference
from playbook.wiring.reach import Reach

PAUSE_S = 0.25
USER = 10001
STUCK = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")


@dataclass(frozen=True, slots=True)
class Job:
    """One Job: where it runs, what, and how long it may; `pod` and `container` are fields laid over the bare ones."""

    name: str
    namespace: str
    module: str
    labels: Mapping[str, str]
    deadline_s: int
    kept_s: int
    arguments: Sequence[str] = ()
    pod: Json = field(default_factory=dict)
    container: Json = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{self.name}"


def named(prefix: str) -> str:
    """A name that no other Job has."""
    return f"{prefix}-{secrets.token_hex(3)}"


def manifest(reach: Reach, job: Job) -> Json:
    """The Job as the API server takes it."""
    container = {
        "name": "sfmctl",
        "image": reference(reach.target),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/sfmctl/bin/python", "-m", job.module, *job.arguments],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **job.container,
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
        **job.pod,
    }
    labels = dict(job.labels)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name, "namespace": job.namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": job.deadline_s,
            "ttlSecondsAfterFinished": job.kept_s,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


@contextlib.contextmanager
def running(reach: Reach, writer: Writer, job: Job) -> Iterator[Json]:
    """The Job in the cluster, as it was made; taken away with its pod at the end."""
    try:
        yield writer.apply(job.path, manifest(reach, job))
    finally:
        writer.delete(job.path, propagationPolicy="Background")


def said(writer: Writer, job: Job, left_s: Callable[[], float], what: str) -> str | None:
    """The log of the Job's pod once it has ended; None when it did not in time, or never had one.

    Trouble as soon as its container cannot start; `what` names the Job there.
    """
    base = f"/api/v1/namespaces/{job.namespace}/pods"
    while left_s() > 1:
        pods = writer.items(base, labelSelector=f"job-name={job.name}")
        stuck = next((words for pod in pods if (words := waiting(pod))), "")
        if stuck:
            raise Trouble("SFM-APP-009", f"{what} cannot start", why=stuck)
        if pods and pods[0]["status"].get("phase") in ("Succeeded", "Failed"):
            return writer.text(f"{base}/{pods[0]['metadata']['name']}/log")
        conditions = ((writer.get(job.path) or {}).get("status") or {}).get("conditions", [])
        if not pods and any(c["type"] == "Failed" and c["status"] == "True" for c in conditions):
            return None
        time.sleep(PAUSE_S)
    return None


def waiting(pod: Json) -> str:
    """Why a pod will never start; empty when it may."""
    for status in (pod.get("status") or {}).get("containerStatuses", []):
        state: dict[str, Any] = status.get("state", {}).get("waiting") or {}
        if state.get("reason") in STUCK:
            return f"{state['reason']}: {state.get('message', '')}"[:300]
    return ""


def answer(text: str, *keys: str) -> Json | None:
    """The last line of a log that is a JSON object with one of the keys; the clients' own lines stand around it."""
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and any(key in found for key in keys):
                return found
    return None


def tail(text: str) -> str:
    """The last lines of a log without an answer, in one line."""
    return " / ".join(line for line in text.splitlines() if line.strip())[-400:]
