"""A segment seen under one scoring: a float32 weight per row and an upper bound per block.

The rows' order was fixed when the segment was built; a view gives exact bounds for any scoring. Under the scoring it
was built for, weights fall along each class and a scan stops early; under another (a request's own alpha, a new
normaliser version, a replay) the same scan runs with bounds that are merely looser. No answer depends on a view: it
only decides which rows need not be looked at.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfmd.core.model import F32, F64, I64, Scoring
from sfmd.core.score import half_lives
from sfmd.core.segment import Segment, base_and_key

FIRST_BLOCK_ROWS = (512, 2048)
BLOCK_GROWTH = 4
BLOCK_ROWS_MAX = 16384
STEP_ROWS = 64
FLOOR = np.float32(2.0**-100)
"""The least weight of a row relative to its class's best: an upper bound where float32 would underflow."""


@dataclass(frozen=True, slots=True)
class Span:
    """One block as a scan meets it: rows low:high of a segment, all of one class.

    limit: the block's best weight relative to its class's best; last: its last row's weight; falling: weights do not
    rise along it; sound: none sits at FLOOR, so that weights bound from below too (but for `slack`).
    """

    limit: float
    low: int
    high: int
    last: float
    falling: bool
    sound: bool


@dataclass(frozen=True, slots=True)
class Run:
    """The blocks of one half-life class that can hold hits, best limit first: what no query's time changes.

    top: the class's best key relative to t_ref.
    """

    top: float
    tau_s: float
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Weights and bounds of one segment under one scoring; beta is folded in, so that s * weight ranks a class's rows.

    base       float64[N]: alpha log2 i + sum w_j log2 f_j, to within `slack`
    weight     float32[N]: 2^((key - top of its class) / beta), rounded up, never below FLOOR
    block_top  float64[B]: best key of the block relative to t_ref (-inf: no row of it can be a hit)
    tau_s      float64[B]: half-life of the block's class
    runs       the blocks by class
    steps      the weight of every STEP_ROWS-th row, negated
    t_ref_s    the event time that keys are relative to
    slack      what rounding may add to a bound, in log2
    """

    base: F64
    weight: F32
    block_top: F64
    tau_s: F64
    runs: tuple[Run, ...]
    steps: list[float]
    t_ref_s: float
    slack: float


def block_sizes(rows: int) -> Iterator[int]:
    """Rows of a class's first, second … block. The first is about a hundredth of the class, a power of two: it is read
    for the floor that ends the others early, and each of these costs some calls. Each later one ends four times as far
    in as the last, so that borders are multiples of powers of two too."""
    least, most = FIRST_BLOCK_ROWS
    end = min(most, max(least, 1 << (rows // 64).bit_length() >> 1))
    yield end
    while True:
        size = min(BLOCK_ROWS_MAX, end * (BLOCK_GROWTH - 1))
        yield size
        end += size


def block_starts(half_life: NDArray[np.integer]) -> tuple[list[int], I64]:
    """Block borders for rows grouped by class, and each block's class number in order of appearance, int64[B]."""
    starts: list[int] = []
    owner: list[int] = []
    borders = [0, *(np.flatnonzero(np.diff(half_life)) + 1).tolist(), len(half_life)]
    for number, (low, high) in enumerate(itertools.pairwise(borders)):
        at = low
        for size in block_sizes(high - low):
            if at >= high:
                break
            starts.append(at)
            owner.append(number)
            at += size
    return [*starts, len(half_life)], np.array(owner, dtype=np.int64)


