"""The daemon's Stats reply as JSON fields and tables: counts, rates, latencies, importance quantiles and gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sfmctl import quantities
from sfmctl.memory_views import number
from sfmctl.render import Column, table

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb

QUANTILES = ("q05", "q10", "q25", "q50", "q75", "q90", "q95")


def _quantiles(found: pb.Quantiles) -> dict[str, Any]:
    return {name: number(getattr(found, name)) for name in QUANTILES}


def namespace_fields(stats: pb.NamespaceStats) -> dict[str, Any]:
    """One namespace's state as JSON fields."""
    return {
        "namespace": stats.namespace, "live": stats.live, "deleted": stats.deleted, "rows": stats.rows,
        "tailRows": stats.tail_rows, "segments": stats.segments, "payloadBytes": stats.payload_bytes,
        "normErrorMax": number(stats.norm_error_max), "importanceRaw": _quantiles(stats.importance_raw),
        "importanceNormalised": _quantiles(stats.importance_normalised),
        "decayActiveRatio": number(stats.decay_active_ratio), "normaliserVersion": stats.normaliser_version,
        "gates": [
            {"name": g.name, "tripped": g.tripped, "acting": g.acting, "value": number(g.value),
             "threshold": number(g.threshold), "condition": g.condition, "windowS": number(g.window_s)}
            for g in stats.gates
        ],
    }  # fmt: skip


def fields(reply: pb.StatsReply) -> dict[str, Any]:
    """The whole reply as JSON fields."""
    return {
        "version": reply.version, "engine": reply.engine, "seq": reply.seq, "horizonSeq": reply.horizon_seq,
        "uptimeS": reply.uptime_s,
        "residentBytes": reply.resident_bytes, "insertQps": number(reply.insert_qps),
        "queryQps": number(reply.query_qps), "recallP50S": number(reply.recall_p50_s),
        "recallP95S": number(reply.recall_p95_s), "storeP50S": number(reply.store_p50_s),
        "storeP95S": number(reply.store_p95_s),
        "namespaces": [namespace_fields(n) for n in reply.namespaces],
    }  # fmt: skip


def tables(reply: pb.StatsReply) -> Iterator[object]:
    """The daemon, its namespaces, their importances, and the gates that are tripped or act."""
    yield (
        f"sfmd {reply.version}, engine {reply.engine}, seq {reply.seq}, horizon {reply.horizon_seq}, "
        f"up {quantities.age(reply.uptime_s)}, "
        f"{quantities.size(reply.resident_bytes)} resident"
    )
    yield (
        f"recall p50 {reply.recall_p50_s * 1e3:.2f} ms, p95 {reply.recall_p95_s * 1e3:.2f} ms, "
        f"{reply.query_qps:.1f}/s; store p50 {reply.store_p50_s * 1e3:.2f} ms, "
        f"p95 {reply.store_p95_s * 1e3:.2f} ms, {reply.insert_qps:.1f}/s\n"
    )
    yield table(
        [Column("namespace"), Column("live", right=True), Column("deleted", right=True), Column("rows", right=True),
         Column("tail", right=True), Column("segments", right=True), Column("payload", right=True),
         Column("aging", right=True)],
        [[n.namespace, f"{n.live:,}", f"{n.deleted:,}", f"{n.rows:,}", f"{n.tail_rows:,}", n.segments,
          quantities.size(n.payload_bytes), f"{n.decay_active_ratio:.0%}"] for n in reply.namespaces],
    )  # fmt: skip
    yield ""
    yield table(
        [Column("importance"), *(Column(name, right=True) for name in QUANTILES)],
        [[f"{n.namespace} {kind}", *(f"{getattr(found, name):.3g}" for name in QUANTILES)]
         for n in reply.namespaces
         for kind, found in (("raw", n.importance_raw), ("normalised", n.importance_normalised))],
    )  # fmt: skip
    yield ""
    yield table(
        [Column("gate"), Column("namespace"), Column("state"), Column("value", right=True),
         Column("threshold", right=True), Column("condition", fold=True)],
        [[g.name, n.namespace, _state(g), f"{g.value:.4g}", f"{g.threshold:.4g}", g.condition]
         for n in reply.namespaces for g in n.gates],
    )  # fmt: skip


def _state(gate: pb.Gate) -> str:
    return "acting" if gate.acting else "tripped" if gate.tripped else "open"
