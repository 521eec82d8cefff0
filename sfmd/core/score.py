"""The score, once: the scalar definition that answers come from, and its vector form that only bounds them.

    L = beta * log2 s + alpha * log2 i - max(0, now - t) / tau + sum_j w_j * log2 f_j

in float64, left to right; a term whose exponent is 0 is 0; any factor of 0 is no hit. `score = 2^L` is for people, L
ranks (roadmap §3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sfmd.core.model import F64, I16, Scoring, Terms
from sfmd.core.normaliser import normalised, normalised_array


class Definition:
    """The definition under one scoring at one time: what every answer comes from."""

    __slots__ = ("_channels", "now_s", "scoring")

    def __init__(self, scoring: Scoring, now_s: float) -> None:
        self.scoring = scoring
        self.now_s = now_s
        self._channels = [(j, w) for j, w in enumerate(scoring.channel_weights)]

    def terms(
        self, id_: bytes, s: float, seq: int, r: float, t_s: float, half_life: int, features: Sequence[float]
    ) -> Terms | None:  # fmt: skip
        """One row's score taken apart; None when it is no hit.

        s: `vectors.similarity`; r: raw importance (nan: none); features: f_j by channel (nan or absent: 1).
        """
        scoring = self.scoring
        i = normalised(r, scoring.normaliser)
        if s <= 0.0 or (i <= 0.0 and scoring.alpha > 0.0):
            return None
        by_similarity = scoring.beta * math.log2(s)
        by_importance = scoring.alpha * math.log2(i) if scoring.alpha > 0.0 else 0.0
        age_s = max(0.0, self.now_s - t_s)
        tau_s = scoring.half_life_s[half_life]
        by_age = -(age_s / tau_s)
        total = (by_similarity + by_importance) + by_age
        values: tuple[float, ...] = ()
        by_feature: tuple[float, ...] = ()
        for j, w in self._channels:
            f = features[j] if j < len(features) and features[j] == features[j] else 1.0  # nan is not itself
            if w > 0.0 and f <= 0.0:
                return None
            term = w * math.log2(f) if w > 0.0 else 0.0
            values, by_feature = (*values, f), (*by_feature, term)
            total += term
        return Terms(
            seq, id_, s, i, age_s, tau_s, by_similarity, by_importance, by_age, values, by_feature, total
        )  # fmt: skip


def log2_importance(r: F64, scoring: Scoring) -> F64:
    """log2 i over float64[N], within a few ulps."""
    out: F64 = np.log2(normalised_array(r, scoring.normaliser))
    return out


def log2_features(features: F64, scoring: Scoring) -> F64 | None:
    """sum_j w_j log2 f_j over float64[N, J], -inf where a factor is 0; None when no channel weighs anything."""
    total: F64 | None = None
    for j, w in enumerate(scoring.channel_weights[: features.shape[1]]):
        if w > 0.0:
            with np.errstate(divide="ignore"):
                term = w * np.log2(np.where(np.isnan(features[:, j]), 1.0, features[:, j]))
            total = term if total is None else total + term
    return total


def half_lives(half_life: I16 | NDArray[np.integer], scoring: Scoring) -> F64:
    """tau by row, float64[N] seconds. Rows of a class that `scoring` does not know yet (it is one of the past; a read
    with it sees none of them) count as of its last class."""
    tau = np.asarray(scoring.half_life_s)
    out: F64 = tau[np.minimum(half_life, tau.shape[0] - 1)]
    return out


def ages_in_half_lives(t_s: F64, half_life: I16 | NDArray[np.integer], scoring: Scoring, now_s: float) -> F64:
    """max(0, now - t) / tau over float64[N]."""
    tau = half_lives(half_life, scoring) if len(scoring.half_life_s) > 1 else scoring.half_life_s[0]
    out: F64 = np.maximum(0.0, now_s - t_s) / tau
    return out
