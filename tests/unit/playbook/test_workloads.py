"""Who is ready and why not, judged from objects as API servers give them, cut to what is read."""

from typing import Any

import pytest

from playbook.actions.workloads import Scene, Unready, judge, last_warnings, overview, told

NOW = 1_790_000_000.0
LONG_AGO = "2026-01-01T00:00:00Z"


def pod(
    name: str, *statuses: dict[str, Any], phase: str = "Running", ready: bool = False, **more: Any
) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}, *more.pop("conditions", [])]
    status = {"phase": phase, "conditions": conditions, "containerStatuses": list(statuses), "startTime": LONG_AGO}
    labels = {"app": name.rsplit("-", 1)[0], **more.pop("labels", {})}
    return {"metadata": {"name": name, "labels": labels, "creationTimestamp": LONG_AGO}, "status": status | more}


def waiting(reason: str, message: str = "", restarts: int = 0, **last: Any) -> dict[str, Any]:
    return {"name": "main", "ready": False, "restartCount": restarts, "image": "acme/thing:1", "lastState": last,
            "state": {"waiting": {"reason": reason, "message": message}}}  # fmt: skip


def workload(name: str, replicas: int = 1, ready: int = 0, updated: int | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "generation": 2},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, **spec},
        "status": {"observedGeneration": 2, "readyReplicas": ready,
                   "updatedReplicas": replicas if updated is None else updated},
    }  # fmt: skip


def job(name: str, *conditions: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **more}, "spec": {"completions": 1}, "status": {"conditions": list(conditions)}}


def seen(**kinds: list[dict[str, Any]]) -> Scene:
    empty: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("deployments", "statefulsets", "daemonsets", "jobs", "pods", "events")
    }
    return Scene(**(empty | kinds))


def one(found: list[Unready]) -> Unready:
    assert len(found) == 1, found
    return found[0]


def test_a_ready_workload_is_not_named() -> None:
    assert judge(seen(statefulsets=[workload("kafka", ready=1)], pods=[pod("kafka-0", ready=True)]), NOW) == []


def test_an_image_that_cannot_be_had_is_terminal_and_named() -> None:
    broken = pod("opa-1", waiting("ImagePullBackOff", "no such host"), phase="Pending")
    found = one(judge(seen(deployments=[workload("opa")], pods=[broken]), NOW))
    assert found.code == "SFM-IMG-005"
    assert "acme/thing:1" in found.why
    assert "no such host" in found.why


def test_a_pull_that_was_tried_once_is_not_terminal_yet() -> None:
    found = one(judge(seen(deployments=[workload("opa")], pods=[pod("opa-1", waiting("ErrImagePull"))]), NOW))
    assert found.code == ""


@pytest.mark.parametrize(("restarts", "code"), [(1, ""), (2, ""), (3, "SFM-K8S-009"), (9, "SFM-K8S-009")])
def test_crashing_counts_as_terminal_only_when_it_goes_on(restarts: int, code: str) -> None:
    crash = waiting("CrashLoopBackOff", "back-off", restarts, terminated={"exitCode": 64, "reason": "Error"})
    found = one(judge(seen(statefulsets=[workload("redis")], pods=[pod("redis-0", crash)]), NOW))
    assert found.code == code
    assert "exit code 64" in found.why
    assert found.container == "main"


def test_a_missing_secret_is_terminal_after_its_grace() -> None:
    bad = pod("opa-1", waiting("CreateContainerConfigError", 'secret "opa" not found'))
    assert one(judge(seen(deployments=[workload("opa")], pods=[bad]), NOW)).code == "SFM-K8S-012"
    young = pod("opa-1", waiting("CreateContainerConfigError"), startTime="2026-09-21T14:13:15Z")
    assert one(judge(seen(deployments=[workload("opa")], pods=[young]), NOW)).code == ""


def test_a_pod_that_cannot_be_placed_says_the_schedulers_words() -> None:
    placed = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient memory."}
    found = one(judge(seen(statefulsets=[workload("etcd")],
                           pods=[pod("etcd-0", phase="Pending", conditions=[placed])]), NOW))  # fmt: skip
    assert "Insufficient memory" in found.why
    assert found.code == ""


