"""A segment seen under one scoring: a float32 weight per row and an upper bound per block.

The rows' order was fixed when the segment was built; a view gives exact bounds for any scoring. Under the scoring it
was built for, blocks come out in falling order and a scan stops early; under another (a request's own alpha, a new
normaliser version, a replay) the same scan runs with bounds that are merely looser. No answer depends on a view: it
only decides which rows need not be looked at.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfmd.core.model import F32, F64, I64, Scoring
from sfmd.core.segment import Segment, base_and_key

FIRST_BLOCK_ROWS = 512
LAST_BLOCK_ROWS = 8192
FLOOR = np.float32(2.0**-100)
"""The least weight of a row relative to its block's best: an upper bound where float32 would underflow."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Weights and bounds of one segment under one scoring; beta is folded in, so a block's test is s * weight.

    base       float64[N]: alpha log2 i + sum w_j log2 f_j, to within `slack`
    weight     float32[N]: an upper bound of 2^((key - top of its block) / beta), never below FLOOR
    starts     int64[B + 1]: block b is rows starts[b]:starts[b+1], all of one half-life class
    top        float64[B]: best key of the block relative to t_ref (-inf: no row can be a hit)
    tau_s      float64[B]: half-life of the block's class
    sound      bool[B]: no weight of the block sits at FLOOR, so weights are also lower bounds (but for `slack`)
    t_ref_s    the event time that keys are relative to
    slack      what float rounding may add to a bound, in log2
    """

    base: F64
    weight: F32
    starts: I64
    top: F64
    tau_s: F64
    sound: NDArray[np.bool_]
    t_ref_s: float
    slack: float


def block_starts(half_life: NDArray[np.integer]) -> I64:
    """Block borders for rows grouped by class: sizes double from FIRST_BLOCK_ROWS to LAST_BLOCK_ROWS in each class."""
    starts: list[int] = []
    changes = np.flatnonzero(np.diff(half_life)) + 1
    borders = [0, *changes.tolist(), len(half_life)]
    for low, high in itertools.pairwise(borders):
        size, at, repeated = FIRST_BLOCK_ROWS, low, 0
        while at < high:
            starts.append(at)
            at += size
            repeated += 1
            if repeated == 2 and size < LAST_BLOCK_ROWS:
                size, repeated = size * 2, 0
    return np.array([*starts, len(half_life)], dtype=np.int64)


def make_view(segment: Segment, scoring: Scoring) -> View:
    """The view of a segment under a scoring: O(N) in a few passes, kept by the caller for the next query."""
    data = segment.data
    t_ref_s = segment.t_max_s
    base, key = base_and_key(data, scoring, t_ref_s)
    starts = block_starts(data.half_life)
    top = np.maximum.reduceat(key, starts[:-1])
    sizes = np.diff(starts)
    with np.errstate(invalid="ignore", under="ignore"):
        relative = (key - np.repeat(top, sizes)) / scoring.beta
        exact = np.exp2(np.where(np.isnan(relative), -np.inf, relative))
    weight = np.nextafter(np.maximum(exact.astype(np.float32), FLOOR), np.float32(2))
    finite = key[np.isfinite(key)]
    reach = float(np.abs(finite).max()) if finite.size else 0.0
    return View(
        base=base,
        weight=weight,
        starts=starts,
        top=top,
        tau_s=np.asarray(scoring.half_life_s)[data.half_life[starts[:-1]]],
        sound=np.minimum.reduceat(exact, starts[:-1]) > float(FLOOR),
        t_ref_s=t_ref_s,
        slack=2.0**-48 * reach + 1e-6,
    )


KEPT_VIEWS = 3


def view_of(segment: Segment, scoring: Scoring) -> View:
    """The kept view, or a new one; the oldest is dropped beyond KEPT_VIEWS. Two threads may both make it."""
    kept = segment.views.get(scoring)
    if isinstance(kept, View):
        return kept
    made = make_view(segment, scoring)
    while len(segment.views) >= KEPT_VIEWS:
        segment.views.pop(next(iter(segment.views)), None)
    segment.views[scoring] = made
    return made


def misordered(segment: Segment, scoring: Scoring) -> float:
    """Share of the segment's blocks whose bound rises above an earlier one's by more than a quarter bit: how much early
    stop suffers under `scoring`."""
    view = view_of(segment, scoring)
    if view.top.shape[0] < 2:
        return 0.0
    same = view.tau_s[1:] == view.tau_s[:-1]
    best_before = np.minimum.accumulate(view.top)[:-1]
    return float(np.count_nonzero(same & (view.top[1:] > best_before + 0.25)) / view.top.shape[0])
