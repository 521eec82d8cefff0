"""The scan: blocks by falling bound, exact early stop, exact answers from the few rows that are left.

Guards the rule that recall is exact: float32 only ever bounds. Every row whose upper bound reaches the k-th lower bound
is scored again by the definition (score.Definition), and only those scores rank.

Bounds live on one linear scale: 2^((L - reference) / beta), where the reference is the best that any row could reach.
On it a row of a class is worth s * weight * factor, and the query's time is in the factor alone.
"""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace

import numpy as np

from sfmd.core.columns import Bool
from sfmd.core.model import F32, F64, I64, Cancel, Cancelled, Scoring, Terms, Where
from sfmd.core.score import Definition, ages_in_half_lives
from sfmd.core.segment import Block, Segment
from sfmd.core.vectors import similarity
from sfmd.core.view import BLOCK_ROWS, Plan, Span, View

GATHER_BELOW = 0.3
"""Share of a block's rows that pass the filter below which they are gathered rather than scanned with the others."""
LEAST_FACTOR = 2.0**-900
"""Classes further behind than this are bounded from above only."""
LEAST_FLOOR = 2.0**-1000
"""A smaller floor counts as none: near the least floats, bounds lose the digits that make them bounds."""


@dataclass(slots=True)
class Ask:
    """One query as the scan needs it; nobody changes it (not frozen only because that is slower).

    q float32[D] unit; seq: the state that is read; min_score: least 2^L of a hit.
    """

    q: F32
    k: int
    now_s: float
    seq: int
    scoring: Scoring
    where: Where | None
    min_score: float
    cancelled: Cancel | None


_mine = threading.local()


def _room() -> tuple[F32, F32]:
    """Two arrays float32[BLOCK_ROWS[-1]] that a thread keeps from scan to scan: fresh memory costs page faults."""
    kept: tuple[F32, F32] | None = getattr(_mine, "room", None)
    if kept is None:
        kept = _mine.room = (np.empty(BLOCK_ROWS[-1], np.float32), np.empty(BLOCK_ROWS[-1], np.float32))
    return kept