def test_finished_pods_do_not_count() -> None:
    pods = [pod("opa-0", phase="Succeeded"), pod("opa-1", ready=True)]
    assert judge(seen(deployments=[workload("opa", ready=1)], pods=pods), NOW) == []


def test_a_refused_pod_names_who_refuses_it() -> None:
    event = {"metadata": {"creationTimestamp": LONG_AGO}, "reason": "FailedCreate", "lastTimestamp": LONG_AGO,
             "involvedObject": {"kind": "ReplicaSet", "name": "opa-5d9f"},
             "message": 'pods "opa-5d9f-" is forbidden: violates PodSecurity "restricted:latest"'}  # fmt: skip
    found = one(judge(seen(deployments=[workload("opa")], events=[event]), NOW))
    assert found.code == "SFM-K8S-012"
    assert "violates PodSecurity" in found.why
    assert "violates PodSecurity" in last_warnings(seen(events=[event]))[0]


def test_a_rollout_that_is_under_way_is_not_ready() -> None:
    found = one(judge(seen(deployments=[workload("opa", replicas=2, ready=2, updated=1)]), NOW))
    assert found.why == "being rolled out"


def test_an_old_pod_that_is_ready_does_not_hide_a_new_one_that_never_will_be() -> None:
    rolling = workload("opa", ready=1, updated=1)
    rolling["status"]["replicas"] = 2
    pods = [pod("opa-old", ready=True), pod("opa-new", waiting("ImagePullBackOff", "not found"))]
    found = one(judge(seen(deployments=[rolling], pods=pods), NOW))
    assert found.code == "SFM-IMG-005"
    assert found.pod == "opa-new"


def test_an_unseen_change_is_not_ready_although_the_old_pods_are() -> None:
    stale = workload("opa", ready=1)
    stale["status"]["observedGeneration"] = 1
    assert len(judge(seen(deployments=[stale], pods=[pod("opa-1", ready=True)]), NOW)) == 1


def test_a_failed_job_is_terminal_and_a_complete_or_periodic_one_is_not_named() -> None:
    failed = job("setup", {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "tried 6"})
    done = job("done", {"type": "Complete", "status": "True"})
    nightly = job("nightly-1", {"type": "Failed", "status": "True"}, ownerReferences=[{"kind": "CronJob"}])
    found = one(judge(seen(jobs=[failed, done, nightly]), NOW))
    assert (found.name, found.code) == ("setup", "SFM-K8S-011")
    assert "BackoffLimitExceeded" in found.why


def test_what_cannot_mend_itself_comes_first() -> None:
    pods = [pod("a-0", phase="Pending"), pod("z-0", waiting("ImagePullBackOff"))]
    found = judge(seen(statefulsets=[workload("a"), workload("z")], pods=pods), NOW)
    assert [u.name for u in found] == ["z", "a"]


def test_who_waits_is_told_how_many_are_ready_and_what_was_warned_of_lately() -> None:
    def event(at: str, message: str) -> dict[str, Any]:
        return {"metadata": {"creationTimestamp": at}, "reason": "Unhealthy", "lastTimestamp": at, "message": message,
                "involvedObject": {"kind": "Pod", "name": "z-0"}}  # fmt: skip

    events = [event(LONG_AGO, "an old story"), event("2026-09-21T14:20:00Z", "probe failed")]
    scene = seen(statefulsets=[workload("a", ready=1), workload("z")], events=events)
    lines = told(scene, judge(scene, NOW), NOW).splitlines()
    assert lines[0] == "1 of 2 ready: a"
    assert lines[1].startswith("StatefulSet z 0/1")
    assert [line for line in lines if "event" in line] == [lines[2]]
    assert "probe failed" in lines[2]


def test_the_overview_has_every_workload_and_the_reason_of_those_that_wait() -> None:
    rows = overview(seen(statefulsets=[workload("a", ready=1), workload("z")]), NOW)
    assert [(r["name"], r["ready"], bool(r["why"])) for r in rows] == [("a", 1, False), ("z", 0, True)]
