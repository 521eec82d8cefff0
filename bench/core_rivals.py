"""What the core is measured against: each takes a query and gives row numbers, nothing else.

FAISS flat and the bare scan rank by similarity alone: they are the yardstick and the floor, not answers.
"""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np

from bench.core_data import NOW_S, Population
from sfmd.core.model import F32, I64, Scoring

Search = Callable[[F32], I64]
HNSW_LINKS, HNSW_EF = 32, 256


def flat(people: Population, k: int) -> Search:
    """faiss.IndexFlatIP: similarity only."""
    index = faiss.IndexFlatIP(people.dim)
    index.add(people.v)
    return lambda q: index.search(q[None], k)[1][0]


def brute(people: Population, scoring: Scoring, k: int) -> Search:
    """The whole score over every row, as plain numpy writes it."""
    age, tau = NOW_S - people.t_s, scoring.half_life_s[0]

    def search(q: F32) -> I64:
        score = np.maximum(people.v @ q, 0.0) ** scoring.beta * people.i**scoring.alpha * np.exp2(-age / tau)
        best = np.argpartition(-score, k)[:k]
        out: I64 = best[np.argsort(-score[best])]
        return out

    return search


def hnsw_index(people: Population) -> faiss.IndexHNSWFlat:
    """An HNSW graph over the vectors, built with all processors."""
    faiss.omp_set_num_threads(2)
    index = faiss.IndexHNSWFlat(people.dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.add(people.v)
    index.hnsw.efSearch = HNSW_EF
    faiss.omp_set_num_threads(1)
    return index


def over_fetch(people: Population, index: faiss.IndexHNSWFlat, scoring: Scoring, k: int, fetch: int) -> Search:
    """The `fetch` nearest by the graph, ranked again by the whole score."""
    tau = scoring.half_life_s[0]

    def search(q: F32) -> I64:
        near, rows = index.search(q[None], fetch)
        rows, s = rows[0], np.maximum(near[0], 0.0)
        score = s**scoring.beta * people.i[rows] ** scoring.alpha * np.exp2(-(NOW_S - people.t_s[rows]) / tau)
        out: I64 = rows[np.argsort(-score)[:k]]
        return out

    return search


def bare_scan(people: Population) -> Search:
    """Every vector read once and multiplied: what the memory's bandwidth allows any full scan."""
    out = np.empty(people.n, dtype=np.float32)

    def search(q: F32) -> I64:
        np.vecdot(people.v, q, out=out)
        return out[:0].astype(np.int64)

    return search