class Best:
    """Candidates so far: which rows, their upper bounds, and `floor`, the k-th best lower bound (never falling)."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.floor = 0.0
        self._lower: F64 | None = None
        self.found: list[tuple[Block, I64, F64]] = []

    def offer(self, block: Block, rows: I64, lower: F64, upper: F64) -> None:
        """Take rows with bounds on the linear scale."""
        self.found.append((block, rows, upper))
        pool = lower if self._lower is None else np.concatenate((self._lower, lower))
        if pool.size >= self.k:
            pool.partition(pool.size - self.k)
            pool = pool[pool.size - self.k :]
            kth = float(pool[0])
            if kth > self.floor and kth > LEAST_FLOOR:
                self.floor = kth
        self._lower = pool


def dot_error(dim: int) -> float:
    """How far a float32 product of two unit vectors can be from the exact one: D 2^-24, and a little for |v| > 1."""
    return dim * 2.0**-24 * 1.001 + 2.0**-40


class Scan:
    """One query against tail and segments. Make one per query; nothing is shared between threads."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.error = dot_error(ask.q.shape[0])
        self.best = Best(ask.k)
        self.rows_scored = 0
        self._dots, self._products = _room()
        self._masks: dict[int, Bool] = {}

    def run(self, tail: Block | None, tail_base: F64, matches: Bool | None, plan: Plan | None) -> None:
        """Scan the tail, then the segments' blocks by falling bound, until no block can change the answer.

        tail_base: float64[N] as in View; matches: bool[N] for the filter.
        """
        now_s = self.ask.now_s
        rest: F64 | None = None
        reference = -math.inf
        if tail is not None:
            rest = tail_base - ages_in_half_lives(tail.t_s, tail.half_life, self.ask.scoring, now_s)
            reference = float(rest.max())
        runs = plan.runs if plan is not None else []
        levels = [run.top + (view.t_ref_s - now_s) / run.tau_s for _, view, run in runs]
        reference = max(reference, *levels) if levels else reference
        if reference == -math.inf:
            return
        self._start(reference)
        if tail is not None and rest is not None:
            self._tail(tail, rest - reference, matches)
        if plan is not None and levels:
            self._segments(plan, [level - reference for level in levels])

    def _start(self, reference: float) -> None:
        ask = self.ask
        if ask.min_score > 0.0:
            least = (math.log2(ask.min_score) - reference) / ask.scoring.beta
            self.best.floor = 2.0 ** min(least, 1.0) * (1.0 - 1e-6) if least > -1000.0 else 0.0
        self._signed_reference = reference
        self._reference = abs(reference)

    def _tail(self, block: Block, rest: F64, matches: Bool | None) -> None:
        """Score the unsorted tail; `rest` is all of L but the similarity, relative to the reference."""
        ask = self.ask
        seen = (block.seq <= ask.seq) & (block.ended > ask.seq)
        if matches is not None:
            seen &= matches
        rows = seen.nonzero()[0]
        self.rows_scored += rows.size
        if rows.size == 0:
            return
        whole = rows.size == len(block)
        d = np.vecdot(block.v if whole else block.v[rows], ask.q).astype(np.float64)
        worth = np.exp2((rest if whole else rest[rows]) / ask.scoring.beta)
        slack = 1e-6 + 2.0**-47 * (self._reference + float(np.abs(rest).max() if np.isfinite(rest).all() else 1e9))
        eps = slack / ask.scoring.beta
        upper = (d + self.error) * worth * (1.0 + eps)
        keep = (upper >= self.best.floor) & (d > -self.error)
        lower = np.maximum((d - self.error) * worth * (1.0 - eps), 0.0)
        self.best.offer(block, rows[keep], lower[keep], upper[keep])

    def _segments(self, plan: Plan, levels: list[float]) -> None:
        """Walk the runs' blocks by falling limit; `levels`: each run's best key, relative to the reference."""
        beta, best, cancelled = self.ask.scoring.beta, self.best, self.ask.cancelled
        eps = (plan.slack + 2.0**-47 * (self._reference + 2.0**10)) / beta
        scales = [2.0 ** (level / beta) for level in levels]
        heap = [(-run.spans[0].limit * scales[n], n, 0) for n, (_, _, run) in enumerate(plan.runs)]
        heapify(heap)
        while heap:
            bound, n, at = heap[0]
            if -bound * (1.0 + eps) < best.floor:
                break
            if cancelled is not None and cancelled():
                raise Cancelled
            segment, view, run = plan.runs[n]
            if at + 1 < len(run.spans):
                heapreplace(heap, (-run.spans[at + 1].limit * scales[n], n, at + 1))
            else:
                heappop(heap)
            self._block(segment, view, run.spans[at], max(scales[n], LEAST_FACTOR), eps)

    def _mask(self, segment: Segment) -> Bool | None:
        """bool[N] for the filter and for visibility, or None when every row of the segment is to be looked at."""
        ask = self.ask
        hidden = segment.n_ended > 0 or ask.seq < segment.max_seq
        if not hidden and not ask.where:
            return None
        key = id(segment)
        if key not in self._masks:
            data = segment.data
            mask = data.columns.mask(ask.where, data.t_s) if ask.where else np.ones(len(data), dtype=bool)
            if hidden:
                mask &= (data.seq <= ask.seq) & (data.ended > ask.seq)
            self._masks[key] = mask
        return self._masks[key]

    def _block(self, segment: Segment, view: View, span: Span, factor: float, eps: float) -> None:
        """Look at one block: float32 products s * weight against the floor; what passes becomes a candidate."""
        data, best, q = segment.data, self.best, self.ask.q
        low, high = span.low, span.high
        least = best.floor / factor * (1.0 - eps) - self.error * 1.001
        weight = view.weight[low:high]
        if span.falling and span.last < least:
            border = np.float32(least) * np.float32(1.0 - 1e-6)
            high = low + max(1, high - low - int(weight[::-1].searchsorted(border)))
            weight = weight[: high - low]
        bounded = span.sound and factor > LEAST_FACTOR and segment.t_max_s <= self.ask.now_s
        mask = self._mask(segment)
        if mask is not None:
            inside = mask[low:high].nonzero()[0]
            if inside.size == 0:
                return
            if inside.size < GATHER_BELOW * (high - low):
                self.rows_scored += inside.size
                p = np.vecdot(data.v[low + inside], q) * weight[inside]
                self._offer(segment, view, inside + low, p, factor, eps, bounded)
                return
        n = high - low
        self.rows_scored += n
        d = block_dots(data.v[low:high], q, self._dots[:n])
        p = np.multiply(d, weight, out=self._products[:n])
        if mask is not None:
            picked = inside[p[inside] >= least]
        else:
            if bounded and best.floor == 0.0 and n > 2 * best.k:
                kth = float(np.partition(p, n - best.k)[n - best.k])
                least = max(least, kth * (1.0 - 2.0 * eps) - 2.0 * self.error * 1.001)
            picked = (p >= least).nonzero()[0]
        if picked.size:
            self._offer(segment, view, picked + low, p[picked], factor, eps, bounded)

    def _offer(self, segment: Segment, view: View, rows: I64, p: F32, factor: float, eps: float, bounded: bool) -> None:
        """Turn products into bounds; `bounded`: the weights bound from below too."""
        wide = p.astype(np.float64)
        upper = (wide + self.error) * (factor * (1.0 + eps))
        if bounded:
            lower = (wide - self.error) * (factor * (1.0 - eps))
        else:
            lower = self._lower_bounds(segment, view, rows, wide, factor, eps)
        self.best.offer(segment.data, rows, lower, upper)

    def _lower_bounds(self, segment: Segment, view: View, rows: I64, p: F64, factor: float, eps: float) -> F64:
        """Lower bounds where event times lie in the future or weights underflow: from the rows' own ages."""
        data, scoring = segment.data, self.ask.scoring
        d = p / view.weight[rows] - 2.0 * self.error
        age = ages_in_half_lives(data.t_s[rows], data.half_life[rows], scoring, self.ask.now_s)
        with np.errstate(under="ignore"):
            worth = np.exp2((view.base[rows] - age - self._signed_reference) / scoring.beta)
        out: F64 = np.where(view.weight[rows] > 2.0**-99, np.maximum(d, 0.0) * worth * (1.0 - 2.0 * eps), 0.0)
        return out

    def answer(self) -> tuple[Terms, ...]:
        """The k best by the definition among the candidates, best first."""
        ask, floor = self.ask, self.best.floor
        by_block: dict[int, tuple[Block, list[I64]]] = {}
        for block, rows, upper in self.best.found:
            by_block.setdefault(id(block), (block, []))[1].append(rows[upper >= floor])
        definition = Definition(ask.scoring, ask.now_s)
        scored: list[Terms] = []
        for block, parts in by_block.values():
            rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
            s = similarity(ask.q, block.v[rows]).tolist()
            classes = block.half_life[rows].tolist() if len(ask.scoring.half_life_s) > 1 else itertools.repeat(0)
            features = block.features[rows].tolist() if ask.scoring.channel_weights else itertools.repeat(())
            columns = (block.seq[rows].tolist(), block.r[rows].tolist(), block.t_s[rows].tolist(), classes, features)
            for row, *values in zip(rows.tolist(), s, *columns, strict=False):
                made = definition.terms(block.ids[row], *values)
                if made is not None:
                    scored.append(made)
        if ask.min_score > 0.0:
            scored = [t for t in scored if 2.0**t.log2_score >= ask.min_score]
        scored.sort(key=_rank)
        return tuple(scored[: ask.k])


def _rank(t: Terms) -> tuple[float, bytes]:
    """Best first, then id by bytes."""
    return (-t.log2_score, t.id)


def block_dots(v: F32, q: F32, out: F32) -> F32:
    """float32 products of one block with the query. A prefix bound or an int8 copy takes its place here.

    vecdot saturates the memory's bandwidth, which BLAS gemv does not.
    """
    return np.vecdot(v, q, out=out)
