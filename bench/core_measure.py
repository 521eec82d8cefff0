"""Timing of several searches query by query in one process, so that noise and cache state meet them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from bench import core_rivals as rivals
from bench.core_data import NOW_S, Population, truth
from sfmd.core.index import Index
from sfmd.core.model import F32, F64, I64, Scoring

WARM_UP = 5
RESAMPLES = 2000
NOTHING = np.empty(0, dtype=np.int64)


@dataclass
class Timed:
    """Milliseconds of one search over the queries: processor time of the calling thread, and by the clock.

    Everything here runs in one thread and waits for nothing, so on an idle machine the two agree; on a busy one only
    processor time says what the search itself costs. Goals and ratios are held to it.
    """

    p50_ms: float
    p95_ms: float
    clock_p50_ms: float
    clock_p95_ms: float


@dataclass
class Row:
    """One measured row of the report; see docs/reference/benchmarks.md for the words."""

    name: str
    source: str
    queries: int
    exact: int
    core: Timed
    core_hot: Timed
    rivals: dict[str, Timed]
    ratio: float
    ratio_low: float
    ratio_high: float
    rows_touched: float
    bytes_touched: float
    recall: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def timed(seconds: F64) -> Timed:
    """From float64[2, Q] seconds: processor, clock."""
    p50, p95 = np.percentile(seconds * 1e3, [50, 95], axis=1).tolist()
    return Timed(p50[0], p95[0], p50[1], p95[1])


def paired_ratio(theirs: F64, ours: F64) -> tuple[float, float, float]:
    """Median of theirs/ours over queries, and its 95 % bootstrap interval."""
    ratios = theirs / ours
    picks = np.random.default_rng(0).integers(0, ratios.size, (RESAMPLES, ratios.size))
    low, high = np.percentile(np.median(ratios[picks], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def interleaved(searches: Mapping[str, rivals.Search], queries: Sequence[F32]) -> dict[str, F64]:
    """float64[2, Q] seconds by name (processor, clock): every search answers a query before the next query comes."""
    spent = {name: np.empty((2, len(queries))) for name in searches}
    for q in queries[:WARM_UP]:
        for search in searches.values():
            search(q)
    for n, q in enumerate(queries):
        for name, search in searches.items():
            clock, processor = time.perf_counter(), time.thread_time()
            search(q)
            spent[name][:, n] = time.thread_time() - processor, time.perf_counter() - clock
    return spent


def measure(
    people: Population, scoring: Scoring, label: str, k: int, others: Mapping[str, rivals.Search], *, index: Index
) -> Row:
    """One row: ours beside the others, interleaved; then ours alone; then every answer against the oracle."""

    def ours(q: F32) -> I64:
        index.search(q, k=k, now_s=NOW_S)
        return NOTHING

    queries = list(people.queries)
    spent = interleaved({"core": ours, **others}, queries)
    hot = interleaved({"core": ours}, queries)["core"]
    rest = people.log2_rest(scoring)
    exact, touched, recall = 0, [], {name: 0.0 for name in others if name.startswith(("HNSW", "FAISS"))}
    for n, q in enumerate(queries):
        found, want = index.search(q, k=k, now_s=NOW_S), truth(people, scoring, rest, n, k)
        exact += [(h.seq, h.log2_score) for h in found.hits] == want
        touched.append((found.rows_scored, found.bytes_touched))
        best = {seq for seq, _ in want}
        for name in recall:
            recall[name] += len(best & {int(x) + 1 for x in others[name](q)}) / len(best) / len(queries)
    ratio, low, high = paired_ratio(spent["FAISS flat"][0], spent["core"][0])
    rows, count = np.mean(touched, axis=0).tolist()
    return Row(
        f"{people.name} {label} k{k}", people.source, len(queries), exact, timed(spent["core"]), timed(hot),
        {name: timed(seconds) for name, seconds in spent.items() if name != "core"}, ratio, low, high, rows, count,
        recall,
    )  # fmt: skip
