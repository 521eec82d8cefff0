"""A short Job of the sfmctl image: a pod that Pod Security "restricted" admits; made, waited for, read, taken away.

What runs in the cluster for us runs here and nowhere else, so that no two Jobs differ in what they may do: no
privileges, nothing writable, one try, and an end by itself if this program dies.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from playbook.kube import Json, Writer
from playbook.trouble import Trouble, Unknown
from playbook.wiring.image import reference
from playbook.wiring.reach import Reach

PAUSE_S = 0.25
USER = 10001
CONTAINER = "sfmctl"
START_S = 150
"""How long a Job may take until its container runs: a place on a node, the pulling of its image."""
REFUSED_S = 10.0
"""How long the cluster may refuse a pod before that is told."""
NO_SIDECAR = {"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"}
"""A mesh's proxy would outlive the Job's own container, and the Job would never end."""
STUCK = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")


@dataclass(frozen=True, slots=True)
class Job:
    """One Job: where it runs, what, and how long it may (`run_s`, from when its container runs); `pod` and `container`
    are fields laid over the bare ones."""

    name: str
    namespace: str
    module: str
    labels: Mapping[str, str]
    run_s: int
    kept_s: int
    arguments: Sequence[str] = ()
    pod: Json = field(default_factory=dict)
    container: Json = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{self.name}"


class Late(Exception):
    """A Job that is out of time: what it did not do, and why as far as the cluster says."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what)
        self.why = why


def named(prefix: str) -> str:
    """A name that no other Job has."""
    return f"{prefix}-{secrets.token_hex(3)}"


def manifest(reach: Reach, job: Job) -> Json:
    """The Job as the API server takes it."""
    container = {
        "name": CONTAINER,
        "image": reference(reach.target),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/sfmctl/bin/python", "-m", job.module, *job.arguments],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
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
            "activeDeadlineSeconds": START_S + job.run_s,
            "ttlSecondsAfterFinished": job.kept_s,
            "template": {"metadata": {"labels": {**labels, **NO_SIDECAR}, "annotations": NO_SIDECAR}, "spec": spec},
        },
    }


@contextlib.contextmanager
def running(reach: Reach, writer: Writer, job: Job) -> Iterator[Json]:
    """The Job in the cluster, as it was made; taken away with its pod at the end."""
    try:
        yield writer.apply(job.path, manifest(reach, job))
    finally:
        writer.delete(job.path, propagationPolicy="Background")


def said(writer: Writer, job: Job, left_s: Callable[[], float], what: str) -> str:
    """The log of the Job's pod once it has ended; `what` names the Job.

    The Job's own time counts from when its container runs. Late when that, the time until then or `left_s` is over;
    Trouble as soon as its container cannot start.
    """
    base = f"/api/v1/namespaces/{job.namespace}/pods"
    made, since = time.monotonic(), 0.0
    while True:
        pods = writer.items(base, labelSelector=f"job-name={job.name}")
        if pods and pods[0]["status"].get("phase") in ("Succeeded", "Failed"):
            return log(writer, base, pods[0])
        if stuck := next((words for pod in pods for words in waiting(pod, STUCK)), ""):
            raise Trouble("SFM-APP-009", f"{what} cannot start", why=stuck)
        now = time.monotonic()
        if not pods:
            check_pod_comes(writer, job, what, now - made)
        elif pods[0]["status"].get("phase") == "Running":
            since = since or now
        over = now - since > job.run_s if since else now - made > START_S
        if over or left_s() <= 1:
            late = f"{what} did not end within {now - since:.0f} s" if since else f"{what} did not start in time"
            raise Late(late, delay(writer, job, pods))
        time.sleep(PAUSE_S)


def log(writer: Writer, base: str, pod: Json) -> str:
    """What an ended pod wrote; where it wrote nothing, or its container never ran, what the cluster says of it."""
    try:
        text = writer.text(f"{base}/{pod['metadata']['name']}/log", container=CONTAINER)
    except Unknown:
        raise
    except Trouble:  # the answer for a container that never ran
        text = ""
    status = pod["status"]
    return text or f"{status['phase']}: {status.get('reason', '')}: {status.get('message', '')}"


def check_pod_comes(writer: Writer, job: Job, what: str, waited_s: float) -> None:
    """Stop waiting for a pod that the cluster refuses to make, or has taken away."""
    conditions = ((writer.get(job.path) or {}).get("status") or {}).get("conditions", [])
    for one in conditions:
        if one["type"] == "Failed" and one["status"] == "True":
            raise Late(f"{what} was ended by the cluster", str(one.get("message") or one.get("reason") or ""))
    refusals = warnings(writer, job.namespace, job.name) if waited_s > REFUSED_S else []
    if refusals:
        step = f"kubectl -n {job.namespace} get events --sort-by=.lastTimestamp (says what refuses the pod)"
        raise Trouble("SFM-APP-009", f"{what} gets no pod", why=refusals[-1], next_step=step)


def delay(writer: Writer, job: Job, pods: Sequence[Json]) -> str:
    """Why a Job is not further: its pod's place, what its container waits for, and the cluster's warnings."""
    words = [
        f"not placed: {one.get('message', '')}"
        for pod in pods
        for one in pod["status"].get("conditions", [])
        if one["type"] == "PodScheduled" and one["status"] == "False"
    ]
    names = [job.name, *(pod["metadata"]["name"] for pod in pods)]
    words += [w for pod in pods for w in waiting(pod)] + [
        w for name in names for w in warnings(writer, job.namespace, name)
    ]
    return "; ".join(dict.fromkeys(words))[:500] or "the cluster names no reason"


def warnings(writer: Writer, namespace: str, name: str) -> list[str]:
    """The warnings among the events of one object, in words."""
    chosen = f"involvedObject.name={name},type=Warning"
    found = writer.items(f"/api/v1/namespaces/{namespace}/events", fieldSelector=chosen)
    return [f"{one.get('reason', '')}: {one.get('message', '')}"[:300] for one in found]


def waiting(pod: Json, reasons: Collection[str] = ()) -> list[str]:
    """What the containers of a pod wait for (only with one of `reasons`, where some are given)."""
    states = [s.get("state", {}).get("waiting") for s in (pod.get("status") or {}).get("containerStatuses", [])]
    return [
        f"{state.get('reason', '')}: {state.get('message', '')}"[:300].rstrip(": ")
        for state in states
        if state and (not reasons or state.get("reason") in reasons)
    ]


def answers(text: str, *keys: str) -> list[Json]:
    """The lines of a log that are JSON objects with one of the keys; the clients' own lines stand around them."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            one = json.loads(line)
            if isinstance(one, dict) and any(key in one for key in keys):
                found.append(one)
    return found


def tail(text: str) -> str:
    """The last lines of a log without an answer, in one line."""
    return " / ".join(line for line in text.splitlines() if line.strip())[-400:]
