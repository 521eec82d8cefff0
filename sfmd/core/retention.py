"""Retention: how much a memory is worth keeping hot. It never ranks a recall (roadmap §1.4, orthogonality)."""

from __future__ import annotations

import math

GAMMA = (0.5, 0.3, 0.2, 0.0)


def retention(
    i_adj: float,
    age_access_s: float,
    tau_r_s: float,
    count: int,
    count_max: int,
    cost: float,
    gamma: tuple[float, float, float, float] = GAMMA,
) -> float:
    """R = g1 i_adj + g2 2^(-age/tau_r) + g3 log(1+c)/log(1+C_max) - g4 cost (roadmap §4).

    i_adj: normalised importance to the power alpha, in [0, 1]; age_access_s: seconds since the last access (negative
    counts as 0); tau_r_s > 0 (inf: never fades); count and count_max: accesses of this memory and the largest seen (0
    gives the term 0); cost: bytes relative to the namespace's median, capped at 1 here. Rises with i_adj and count,
    falls with age and cost.
    """
    g1, g2, g3, g4 = gamma
    recency: float = 2.0 ** (-max(0.0, age_access_s) / tau_r_s)
    frequency = math.log1p(count) / math.log1p(count_max) if count_max > 0 else 0.0
    return g1 * i_adj + g2 * recency + g3 * min(1.0, frequency) - g4 * min(1.0, cost)
