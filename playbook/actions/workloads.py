"""Who is ready, who is not and why: judged from plain objects, so every verdict is tested from recorded ones.

Waiting stops early on states that waiting cannot mend, with the last lines of the container's log; finished pods do not
count. A deadline says who is not ready and why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from playbook.check import UNREADY, Probe, Verdicts
from playbook.kube import Json, Reader
from playbook.model import Status
from playbook.target import Target
from playbook.trouble import Trouble, Unknown

if TYPE_CHECKING:
    from playbook.engine import Hands

BAD_IMAGE = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
BAD_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
CRASHES_TERMINAL = 3
"""Restarts from which CrashLoopBackOff counts as terminal: one that only waits for its peer gets a second chance."""
CONFIG_GRACE_S = 30.0
LOG_LINES = 12
POLL_S = 1.5
AWAY_S = 60.0
"""How long the API server may be away while we wait, before that is an error of its own."""


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
    )


def age_s(stamp: str | None, now: float) -> float:
    """Seconds since an RFC 3339 time; 0 when there is none."""
    if not stamp:
        return 0.0
    return now - datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def selects(selector: Mapping[str, str], pod: Json) -> bool:
    """Whether a workload's matchLabels fit a pod."""
    labels = pod["metadata"].get("labels", {})
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


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
            code = "SFM-K8S-009" if one.get("restartCount", 0) >= CRASHES_TERMINAL else ""
            exit_code, because = ended.get("exitCode"), ended.get("reason", "")
            why = f"{name}: CrashLoopBackOff, {one.get('restartCount', 0)} restarts, exit code {exit_code} {because}"
            return why.strip(), code, name, True
        if reason in BAD_CONFIG:
            old = age_s(status.get("startTime"), now) > CONFIG_GRACE_S
            return f"{name}: {reason}: {said}", "SFM-K8S-012" if old else "", "", False
    return None


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


def controller_reason(kind: str, name: str, events: Iterable[Json]) -> str:
    """The last FailedCreate of a workload or of a ReplicaSet of it: what refuses its pods."""
    for event in reversed(list(events)):
        about = event.get("involvedObject", {})
        same = about.get("name") == name or (
            about.get("kind") == "ReplicaSet" and about.get("name", "").startswith(name)
        )
        if event.get("reason") == "FailedCreate" and same:
            return str(event.get("message", ""))
    return ""


def judge_one(kind: str, item: Json, seen: Scene, now: float) -> Unready | None:
    """A Deployment, StatefulSet or DaemonSet: None when it is ready and up to date."""
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
    for pod in sorted(open_pods, key=lambda p: not (container_trouble(p, now) or ("", ""))[1]):
        why, code, container, previous = pod_trouble(pod, now)
        name = pod["metadata"]["name"]
        return Unready(kind, meta["name"], ready, wanted, f"{name} {why}", code, name, container, previous)
    refused = controller_reason(kind, meta["name"], seen.events) if len(mine) < wanted else ""
    if refused:
        return Unready(kind, meta["name"], ready, wanted, refused, "SFM-K8S-012")
    return Unready(kind, meta["name"], ready, wanted, "being rolled out" if ready else "its pods are being made")


def pod_ready(pod: Json) -> bool:
    """Whether a pod's Ready condition is true."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def judge_job(job: Json, seen: Scene, now: float) -> Unready | None:
    """A Job: None when it is complete or suspended."""
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
        return Unready("Job", meta["name"], done, wanted, why, "SFM-K8S-011", pod)
    if last is not None:
        why, code, container, previous = pod_trouble(last, now)
        terminal = code if code in ("SFM-IMG-005", "SFM-K8S-012") else ""
        return Unready("Job", meta["name"], done, wanted, f"{pod} {why}", terminal, pod, container, previous)
    return Unready("Job", meta["name"], done, wanted, controller_reason("Job", meta["name"], seen.events) or "starting")


def judge(seen: Scene, now: float) -> list[Unready]:
    """Every workload that is not ready, worst first. `now` in Unix seconds. Finished pods do not count."""
    found = [
        *(judge_one("StatefulSet", item, seen, now) for item in seen.statefulsets),
        *(judge_one("Deployment", item, seen, now) for item in seen.deployments),
        *(judge_one("DaemonSet", item, seen, now) for item in seen.daemonsets),
        *(judge_job(item, seen, now) for item in seen.jobs if not owned_by_cron(item)),
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
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


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


def last_log(reader: Reader, namespace: str, one: Unready) -> str:
    """The last lines of the container that failed; empty when it never ran."""
    if not one.pod:
        return ""
    query: dict[str, Any] = {"tailLines": LOG_LINES, **({"container": one.container} if one.container else {})}
    try:
        text = reader.text(f"/api/v1/namespaces/{namespace}/pods/{one.pod}/log", **query)
        if not text.strip() and one.previous:
            text = reader.text(f"/api/v1/namespaces/{namespace}/pods/{one.pod}/log", **query, previous="true")
        return text
    except Trouble:
        return ""


DAMAGED_LOG = ("Error while loading log dir", "CorruptRecordException", "Found invalid messages in log")
"""What a Kafka broker says when it stops over a damaged log folder."""


def terminal_trouble(reader: Reader, namespace: str, found: Sequence[Unready]) -> Trouble | None:
    """The error for the first state that waiting cannot mend, with its log's last lines; None when there is none."""
    bad = [one for one in found if one.code]
    if not bad:
        return None
    lines = [str(one) for one in bad]
    log = last_log(reader, namespace, bad[0]) if bad[0].code in ("SFM-K8S-009", "SFM-K8S-011") else ""
    code = "SFM-KAF-003" if any(words in log for words in DAMAGED_LOG) else bad[0].code
    if log:
        lines += [f"last lines of {bad[0].pod}:", *(f"  {line}" for line in log.splitlines()[-LOG_LINES:])]
    return Trouble(code, f"{bad[0].kind} {bad[0].name} will not become ready", why="\n".join(lines))


