"""Namespaces and measured state: CreateNamespace, ConfigureNamespace, ListNamespaces, Stats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sfmd.contract import NamespaceStats
from sfmd.errors import E, Refused
from sfmd.rpc import convert
from sfmd.rpc.call import Call
from sfmd.rpc.gen import memory_pb2 as pb

if TYPE_CHECKING:
    from sfmd.service import MemoryService


class Administration:
    """One method per RPC, named as it is."""

    def __init__(self, service: MemoryService) -> None:
        self._service = service

    async def CreateNamespace(self, call: Call, r: Any) -> pb.Namespace:
        return convert.namespace_info(await self._service.create_namespace(call.caller, convert.namespace_spec(r)))

    async def ConfigureNamespace(self, call: Call, r: Any) -> pb.Namespace:
        change = convert.namespace_change(r)
        return convert.namespace_info(await self._service.configure_namespace(call.caller, change))

    async def ListNamespaces(self, call: Call, _: Any) -> pb.ListNamespacesReply:
        """Those that the caller's token reaches."""
        infos = await self._service.list_namespaces(call.caller)
        seen = [convert.namespace_info(i) for i in infos if call.principal.reaches(i.namespace.name)]
        return pb.ListNamespacesReply(namespaces=seen)

    async def Stats(self, call: Call, r: Any) -> pb.StatsReply:
        """One namespace, or all that the caller's token reaches."""
        s = self._service.stats([r.namespace] if r.namespace else None)
        seen = [n for n in s.namespaces if call.principal.reaches(n.namespace)]
        if r.namespace and not seen:
            raise Refused(E.NO_NAMESPACE, f"there is no namespace {r.namespace[:64]!r}")
        return pb.StatsReply(namespaces=[_namespace_stats(n) for n in seen], seq=s.seq, insert_qps=s.insert_qps,
                             query_qps=s.query_qps, recall_p50_s=s.recall_p50_s, recall_p95_s=s.recall_p95_s,
                             store_p50_s=s.store_p50_s, store_p95_s=s.store_p95_s, uptime_s=s.uptime_s,
                             resident_bytes=s.resident_bytes, engine=s.engine, version=s.version,
                             horizon_seq=s.horizon_seq)  # fmt: skip


def _namespace_stats(n: NamespaceStats) -> pb.NamespaceStats:
    gates = [pb.Gate(name=g.name, tripped=g.tripped, acting=g.acting, value=g.value, threshold=g.threshold,
                     condition=g.condition, window_s=g.window_s) for g in n.gates]  # fmt: skip
    return pb.NamespaceStats(
        namespace=n.namespace, live=n.live, deleted=n.deleted, rows=n.rows, tail_rows=n.tail_rows, segments=n.segments,
        payload_bytes=n.payload_bytes, norm_error_max=n.norm_error_max, gates=gates,
        importance_raw=pb.Quantiles(**n.importance_raw), importance_normalised=pb.Quantiles(**n.importance_normalised),
        decay_active_ratio=n.decay_active_ratio, normaliser_version=n.normaliser_version,
    )  # fmt: skip
