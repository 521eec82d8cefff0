"""Workloads, pods and Jobs as API servers give them, cut to what is read."""

from __future__ import annotations

from typing import Any

from playbook.actions.workloads import Scene

NOW = 1_790_000_000.0
LONG_AGO = "2026-01-01T00:00:00Z"


def pod(
    name: str, *statuses: dict[str, Any], phase: str = "Running", ready: bool = False, **more: Any
) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}, *more.pop("conditions", [])]
    status = {"phase": phase, "conditions": conditions, "containerStatuses": list(statuses), "startTime": LONG_AGO}
    labels = {"app": name.rsplit("-", 1)[0], **more.pop("labels", {})}
    meta = {"name": name, "labels": labels, "creationTimestamp": LONG_AGO, "uid": more.pop("uid", f"uid of {name}")}
    return {"metadata": meta, "status": status | more}


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
