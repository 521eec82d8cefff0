"""Who is ready, who is not and why: judged from plain objects, so every verdict is tested from recorded ones.

States that waiting cannot mend have a code. Finished pods do not count, and a pod of an older revision has no code: it
is about to be replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any

from playbook.check import UNREADY, Probe, Verdicts
from playbook.kube import Json, Reader
from playbook.model import Status
from playbook.target import Target

BAD_IMAGE = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
BAD_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
CRASHES_TERMINAL = 3
"""Restarts from which CrashLoopBackOff counts as terminal: one that only waits for its peer gets a second chance."""
CRASHING = "SFM-K8S-009"
CONFIG_GRACE_S = 30.0
REVISION = "deployment.kubernetes.io/revision"
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Unready:
    """One workload that is not ready; `code` is set when waiting cannot mend it."""

    kind: str
    name: str
    ready: int
    wanted: int
    why: str
    code: str = ""
    pod: str = ""
    container: str = ""
    previous: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.ready}/{self.wanted}: {self.why}"


@dataclass(frozen=True, slots=True)
class Scene:
    """The objects of one namespace at one moment."""

    deployments: Sequence[Json]
    statefulsets: Sequence[Json]
    daemonsets: Sequence[Json]
    jobs: Sequence[Json]
    pods: Sequence[Json]
    events: Sequence[Json]
    replicasets: Sequence[Json] = ()

    @property
    def workloads(self) -> Sequence[tuple[str, Json]]:
        """Every workload that keeps pods running, with its kind."""
        return [
            *(("StatefulSet", item) for item in self.statefulsets),
            *(("Deployment", item) for item in self.deployments),
            *(("DaemonSet", item) for item in self.daemonsets),
        ]


def scene(reader: Reader, namespace: str) -> Scene:
    """Look at one namespace."""
    apps, core = f"/apis/apps/v1/namespaces/{namespace}", f"/api/v1/namespaces/{namespace}"
    return Scene(
        reader.items(f"{apps}/deployments"),
        reader.items(f"{apps}/statefulsets"),
        reader.items(f"{apps}/daemonsets"),
        reader.items(f"/apis/batch/v1/namespaces/{namespace}/jobs"),
        reader.items(f"{core}/pods"),
        reader.items(f"{core}/events", fieldSelector="type=Warning"),
        reader.items(f"{apps}/replicasets"),
    )


def age_s(stamp: str | None, now: float) -> float:
    """Seconds since an RFC 3339 time; 0 when there is none."""
    if not stamp:
        return 0.0
    return now - datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def selects(selector: Mapping[str, str], pod: Json) -> bool:
    """Whether a workload's matchLabels fit a pod."""
    return bool(selector) and all(labels(pod).get(key) == value for key, value in selector.items())


def container_trouble(pod: Json, now: float) -> tuple[str, str, str, bool] | None:
    """Why, code, container and whether the log is the previous one's, for a pod's first container that waits badly."""
    status = pod.get("status", {})
    for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = one.get("state", {}).get("waiting") or {}
        reason, said = waiting.get("reason", ""), waiting.get("message", "")
        name = one["name"]
        if reason in BAD_IMAGE:
            return f"{name}: {reason}: {one.get('image', '')}: {said}".rstrip(": "), "SFM-IMG-005", "", False
        if reason == "CrashLoopBackOff":
            ended = one.get("lastState", {}).get("terminated") or {}
            code = CRASHING if one.get("restartCount", 0) >= CRASHES_TERMINAL else ""
            exit_code, because = ended.get("exitCode"), ended.get("reason", "")
            why = f"{name}: CrashLoopBackOff, {one.get('restartCount', 0)} restarts, exit code {exit_code} {because}"
            return why.strip(), code, name, True
        if reason in BAD_CONFIG:
            old = age_s(status.get("startTime"), now) > CONFIG_GRACE_S
            return f"{name}: {reason}: {said}", "SFM-K8S-012" if old else "", "", False
    return None


