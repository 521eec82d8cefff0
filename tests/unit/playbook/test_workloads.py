"""Who is ready and why not, judged from objects as API servers give them, cut to what is read."""

from pathlib import Path
from typing import Any

import pytest

from playbook.actions.workloads import REVISION, Unready, judge, last_warnings, marks, overview, probe_ready
from playbook.check import UNREADY
from playbook.target import Target
from sfmctl.playrun import probing
from testing.api import serving
from testing.workloads import LONG_AGO, NOW, job, pod, seen, waiting, workload


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


def test_the_overview_has_every_workload_and_the_reason_of_those_that_wait() -> None:
    rows = overview(seen(statefulsets=[workload("a", ready=1), workload("z")]), NOW)
    assert [(r["name"], r["ready"], bool(r["why"])) for r in rows] == [("a", 1, False), ("z", 0, True)]


def owned(*uids: str, **meta: Any) -> dict[str, Any]:
    return {"ownerReferences": [{"uid": uid} for uid in uids], **meta}


def deployed(pods: list[dict[str, Any]]) -> list[Unready]:
    """The verdict on a Deployment of revision 3, with one ReplicaSet for each revision."""
    thing = workload("opa")
    thing["metadata"] |= {"uid": "opa", "annotations": {REVISION: "3"}}
    sets = [{"metadata": owned("opa", uid=f"rs-{n}", annotations={REVISION: str(n)})} for n in (2, 3)]
    return judge(seen(deployments=[thing], replicasets=sets, pods=pods), NOW)


def test_a_deployments_pod_of_the_revision_before_ends_nothing_and_one_of_its_own_does() -> None:
    old, new = (pod(f"opa-{n}", waiting("ImagePullBackOff")) for n in (2, 3))
    old["metadata"] |= owned("rs-2")
    new["metadata"] |= owned("rs-3")
    found = one(deployed([old]))
    assert (found.code, "(of the revision before)" in found.why) == ("", True)
    found = one(deployed([old, new]))
    assert (found.code, found.pod) == ("SFM-IMG-005", "opa-3")


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"podManagementPolicy": "Parallel"}, ""),
        ({}, "SFM-IMG-005"),  # in order: the controller first waits for the pod that never will be ready
        ({"podManagementPolicy": "Parallel", "updateStrategy": {"type": "OnDelete"}}, "SFM-IMG-005"),
    ],
)
def test_a_statefulsets_pod_of_the_revision_before_ends_nothing_where_it_is_replaced(
    spec: dict[str, Any], code: str
) -> None:
    kafka = workload("kafka", **spec)
    kafka["status"]["updateRevision"] = "kafka-new"
    old = pod("kafka-0", waiting("ImagePullBackOff"), labels={"controller-revision-hash": "kafka-old"})
    assert one(judge(seen(statefulsets=[kafka], pods=[old]), NOW)).code == code
    old["metadata"]["labels"]["controller-revision-hash"] = "kafka-new"
    assert one(judge(seen(statefulsets=[kafka], pods=[old]), NOW)).code == "SFM-IMG-005"


def test_a_change_that_the_controller_has_not_seen_yet_is_not_judged_by_the_pods_before_it() -> None:
    kafka = workload("kafka")
    kafka["status"]["observedGeneration"] = 1
    assert one(judge(seen(statefulsets=[kafka], pods=[pod("kafka-0", waiting("ImagePullBackOff"))]), NOW)).code == ""


def test_a_refusal_before_the_last_change_is_no_refusal_of_it() -> None:
    event = {"metadata": {}, "reason": "FailedCreate", "lastTimestamp": "2026-05-05T05:05:05Z", "message": "forbidden",
             "involvedObject": {"kind": "StatefulSet", "name": "opa"}}  # fmt: skip
    thing = workload("opa")
    thing["metadata"]["managedFields"] = [{"time": "2026-05-05T05:05:04Z"}]
    assert one(judge(seen(statefulsets=[thing], events=[event]), NOW)).code == "SFM-K8S-012"
    thing["metadata"]["managedFields"] += [{"time": "2026-05-05T05:05:06Z"}]
    assert one(judge(seen(statefulsets=[thing], events=[event]), NOW)).code == ""


def test_what_is_known_has_no_code_and_does_not_hide_what_is_not() -> None:
    broken = [pod(f"kafka-{n}", waiting("ImagePullBackOff"), uid=f"pod-{n}") for n in (0, 1)]
    failed = job("setup", {"type": "Failed", "status": "True"}, uid="job")
    scene = seen(statefulsets=[workload("kafka", replicas=2)], pods=broken, jobs=[failed])
    known = frozenset({"pod-0", "job"})
    assert [(u.name, u.code, u.pod) for u in judge(scene, NOW, known)] == [
        ("kafka", "SFM-IMG-005", "kafka-1"), ("setup", "", "")
    ]  # fmt: skip
    assert {u.code for u in judge(scene, NOW, known | {marks(broken[1])[1]})} == {""}


@pytest.mark.parametrize(("reason", "names"), [("CrashLoopBackOff", ["kafka"]), ("ImagePullBackOff", [])])
def test_the_row_leaves_a_workload_that_crashes_to_its_servers_own_row(
    tmp_path: Path, reason: str, names: list[str]
) -> None:
    crash = waiting(reason, restarts=9, terminated={"exitCode": 1})
    with serving(tmp_path / "kubeconfig", "kind-soma") as api:
        api.put("/apis/apps/v1/namespaces/soma-infra/statefulsets", workload("kafka"))
        api.put("/api/v1/namespaces/soma-infra/pods", pod("kafka-0", crash))
        with probing(Target(kubeconfig=tmp_path / "kubeconfig")) as probe:
            assert probe_ready(probe, {})[2] in ("SFM-K8S-009", "SFM-IMG-005")
            assert probe.kept[UNREADY] == names
