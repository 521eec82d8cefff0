"""The application's rows of the verification matrix: what is seen through the API, and what its own pod found.

Each failing row names the command that mends it: the code's own, or one for just what was seen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from playbook.actions import kube, workloads
from playbook.check import Probe, Verdicts
from playbook.kube import Json, Reader
from playbook.model import Status
from playbook.target import MODES
from playbook.trouble import Trouble
from playbook.wiring import cluster, facts, objects, probe_job
from playbook.wiring.application import Application
from playbook.wiring.reach import Reach

RESTARTED_WITHIN_S = 300
ANSWERS = "application's answers"
OWNERS = ("ReplicaSet", "StatefulSet", "DaemonSet", "Job")
NO_FINALIZERS = '{"metadata":{"finalizers":null}}'


def reach_of(probe: Probe) -> Reach:
    """The target as the wire-up sees it."""
    return Reach(probe.target, probe.seen.reader)


def env(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """The environment that was asked for is this cluster's: what is wanted in another is not what is here."""
    here = reach_of(probe).endpoints().mode
    if wrong := facts.env(probe.seen)["app.env.unfit"]:
        again = f"sfmctl verify APP --env {here}" if here in MODES else ""
        return Status.FAIL, wrong[0], "SFM-APP-006", again
    return Status.PASS, here