def crashed(pod: Json) -> str:
    """The container of a pod that is not ready and ended with an error, also one that was started anew; else empty."""
    for one in pod.get("status", {}).get("containerStatuses", []):
        ends = [one.get(state, {}).get("terminated") or {} for state in ("state", "lastState")]
        if not one.get("ready") and any(ended.get("exitCode") for ended in ends):
            return str(one["name"])
    return ""


def pod_trouble(pod: Json, now: float) -> tuple[str, str, str, bool]:
    """Why a pod is not ready, with a code when that is terminal."""
    found = container_trouble(pod, now)
    if found:
        return found
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return "is being deleted", "", "", False
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False":
        return f"not placed: {placed.get('message', placed.get('reason', ''))}", "", "", False
    if status.get("phase") == "Failed":
        return f"failed: {status.get('message') or status.get('reason') or 'no reason given'}", "", "", True
    for one in status.get("initContainerStatuses", []):
        if "running" in one.get("state", {}):
            return f"init container {one['name']} runs", "", "", False
    not_ready = [one["name"] for one in status.get("containerStatuses", []) if not one.get("ready")]
    if not_ready and status.get("phase") == "Running":
        return f"not ready yet: {', '.join(not_ready)}", "", "", False
    return f"{status.get('phase', 'unknown').lower()}: {', '.join(not_ready) or 'no container yet'}", "", "", False


def restarts(pod: Json) -> int:
    """How often the containers of a pod were restarted, together."""
    return sum(one.get("restartCount", 0) for one in pod.get("status", {}).get("containerStatuses", []))


def marks(item: Json) -> tuple[str, str]:
    """An object's uid; and with it what tells its present state from a later one: its generation, its restarts."""
    meta = item["metadata"]
    uid = str(meta.get("uid", ""))
    return uid, f"{uid}/{meta.get('generation', 0)}/{restarts(item)}"


def superseded(kind: str, item: Json, pod: Json, seen: Scene) -> bool:
    """Whether a pod is of an older revision than its workload asks for, and is replaced without being ready first."""
    meta, spec = item["metadata"], item["spec"]
    if kind == "Deployment":
        wanted = meta.get("annotations", {}).get(REVISION)
        current = {
            rs["metadata"].get("uid")
            for rs in seen.replicasets
            if meta.get("uid") in owners(rs) and rs["metadata"].get("annotations", {}).get(REVISION) == wanted
        }
        return bool(current and owners(pod)) and not owners(pod) & current
    if kind == "StatefulSet":
        by_hand = spec.get("updateStrategy", {}).get("type") == "OnDelete"
        stuck = by_hand or spec.get("podManagementPolicy") != "Parallel"  # such a set first waits for its old pod
        revisions = {item.get("status", {}).get("updateRevision"), labels(pod).get("controller-revision-hash")}
        return not stuck and None not in revisions and len(revisions) > 1
    return False


def owners(item: Json) -> set[str | None]:
    """The uids of an object's owners."""
    return {owner.get("uid") for owner in item["metadata"].get("ownerReferences", [])}


def labels(item: Json) -> Mapping[str, str]:
    """An object's labels."""
    return item["metadata"].get("labels") or {}


def since_change_s(item: Json, now: float) -> float:
    """Seconds since somebody last changed what an object asks for; endless when it does not say."""
    fields = item["metadata"].get("managedFields", [])
    return min((age_s(one["time"], now) for one in fields if "time" in one and not one.get("subresource")), default=inf)


def controller_reason(item: Json, events: Iterable[Json], now: float) -> str:
    """The last FailedCreate of a workload or of a ReplicaSet of it since it was changed: what refuses its pods."""
    name, changed_s = item["metadata"]["name"], since_change_s(item, now)
    for event in reversed(list(events)):
        about = event.get("involvedObject", {})
        same = about.get("name") == name or (
            about.get("kind") == "ReplicaSet" and about.get("name", "").startswith(name)
        )
        if event.get("reason") == "FailedCreate" and same and age_s(stamp(event), now) < changed_s:
            return str(event.get("message", ""))
    return ""


