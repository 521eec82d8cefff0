"""A Job that is waited for: its time begins when its container runs, and what holds it up is told."""

import math
import time
from collections.abc import Iterator

import pytest

from playbook.kube import Writer
from playbook.target import Target
from playbook.trouble import Trouble, Unknown
from playbook.wiring import cluster, job, probe_job
from playbook.wiring.application import application
from playbook.wiring.job import Job, Late
from playbook.wiring.reach import Reach
from testing.api import Api, serving

SPACE = "/api/v1/namespaces/shop"
ONE = Job("sfmctl-verify-1", "shop", "playbook.incluster.app_probe", {}, run_s=0, kept_s=60)
WHAT = "the Job"


@pytest.fixture
def api(tmp_path) -> Iterator[Api]:
    with serving(tmp_path / "kubeconfig", "kind-soma") as server:
        server.put("/apis/batch/v1/namespaces/shop/jobs", {"metadata": {"name": ONE.name}, "status": {}})
        yield server


@pytest.fixture
def writer(api: Api, tmp_path) -> Iterator[Writer]:
    made = Writer("kind-soma", tmp_path / "kubeconfig")
    yield made
    made.close()


def pod(api: Api, phase: str, **status) -> None:
    """The Job's pod."""
    found = {"metadata": {"name": "p", "labels": {"job-name": ONE.name}}, "status": {"phase": phase, **status}}
    api.put(f"{SPACE}/pods", found)


def warning(api: Api, about: str, reason: str, message: str) -> None:
    """An event of the cluster."""
    body = {"metadata": {"name": reason}, "reason": reason, "message": message, "involvedObject": {"name": about}}
    api.put(f"{SPACE}/events", body)


def said(writer: Writer, left_s: float = math.inf) -> str:
    return job.said(writer, ONE, lambda: left_s, WHAT)


def test_its_own_time_begins_when_its_container_runs(api, writer, monkeypatch):
    monkeypatch.setattr(job, "PAUSE_S", 0.01)
    waits = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    pod(api, "Pending", containerStatuses=[waits])  # its image is being pulled, and its own time is 0 s
    ends = time.monotonic() + 1.2
    with pytest.raises(Late, match="did not start in time") as pulling:
        job.said(writer, ONE, lambda: ends - time.monotonic(), WHAT)
    assert pulling.value.why == "ContainerCreating"
    pod(api, "Running")
    with pytest.raises(Late, match="did not end within 0 s"):
        said(writer)


def test_the_time_until_it_runs_has_a_bound_of_its_own_and_says_what_it_waits_for(api, writer, monkeypatch):
    monkeypatch.setattr(job, "START_S", -1)
    pod(api, "Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}])
    warning(api, "p", "FailedScheduling", "Insufficient cpu")
    with pytest.raises(Late) as late:
        said(writer)
    assert late.value.why == "not placed: 0/3 nodes are available; FailedScheduling: Insufficient cpu"
    assert any("involvedObject.name%3Dp%2Ctype%3DWarning" in path for _, path, _ in api.asked)


def test_a_pod_that_the_cluster_refuses_is_told_with_what_refuses_it(api, writer, monkeypatch):
    monkeypatch.setattr(job, "REFUSED_S", -1)
    warning(api, ONE.name, "FailedCreate", "pods is forbidden: exceeded quota: small")
    with pytest.raises(Trouble) as refused:
        said(writer)
    assert (refused.value.code, refused.value.why) == (
        "SFM-APP-009", "FailedCreate: pods is forbidden: exceeded quota: small",
    )  # fmt: skip
    assert "kubectl -n shop get events" in refused.value.next_step


def test_an_image_that_cannot_be_pulled_is_told_at_once(api, writer):
    waits = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    pod(api, "Pending", containerStatuses=[waits])
    with pytest.raises(Trouble) as stuck:
        said(writer)
    assert (stuck.value.code, stuck.value.why) == ("SFM-APP-009", "ImagePullBackOff: no such image")


def test_a_job_that_the_cluster_ended_says_so(api, writer):
    ended = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "was active too long"}
    api.put("/apis/batch/v1/namespaces/shop/jobs", {"metadata": {"name": ONE.name}, "status": {"conditions": [ended]}})
    with pytest.raises(Late, match="was ended by the cluster") as late:
        said(writer)
    assert late.value.why == "was active too long"


def test_the_log_is_that_of_our_container_and_a_pod_without_one_says_why_it_failed(api, writer):
    pod(api, "Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert said(writer) == "Failed: Evicted: The node was low on resource: memory."
    api.objects[f"{SPACE}/pods/p/log"] = {"asked_ms": 5}
    assert said(writer) == '{"asked_ms": 5}'
    assert any(path == f"{SPACE}/pods/p/log?container=sfmctl" for _, path, _ in api.asked)
    api.refused.add(f"{SPACE}/pods/p/log")  # which says nothing about the Job
    with pytest.raises(Unknown) as refused:
        said(writer)
    assert refused.value.code == "SFM-K8S-003"


def test_the_paths_that_have_to_be_denied_are_those_of_the_applications_that_are_there(api, writer):
    def wired(name: str, by: str = "sfmctl") -> dict:
        marks = {"app.kubernetes.io/managed-by": by, "app.kubernetes.io/part-of": name}
        return {"metadata": {"name": f"of-{name}", "labels": marks}}

    api.put("/api/v1/configmaps", wired("shop"), wired("orders"), wired("billing"), wired("../x"), wired("x", "Helm"))
    shop = application("shop", "dev")
    assert cluster.wired(writer, besides=shop) == ["billing", "orders"]
    api.refused.add("/api/v1/configmaps")  # a pipeline that may look into its own namespace alone
    assert probe_job.neighbours(Reach(Target(app=shop), writer)) == []