def make_view(segment: Segment, scoring: Scoring) -> View:
    """The view of a segment under a scoring: O(N) in a few passes, kept by the caller for the next query."""
    data = segment.data
    t_ref_s = segment.t_max_s
    base, key = base_and_key(data, scoring, t_ref_s)
    starts, owner = block_starts(data.half_life)
    low = np.array(starts[:-1], dtype=np.int64)
    block_top = np.maximum.reduceat(key, low)
    first_of_class = np.flatnonzero(np.diff(owner, prepend=-1))
    class_top = np.maximum.reduceat(block_top, first_of_class)[owner]
    with np.errstate(invalid="ignore", under="ignore"):
        relative = (key - np.repeat(class_top, np.diff(starts))) / scoring.beta
        exact = np.exp2(np.where(np.isnan(relative), -np.inf, relative))
    weight = np.nextafter(np.maximum(exact.astype(np.float32), FLOOR), np.float32(2))
    rising = np.concatenate([np.diff(weight) > 0, [False]])
    rising[low[1:] - 1] = False
    finite = key[np.isfinite(key)]
    with np.errstate(invalid="ignore", under="ignore"):
        limit = np.exp2((block_top - class_top) / scoring.beta)
    tau_s = half_lives(data.half_life[low], scoring)
    spans = list(map(
        Span, limit.tolist(), starts[:-1], starts[1:], weight[np.array(starts[1:]) - 1].tolist(),
        (~np.logical_or.reduceat(rising, low)).tolist(), (np.minimum.reduceat(exact, low) > float(FLOOR)).tolist(),
    ))  # fmt: skip
    return View(
        base=base,
        weight=weight,
        block_top=block_top,
        tau_s=tau_s,
        runs=tuple(_runs(spans, owner, block_top.tolist(), class_top, tau_s)),
        steps=(-weight[::STEP_ROWS]).tolist(),
        t_ref_s=t_ref_s,
        slack=2.0**-48 * (float(np.abs(finite).max()) if finite.size else 0.0) + 1e-6,
    )


def _runs(spans: list[Span], owner: I64, tops: list[float], class_top: F64, tau_s: F64) -> Iterator[Run]:
    """The spans by class, best limit first; those without a possible hit are left out."""
    first = np.flatnonzero(np.diff(owner, prepend=-1)).tolist()
    for low, high in itertools.pairwise([*first, len(spans)]):
        top = float(class_top[low])
        if top > -math.inf:
            mine = [span for span, best in zip(spans[low:high], tops[low:high], strict=True) if best > -math.inf]
            yield Run(top, float(tau_s[low]), tuple(sorted(mine, key=lambda span: -span.limit)))


class Part:
    """One run of one segment, with what a scan reads of it at hand.

    v float32[N, D], weight float32[N] and base float64[N] are the whole segment's.
    """

    __slots__ = ("base", "row_bytes", "segment", "spans", "steps", "t_ref_s", "tau_s", "top", "v", "weight")

    def __init__(self, segment: Segment, view: View, run: Run) -> None:
        self.segment = segment
        self.v: F32 = segment.data.v
        self.row_bytes = self.v.shape[1] * 4
        self.weight, self.base, self.t_ref_s = view.weight, view.base, view.t_ref_s
        self.top, self.tau_s, self.spans = run.top, run.tau_s, run.spans
        self.steps = view.steps

    def reach(self, low: int, high: int, least: float) -> int:
        """Where the rows low:high end that can hold a product of `least`, when weights fall along them: to within
        STEP_ROWS - 1 rows, as a list of few weights is quicker to search than the array of all."""
        first = low // STEP_ROWS + 1
        step = bisect_right(self.steps, -least, first, max(first, -(-high // STEP_ROWS)))
        return min(high, step * STEP_ROWS)


class Plan:
    """Several segments under one scoring, as the parts that a scan walks; what no query changes is worked out once."""

    __slots__ = ("parts", "slack")

    def __init__(self, seen: Sequence[tuple[Segment, View]]) -> None:
        self.parts = [Part(segment, view, run) for segment, view in seen for run in view.runs]
        self.slack = max((v.slack for _, v in seen), default=0.0)

    def levels(self, now_s: float) -> list[float]:
        """Each part's best key at `now_s`."""
        return [part.top + (part.t_ref_s - now_s) / part.tau_s for part in self.parts]


KEPT_VIEWS = 3


def view_of(segment: Segment, scoring: Scoring) -> View:
    """The kept view, or a new one; the oldest is dropped beyond KEPT_VIEWS. Two threads may both make it."""
    kept = segment.views.get(scoring)
    if isinstance(kept, View):
        return kept
    made = make_view(segment, scoring)
    for oldest in list(segment.views)[: max(0, len(segment.views) - KEPT_VIEWS + 1)]:
        segment.views.pop(oldest, None)
    segment.views[scoring] = made
    return made


def misordered(segment: Segment, scoring: Scoring) -> float:
    """Share of the segment's blocks whose bound rises above an earlier one's by more than a quarter bit: how much early
    stop suffers under `scoring`."""
    view = view_of(segment, scoring)
    if view.block_top.shape[0] < 2:
        return 0.0
    same = view.tau_s[1:] == view.tau_s[:-1]
    best_before = np.minimum.accumulate(view.block_top)[:-1]
    return float(np.count_nonzero(same & (view.block_top[1:] > best_before + 0.25)) / view.block_top.shape[0])
