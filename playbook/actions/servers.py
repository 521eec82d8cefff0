"""One real question to each server of the shared infrastructure, and whether the answer is as it should be.

Asked from the operator's machine through the API server: by a command inside the server's own pod, or through a
forwarded port. A component that the release does not have is skipped and says so. Judgements are pure functions over
what was said, so that they are tested from recorded answers.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from playbook import reach
from playbook.check import Probe, Verdicts
from playbook.kube import Json
from playbook.model import Status
from playbook.trouble import Unknown
from playbook.tunnel import Way, tunnel

POLICY_PACKAGE = "soma"
"""The root of every policy that the shared infrastructure brings."""
LAG_WARN_BYTES = 16 * 1024 * 1024
POSTGRES_VIEW = """
select json_build_object(
  'standby', pg_is_in_recovery(),
  'streaming', exists (select from pg_stat_wal_receiver where status = 'streaming'),
  'followers', (select coalesce(json_agg(json_build_object('name', application_name, 'state', state,
      'lag', pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))), '[]') from pg_stat_replication
      where not pg_is_in_recovery()))
"""
POSTGRES_NODES = """
select coalesce(json_agg(json_build_object('name', node_name, 'type', type, 'active', active)), '[]') from repmgr.nodes
"""


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


def secret(probe: Probe, name: str, key: str) -> str:
    """One value of a Secret of the infra namespace, kept out of everything that is written."""
    found = probe.seen.reader.get(f"/api/v1/namespaces/{probe.target.namespace}/secrets/{name}")
    if not found or key not in found.get("data", {}):
        raise Unknown("SFM-K8S-017", f"the Secret {name} has no key {key}")
    value = base64.b64decode(found["data"][key]).decode()
    probe.shell.conceal(value)
    return value


@contextmanager
def forwarded(probe: Probe, pod: str, port: int) -> Iterator[int]:
    """A pod's port on 127.0.0.1."""
    target = probe.target
    with tunnel(Way(target.context, target.kubeconfig, target.namespace), pod, port) as local:
        yield local


