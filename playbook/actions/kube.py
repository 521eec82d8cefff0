"""What is done to the cluster through its API: namespaces and nodes, and naming exactly what blocks a deletion."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from playbook.check import Probe, Verdicts
from playbook.kube import Json, Reader
from playbook.model import Status
from playbook.target import Target
from playbook.trouble import Trouble

if TYPE_CHECKING:
    from playbook.engine import Hands

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
SETTLE_S = 5.0
"""How long a deletion may run before what still has finalizers is called a blocker."""
PASSING_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""Taints that say how a node is at the moment: its conditions say the same."""
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


def namespace_labels(target: Target) -> dict[str, str]:
    """The labels that the infra namespace carries (infra/helm/namespace.yaml)."""
    path = target.infra / "helm" / "namespace.yaml"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Trouble("SFM-CLI-021", f"{path} cannot be read", why=str(error)) from error
    return dict(found["metadata"]["labels"])


def gib(quantity: str) -> float:
    """A memory quantity of Kubernetes in GiB."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9}
    for unit, size in units.items():
        if quantity.endswith(unit):
            return float(quantity[: -len(unit)]) * size / 2**30
    return float(quantity) / 2**30


def processors(quantity: str) -> float:
    """A processor quantity of Kubernetes as a number: `250m` is a quarter."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def fit(reader: Reader, needs: Json) -> dict[str, list[str]]:
    """What the chart needs and the cluster lacks: storage classes by name, and room."""
    classes = reader.items("/apis/storage.k8s.io/v1/storageclasses")
    have = {c["metadata"]["name"] for c in classes}
    defaults = [c for c in classes if c["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true"]
    missing = [name for name in needs["classes"] if name and name not in have]
    if "" in needs["classes"] and not defaults:
        missing.append("a default class")
    every = reader.items("/api/v1/nodes")
    closed = {node["metadata"]["name"]: why for node in every if (why := closed_to_pods(node))}
    nodes = [node["status"]["allocatable"] for node in every if node["metadata"]["name"] not in closed]
    room = {"memory_gib": sum(gib(n["memory"]) for n in nodes), "cpus": sum(processors(n["cpu"]) for n in nodes)}
    small = [
        f"{asked:g} {name.replace('memory_gib', 'GiB of memory').replace('cpus', 'processors')} are asked for, "
        f"the nodes have {room[name]:.1f}"
        for name, asked in needs["requests"].items()
        if asked > room[name]
    ]
    small += [
        f"the {replicas} replicas of {name} never share a node, and {len(nodes)} of {len(every)} nodes take pods"
        for name, replicas in needs["apart"].items()
        if replicas > len(nodes)
    ]
    if small:
        small += [f"{name} takes no pods: {why}" for name, why in sorted(closed.items())]
    return {"fit.storage": missing, "fit.capacity": small}


def closed_to_pods(node: Json) -> str:
    """Why a node takes none of our pods, which tolerate no taint; empty when it takes them, or will when ready."""
    if node.get("spec", {}).get("unschedulable"):
        return "it is cordoned"
    taints = [t for t in node.get("spec", {}).get("taints", []) if t["effect"] in ("NoSchedule", "NoExecute")]
    lasting = [t["key"] for t in taints if not t["key"].startswith(PASSING_TAINTS)]
    return f"it has the taint {lasting[0]}" if lasting else ""


def node_facts(reader: Reader) -> dict[str, Any]:
    """The nodes, and which are not ready or under pressure."""
    unready, names = [], []
    for node in reader.items("/api/v1/nodes"):
        name = node["metadata"]["name"]
        names.append(name)
        conditions = {c["type"]: c for c in node["status"].get("conditions", [])}
        if conditions.get("Ready", {}).get("status") != "True":
            unready.append(f"{name} is not ready: {conditions.get('Ready', {}).get('message', 'no status yet')}")
        unready += [f"{name} has {kind}" for kind in PRESSURES if conditions.get(kind, {}).get("status") == "True"]
    if not names:
        unready.append("no node has joined yet")
    return {"nodes.unready": unready, "nodes.names": names}


def ensure_namespace(hands: Hands, params: Mapping[str, Any]) -> str:
    """Make the infra namespace, or give it the labels that it lacks."""
    name = hands.target.namespace
    labels = namespace_labels(hands.target)
    hands.api.apply(
        f"/api/v1/namespaces/{name}",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
    )
    return f"namespace {name} with {len(labels)} labels"


@dataclass(frozen=True, slots=True)
class Blocker:
    """One object that keeps a namespace from going, with the finalizers that it waits for."""

    path: str
    kind: str
    name: str
    finalizers: tuple[str, ...]

    @property
    def resource(self) -> str:
        """The object as kubectl takes it: `configmaps/name`, `widgets.example.com/name`."""
        parts = self.path.strip("/").split("/")
        group = f".{parts[1]}" if parts[0] == "apis" else ""
        return f"{parts[-2]}{group}/{parts[-1]}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name} (finalizers: {', '.join(self.finalizers) or 'none'})"


def blockers(reader: Reader, namespace: str, unserved: list[str]) -> list[Blocker]:
    """Every object in `namespace`, of whatever kind, that has finalizers: these can keep it Terminating.

    So can an API that is not served, whose objects nobody can list: it is named in `unserved`.
    """
    return sorted(_blockers(reader, namespace, unserved), key=lambda b: (b.kind, b.name))


def _blockers(reader: Reader, namespace: str, unserved: list[str]) -> Iterator[Blocker]:
    for path, resource in reader.kinds(unserved):
        if not resource.get("namespaced") or not {"list", "delete"} <= set(resource.get("verbs", [])):
            continue
        collection = f"{path}/namespaces/{namespace}/{resource['name']}"
        for item in reader.items(collection):
            meta = item["metadata"]
            if meta.get("finalizers"):
                yield Blocker(f"{collection}/{meta['name']}", resource["kind"], meta["name"], tuple(meta["finalizers"]))


def api_service(version: str) -> str:
    """The name of the APIService of a group version: `v1beta1.metrics.k8s.io` of `metrics.k8s.io/v1beta1`."""
    group, _, name = version.partition("/")
    return f"{name}.{group}"


def namespace_words(namespace: Json) -> list[str]:
    """What the namespace's own conditions say about a deletion that does not end."""
    return [
        f"{c['type']}: {c['message']}"
        for c in namespace.get("status", {}).get("conditions", [])
        if c.get("status") == "True" and c["type"].startswith("Namespace")
    ]


def delete_namespace(hands: Hands, params: Mapping[str, Any]) -> str:
    """Delete the infra namespace and wait; when it is stuck, name exactly what blocks it."""
    name, reader = hands.target.namespace, hands.api
    path = f"/api/v1/namespaces/{name}"
    reader.delete(path)
    until = time.monotonic() + min(hands.target.gone_wait_s, hands.left_s)
    cleared: list[Blocker] = []
    settle = time.monotonic() + SETTLE_S
    before: list[Blocker] = []
    while (found := reader.get(path)) is not None:
        hands.shell.check_cancelled()
        unserved: list[str] = []
        over = time.monotonic() > until
        stuck = blockers(reader, name, unserved) if over or time.monotonic() > settle else []
        if over:
            raise stuck_trouble(name, found, stuck, unserved)
        # Twice the same list and no pod left: then nobody is at work on them any more (a claim waits for its pod).
        if hands.target.force_finalizers and stuck and stuck == before and pods_gone(reader, name):
            for blocker in stuck:
                reader.merge(blocker.path, {"metadata": {"finalizers": None}})
            cleared += stuck
        before = stuck
        hands.tell("; ".join([*map(str, stuck), *map(not_served, unserved)]) or f"{name} is being deleted")
        time.sleep(1)
    forced = f", after clearing the finalizers of {'; '.join(str(b) for b in cleared)}" if cleared else ""
    return f"deleted the namespace {name}{forced}"


def pods_gone(reader: Reader, namespace: str) -> bool:
    """Whether no pod is left in a namespace."""
    return not reader.items(f"/api/v1/namespaces/{namespace}/pods")


def not_served(version: str) -> str:
    """An API that is listed and does not answer, in words."""
    return f"APIService {api_service(version)} is not served"


def withdraw(unserved: list[str]) -> str:
    """The command with which nothing waits any more for APIs that are not served."""
    return f"kubectl delete apiservice {' '.join(map(api_service, unserved))} (or bring back what serves it)"


def stuck_trouble(name: str, namespace: Json, stuck: list[Blocker], unserved: list[str]) -> Trouble:
    """The error that names each object and finalizer, and each API that the deletion waits for."""
    lines = [str(b) for b in stuck] + [not_served(version) for version in unserved]
    if not stuck:
        lines += namespace_words(namespace)
    own = namespace.get("spec", {}).get("finalizers") or []
    if not stuck and own:
        lines.append(f"the namespace's own finalizers: {', '.join(own)}")
    step = ""
    if unserved:
        again = "sfmctl reset --force-finalizers" if stuck else "sfmctl reset"
        step = f"{withdraw(unserved)}, then {again}"
    return Trouble("SFM-K8S-006", f"the namespace {name} is stuck in Terminating", why="\n".join(lines), next_step=step)


def probe_api(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether the API server answers."""
    return Status.PASS, probe.seen.reader.version()


def probe_nodes(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether every node is ready."""
    found = node_facts(probe.seen.reader)
    wrong = found["nodes.unready"]
    return (Status.FAIL, "; ".join(wrong)) if wrong else (Status.PASS, f"{len(found['nodes.names'])} ready")


def probe_storage(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether every storage class that a claim names is there."""
    reader = probe.seen.reader
    have = {c["metadata"]["name"] for c in reader.items("/apis/storage.k8s.io/v1/storageclasses")}
    claims = reader.items(f"/api/v1/namespaces/{probe.target.namespace}/persistentvolumeclaims")
    missing = sorted({c["spec"].get("storageClassName") or "" for c in claims} - have - {""})
    if missing:
        return Status.FAIL, f"missing: {', '.join(missing)}; there are: {', '.join(sorted(have)) or 'none'}"
    return Status.PASS, ", ".join(sorted(have)) or "none, and none is asked for"


def probe_namespace(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Whether the infra namespace is Active and labelled."""
    name = probe.target.namespace
    found = probe.seen.reader.get(f"/api/v1/namespaces/{name}")
    if found is None:
        return Status.FAIL, f"{name} is absent"
    phase, labels = found["status"]["phase"], found["metadata"].get("labels", {})
    wanted = namespace_labels(probe.target) if probe.target.infra != Path() else {}
    missing = [k for k, v in wanted.items() if labels.get(k) != v]
    if phase != "Active":
        return Status.FAIL, f"{name} is {phase}: {'; '.join(namespace_words(found))}", "SFM-K8S-006"
    return (Status.FAIL, f"lacks the labels {', '.join(missing)}") if missing else (Status.PASS, "Active, labelled")
