"""What a cluster lacks for the charts: a real HTTP server has its nodes, and helm renders what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from playbook.actions import chart
from playbook.actions.kube import fit
from playbook.kube import Reader
from playbook.shell import ReadShell
from playbook.target import Target, find_infra
from testing.api import Api, serving

NEEDS: dict[str, Any] = {"classes": [], "requests": {"memory_gib": 3, "cpus": 2}, "apart": {"sharedinfra-postgres": 3}}
CORDONED = {"unschedulable": True, "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}


def tainted(key: str, effect: str = "NoSchedule") -> dict[str, Any]:
    return {"taints": [{"key": key, "effect": effect}]}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path / "kubeconfig", "kind-soma") as server:
        yield server


def lacking(api: Api, tmp_path: Path, *specs: dict[str, Any], needs: dict[str, Any] = NEEDS) -> list[str]:
    """What a cluster whose nodes have these specifications, and 1 GiB and one processor each, lacks."""
    nodes = [
        {"metadata": {"name": f"node-{n}"}, "spec": spec, "status": {"allocatable": {"memory": "1Gi", "cpu": "1"}}}
        for n, spec in enumerate(specs)
    ]
    api.put("/api/v1/nodes", *nodes)
    reader = Reader("kind-soma", tmp_path / "kubeconfig")
    try:
        return fit(reader, needs)["fit.capacity"]
    finally:
        reader.close()


def test_replicas_that_never_share_a_node_need_as_many(api: Api, tmp_path: Path) -> None:
    assert lacking(api, tmp_path, {}, {}, {}) == []
    needs = NEEDS | {"requests": {"memory_gib": 1, "cpus": 1}}
    api.objects.clear()
    assert lacking(api, tmp_path, {}, {}, needs=needs) == [
        "the 3 replicas of sharedinfra-postgres never share a node, and 2 of 2 nodes take pods"
    ]
    assert lacking(api, tmp_path, {}, {}, needs=needs | {"apart": {}}) == []


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (CORDONED, "it is cordoned"),
        (tainted("node-role.kubernetes.io/control-plane"), "it has the taint node-role.kubernetes.io/control-plane"),
        (tainted("ours/alone", "NoExecute"), "it has the taint ours/alone"),
    ],
)
def test_a_node_that_takes_no_pods_is_no_room_and_is_named(
    spec: dict[str, Any], why: str, api: Api, tmp_path: Path
) -> None:
    assert lacking(api, tmp_path, {}, {}, spec) == [
        "3 GiB of memory are asked for, the nodes have 2.0",
        "the 3 replicas of sharedinfra-postgres never share a node, and 2 of 3 nodes take pods",
        f"node-2 takes no pods: {why}",
    ]


@pytest.mark.parametrize(
    "spec", [tainted("a/b", "PreferNoSchedule"), tainted("node.kubernetes.io/not-ready", "NoExecute")]
)
def test_a_taint_that_is_a_wish_or_passes_closes_no_node(spec: dict[str, Any], api: Api, tmp_path: Path) -> None:
    assert lacking(api, tmp_path, {}, {}, spec) == []


@pytest.mark.usefixtures("helm")
def test_the_mode_says_which_replicas_never_share_a_node(tmp_path: Path) -> None:
    def apart(mode: str) -> dict[str, int]:
        aim = Target(mode=mode, infra=find_infra(None), cache=tmp_path)
        return dict(chart.chart_needs(aim, ReadShell())["apart"])

    assert apart("prod")["sharedinfra-postgres"] == 3
    assert apart("prod")["sharedinfra-opa"] == 2
    assert apart("dev") == {}
