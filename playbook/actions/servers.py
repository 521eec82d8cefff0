"""One real question to each other server of the shared infrastructure, and whether the answer is as it should be.

A component that the release does not have is skipped and says so. Judgements are pure functions over what was said, so
that they are tested from recorded answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from playbook.actions.asking import absent, component, http, run_in, wanted_replicas
from playbook.actions.vault import asked
from playbook.actions.vault import client as opened
from playbook.actions.waiting import damage, tail
from playbook.actions.workloads import CRASHING, crashed
from playbook.check import Probe, Verdicts
from playbook.kube import Json
from playbook.model import Status
from playbook.trouble import Unknown
from playbook.tunnel import is_ready

KAFKA_S = 9.0
"""How long a broker may take for its metadata."""
POLICY_PACKAGE = "soma"
"""The root of every policy that the shared infrastructure brings."""
AUTHZ_PACKAGE = "system.authz"
"""What OPA asks before it answers anybody."""
UNDECIDED = "authorization policy missing or undefined"
"""What OPA says, with a status of 500, when it lacks that."""


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
    from playbook.wiring import kafka as client
    from playbook.wiring.reach import Reach

    wanted = wanted_replicas(probe, "kafka")
    if wanted is None:
        return absent("Kafka")
    reach = Reach(probe.target, probe.seen.reader)
    pods = component(probe, "kafka")
    ready = [n for n, pod in enumerate(pods) if is_ready(pod)]
    try:
        found = client.asked(reach, reach.endpoints(), client.administrator(reach), client.view, timeout_s=KAFKA_S)
    except Unknown as unknown:
        if unknown.code not in ("SFM-KAF-001", "SFM-APP-005"):
            raise
        silent = ready[:1] or list(range(wanted))  # the first ready broker was asked
        names = ", ".join(f"{probe.target.release}-kafka-{n}" for n in silent)
        answer = (Status.FAIL, f"{names} gives no metadata: {unknown.why}", "SFM-KAF-001", restart(probe, silent))
        return (None if ready else stopped(probe, pods)) or answer
    verdict = judge_kafka(len(found.brokers), wanted, found.controller, found.partitions)
    away = sorted(set(range(wanted)) - found.brokers)
    if verdict[0] is not Status.FAIL or not away:
        return verdict
    return stopped(probe, pods) or (*verdict[:2], "SFM-KAF-002", restart(probe, away))


def stopped(probe: Probe, pods: Sequence[Json]) -> Verdicts | None:
    """The first broker that stops by itself as it starts, with what it says and the commands for just that; a restart
    would not mend it. None when there is none."""
    pod, container = next(((p, name) for p in pods if (name := crashed(p))), ({}, ""))
    if not container:
        return None
    name, ours = pod["metadata"]["name"], f"kubectl -n {probe.target.namespace}"
    again = any("running" in one.get("state", {}) for one in pod["status"]["containerStatuses"])
    log = tail(probe.seen.reader, probe.target.namespace, name, container, previous=again)
    if line := damage(log):
        rest = (
            probe.book.codes["SFM-KAF-003"].mend.replace("data-POD", f"data-{name}").replace("pod POD", f"pod {name}")
        )
        return Status.FAIL, f"{name} stops as it loads its log folder: {line}", "SFM-KAF-003", rest
    said = next(
        (x for x in reversed(log.splitlines()) if " ERROR " in x), (log.splitlines() or ["it says nothing"])[-1]
    )
    return Status.FAIL, f"{name} stops as it starts: {said}", CRASHING, (
        f"{ours} logs {name} --previous --tail 50 (correct what it says, then run it again)"
    )  # fmt: skip


def restart(probe: Probe, ordinals: Sequence[int]) -> str:
    """The commands that restart just these brokers, also one that hangs and would not heed a signal."""
    ours, name = f"kubectl -n {probe.target.namespace}", f"{probe.target.release}-kafka"
    pods = " ".join(f"{name}-{n}" for n in ordinals)
    return (f"{ours} delete pod {pods} --grace-period=10, then "
            f"{ours} rollout status statefulset/{name} --timeout=180s")  # fmt: skip


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
    said: dict[str, Json] = {}
    for pod in component(probe, "vault"):
        with opened(probe.seen.reader, probe.target, pod) as client:
            ask = partial(
                client.sys.read_health_status, standby_ok=True, sealed_code=200, uninit_code=200, method="GET"
            )
            said[pod["metadata"]["name"]] = dict(asked("health", ask))
    return judge_vault(said, wanted)


def opa(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Health, and a real query, of every OPA."""
    pods = component(probe, "opa")
    if not pods:
        wanted = wanted_replicas(probe, "opa", "deployments")
        return absent("OPA") if wanted is None else (Status.FAIL, "no OPA pod is there")
    for pod in pods:
        name = pod["metadata"]["name"]
        for path in ("/health?bundles&plugins", "/v1/data"):
            status, body = http(probe, name, 8181, path)
            if UNDECIDED in body:  # it answers nobody before it has the policy that says what it answers
                refuses = f"{name} runs without its policies and refuses every question"
                return Status.FAIL, refuses, "SFM-OPA-002", reload_opa(probe)
            if status != 200:
                return Status.FAIL, f"{name} {path} answers {status}: {body[:200]}"
        if "result" not in json.loads(body):
            return Status.FAIL, f"{name} /v1/data answers no result: {body[:200]}"
    packages = sorted(json.loads(body)["result"])
    if POLICY_PACKAGE not in packages:
        loaded = f"no package {POLICY_PACKAGE}; loaded: {', '.join(packages) or 'none'}"
        return Status.FAIL, loaded, "SFM-OPA-002", reload_opa(probe)
    return Status.PASS, f"{len(pods)} healthy; packages: {', '.join(packages) or 'none'}"


def reload_opa(probe: Probe) -> str:
    """What brings the policies back: a restart when the cluster still has them, else (empty) the code's own command."""
    target, name = probe.target, f"{probe.target.release}-opa"
    kept = probe.seen.reader.get(f"/api/v1/namespaces/{target.namespace}/configmaps/{name}-policies") or {}
    texts = "\n".join((kept.get("data") or {}).values())
    if not all(f"package {package}" in texts for package in (POLICY_PACKAGE, AUTHZ_PACKAGE)):
        return ""
    restart = f"kubectl -n {target.namespace} rollout {{}} deployment/{name}"
    return f"{restart.format('restart')}, then {restart.format('status')} --timeout=180s"


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
