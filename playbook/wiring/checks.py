"""The application's rows of the verification matrix: what is seen through the API, and what its own pod found.

Each failing row names the one command that mends it, with the application and its environment filled in.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from playbook.actions import workloads
from playbook.check import Probe, Verdicts
from playbook.model import Status
from playbook.trouble import Trouble
from playbook.wiring import cluster, objects, probe_job
from playbook.wiring.application import Application
from playbook.wiring.reach import Reach

RESTARTED_WITHIN_S = 300
ANSWERS = "application's answers"


def reach_of(probe: Probe) -> Reach:
    """The target as the wire-up sees it."""
    return Reach(probe.target, probe.seen.reader)


def filled(probe: Probe, app: Application, code: str) -> str:
    """The mending command of a code, for this application."""
    mend = probe.book.codes[code].mend if code in probe.book.codes else ""
    return mend.replace("APP", app.name).replace("ENV", app.env)


def failed(probe: Probe, app: Application, observed: str, code: str) -> Verdicts:
    """A failing row with its hint."""
    return Status.FAIL, observed, code, filled(probe, app, code)


def namespace(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Active and labelled."""
    app = reach_of(probe).app
    try:
        wrong = cluster.namespace_wanting(probe.seen.reader, app)
    except Trouble as trouble:
        return failed(probe, app, trouble.what, "SFM-APP-015")
    if wrong:
        return failed(probe, app, "; ".join(wrong), "SFM-APP-007")
    return Status.PASS, f"{app.namespace} is Active and labelled {objects.ADMITS}=true"


def secrets(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """The runtime Secret has every key, none empty, and the operator keeps it in step with Vault."""
    reach = reach_of(probe)
    app, reader = reach.app, probe.seen.reader
    has = reach.secret(app.runtime, app.namespace)
    if has is None:
        return failed(probe, app, f"the Secret {app.runtime} is not there", "SFM-ESO-003")
    lacking = has.lacking()
    if lacking:
        return failed(probe, app, f"{app.runtime}: {', '.join(lacking)} missing or empty", "SFM-ESO-003")
    wanted = objects.external_secret(app, cluster.eso_version(reader))
    found = reader.get(objects.path(wanted))
    wrong = objects.contradicted(wanted, found)
    if wrong:
        return failed(probe, app, "; ".join(wrong), "SFM-ESO-003")
    ready, words = cluster.condition(found)
    if not ready:
        return failed(probe, app, f"ExternalSecret {app.external_secret}: {words}", "SFM-ESO-003")
    late_s = refreshed_late_s((found or {}).get("status", {}).get("refreshTime", ""), time.time())
    if late_s > 0:
        return failed(probe, app, f"not synced for {late_s:.0f} s longer than its refresh of {objects.REFRESH}",
                      "SFM-ESO-003")  # fmt: skip
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
        return failed(probe, reach.app, "; ".join(wrong), "SFM-APP-008")
    return Status.PASS, f"{len(wanted)} objects as wired"


def pods(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """The application's own pods: all ready, none that restarts. None at all is a warning: it is not deployed."""
    app, now = reach_of(probe).app, time.time()
    found = [
        p for p in probe.seen.reader.items(f"/api/v1/namespaces/{app.namespace}/pods")
        if p.get("status", {}).get("phase") != "Succeeded"
        and p["metadata"].get("labels", {}).get("app.kubernetes.io/name") != "sfmctl-verify"
    ]  # fmt: skip
    if not found:
        return Status.PASS, "no pod is deployed in the namespace yet"
    for pod in found:
        name = pod["metadata"]["name"]
        if not workloads.pod_ready(pod):
            why, code, _, _ = workloads.pod_trouble(pod, now)
            logs = f"kubectl -n {app.namespace} logs {name} --previous --tail 50"
            return Status.FAIL, f"{name} {why}", code or "SFM-K8S-015", logs
        for one in pod["status"].get("containerStatuses", []):
            ended = (one.get("lastState", {}).get("terminated") or {}).get("finishedAt", "")
            if ended and workloads.age_s(ended, now) < RESTARTED_WITHIN_S:
                return Status.FAIL, f"{name}: {one['name']} restarted {one['restartCount']} times", "SFM-K8S-016", (
                    f"kubectl -n {app.namespace} logs {name} -c {one['name']} --previous --tail 50"
                )  # fmt: skip
    return Status.PASS, f"{len(found)} ready, none restarted lately"


def inside(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """That the Job in the application's place runs and answers; what it found is told by the rows that need this."""
    found = answers(probe)
    slowest = max(found, key=lambda name: int(found[name]["ms"]))
    return Status.PASS, (
        f"asked {', '.join(found)} as {reach_of(probe).app.account}; slowest: {slowest} {found[slowest]['ms']} ms"
    )


def answers(probe: Probe) -> Mapping[str, Any]:
    """The Job's records, asked once a run."""
    with probe.lock:
        if ANSWERS not in probe.kept:
            probe.kept[ANSWERS] = probe_job.run(reach_of(probe), probe.api)
        found: Mapping[str, Any] = probe.kept[ANSWERS]
    return found


def found_inside(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """One line of the Job's answer: `params.ask` names it."""
    app, one = reach_of(probe).app, answers(probe)[params["ask"]]
    status, code = Status(one["status"]), one["code"]
    if status is Status.PASS:
        return status, one["observed"]
    return status, one["observed"], code, filled(probe, app, code)
