"""How a check asks a server of the shared infrastructure: its pods, a command inside one, a forwarded port.

Everything goes through the API server, from the operator's machine. What the release does not have is told apart from
what is down.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playbook import reach
from playbook.check import Probe, Verdicts
from playbook.kube import Json
from playbook.model import Status
from playbook.trouble import Unknown
from playbook.tunnel import Way, tunnel


def component(probe: Probe, name: str) -> list[Json]:
    """The pods of one component, by name; [] when the release does not have it."""
    selector = f"app.kubernetes.io/name={name},app.kubernetes.io/instance={probe.target.release}"
    pods = probe.seen.reader.items(f"/api/v1/namespaces/{probe.target.namespace}/pods", labelSelector=selector)
    return sorted((p for p in pods if not p["metadata"].get("deletionTimestamp")), key=lambda p: p["metadata"]["name"])


def wanted_replicas(probe: Probe, name: str, kind: str = "statefulsets") -> int | None:
    """How many pods a component should have; None when the release does not have it."""
    target = probe.target
    path = f"/apis/apps/v1/namespaces/{target.namespace}/{kind}/{target.release}-{name}"
    found = probe.seen.reader.get(path)
    return int(found["spec"].get("replicas", 1)) if found else None


def absent(name: str) -> Verdicts:
    """The verdict on a component that this release does not run."""
    return Status.SKIP, f"the release has no {name} (switched off, or an external service is used)"


def run_in(probe: Probe, pod: str, container: str, script: str, timeout_s: float = 15.0) -> reach.Answer:
    """Run a shell script inside a pod of the infra namespace."""
    target = probe.target
    return reach.inside(target.context, target.kubeconfig, target.namespace, pod, container, ["sh", "-c", script],
                        timeout_s=timeout_s)  # fmt: skip


@contextmanager
def forwarded(probe: Probe, pod: str, port: int) -> Iterator[int]:
    """A pod's port on 127.0.0.1."""
    target = probe.target
    with tunnel(Way(target.context, target.kubeconfig, target.namespace), pod, port) as local:
        yield local


def http(probe: Probe, pod: str, port: int, path: str) -> tuple[int, str]:
    """GET a path of a pod; status and body. Unknown when no connection comes about."""
    import urllib3

    with forwarded(probe, pod, port) as local, urllib3.PoolManager(retries=False) as pool:
        try:
            answer = pool.request("GET", f"http://127.0.0.1:{local}{path}", timeout=8.0)
        except urllib3.exceptions.HTTPError as error:
            raise Unknown("SFM-K8S-017", f"{pod}:{port} does not answer", why=str(error)[:200]) from error
        return answer.status, answer.data.decode(errors="replace")