def told(seen: Scene, found: Sequence[Unready], since: float) -> str:
    """What a person who waits wants to know: how many are ready, who is not and why, the newest warnings."""
    waiting = {one.name for one in found}
    names = [w["metadata"]["name"] for w in (*seen.statefulsets, *seen.deployments, *seen.daemonsets)]
    ready = [name for name in names if name not in waiting]
    fresh = Scene((), (), (), (), (), [e for e in seen.events if age_s(stamp(e), since) <= 0])
    return "\n".join(
        [
            f"{len(ready)} of {len(names)} ready{': ' if ready else ''}{', '.join(sorted(ready))}",
            *(str(one) for one in found),
            *(f"event: {line}" for line in last_warnings(fresh, 2)),
        ]
    )


def watch(hands: Hands, until: Callable[[], bool], *, ready_ends: bool) -> list[Unready]:
    """Look on until `until()` (or, with `ready_ends`, until all are ready), telling who is not; stops early on the end.

    Returns who is not ready at the end. Raises the trouble of a terminal state seen twice in a row.
    """
    namespace, before = hands.target.namespace, ""
    suspects: set[str] = set()
    since, away_since = time.time(), 0.0
    while True:
        hands.shell.check_cancelled()
        try:
            seen = scene(hands.api, namespace)
            away_since = 0.0
        except Unknown as unknown:
            away_since = away_since or time.monotonic()
            if unknown.code != "SFM-K8S-001" or time.monotonic() - away_since > AWAY_S:
                raise
            hands.tell(f"the API server does not answer: {unknown.why}")
            if until():
                return []
            time.sleep(POLL_S)
            continue
        found = judge(seen, time.time())
        bad = {f"{u.kind}/{u.name}/{u.code}" for u in found if u.code}
        if bad & suspects:
            trouble = terminal_trouble(hands.api, namespace, found)
            if trouble:
                raise trouble
        suspects = bad
        now = told(seen, found, since)
        if now != before:
            hands.tell(now)
            before = now
        if until() or (ready_ends and not found):
            return found
        if ready_ends and (closed := closed_vault(hands, found)):
            raise closed
        time.sleep(POLL_S)


def closed_vault(hands: Hands, found: Sequence[Unready]) -> Trouble | None:
    """When Vault alone is not ready: the trouble of one that waits for a person to open it, None of one that starts."""
    from playbook.actions import vault

    if not found or any(one.name != f"{hands.target.release}-vault" or one.code for one in found):
        return None
    try:
        waiting = vault.waits_for_a_person(vault.nodes(hands.api, hands.target))
    except Trouble:  # it does not answer yet: go on waiting, the deadline will name it
        return None
    if not waiting:
        return None
    return Trouble("SFM-VLT-001", "everything is ready but Vault, which waits for you", why="; ".join(waiting))


def wait_ready(hands: Hands, params: Mapping[str, Any]) -> str:
    """Wait until all workloads are ready; early when that cannot come, and with names and reasons at the deadline."""
    started = time.monotonic()
    deadline = started + hands.target.ready_timeout_s
    hands.deadline = deadline
    found = watch(hands, lambda: time.monotonic() >= deadline, ready_ends=True)
    if found:
        why = "\n".join(str(one) for one in found)
        raise Trouble(
            "SFM-K8S-010", f"{len(found)} workloads are not ready after {hands.target.ready_timeout_s:g} s", why=why
        )
    return f"all ready after {time.monotonic() - started:.0f} s"


def probe_ready(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether every workload is ready."""
    seen = scene(probe.seen.reader, probe.target.namespace)
    found = judge(seen, datetime.now(UTC).timestamp())
    probe.kept[UNREADY] = [] if any(one.code for one in found) else [one.name for one in found]
    if found:
        return Status.FAIL, "; ".join(str(one) for one in found[:5]), found[0].code
    count = len(seen.deployments) + len(seen.statefulsets) + len(seen.daemonsets)
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


__all__ = ["Scene", "Unknown", "Unready", "judge", "scene", "unready", "wait_ready", "watch"]
