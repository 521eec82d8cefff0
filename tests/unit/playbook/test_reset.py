"""Reset: what keeps a namespace from going is named, whatever else of the cluster is ill.

A real HTTP server has the objects.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from playbook.actions.kube import delete_namespace
from playbook.engine import Hands
from playbook.facts import Observer
from playbook.load import packaged
from playbook.shell import Shell
from playbook.target import Target
from playbook.trouble import Trouble
from testing.api import Api, serving

MAPS = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": ["list", "delete"]}]}
METRICS = {"preferredVersion": {"groupVersion": "metrics.k8s.io/v1beta1"}}
DISCOVERY = {"type": "NamespaceDeletionDiscoveryFailure", "status": "True", "message": "metrics.k8s.io/v1beta1: stale"}
NAMESPACE = {"metadata": {"name": "soma-infra"}, "status": {"phase": "Terminating", "conditions": [DISCOVERY]}}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A namespace that waits for an aggregated API whose server is dead."""
    with serving(tmp_path / "kubeconfig", "kind-soma") as server:
        server.objects = {"/api/v1": MAPS, "/apis": {"groups": [METRICS]}, "/api/v1/namespaces/soma-infra": NAMESPACE}
        server.ill = {"/apis/metrics.k8s.io/v1beta1": 503}
        yield server


@pytest.fixture
def hands(api: Api, tmp_path: Path) -> Iterator[Hands]:
    aim = Target(kubeconfig=tmp_path / "kubeconfig", state=tmp_path, gone_wait_s=0)
    made = Hands(aim, packaged(), Observer(aim, packaged()), Shell(), time.monotonic() + 60, lambda text: None)
    yield made
    made.forget()


def test_an_api_that_is_not_served_is_named_as_what_keeps_the_namespace(hands: Hands) -> None:
    with pytest.raises(Trouble) as caught:
        delete_namespace(hands, {})
    assert caught.value.code == "SFM-K8S-006"
    assert caught.value.why.splitlines() == [
        "APIService v1beta1.metrics.k8s.io is not served",
        "NamespaceDeletionDiscoveryFailure: metrics.k8s.io/v1beta1: stale",
    ]
    assert caught.value.next_step.startswith("kubectl delete apiservice v1beta1.metrics.k8s.io (or ")
    assert caught.value.next_step.endswith("then sfmctl reset")


def test_objects_with_finalizers_are_named_beside_an_api_that_is_not_served(api: Api, hands: Hands) -> None:
    held = {"metadata": {"name": "stuck", "finalizers": ["soma.sh/never"]}}
    api.put("/api/v1/namespaces/soma-infra/configmaps", held)
    with pytest.raises(Trouble) as caught:
        delete_namespace(hands, {})
    assert caught.value.why.splitlines() == [
        "ConfigMap stuck (finalizers: soma.sh/never)",
        "APIService v1beta1.metrics.k8s.io is not served",
    ]
    assert caught.value.next_step.endswith("then sfmctl reset --force-finalizers")