def namespace(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Active and labelled."""
    app = reach_of(probe).app
    try:
        wrong = cluster.namespace_wanting(probe.seen.reader, app)
    except Trouble as trouble:
        if trouble.code != "SFM-APP-015":
            raise
        return held(probe, app, trouble.what)
    if wrong:
        return Status.FAIL, "; ".join(wrong), "SFM-APP-007"
    return Status.PASS, f"{app.namespace} is Active and labelled {objects.ADMITS}=true"


def held(probe: Probe, app: Application, what: str) -> Verdicts:
    """A namespace that is being deleted: what holds it, and the commands that let it go and wire it anew."""
    unserved: list[str] = []
    found = kube.blockers(probe.seen.reader, app.namespace, unserved)
    release = [kube.withdraw(unserved)] if unserved else []
    release += [f"kubectl -n {app.namespace} patch {one.resource} --type=merge -p '{NO_FINALIZERS}'" for one in found]
    again = probe.book.codes["SFM-APP-015"].mend
    holding = [*map(str, found), *map(kube.not_served, unserved)]
    by = f", held by {'; '.join(holding)}" if holding else ""
    return Status.FAIL, what + by, "SFM-APP-015", ", then ".join([*release, again])


def secrets(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """The runtime Secret has every key, none empty, and the operator keeps it in step with Vault."""
    reach = reach_of(probe)
    app, reader = reach.app, probe.seen.reader
    has = reach.secret(app.runtime, app.namespace)
    if has is None:
        return Status.FAIL, f"the Secret {app.runtime} is not there", "SFM-ESO-003"
    lacking = has.lacking()
    if lacking:
        return Status.FAIL, f"{app.runtime}: {', '.join(lacking)} missing or empty", "SFM-ESO-003"
    wanted = objects.external_secret(app, cluster.eso_version(reader))
    found = reader.get(objects.path(wanted))
    wrong = objects.contradicted(wanted, found)
    if wrong:
        return Status.FAIL, "; ".join(wrong), "SFM-ESO-003"
    ready, words = cluster.condition(found)
    if not ready:
        return Status.FAIL, f"ExternalSecret {app.external_secret}: {words}", "SFM-ESO-003"
    late_s = refreshed_late_s((found or {}).get("status", {}).get("refreshTime", ""), time.time())
    if late_s > 0:
        return Status.FAIL, f"not synced for {late_s:.0f} s longer than its refresh of {objects.REFRESH}", "SFM-ESO-003"
    keys = len(has.values)
    return Status.PASS, f"{keys} keys, none empty; {app.external_secret} is synced"


def refreshed_late_s(stamp: str, now_s: float) -> float:
    """How much longer ago than the refresh interval (and two minutes of grace) the last sync was; <= 0 is in time."""
    return workloads.age_s(stamp, now_s) - 3600.0 - 120.0 if stamp else 0.0


def settings(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """ServiceAccount and ConfigMaps are as the wire-up made them."""
    reach = reach_of(probe)
    wanted = (objects.account(reach.app), *objects.settings(reach.app, reach.endpoints()))
    wrong = cluster.wanting(probe.seen.reader, *wanted)
    if wrong:
        return Status.FAIL, "; ".join(wrong), "SFM-APP-008"
    return Status.PASS, f"{len(wanted)} objects as wired"


def pods(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """The application's own pods and workloads: all ready, none that restarts. None at all: it is not deployed yet.

    A failed pod that a workload or Job has replaced, or needs no more, is history: its owner is judged.
    """
    app, now = reach_of(probe).app, time.time()
    scene = workloads.scene(probe.seen.reader, app.namespace)
    found = [
        p for p in scene.pods
        if p.get("status", {}).get("phase") != "Succeeded"
        and not p["metadata"].get("deletionTimestamp")  # the pods of the revision before, right after an upgrade
        and not of_ours(p)
        and not (p.get("status", {}).get("phase") == "Failed" and any(owned_by(p, kind) for kind in OWNERS))
    ]  # fmt: skip
    for pod in found:
        name = pod["metadata"]["name"]
        if not workloads.pod_ready(pod):
            why, code, _, _ = workloads.pod_trouble(pod, now)
            code = code or (workloads.CRASHING if workloads.crashed(pod) else "SFM-K8S-015")
            return Status.FAIL, f"{name} {why}", code, remedy(probe.seen.reader, app, pod)
        for one in pod["status"].get("containerStatuses", []):
            ended = (one.get("lastState", {}).get("terminated") or {}).get("finishedAt", "")
            if ended and workloads.age_s(ended, now) < RESTARTED_WITHIN_S:
                return Status.FAIL, f"{name}: {one['name']} restarted {one['restartCount']} times", "SFM-K8S-016", (
                    f"kubectl -n {app.namespace} logs {name} -c {one['name']} --previous --tail 50"
                )  # fmt: skip
    lacking = workloads.judge(replace(scene, jobs=()), now)  # a Job comes and goes, and is judged by its pod
    if lacking:
        return Status.FAIL, "; ".join(map(str, lacking)), lacking[0].code or "SFM-K8S-015", rolled_out(app, lacking[0])
    return failed_run(scene.jobs, app) or (Status.PASS, well(len(found)))


def well(ready: int) -> str:
    """What is said of pods that are all ready."""
    return f"{ready} ready, none restarted lately" if ready else "nothing runs in the namespace yet"


def of_ours(one: Json) -> bool:
    """Whether a pod or Job is one of the verification itself."""
    return bool(workloads.labels(one).get("app.kubernetes.io/name") == "sfmctl-verify")


def failed_run(jobs: Sequence[Json], app: Application) -> Verdicts | None:
    """A Job that has failed for good; of a CronJob, which will try again, only its last run counts, as a warning."""
    last: dict[str, Json] = {}
    for job in sorted(jobs, key=lambda j: str(j["metadata"].get("creationTimestamp", ""))):
        last[owned_by(job, "CronJob") or f"job/{job['metadata']['name']}"] = job
    failed = [job for job in last.values() if not of_ours(job) and any(
        c["type"] == "Failed" and c["status"] == "True" for c in job.get("status", {}).get("conditions", [])
    )]  # fmt: skip
    for job in sorted(failed, key=lambda j: bool(owned_by(j, "CronJob"))):
        name, cron = job["metadata"]["name"], owned_by(job, "CronJob")
        logs = f"kubectl -n {app.namespace} logs job/{name} --all-containers --tail 50"
        if cron:
            return Status.WARN, f"the last run of CronJob {cron}, {name}, failed", "SFM-K8S-011", logs
        again = f"{logs}, then kubectl -n {app.namespace} delete job {name}"
        return Status.FAIL, f"Job {name} failed", "SFM-K8S-011", again
    return None


def rolled_out(app: Application, one: workloads.Unready) -> str:
    """What tells why a workload lacks pods: the events, when they are refused; else whether its rollout ends."""
    ours = f"kubectl -n {app.namespace}"
    if one.code == "SFM-K8S-012":
        return f"{ours} get events --sort-by=.lastTimestamp (says what refuses the pods)"
    return f"{ours} rollout status {one.kind.lower()}/{one.name} --timeout=120s"


def remedy(reader: Reader, app: Application, pod: Json) -> str:
    """What helps a pod that does not get ready: the revision before, where its Deployment has one; else its log."""
    name = pod["metadata"]["name"]
    logs = f"kubectl -n {app.namespace} logs {name} --all-containers --tail 50"
    apps = f"/apis/apps/v1/namespaces/{app.namespace}"
    sets = {one["metadata"]["name"]: one for one in reader.items(f"{apps}/replicasets")}
    owner = owned_by(sets.get(owned_by(pod, "ReplicaSet"), {}), "Deployment")
    before = [one for one in sets.values() if owned_by(one, "Deployment") == owner]
    if not owner or len(before) < 2:
        return logs
    rollout = f"kubectl -n {app.namespace} rollout"
    return (f"{rollout} undo deployment/{owner}, then {rollout} status deployment/{owner} --timeout=120s "
            f"(why it fails: {logs})")  # fmt: skip


def owned_by(one: Json, kind: str) -> str:
    """The name of the owner of that kind; empty when there is none."""
    owners = one.get("metadata", {}).get("ownerReferences", [])
    return next((str(owner["name"]) for owner in owners if owner["kind"] == kind), "")


def inside(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """That the Job in the application's place runs and answers; what it found is told by the rows that need this."""
    found = answers(probe)
    slowest, one = max(found.records.items(), key=lambda named: int(named[1]["ms"]))
    took = f"{found.start_ms / 1000:.1f} s until its pod could ask, {found.asked_ms / 1000:.1f} s to ask"
    asked = f"asked {', '.join(found.records)} as {reach_of(probe).app.account}"
    return Status.PASS, f"{asked}; {took} (slowest: {slowest} {one['ms']} ms)"


def answers(probe: Probe) -> probe_job.Answers:
    """What the Job found, asked once a run, also when it found nothing."""
    with probe.lock:
        if ANSWERS not in probe.kept:
            try:
                probe.kept[ANSWERS] = probe_job.run(reach_of(probe), probe.api, probe.deadline)
            except Trouble as trouble:
                probe.kept[ANSWERS] = trouble
        found: probe_job.Answers | Trouble = probe.kept[ANSWERS]
    if isinstance(found, Trouble):
        raise found
    return found


SERVER_DOWN = {"SFM-DB-001": "postgres", "SFM-RED-001": "redis", "SFM-VLT-002": "vault"}
"""The codes of a server that does not answer, whose commands look at the release's own."""


def found_inside(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """One line of the Job's answer: `params.ask` names it. What is wrong in another's Kafka is not ours to mend."""
    one, at = answers(probe).records[params["ask"]], reach_of(probe).endpoints()
    code, mend = str(one["code"]), ""
    if params["ask"] == "kafka" and at.elsewhere("kafka"):
        code = "SFM-KAF-014"
    elif code in SERVER_DOWN and (host := at.elsewhere(SERVER_DOWN[code])):
        mend = f"sfmctl app show APP --env ENV (the server is run elsewhere, at {host}: its operator can say more)"
    return Status(one["status"]), str(one["observed"]), code, mend, int(one["ms"])