def http(probe: Probe, pod: str, port: int, path: str, *, tls: bool = False) -> tuple[int, str]:
    """GET a path of a pod; status and body. Unknown when no connection comes about."""
    import urllib3

    context = None
    if tls:  # the stream ends at 127.0.0.1, so the certificate's names cannot fit; the API server vouches for the pod
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with forwarded(probe, pod, port) as local, urllib3.PoolManager(ssl_context=context, retries=False) as pool:
        try:
            scheme = "https" if tls else "http"
            answer = pool.request("GET", f"{scheme}://127.0.0.1:{local}{path}", timeout=8.0)
        except urllib3.exceptions.HTTPError as error:
            raise Unknown("SFM-K8S-017", f"{pod}:{port} does not answer", why=str(error)[:200]) from error
        return answer.status, answer.data.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class NodeView:
    """What one Postgres node says of itself and of the cluster; `problem` when it says nothing."""

    name: str
    standby: bool = False
    streaming: bool = False
    followers: tuple[Mapping[str, Any], ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()
    problem: str = ""


def node_view(probe: Probe, pod: str) -> NodeView:
    """Ask one node."""
    psql = "psql -XAtq -v ON_ERROR_STOP=1 -h /run/postgresql -U postgres"
    script = f'{psql} -d postgres -c "{POSTGRES_VIEW}" && {psql} -d repmgr -c "{POSTGRES_NODES}"'
    try:
        said = run_in(probe, pod, "postgres", script)
    except Unknown as unknown:
        return NodeView(pod, problem=unknown.what)
    lines = [line for line in said.out.splitlines() if line.strip()]
    if said.code != 0 or len(lines) < 2:
        return NodeView(pod, problem=(said.err or said.out).strip()[:200] or f"psql ended with {said.code}")
    own, nodes = json.loads(lines[0]), json.loads(lines[1])
    return NodeView(pod, own["standby"], own["streaming"], tuple(own["followers"]), tuple(nodes))


def judge_postgres(views: Sequence[NodeView], wanted: int) -> Verdicts:
    """One primary on which every node agrees, every standby registered, streaming and close behind."""
    silent = [f"{v.name}: {v.problem}" for v in views if v.problem]
    if silent or len(views) < wanted:
        return Status.FAIL, "; ".join([f"{len(views)} of {wanted} nodes are there", *silent])
    primaries = [v.name for v in views if not v.standby]
    if len(primaries) != 1:
        return Status.FAIL, f"{len(primaries)} nodes say that they are the primary: {', '.join(primaries) or 'none'}"
    primary = primaries[0]
    for view in views:
        named = [n["name"] for n in view.nodes if n["type"] == "primary" and n["active"]]
        if named != [primary]:
            return Status.FAIL, f"{view.name} takes {', '.join(named) or 'nobody'} for the primary, not {primary}"
        missing = {v.name for v in views} - {n["name"] for n in view.nodes if n["active"]}
        if missing:
            return Status.FAIL, f"{view.name} does not know {', '.join(sorted(missing))} as active"
    still = [v.name for v in views if v.standby and not v.streaming]
    if still:
        return Status.FAIL, f"not streaming: {', '.join(still)}", "SFM-PG-003"
    followers = next(v for v in views if v.name == primary).followers
    lags = {str(f["name"]): int(f["lag"] or 0) for f in followers if f["state"] == "streaming"}
    behind = [f"{name} is {lag} bytes behind" for name, lag in lags.items() if lag > LAG_WARN_BYTES]
    if behind:
        return Status.WARN, "; ".join(behind), "SFM-PG-003"
    standbys = f", {wanted - 1} standbys stream, lag {max(lags.values(), default=0)} bytes" if wanted > 1 else ""
    return Status.PASS, f"primary {primary}, all {wanted} nodes agree{standbys}"


def postgres_nodes(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Every node's own view of the Postgres cluster."""
    wanted = wanted_replicas(probe, "postgres")
    if wanted is None:
        return absent("Postgres")
    return judge_postgres([node_view(probe, pod["metadata"]["name"]) for pod in component(probe, "postgres")], wanted)


def judge_pgpool(rows: Sequence[Sequence[str]]) -> Verdicts:
    """`show pool_nodes` (host, status, role by Pgpool, role by Postgres): one primary, up, and it is Postgres' own."""
    seen = ", ".join(f"{host.split('.')[0]} {status} {role}" for host, status, role, _ in rows)
    primaries = [(host, status, real) for host, status, role, real in rows if role == "primary"]
    if len(primaries) != 1:
        return Status.FAIL, f"Pgpool has {len(primaries)} primaries: {seen}"
    host, status, real = primaries[0]
    if status != "up" or real not in ("primary", "unknown"):
        return Status.FAIL, f"Pgpool's primary {host.split('.')[0]} is {status} and really a {real}: {seen}"
    down = [host.split(".")[0] for host, status, _, _ in rows if status != "up"]
    if down:
        return Status.WARN, f"Pgpool has {', '.join(down)} as down: {seen}"
    return Status.PASS, f"a login works; {seen}"


def pgpool(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """A real login through every Pgpool, and its own view of the backends."""
    pods = component(probe, "pgpool")
    if not pods:
        wanted = wanted_replicas(probe, "postgres-pgpool", "deployments")
        return absent("Pgpool") if wanted is None else (Status.FAIL, "no Pgpool pod is there")
    worst: Verdicts = (Status.PASS, "")
    for pod in pods:
        name = pod["metadata"]["name"]
        script = (
            "umask 077; p=$(mktemp /run/pgpool/check.XXXXXX); trap 'rm -f $p' EXIT; "
            "printf '*:*:*:pgpool:%s\\n' \"$(cat $SECRETS_DIR/pgpool-password)\" > $p; "
            "PGPASSFILE=$p PGCONNECT_TIMEOUT=4 psql -XAtq -F '|' -h /run/pgpool -U pgpool -d postgres "
            "-c 'select pg_is_in_recovery()' -c 'show pool_nodes'"
        )
        said = run_in(probe, name, "pgpool", script)
        lines = [line for line in said.out.splitlines() if line.strip()]
        if said.code != 0 or not lines:
            return Status.FAIL, f"{name}: {(said.err or said.out).strip()[:300]}"
        if lines[0] != "f":
            return Status.FAIL, f"{name}: a login through Pgpool reaches a standby"
        # node_id|hostname|port|status|pg_status|lb_weight|role|pg_role|…
        rows = [(c[1], c[3], c[6], c[7]) for c in (line.split("|") for line in lines[1:]) if len(c) > 7]
        verdict = judge_pgpool(rows)
        if verdict[0] is Status.FAIL:
            return verdict
        worst = verdict if verdict[0] is Status.WARN or not worst[1] else worst
    return worst


def judge_kafka(
    brokers: int, wanted: int, controller: int, partitions: Sequence[tuple[str, int, int, int]]
) -> Verdicts:
    """As many brokers as wanted, a controller, every partition led and in sync."""
    if brokers < wanted:
        return Status.FAIL, f"{brokers} of {wanted} brokers", "SFM-KAF-002"
    if controller < 0:
        return Status.FAIL, "no controller is elected"
    offline = [name for name, leader, _, _ in partitions if leader < 0]
    if offline:
        return Status.FAIL, f"offline partitions: {', '.join(offline[:5])}"
    under = [name for name, _, replicas, isr in partitions if isr < replicas]
    if under:
        return Status.WARN, f"under-replicated partitions: {', '.join(under[:5])}", "SFM-KAF-002"
    return Status.PASS, f"{brokers} brokers, controller {controller}, {len(partitions)} partitions in sync"


def kafka(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """The cluster's own metadata, from a broker's internal listener."""
    wanted = wanted_replicas(probe, "kafka")
    if wanted is None:
        return absent("Kafka")
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    name = f"{probe.target.release}-kafka"
    said: list[str] = []
    with forwarded(probe, f"{name}-0", 9094) as port:
        settings: dict[str, Any] = {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "security.protocol": "SASL_SSL" if has_tls(probe, "kafka") else "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "admin",
            "sasl.password": secret(probe, name, "admin-password"),
            "enable.ssl.certificate.verification": False,  # the forwarded address cannot fit the certificate
            "socket.timeout.ms": 8000,
            "log_level": 0,
            "error_cb": lambda error: said.append(str(error)),
        }
        client = AdminClient(settings)
        try:
            found = client.list_topics(timeout=8)
        except KafkaException as error:
            return Status.FAIL, f"no metadata: {error.args[0]} {said[-1] if said else ''}".strip()
    partitions = [
        (f"{topic}/{number}", part.leader, len(part.replicas), len(part.isrs))
        for topic, about in found.topics.items()
        for number, part in about.partitions.items()
    ]
    return judge_kafka(len(found.brokers), wanted, found.controller_id, partitions)


def has_tls(probe: Probe, name: str) -> bool:
    """Whether a component serves TLS: its pods then mount a certificate."""
    pods = component(probe, name)
    return any(v["name"] == "tls" for p in pods for v in p["spec"].get("volumes", []))


def judge_redis(said: Mapping[str, tuple[str, str]], wanted: int) -> Verdicts:
    """`said`: node to (answer to PING, role). All answer PONG, and exactly one is the master."""
    if any("LOADING" in ping for ping, _ in said.values()):
        loading = [name for name, (ping, _) in said.items() if "LOADING" in ping]
        return Status.FAIL, f"loading its data: {', '.join(loading)}", "SFM-RED-002"
    silent = [f"{name} says {ping or 'nothing'}" for name, (ping, _) in said.items() if ping != "PONG"]
    if silent or len(said) < wanted:
        return Status.FAIL, "; ".join([f"{len(said)} of {wanted} nodes are there", *silent])
    masters = [name for name, (_, role) in said.items() if role == "master"]
    if len(masters) != 1:
        return Status.FAIL, f"{len(masters)} masters: {', '.join(masters) or 'none'}"
    return Status.PASS, f"PONG from {wanted} nodes, master {masters[0]}"


def redis(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """PING and role of every Redis node, with a login."""
    wanted = wanted_replicas(probe, "redis")
    if wanted is None:
        return absent("Redis")
    said = {}
    for pod in component(probe, "redis"):
        name = pod["metadata"]["name"]
        script = '. /scripts/common.sh; ask_redis "$NODE_HOST" PING; role_of "$NODE_HOST"'
        lines = run_in(probe, name, "redis", script).out.splitlines()
        said[name] = (lines[0] if lines else "", lines[1] if len(lines) > 1 else "")
    return judge_redis(said, wanted)


def judge_vault(said: Mapping[str, Json], wanted: int) -> Verdicts:
    """`said`: node to the body of sys/health."""
    if len(said) < wanted:
        return Status.FAIL, f"{len(said)} of {wanted} nodes are there"
    closed = [
        f"{name} is {'sealed' if health.get('initialized') else 'not initialised'}"
        for name, health in said.items()
        if health.get("sealed", True) or not health.get("initialized", False)
    ]
    if closed:
        return Status.FAIL, "; ".join(closed), "SFM-VLT-001"
    active = [name for name, health in said.items() if not health.get("standby", False)]
    if len(active) != 1:
        return Status.FAIL, f"{len(active)} nodes are active: {', '.join(active) or 'none'}"
    return Status.PASS, f"unsealed, active {active[0]}, version {said[active[0]].get('version', 'unknown')}"


def vault(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """The health of every Vault node."""
    wanted = wanted_replicas(probe, "vault")
    if wanted is None:
        return absent("Vault")
    tls = has_tls(probe, "vault")
    said: dict[str, Json] = {}
    for pod in component(probe, "vault"):
        name = pod["metadata"]["name"]
        path = "/v1/sys/health?standbyok=true&sealedcode=200&uninitcode=200"
        _, body = http(probe, name, 8200, path, tls=tls)
        try:
            said[name] = dict(json.loads(body))
        except ValueError:
            return Status.FAIL, f"{name} answers {body[:100]!r}"
    return judge_vault(said, wanted)


def opa(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Health, and a real query, of every OPA."""
    pods = component(probe, "opa")
    if not pods:
        wanted = wanted_replicas(probe, "opa", "deployments")
        return absent("OPA") if wanted is None else (Status.FAIL, "no OPA pod is there")
    for pod in pods:
        name = pod["metadata"]["name"]
        status, body = http(probe, name, 8181, "/health?bundles&plugins")
        if status != 200:
            return Status.FAIL, f"{name} /health answers {status}: {body[:200]}"
        status, body = http(probe, name, 8181, "/v1/data")
        if status != 200 or "result" not in json.loads(body):
            return Status.FAIL, f"{name} /v1/data answers {status}: {body[:200]}"
    packages = sorted(json.loads(body)["result"])
    if POLICY_PACKAGE not in packages:
        return Status.FAIL, f"no package {POLICY_PACKAGE}; loaded: {', '.join(packages) or 'none'}", "SFM-OPA-002"
    return Status.PASS, f"{len(pods)} healthy; packages: {', '.join(packages) or 'none'}"


def judge_etcd(said: Mapping[str, tuple[int, str]], wanted: int) -> Verdicts:
    """`said`: node to (status, body) of /health, which reads through the quorum."""
    bad = [
        f"{name}: {status} {body[:120]}" for name, (status, body) in said.items() if status != 200 or "true" not in body
    ]
    if bad or len(said) < wanted:
        return Status.FAIL, "; ".join([f"{len(said)} of {wanted} members are there", *bad])
    return Status.PASS, f"{wanted} members healthy, each with a read through the quorum"


def etcd(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Every member's health: a linearised read, which needs the quorum."""
    wanted = wanted_replicas(probe, "etcd")
    if wanted is None:
        return absent("etcd")
    names = [pod["metadata"]["name"] for pod in component(probe, "etcd")]
    return judge_etcd({name: http(probe, name, 2381, "/health") for name in names}, wanted)


def prometheus(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """A real query."""
    pods = component(probe, "prometheus")
    if wanted_replicas(probe, "prometheus") is None:
        return absent("Prometheus")
    if not pods:
        return Status.FAIL, "no Prometheus pod is there"
    status, body = http(probe, pods[0]["metadata"]["name"], 9090, "/api/v1/query?query=up")
    if status != 200:
        return Status.FAIL, f"answers {status}: {body[:200]}"
    found = json.loads(body)
    if found.get("status") != "success":
        return Status.FAIL, f"the query ended as {found.get('status')}: {found.get('error', '')}"
    series = found["data"]["result"]
    down = [s["metric"].get("instance", "?") for s in series if s["value"][1] != "1"]
    if down:
        return Status.WARN, f"{len(series)} targets, down: {', '.join(down[:5])}"
    return Status.PASS, f"{len(series)} targets, all up"


def grafana(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Its own health."""
    if wanted_replicas(probe, "grafana") is None:
        return absent("Grafana")
    pods = component(probe, "grafana")
    if not pods:
        return Status.FAIL, "no Grafana pod is there"
    status, body = http(probe, pods[0]["metadata"]["name"], 3000, "/api/health")
    if status != 200 or json.loads(body).get("database") != "ok":
        return Status.FAIL, f"answers {status}: {body[:200]}"
    return Status.PASS, f"version {json.loads(body).get('version', 'unknown')}, database ok"
