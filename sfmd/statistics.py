"""Stats from memory alone, so that it answers while the store is busy or away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sfmd.contract import NamespaceStats, ServiceStats
from sfmd.core.engine import ENGINE
from sfmd.measure import Meters, quantile
from sfmd.spaces import Space, Spaces
from sfmd.upkeep import gate_states
from sfmd.writer import Writer

NO_LIMIT = 2**60


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def memory_limit_bytes() -> int:
    """The least of the control group's limit and the machine's memory; 0 where neither is known."""
    limits = []
    for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        text = path.read_text().strip() if path.exists() else ""
        if text.isdigit() and int(text) < NO_LIMIT:
            limits.append(int(text))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=0)


def namespace_stats(space: Space) -> NamespaceStats:
    """Measured state of one namespace. `deleted` and `payload_bytes` are refreshed by the upkeep, seconds apart."""
    stats = space.stats()
    return NamespaceStats(
        namespace=space.namespace.name,
        live=stats.live,
        deleted=space.counts.get("deleted", 0),
        rows=stats.rows,
        tail_rows=stats.tail_rows,
        segments=stats.segments,
        payload_bytes=space.counts.get("payload_bytes", 0),
        norm_error_max=stats.norm_error_max,
        importance_raw=stats.importance_raw,
        importance_normalised=stats.importance_normalised,
        decay_active_ratio=stats.decay_active_ratio,
        normaliser_version=space.now.normaliser.version,
        gates=gate_states(space),
    )


class Statistics:
    """Assembles ServiceStats."""

    def __init__(self, spaces: Spaces, writer: Writer, meters: Meters, version: str, horizon_seq: int) -> None:
        self._spaces, self._writer, self._meters = spaces, writer, meters
        self._version, self._horizon_seq = version, horizon_seq

    def read(self, names: Sequence[str] | None, recalls_waiting: int) -> ServiceStats:
        """Statistics of the named namespaces (unknown ones are left out), or of all."""
        meters = self._meters
        chosen = [s for s in self._spaces if names is None or s.namespace.name in names]
        recall_s, store_s = meters.recall_s.values(), meters.store_s.values()
        return ServiceStats(
            namespaces=tuple(namespace_stats(space) for space in chosen),
            seq=self._writer.applied_seq,
            insert_qps=meters.rows.rate(),
            query_qps=meters.recalls.rate(),
            recall_p50_s=quantile(recall_s, 0.5),
            recall_p95_s=quantile(recall_s, 0.95),
            store_p50_s=quantile(store_s, 0.5),
            store_p95_s=quantile(store_s, 0.95),
            uptime_s=meters.uptime_s,
            resident_bytes=resident_bytes(),
            engine=ENGINE,
            version=self._version,
            queue_items=self._writer.waiting,
            recalls_waiting=recalls_waiting,
            commits=meters.commits,
            rows_committed=meters.rows_committed,
            outcomes=dict(meters.outcomes),
            normaliser_cuts=meters.normaliser_cuts,
            horizon_seq=self._horizon_seq,
            store_ok=not self._writer.problem,
        )
