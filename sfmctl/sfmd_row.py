"""The daemon's row of the verification matrix: a marker stored, recalled and deleted, as a caller would.

The playbook does not know the daemon, so the command line hands it this probe. The daemon counts as deployed when the
infra namespace, or the application's, has a Service labelled `app.kubernetes.io/name=sfmd`; the Secret beside it, named
`<service>-client`, holds `token` and `ca.crt`. Rule it guards: only the scratch namespace of this check is written to.
"""

from __future__ import annotations

import base64
import math
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playbook.model import CheckSpec, Status

if TYPE_CHECKING:
    from playbook.check import Probe, Verdicts
    from playbook.kube import Json
    from sfmd.rpc.client import Client

LABEL = "app.kubernetes.io/name=sfmd"
PORT = 50053
SCRATCH = "sfmctl-verify"
DIM = 8
ROUNDS = 20
CALL_S = 3.0
P95_MS = 50.0
SPEC = CheckSpec(
    id="sfmd.round_trip", category="sfmd", title="Memory daemon", probe="sfmd.round_trip", params={},
    command="kubectl get services --all-namespaces -l app.kubernetes.io/name=sfmd",
    criterion=f"when deployed: SERVING; a marker stored, recalled and deleted, p95 under {P95_MS:g} ms",
    needs=("namespace.active",), hint="SFM-SFMD-001", timeout_s=30.0, attempts=2, only_when=(),
)  # fmt: skip


def probe(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Ask the daemon behind the first Service of its label; skipped, with the reason, where there is none."""
    from playbook.trouble import Unknown
    from playbook.tunnel import Way, pods_of, tunnel

    found = service(probe)
    if found is None:
        return Status.SKIP, f"not deployed: no Service labelled {LABEL} in {', '.join(places(probe))}"
    name, namespace = found["metadata"]["name"], found["metadata"]["namespace"]
    try:
        from sfmd.private_file import write_private
        from sfmd.rpc.client import CallFailed, Client, Profile
    except ImportError as missing:
        return Status.ERROR, f"the gRPC client is not installed ({missing.name})", "SFM-CLI-005"
    access = secret(probe, namespace, f"{name}-client")
    if access is None:
        return Status.ERROR, f"the Secret {name}-client in {namespace} has no token and ca.crt", "SFM-SFMD-002"
    target = probe.target
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for key, value in access.items():
            write_private(folder / key, value)
        try:
            pod = pods_of(probe.seen.reader, namespace, name)[0]
        except Unknown as away:
            return Status.FAIL, f"{away.what}: {away.why}", "SFM-SFMD-001"
        port = stack.enter_context(tunnel(Way(target.context, target.kubeconfig, namespace), pod, PORT))
        profile = Profile(address=f"127.0.0.1:{port}", ca_file=str(folder / "ca.crt"),
                          token_file=str(folder / "token"), server_name="localhost")  # fmt: skip
        client = stack.enter_context(Client(profile)).within(CALL_S)
        try:
            state = client.health()
            return judge(state, round_trips_ms(client) if state == "SERVING" else [])
        except CallFailed as failed:
            return Status.FAIL, f"{name}: {failed}", "SFM-SFMD-001"


def places(probe: Probe) -> list[str]:
    """Where the daemon may run."""
    app = probe.target.app
    return [probe.target.namespace, *([app.namespace] if app is not None else [])]


def service(probe: Probe) -> Json | None:
    """The daemon's Service; None when it is not deployed."""
    for namespace in places(probe):
        for one in probe.seen.reader.items(f"/api/v1/namespaces/{namespace}/services", labelSelector=LABEL):
            return one
    return None


def secret(probe: Probe, namespace: str, name: str) -> dict[str, bytes] | None:
    """Token and authority; None when either is missing."""
    kept = (probe.seen.reader.get(f"/api/v1/namespaces/{namespace}/secrets/{name}") or {}).get("data") or {}
    wanted = ("token", "ca.crt")
    return {key: base64.b64decode(kept[key]) for key in wanted} if all(kept.get(key) for key in wanted) else None


def round_trips_ms(client: Client) -> list[float]:
    """How long each call took; CallFailed when one failed or a marker did not come back."""
    from sfmd.errors import E
    from sfmd.rpc.client import CallFailed

    try:
        client.create_namespace(SCRATCH, dim=DIM)
    except CallFailed as failed:
        if failed.code != E.EXISTS.code:
            raise
    took = []
    for number in range(ROUNDS):
        name, vector = f"marker-{secrets.token_hex(8)}", [0.0] * DIM
        vector[number % DIM] = 1.0
        for call in (
            lambda n=name, v=vector: client.store(SCRATCH, "a marker", id=n, vector=v),
            lambda n=name, v=vector: recalled(client.recall(SCRATCH, vector=v, k=ROUNDS).hits, n),
            lambda n=name: client.delete(SCRATCH, n),
        ):
            started = time.perf_counter()
            call()
            took.append((time.perf_counter() - started) * 1000)
    return took


def recalled(hits: Sequence[Any], name: str) -> None:
    """That a marker is among the hits; CallFailed when it is not."""
    from sfmd.errors import E
    from sfmd.rpc.client import CallFailed

    if not any(hit.id == name for hit in hits):
        raise CallFailed(E.NO_MEMORY, "a marker that was stored is not recalled")


def judge(state: str, took_ms: Sequence[float]) -> Verdicts:
    """SERVING and quick. Slowness is a warning: the calls also went through the API server, not only to the daemon."""
    if state != "SERVING":
        return Status.FAIL, f"the daemon is {state}", "SFM-SFMD-001"
    p95 = sorted(took_ms)[max(0, math.ceil(0.95 * len(took_ms)) - 1)]
    said = f"SERVING; {len(took_ms)} calls over a tunnel, p95 {p95:.0f} ms"
    return (Status.PASS, said) if p95 < P95_MS else (Status.WARN, said, "SFM-SFMD-003")
