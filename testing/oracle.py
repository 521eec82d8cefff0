"""The slow twin: the score as the definition says it, over every row, with no index, no float32 and no early stop.

What this module says is right. It shares no code with sfmd/core but the normaliser's definition of a version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class OracleRow:
    """One memory as the oracle sees it; i is already normalised."""

    seq: int
    id: bytes
    i: float
    t_s: float
    tau_s: float
    features: tuple[float, ...] = ()


def similarities(q: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float64]:
    """s for float32[N, D] rows: exact float64 products, added pairwise by halves, capped at 1."""
    out = np.empty(v.shape[0])
    for start in range(0, v.shape[0], 4096):
        x = v[start : start + 4096].astype(np.float64) * q.astype(np.float64)[None, :]
        width = 1
        while width < x.shape[1]:
            width *= 2
        x = np.hstack([x, np.zeros((x.shape[0], width - x.shape[1]))])
        while x.shape[1] > 1:
            half = x.shape[1] // 2
            x = x[:, :half] + x[:, half:]
        out[start : start + 4096] = x[:, 0]
    return np.minimum(1.0, out)


def log2_score(
    s: float, i: float, t_s: float, tau_s: float, features: Sequence[float], *,
    now_s: float, alpha: float, beta: float, weights: Sequence[float],
) -> float | None:  # fmt: skip
    """L, or None where the row is no hit."""
    if s <= 0.0 or (alpha != 0.0 and i <= 0.0):
        return None
    total = beta * math.log2(s)
    if alpha != 0.0:
        total = total + alpha * math.log2(i)
    total = total - max(0.0, now_s - t_s) / tau_s
    for j, w in enumerate(weights):
        if w == 0.0:
            continue
        f = features[j] if j < len(features) and not math.isnan(features[j]) else 1.0
        if f <= 0.0:
            return None
        total = total + w * math.log2(f)
    return total


def recall(
    q: NDArray[np.float32], v: NDArray[np.float32], rows: Sequence[OracleRow], *,
    k: int, now_s: float, alpha: float = 1.0, beta: float = 1.0, weights: Sequence[float] = (),
    min_score: float = 0.0, s: NDArray[np.float64] | None = None,
) -> list[tuple[int, float]]:  # fmt: skip
    """(seq, L) of the k best of N rows, best first. `s` may be given when the same similarities serve several calls."""
    if s is None:
        s = similarities(q, v)
    scored = []
    for row, similarity in zip(rows, s.tolist(), strict=True):
        score = log2_score(
            similarity,
            row.i,
            row.t_s,
            row.tau_s,
            row.features,
            now_s=now_s,
            alpha=alpha,
            beta=beta,
            weights=weights,
        )
        if score is not None and 2.0**score >= min_score:
            scored.append((-score, row.id, row.seq))
    scored.sort()
    return [(seq, -score) for score, _, seq in scored[:k]]
