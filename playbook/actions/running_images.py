"""Whether pods run the build of an image that their node has: one that is loaded anew under its tag restarts none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from playbook.actions.image_names import canonical
from playbook.actions.images import node_names, on_node
from playbook.check import Probe, Verdicts
from playbook.kube import Json
from playbook.model import Status


def image_id(said: str, have: Mapping[str, str]) -> str:
    """The id of what a container runs, from the kubelet's words: an id, or a digest that its node knows; else empty."""
    return said if said.startswith("sha256:") else have.get(canonical(said), "") if said else ""


def older(pods: Iterable[Json], have: Mapping[str, Mapping[str, str]]) -> list[tuple[Json, str]]:
    """(pod, image) where another build runs than the pod's node has under that name; `have` is by node.

    What cannot be told apart for certain is none.
    """
    found = []
    for pod in pods:
        there = have.get(pod["spec"].get("nodeName", ""), {})
        wanted = {one["name"]: str(one["image"]) for one in pod["spec"]["containers"]}
        for status in pod.get("status", {}).get("containerStatuses", []):
            runs = image_id(str(status.get("imageID") or ""), there)
            ref = wanted.get(status["name"], "")
            if runs and there.get(canonical(ref), runs) != runs:
                found.append((pod, ref))
    return found


def restarted_by(pod: Json) -> str:
    """What kubectl restarts to have the pod made anew; empty for one that nobody makes anew."""
    for owner in pod["metadata"].get("ownerReferences", []):
        if owner["kind"] == "ReplicaSet":
            return f"deployment/{owner['name'].rpartition('-')[0]}"
        if owner["kind"] in ("StatefulSet", "DaemonSet"):
            return f"{owner['kind'].lower()}/{owner['name']}"
    return ""


def probe(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether every pod runs what its node has; only kind nodes can be asked."""
    if not probe.target.is_kind:
        return Status.SKIP, "the nodes of this cluster pull by themselves"
    namespace = probe.target.namespace
    pods = probe.seen.reader.items(f"/api/v1/namespaces/{namespace}/pods")
    shell = probe.seen.shell
    found = older(pods, {node: on_node(shell, node) for node in node_names(shell, probe.target.cluster)})
    if not found:
        return Status.PASS, f"{len(pods)} pods run what their nodes have"
    observed = "; ".join(f"{pod['metadata']['name']} runs an older build of {ref}" for pod, ref in found[:5])
    makers = " ".join(sorted({restarted_by(pod) for pod, _ in found} - {""}))
    mend = f"kubectl -n {namespace} rollout restart {makers}" if makers else ""
    return Status.WARN, observed, "SFM-IMG-007", mend
