"""What the daemon says of itself: JSON logs with request ids, and Prometheus metrics in a registry of its own.

Guards two rules: a secret never enters a log line, and two daemons in one process never share a counter. Everything
that the service measures is read from its in-memory statistics at scrape time, so a scrape answers while the store is
busy.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import structlog
import structlog.tracebacks
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from sfmd.contract import NamespaceStats, ServiceStats
from sfmd.limits import InFlight

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
COMMIT_BUCKETS_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

# Without locals: they hold payloads and tokens.
_TRACEBACKS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)

_TOKEN = re.compile(r"sfm_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")
_SECRET_KEYS = frozenset({"token", "authorization", "password", "secret", "payload", "vector", "text"})


def without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what looks like a token, and every value under a name that must never be logged."""
    for key, value in event.items():
        if key in _SECRET_KEYS:
            event[key] = "[hidden]"
        elif isinstance(value, str) and "sfm_" in value:
            event[key] = _TOKEN.sub("sfm_[hidden]", value)
    return event


def configure_logging(level: str = "info", out: TextIO | None = None) -> None:
    """JSON lines on `out` (stderr), one per event: ts, level, logger, event, and what the call site adds."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.ExceptionRenderer(_TRACEBACKS),
            without_secrets,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.PrintLogger(out or sys.stderr),
        cache_logger_on_first_use=False,
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """A gauge or counter read from the statistics: name, help, kind, and its value per namespace or for the daemon."""

    name: str
    help: str
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    of_daemon: Callable[[ServiceStats], float] | None = None
    of_namespace: Callable[[NamespaceStats], float] | None = None


_G, _C = GaugeMetricFamily, CounterMetricFamily

SHOWN: tuple[Shown, ...] = (
    Shown("sfmd_total_vectors", "Live memories.", _G, of_namespace=lambda n: n.live),
    Shown("sfmd_deleted_memories", "Memories marked deleted.", _G, of_namespace=lambda n: n.deleted),
    Shown("sfmd_core_rows", "Versions that the core holds.", _G, of_namespace=lambda n: n.rows),
    Shown("sfmd_core_tail_rows", "Rows of the unsorted tail.", _G, of_namespace=lambda n: n.tail_rows),
    Shown("sfmd_core_segments", "Immutable segments.", _G, of_namespace=lambda n: n.segments),
    Shown("sfmd_payload_bytes", "Bytes of live payloads.", _G, of_namespace=lambda n: n.payload_bytes),
    Shown("sfmd_norm_error_max", "Largest | |v| - 1 | of all rows.", _G, of_namespace=lambda n: n.norm_error_max),
    Shown("sfmd_decay_active_ratio", "Share of live rows in a finite half-life class.", _G,
          of_namespace=lambda n: n.decay_active_ratio),
    Shown("sfmd_normaliser_version", "Version of the importance normaliser.", _G,
          of_namespace=lambda n: n.normaliser_version),
    Shown("sfmd_insert_qps", "Memories stored a second, over the last minute.", _G, of_daemon=lambda s: s.insert_qps),
    Shown("sfmd_query_qps", "Recalls a second, over the last minute.", _G, of_daemon=lambda s: s.query_qps),
    Shown("sfmd_recall_p50_seconds", "Median recall in the service, over the last minute.", _G,
          of_daemon=lambda s: s.recall_p50_s),
    Shown("sfmd_recall_p95_seconds", "95th percentile of recall in the service, over the last minute.", _G,
          of_daemon=lambda s: s.recall_p95_s),
    Shown("sfmd_store_p50_seconds", "Median durable store in the service, over the last minute.", _G,
          of_daemon=lambda s: s.store_p50_s),
    Shown("sfmd_store_p95_seconds", "95th percentile of durable store in the service, over the last minute.", _G,
          of_daemon=lambda s: s.store_p95_s),
    Shown("sfmd_log_seq", "Seq of the last commit.", _G, of_daemon=lambda s: s.seq),
    Shown("sfmd_log_horizon_seq", "First seq that the log still reaches back to.", _G,
          of_daemon=lambda s: s.horizon_seq),
    Shown("sfmd_queue_items", "Writes that wait for the writer.", _G, of_daemon=lambda s: s.queue_items),
    Shown("sfmd_recalls_waiting", "Recalls that wait for a worker.", _G, of_daemon=lambda s: s.recalls_waiting),
    Shown("sfmd_commits", "Transactions committed.", _C, of_daemon=lambda s: s.commits),
    Shown("sfmd_rows_committed", "Rows committed; divided by commits, the size of a group commit.", _C,
          of_daemon=lambda s: s.rows_committed),
    Shown("sfmd_normaliser_recomputes", "Normaliser versions cut.", _C, of_daemon=lambda s: s.normaliser_cuts),
    Shown("sfmd_store_ok", "1 while the store takes writes.", _G, of_daemon=lambda s: float(s.store_ok)),
    Shown("sfmd_uptime_seconds", "Seconds since the start.", _G, of_daemon=lambda s: s.uptime_s),
    Shown("sfmd_resident_bytes", "Resident memory.", _G, of_daemon=lambda s: s.resident_bytes),
)  # fmt: skip

LABELLED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("sfmd_importance_raw", "Quantiles of raw importance in the normaliser's reservoir.", ("namespace", "quantile")),
    ("sfmd_importance_normalised", "Quantiles of normalised importance.", ("namespace", "quantile")),
    ("sfmd_gate_tripped", "1 while the gate's condition holds.", ("namespace", "gate")),
    ("sfmd_gate_acting", "1 while the gate changes what is done.", ("namespace", "gate")),
    ("sfmd_gate_value", "What the gate measures.", ("namespace", "gate")),
    ("sfmd_gate_threshold", "Where the gate trips.", ("namespace", "gate")),
)


class ServiceCollector(Collector):
    """Reads the service's statistics once per scrape."""

    def __init__(self, source: Callable[[], ServiceStats]) -> None:
        self._source = source

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: the statistics need a started service."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family of SHOWN and LABELLED, the outcomes, and the build."""
        stats = self._source()
        for shown in SHOWN:
            family = shown.kind(shown.name, shown.help, labels=["namespace"] if shown.of_namespace else None)
            if shown.of_daemon:
                family.add_metric([], shown.of_daemon(stats))
            for ns in stats.namespaces if shown.of_namespace else ():
                family.add_metric([ns.namespace], shown.of_namespace(ns))  # type: ignore[misc]
            yield family
        yield from _labelled(stats.namespaces)
        outcomes = CounterMetricFamily("sfmd_writes", "Writes by outcome.", labels=["outcome"])
        for outcome, count in stats.outcomes.items():
            outcomes.add_metric([outcome.lower()], count)
        yield outcomes
        build = InfoMetricFamily("sfmd_build", "Version of the daemon and fingerprint of its engine.")
        build.add_metric([], {"version": stats.version, "engine": stats.engine})
        yield build