def judge_one(kind: str, item: Json, seen: Scene, now: float, known: frozenset[str] = NOTHING) -> Unready | None:
    """A Deployment, StatefulSet or DaemonSet: None when it is ready and up to date. What is `known` has no code."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status", {})
    if kind == "DaemonSet":
        wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
        updated = status.get("updatedNumberScheduled", 0)
    else:
        wanted, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
        updated = status.get("updatedReplicas", 0)
        if kind == "StatefulSet" and spec.get("updateStrategy", {}).get("type") == "OnDelete":
            updated = wanted
    fresh = status.get("observedGeneration", 0) >= meta.get("generation", 0)
    # While a Deployment rolls out, the old pod keeps it "ready" although the new one may never be.
    old = status.get("replicas", 0) > updated if kind == "Deployment" else False
    if fresh and ready >= wanted and updated >= wanted and not old:
        return None
    mine = [p for p in seen.pods if selects(spec["selector"].get("matchLabels", {}), p)]
    open_pods = [p for p in mine if not pod_ready(p) and p.get("status", {}).get("phase") != "Succeeded"]
    judged: list[tuple[bool, Unready]] = []
    for pod in open_pods:
        why, code, container, previous = pod_trouble(pod, now)
        old, name = superseded(kind, item, pod, seen), pod["metadata"]["name"]
        code = "" if old or not fresh or known.intersection(marks(pod)) else code
        why = f"{name} {'(of the revision before) ' if old else ''}{why}"
        judged.append((old, Unready(kind, meta["name"], ready, wanted, why, code, name, container, previous)))
    if judged:
        return min(judged, key=lambda pair: (not pair[1].code, pair[0]))[1]
    refused = controller_reason(item, seen.events, now) if len(mine) < wanted else ""
    if refused:
        code = "" if not fresh or known.intersection(marks(item)) else "SFM-K8S-012"
        return Unready(kind, meta["name"], ready, wanted, refused, code)
    return Unready(kind, meta["name"], ready, wanted, "being rolled out" if ready else "its pods are being made")


def pod_ready(pod: Json) -> bool:
    """Whether a pod's Ready condition is true."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def pod_ill(pod: Json, now: float) -> bool:
    """Whether a pod is not ready and something went wrong in it already, however often."""
    pulls = [one for one in pod.get("status", {}).get("containerStatuses", [])
             if (one.get("state", {}).get("waiting") or {}).get("reason") == "ErrImagePull"]  # fmt: skip
    return not pod_ready(pod) and bool(pulls or restarts(pod) or container_trouble(pod, now))


def judge_job(job: Json, seen: Scene, now: float, known: frozenset[str] = NOTHING) -> Unready | None:
    """A Job: None when it is complete or suspended. What is `known` has no code."""
    meta, status = job["metadata"], job.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", []) if c.get("status") == "True"}
    if "Complete" in conditions or job["spec"].get("suspend"):
        return None
    wanted, done = job["spec"].get("completions", 1), status.get("succeeded", 0)
    mine = [p for p in seen.pods if selects({"job-name": meta["name"]}, p)]
    last = max(mine, key=lambda p: str(p["metadata"].get("creationTimestamp", "")), default=None)
    pod = last["metadata"]["name"] if last else ""
    if "Failed" in conditions:
        failed = conditions["Failed"]
        why = f"failed: {failed.get('reason', '')} {failed.get('message', '')}"
        code = "" if known.intersection(marks(job)) else "SFM-K8S-011"
        return Unready("Job", meta["name"], done, wanted, why, code, pod)
    if last is not None:
        why, code, container, previous = pod_trouble(last, now)
        terminal = code if code in ("SFM-IMG-005", "SFM-K8S-012") and not known.intersection(marks(last)) else ""
        return Unready("Job", meta["name"], done, wanted, f"{pod} {why}", terminal, pod, container, previous)
    return Unready("Job", meta["name"], done, wanted, controller_reason(job, seen.events, now) or "starting")


