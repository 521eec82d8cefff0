"""What the commands about one application see of a cluster, and what they refuse."""

import json

import pytest

from playbook.actions.kube import namespace_labels
from playbook.model import Status
from playbook.target import ADMITS, Target
from playbook.trouble import Trouble
from playbook.wiring import checks
from playbook.wiring.application import application
from sfmctl import app
from sfmctl.playrun import probing
from testing.api import serving
from tests.unit.wiring.conftest import DEV

CONFIG_MAPS = "/api/v1/namespaces/soma-infra/configmaps"


@pytest.fixture
def cluster(tmp_path):
    """A cluster in mode dev, as far as its endpoints tell; and its kubeconfig."""
    kubeconfig = tmp_path / "kubeconfig"
    with serving(kubeconfig, "prod-eu") as api:
        api.put(CONFIG_MAPS, {"metadata": {"name": "sharedinfra-endpoints"}, "data": DEV})
        yield api, kubeconfig


def test_topics_of_another_environment_than_the_clusters_are_not_planned(cluster, capsys):
    _, kubeconfig = cluster
    asked = ["topics", "plan", "shop", "--env", "prod", "--context", "prod-eu", "--kubeconfig", str(kubeconfig)]
    assert app.run([*asked, "-o", "json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["message"]) == ("SFM-APP-006", "the shared infrastructure here is dev, not prod")


@pytest.mark.parametrize(("env", "first"), [("staging", "fail"), ("dev", "pass")])
def test_verify_of_another_environment_than_the_clusters_is_one_red_row(cluster, capsys, env, first):
    api, kubeconfig = cluster
    api.objects["/version"] = {"gitVersion": "v1.31.0"}
    labels = namespace_labels(Target()) | {"kubernetes.io/metadata.name": "soma-infra"}
    infra = {"metadata": {"name": "soma-infra", "labels": labels}, "status": {"phase": "Active"}}
    shop = {"metadata": {"name": "shop", "labels": {ADMITS: "true"}}, "status": {"phase": "Active"}}
    api.put("/api/v1/namespaces", infra, shop)
    asked = ["verify", "shop", "--env", env, "--context", "prod-eu", "--kubeconfig", str(kubeconfig)]
    app.run([*asked, "--only", "app.pods", "-o", "json"])
    found = {c["id"]: c for c in json.loads(capsys.readouterr().out)["checks"]}
    assert found["app.env"]["status"] == first
    if first == "fail":
        assert [found[name]["observed"] for name in ("app.namespace", "app.pods")] == ["because of app.env"] * 2
        assert found["app.env"]["hint"] == (
            f"SFM-APP-006: sfmctl verify shop --env dev --context prod-eu --kubeconfig {kubeconfig}"
        )
    else:
        assert [found[name]["status"] for name in ("app.namespace", "app.pods")] == ["pass", "pass"]


def test_a_namespace_that_waits_for_a_dead_api_is_told_so_with_the_way_out(cluster):
    api, kubeconfig = cluster
    metrics = {"preferredVersion": {"groupVersion": "metrics.k8s.io/v1beta1"}}
    maps = {"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["list", "delete"]}
    api.objects |= {"/api/v1": {"resources": [maps]}, "/apis": {"groups": [metrics]}}
    api.ill = {"/apis/metrics.k8s.io/v1beta1": 503}
    api.put("/api/v1/namespaces", {"metadata": {"name": "shop"}, "status": {"phase": "Terminating"}})
    api.put(f"{SHOP}/configmaps", {"metadata": {"name": "kept", "finalizers": ["soma.sh/never"]}})
    status, observed, code, mend = verdict(kubeconfig, checks.namespace)
    assert (status, code) == (Status.FAIL, "SFM-APP-015")
    assert observed.endswith(
        "held by ConfigMap kept (finalizers: soma.sh/never); APIService v1beta1.metrics.k8s.io is not served"
    )
    first, second, _ = mend.split(", then ", 2)
    assert first.startswith("kubectl delete apiservice v1beta1.metrics.k8s.io (")
    assert second.startswith("kubectl -n shop patch ")


@pytest.mark.parametrize("more", [[], ["--delete-data"]])
def test_an_application_of_another_environment_than_the_clusters_is_not_unwired(cluster, capsys, more):
    api, kubeconfig = cluster
    api.objects["/version"] = {"gitVersion": "v1.31.0"}
    api.put("/api/v1/namespaces", {"metadata": {"name": "kube-system", "uid": "one"}})
    aim = ["--env", "prod", "--context", "prod-eu", "--kubeconfig", str(kubeconfig), "--allow-context", "prod-eu"]
    assert app.run(["app", "unwire", "shop", *aim, *more, "--yes", "-o", "json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["why"]) == (
        "SFM-APP-006", "app.env.unfit is the shared infrastructure here is dev, not prod"
    )  # fmt: skip
    assert {method for method, *_ in api.asked} == {"GET"}


def verdict(kubeconfig, row=checks.pods):
    """What a row about the application says."""
    aim = Target(context="prod-eu", kubeconfig=kubeconfig, app=application("shop", "dev"))
    with probing(aim) as probe:
        return row(probe, {})


def deployment(*, wanted, ready):
    labels = {"matchLabels": {"app": "web"}}
    status = {"observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": ready, "replicas": ready}
    return {"metadata": {"name": "web", "generation": 1}, "spec": {"replicas": wanted, "selector": labels},
            "status": status}  # fmt: skip


def pod(name):
    return {"metadata": {"name": name, "labels": {"app": "web"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}  # fmt: skip


REFUSED = {"metadata": {"name": "web.1"}, "reason": "FailedCreate", "message": "exceeded quota: pods",
           "involvedObject": {"kind": "ReplicaSet", "name": "web-5d9"}}  # fmt: skip
DEPLOYMENTS, SHOP = "/apis/apps/v1/namespaces/shop/deployments", "/api/v1/namespaces/shop"


@pytest.mark.parametrize("running", [0, 1])
def test_a_workload_whose_pods_are_refused_is_red_with_and_without_others(cluster, running):
    api, kubeconfig = cluster
    api.put(DEPLOYMENTS, deployment(wanted=2, ready=running))
    api.put(f"{SHOP}/pods", *(pod(f"web-{n}") for n in range(running)))
    api.put(f"{SHOP}/events", REFUSED)
    status, observed, code, mend = verdict(kubeconfig)
    assert (status, code) == (Status.FAIL, "SFM-K8S-012")
    assert observed == f"Deployment web {running}/2: exceeded quota: pods"
    assert mend.startswith("kubectl -n shop get events ")


def test_a_workload_without_its_pods_is_red_before_anything_says_why(cluster):
    api, kubeconfig = cluster
    api.put(DEPLOYMENTS, deployment(wanted=2, ready=0))
    assert verdict(kubeconfig)[2:] == ("SFM-K8S-015", "kubectl -n shop rollout status deployment/web --timeout=120s")


def test_an_application_that_is_wired_and_not_yet_deployed_is_green(cluster):
    api, kubeconfig = cluster
    assert verdict(kubeconfig)[0] is Status.PASS
    api.put(DEPLOYMENTS, deployment(wanted=0, ready=0))
    assert verdict(kubeconfig)[0] is Status.PASS
    api.put(DEPLOYMENTS, deployment(wanted=1, ready=1))
    api.put(f"{SHOP}/pods", pod("web-0"))
    assert verdict(kubeconfig) == (Status.PASS, "1 ready, none restarted lately")


def test_a_pod_of_the_revision_before_on_its_way_out_is_not_the_applications(cluster):
    api, kubeconfig = cluster
    api.put(DEPLOYMENTS, deployment(wanted=1, ready=1))
    gone = {"metadata": {"name": "web-old", "labels": {"app": "web"}, "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}}  # fmt: skip
    api.put(f"{SHOP}/pods", pod("web-0"), gone)
    assert verdict(kubeconfig) == (Status.PASS, "1 ready, none restarted lately")


def failed_pod(name, kind, owner):
    """A pod that was evicted, or ended with an error, and is kept."""
    owners = [{"kind": kind, "name": owner}] if kind else []
    status = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    return {"metadata": {"name": name, "labels": {"app": "web"}, "ownerReferences": owners}, "status": status}


def job(name, made, *, failed, cron=""):
    owners = [{"kind": "CronJob", "name": cron}] if cron else []
    meta = {"name": name, "creationTimestamp": made, "ownerReferences": owners}
    condition = {"type": "Failed" if failed else "Complete", "status": "True"}
    return {"metadata": meta, "spec": {}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("kind", "owner"), [("ReplicaSet", "web-5d9"), ("StatefulSet", "web"), ("DaemonSet", "web"), ("Job", "nightly-1")]
)
def test_a_failed_pod_that_was_replaced_does_not_make_a_healthy_application_red(cluster, kind, owner):
    api, kubeconfig = cluster
    api.put(DEPLOYMENTS, deployment(wanted=1, ready=1))
    api.put(f"{SHOP}/pods", pod("web-0"), failed_pod("web-old", kind, owner))
    assert verdict(kubeconfig) == (Status.PASS, "1 ready, none restarted lately")


def test_a_failed_pod_that_nobody_replaces_is_red(cluster):
    api, kubeconfig = cluster
    api.put(f"{SHOP}/pods", failed_pod("alone", "", ""))
    status, observed, *_ = verdict(kubeconfig)
    assert (status, observed) == (Status.FAIL, "alone failed: The node was low on resource: memory.")


JOBS = "/apis/batch/v1/namespaces/shop/jobs"


def test_of_a_cronjob_the_last_run_alone_counts_and_only_warns(cluster):
    api, kubeconfig = cluster
    runs = [job("nightly-1", "2026-01-01T00:00:00Z", failed=True, cron="nightly"),
            job("nightly-2", "2026-01-02T00:00:00Z", failed=False, cron="nightly")]  # fmt: skip
    api.put(JOBS, *runs)
    assert verdict(kubeconfig)[0] is Status.PASS
    api.put(JOBS, job("nightly-3", "2026-01-03T00:00:00Z", failed=True, cron="nightly"))
    status, observed, code, mend = verdict(kubeconfig)
    assert (status, code) == (Status.WARN, "SFM-K8S-011")
    assert observed == "the last run of CronJob nightly, nightly-3, failed"
    assert mend.startswith("kubectl -n shop logs job/nightly-3 ")


def test_a_job_of_its_own_that_failed_is_red_until_it_is_taken_away(cluster):
    api, kubeconfig = cluster
    api.put(JOBS, job("migrate", "2026-01-01T00:00:00Z", failed=True))
    status, observed, code, mend = verdict(kubeconfig)
    assert (status, observed, code) == (Status.FAIL, "Job migrate failed", "SFM-K8S-011")
    assert mend.endswith(", then kubectl -n shop delete job migrate")


def test_a_job_that_could_not_be_made_is_not_made_again_for_each_row(cluster):
    api, kubeconfig = cluster
    api.answer = (403, {"message": "forbidden"})
    aim = Target(context="prod-eu", kubeconfig=kubeconfig, app=application("shop", "dev"))
    with probing(aim) as probe:
        for ask in ("vault", "redis"):
            with pytest.raises(Trouble, match="SFM-K8S-003"):
                checks.found_inside(probe, {"ask": ask})
    assert [method for method, *_ in api.asked if method == "PATCH"] == ["PATCH"]