def _labelled(namespaces: Sequence[NamespaceStats]) -> Iterator[Metric]:
    families = {name: GaugeMetricFamily(name, text, labels=list(labels)) for name, text, labels in LABELLED}
    for ns in namespaces:
        for kind, quantiles in (("raw", ns.importance_raw), ("normalised", ns.importance_normalised)):
            for q, value in quantiles.items():
                families[f"sfmd_importance_{kind}"].add_metric(
                    [ns.namespace, f"{int(q.removeprefix('q')) / 100:g}"], value
                )
        for gate in ns.gates:
            for field in ("tripped", "acting", "value", "threshold"):
                families[f"sfmd_gate_{field}"].add_metric([ns.namespace, gate.name], float(getattr(gate, field)))
    yield from families.values()


class FlightCollector(Collector):
    """Shows the transport's bounds: how full they are, and how often they shed."""

    def __init__(self) -> None:
        self.flights: list[InFlight] = []

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: the server adds its bounds later."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Places taken, places there are, and calls shed, per kind of call."""
        taken = GaugeMetricFamily("sfmd_grpc_in_flight", "Calls in flight.", labels=["kind"])
        bound = GaugeMetricFamily("sfmd_grpc_in_flight_bound", "Calls that may be in flight.", labels=["kind"])
        shed = CounterMetricFamily("sfmd_grpc_shed", "Calls shed for want of a place.", labels=["kind"])
        for flight in self.flights:
            taken.add_metric([flight.name], flight.now)
            bound.add_metric([flight.name], flight.bound)
            shed.add_metric([flight.name], flight.shed)
        yield from (taken, bound, shed)


class Metrics:
    """The registry of one daemon and the instruments of its transport."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(namespace="sfmd", registry=self.registry)
        self._requests = Counter("sfmd_grpc_requests", "gRPC calls answered, by method and status.",
                                 ("method", "code"), registry=self.registry)  # fmt: skip
        self._latency_s = Histogram("sfmd_grpc_request_seconds", "From the first byte of a call to its answer.",
                                    ("method",), buckets=LATENCY_BUCKETS_S, registry=self.registry)  # fmt: skip
        self._commit_rows = Histogram("sfmd_group_commit_rows", "Rows of one transaction.",
                                      buckets=COMMIT_BUCKETS_ROWS, registry=self.registry)  # fmt: skip
        self._flights = FlightCollector()
        self.registry.register(self._flights)
        self._request_children: dict[tuple[str, str], Counter] = {}
        self._latency_children: dict[str, Histogram] = {}

    def request(self, method: str, code: str, spent_s: float) -> None:
        """Count one answered call."""
        child = self._request_children.get((method, code))
        if child is None:
            child = self._request_children[method, code] = self._requests.labels(method, code)
            self._latency_children.setdefault(method, self._latency_s.labels(method))
        child.inc()
        self._latency_children[method].observe(spent_s)

    def group_commit(self, rows: int) -> None:
        """Note the size of one transaction."""
        self._commit_rows.observe(rows)

    def watch_flight(self, flight: InFlight) -> None:
        """Show a bound's counters at each scrape."""
        self._flights.flights.append(flight)

    def watch_service(self, source: Callable[[], ServiceStats]) -> None:
        """Show the service's statistics at each scrape."""
        self.registry.register(ServiceCollector(source))

    def text(self) -> bytes:
        """The exposition format, all of it."""
        return generate_latest(self.registry)
