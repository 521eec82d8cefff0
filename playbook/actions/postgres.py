"""Postgres and Pgpool: every node's own view of the cluster, and Pgpool's, must name the same primary.

Judgements are pure functions over what was said, so that they are tested from recorded answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playbook.actions.asking import absent, component, run_in, wanted_replicas
from playbook.check import Probe, Verdicts
from playbook.model import Status
from playbook.trouble import Unknown

LAG_WARN_BYTES = 16 * 1024 * 1024
VIEW = """
select json_build_object(
  'standby', pg_is_in_recovery(),
  'streaming', exists (select from pg_stat_wal_receiver where status = 'streaming'),
  'followers', (select coalesce(json_agg(json_build_object('name', application_name, 'state', state,
      'lag', pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))), '[]') from pg_stat_replication
      where not pg_is_in_recovery()))
"""
NODES = """
select coalesce(json_agg(json_build_object('name', node_name, 'type', type, 'active', active)), '[]') from repmgr.nodes
"""


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
    script = f'{psql} -d postgres -c "{VIEW}" && {psql} -d repmgr -c "{NODES}"'
    try:
        said = run_in(probe, pod, "postgres", script)
    except Unknown as unknown:
        return NodeView(pod, problem=unknown.what)
    lines = [line for line in said.out.splitlines() if line.strip()]
    if said.code != 0 or len(lines) < 2:
        return NodeView(pod, problem=(said.err or said.out).strip()[:200] or f"psql ended with {said.code}")
    own, nodes = json.loads(lines[0]), json.loads(lines[1])
    return NodeView(pod, own["standby"], own["streaming"], tuple(own["followers"]), tuple(nodes))


def judge_nodes(views: Sequence[NodeView], wanted: int) -> Verdicts:
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


def nodes(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """Every node's own view of the Postgres cluster."""
    wanted = wanted_replicas(probe, "postgres")
    if wanted is None:
        return absent("Postgres")
    return judge_nodes([node_view(probe, pod["metadata"]["name"]) for pod in component(probe, "postgres")], wanted)


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