def judge(seen: Scene, now: float, known: frozenset[str] = NOTHING) -> list[Unready]:
    """Every workload that is not ready, worst first. `now` in Unix seconds. What has a mark in `known` has no code."""
    found = [
        *(judge_one(kind, item, seen, now, known) for kind, item in seen.workloads),
        *(judge_job(item, seen, now, known) for item in seen.jobs if not owned_by_cron(item)),
    ]
    return sorted((u for u in found if u), key=lambda u: (not u.code, u.kind, u.name))


def overview(seen: Scene, now: float) -> list[dict[str, Any]]:
    """Every workload with how many of it are ready, and why not where that is so."""
    waiting = {(u.kind, u.name): u for u in judge(seen, now)}
    rows = []
    for kind, items in (("StatefulSet", seen.statefulsets), ("Deployment", seen.deployments), ("Job", seen.jobs)):
        for item in items:
            name, status = item["metadata"]["name"], item.get("status", {})
            one = waiting.get((kind, name))
            done = status.get("succeeded", 0) if kind == "Job" else status.get("readyReplicas", 0)
            wanted = item["spec"].get("completions" if kind == "Job" else "replicas", 1)
            rows.append({"kind": kind, "name": name, "ready": done, "wanted": wanted, "why": one.why if one else ""})
    return rows


def stamp(event: Json) -> str:
    """When an event was last seen."""
    made = event["metadata"].get("creationTimestamp", "")
    return str(event.get("lastTimestamp") or event.get("eventTime") or made)


def last_warnings(seen: Scene, count: int = 5) -> list[str]:
    """The newest warnings of the namespace's events, in words."""

    newest = sorted(seen.events, key=stamp)[-count:]
    return [
        f"{stamp(e)} {e['involvedObject'].get('kind')} {e['involvedObject'].get('name')}: {e.get('reason')}: "
        f"{e.get('message', '')}"
        for e in newest
    ]


def owned_by_cron(job: Json) -> bool:
    """Whether a CronJob made this Job: it comes and goes by itself and no release waits for it."""
    return any(owner.get("kind") == "CronJob" for owner in job["metadata"].get("ownerReferences", []))


def unready(reader: Reader, target: Target) -> list[Unready]:
    """Who is not ready in the infra namespace now."""
    return judge(scene(reader, target.namespace), datetime.now(UTC).timestamp())


def probe_ready(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether every workload is ready."""
    seen = scene(probe.seen.reader, probe.target.namespace)
    found = judge(seen, datetime.now(UTC).timestamp())
    worse = any(one.code not in ("", CRASHING) for one in found)
    probe.kept[UNREADY] = [] if worse else [one.name for one in found]
    if found:
        return Status.FAIL, "; ".join(str(one) for one in found[:5]), found[0].code
    count = len(seen.workloads)
    return (Status.PASS, f"{count} workloads ready") if count else (Status.FAIL, "there is no workload")


def probe_restarts(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether a container was restarted within the last minutes."""
    pods = probe.seen.reader.items(f"/api/v1/namespaces/{probe.target.namespace}/pods")
    now, within = datetime.now(UTC).timestamp(), float(params["within_s"])
    fresh = [
        f"{pod['metadata']['name']}/{one['name']} ({one['restartCount']} restarts)"
        for pod in pods
        for one in pod.get("status", {}).get("containerStatuses", [])
        if one.get("restartCount", 0)
        and age_s((one.get("lastState", {}).get("terminated") or {}).get("finishedAt"), now) < within
        and one.get("lastState", {}).get("terminated")
    ]
    total = sum(one.get("restartCount", 0) for p in pods for one in p.get("status", {}).get("containerStatuses", []))
    return (Status.WARN, ", ".join(fresh)) if fresh else (Status.PASS, f"none lately, {total} in all")


def probe_claims(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether every volume claim is bound."""
    claims = probe.seen.reader.items(f"/api/v1/namespaces/{probe.target.namespace}/persistentvolumeclaims")
    waiting = [f"{c['metadata']['name']} is {c['status']['phase']}" for c in claims if c["status"]["phase"] != "Bound"]
    return (Status.FAIL, ", ".join(waiting)) if waiting else (Status.PASS, f"{len(claims)} bound")
