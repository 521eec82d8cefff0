"""The scan: blocks by falling bound, exact early stop, exact answers from the few rows that are left.

Guards the rule that recall is exact: float32 only ever bounds. Every row whose upper bound reaches the k-th lower bound
is scored again by the definition (score.terms), and only those scores rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfmd.core.columns import Bool
from sfmd.core.model import F32, F64, I64, Cancel, Cancelled, Scoring, Terms, Where
from sfmd.core.score import terms
from sfmd.core.segment import Block, Segment
from sfmd.core.vectors import similarity
from sfmd.core.view import LAST_BLOCK_ROWS, View

GATHER_BELOW = 0.3
"""Share of a block's rows that pass the filter below which they are gathered rather than scanned with the others."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One query as the scan needs it. q float32[D] unit; seq: the state that is read; min_score: least 2^L of a hit."""

    q: F32
    k: int
    now_s: float
    seq: int
    scoring: Scoring
    where: Where | None
    min_score: float
    cancelled: Cancel | None


class Best:
    """Candidates so far: which rows, their upper bounds, and `floor`, the k-th best lower bound (never falling)."""

    def __init__(self, k: int, floor: float) -> None:
        self.k = k
        self.floor = floor
        self._lower: F64 = np.empty(0)
        self.found: list[tuple[Block, I64, F64]] = []

    def offer(self, block: Block, rows: I64, lower: F64, upper: F64) -> None:
        """Take rows with bounds on their L; those below the floor are dropped."""
        keep = upper >= self.floor
        if not keep.all():
            rows, lower, upper = rows[keep], lower[keep], upper[keep]
        if rows.size == 0:
            return
        self.found.append((block, rows, upper))
        pool = np.concatenate([self._lower, lower])
        if pool.size >= self.k:
            pool = np.partition(pool, pool.size - self.k)[pool.size - self.k :]
            self.floor = max(self.floor, float(pool[0]))
        self._lower = pool


def dot_error(q: F32, dim: int) -> float:
    """How far a float32 product with a unit vector can be from the exact one: D 2^-24 |q||v|, |v| a little above 1."""
    return dim * 2.0**-24 * 1.001 * max(1.0, float(np.sqrt(np.dot(q, q)))) + 2.0**-40


class Scan:
    """One query against tail and segments. Make one per query; nothing is shared between threads."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.error = dot_error(ask.q, ask.q.shape[0])
        floor = math.log2(ask.min_score) - 1e-6 if ask.min_score > 0.0 else -math.inf
        self.best = Best(ask.k, floor)
        self.rows_scored = 0
        self._dots = np.empty(LAST_BLOCK_ROWS, dtype=np.float32)
        self._products = np.empty(LAST_BLOCK_ROWS, dtype=np.float32)
        self._masks: dict[int, Bool] = {}

    def _bounded(self, d: F32, base: F64, age: F64, slack: float) -> tuple[F64, F64]:
        """Lower and upper bound of L for rows with float32 similarities d."""
        beta = self.ask.scoring.beta
        wide = d.astype(np.float64)
        rest = base - age
        with np.errstate(divide="ignore", invalid="ignore"):
            upper = beta * np.log2(np.minimum(1.0, np.maximum(wide + self.error, 0.0))) + rest + slack
            lower = beta * np.log2(np.minimum(1.0, np.maximum(wide - self.error, 0.0))) + rest - slack
        return lower, upper

    def _offer(self, block: Block, rows: I64, d: F32, base: F64, slack: float) -> None:
        tau = np.asarray(self.ask.scoring.half_life_s)[block.half_life[rows]]
        age = np.maximum(0.0, self.ask.now_s - block.t_s[rows]) / tau
        if age.size:
            slack += 2.0**-48 * float(age.max())
        lower, upper = self._bounded(d, base, age, slack)
        self.best.offer(block, rows, lower, upper)

    def tail(self, block: Block, base: F64, matches: Bool | None) -> None:
        """Score the unsorted tail: float64[N] `base` as in View, `matches` bool[N] for the filter."""
        n = len(block)
        if n == 0:
            return
        seen = (block.seq <= self.ask.seq) & (block.ended > self.ask.seq)
        if matches is not None:
            seen &= matches
        rows = np.flatnonzero(seen)
        self.rows_scored += rows.size
        if rows.size == 0:
            return
        d = np.vecdot(block.v[rows] if rows.size < n else block.v, self.ask.q)
        kept = np.flatnonzero(d > -self.error)
        self._offer(block, rows[kept], d[kept], base[rows[kept]], 1e-6)

    def run(self, parts: Sequence[tuple[Segment, View]]) -> None:
        """Scan segments, each under its view, by falling block bound, until no block can change the answer."""
        if not parts:
            return
        bounds = np.concatenate([v.top + (v.t_ref_s - self.ask.now_s) / v.tau_s for _, v in parts])
        owner = [(n, b) for n, (_, v) in enumerate(parts) for b in range(v.top.shape[0])]
        for place in np.argsort(-bounds, kind="stable").tolist():
            bound = float(bounds[place])
            n, b = owner[place]
            segment, view = parts[n]
            slack = view.slack + 2.0**-48 * abs(bound)
            if bound == -math.inf or bound + slack < self.best.floor:
                break
            if self.ask.cancelled is not None and self.ask.cancelled():
                raise Cancelled
            self._block(segment, view, b, bound, slack)

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

    def _block(self, segment: Segment, view: View, b: int, bound: float, slack: float) -> None:
        """Look at one block: float32 products against the floor, then float64 bounds for what passes."""
        data, ask = segment.data, self.ask
        low, high = int(view.starts[b]), int(view.starts[b + 1])
        mask = self._mask(segment)
        inside = None if mask is None else mask[low:high]
        if inside is not None:
            passing = int(np.count_nonzero(inside))
            if passing == 0:
                return
            if passing < GATHER_BELOW * (high - low):
                rows = np.flatnonzero(inside) + low
                self.rows_scored += passing
                d = np.vecdot(data.v[rows], ask.q)
                self._offer(data, rows, d, view.base[rows], slack)
                return
        n = high - low
        self.rows_scored += n
        d = block_dots(data.v[low:high], ask.q, self._dots[:n])
        p = np.multiply(d, view.weight[low:high], out=self._products[:n])
        picked = np.flatnonzero(p >= self._least_product(bound, slack))
        if inside is not None:
            picked = picked[inside[picked]]
        elif picked.size > 2 * ask.k + 32 and view.sound[b] and segment.t_max_s <= ask.now_s:
            part = p[picked]
            kth = float(np.partition(part, part.size - ask.k)[part.size - ask.k])
            picked = picked[part >= kth * (1.0 - 1e-5) - 2.0 * self.error]
        if picked.size:
            rows = picked + low
            self._offer(data, rows, d[picked], view.base[rows], slack)

    def _least_product(self, bound: float, slack: float) -> float:
        """The least s * weight that a hit of this block can have, given the floor; never above what float32 tells."""
        room = (self.best.floor - bound - slack) / self.ask.scoring.beta
        least = 2.0 ** min(room, 1.0) if room > -90.0 else 0.0
        return least * (1.0 - 1e-6) - self.error * 1.001

    def answer(self) -> tuple[Terms, ...]:
        """The k best by the definition among the candidates, best first."""
        ask, floor = self.ask, self.best.floor
        scored: list[Terms] = []
        for block, rows, upper in self.best.found:
            left = rows[upper >= floor]
            if left.size == 0:
                continue
            s = similarity(ask.q, block.v[left]).tolist()
            for n, row in enumerate(left.tolist()):
                made = terms(
                    ask.scoring, seq=int(block.seq[row]), id_=block.ids[row], s=s[n], r=float(block.r[row]),
                    t_s=float(block.t_s[row]), half_life=int(block.half_life[row]),
                    features=block.features[row].tolist(), now_s=ask.now_s,
                )  # fmt: skip
                if made is not None and 2.0**made.log2_score >= ask.min_score:
                    scored.append(made)
        scored.sort(key=lambda t: (-t.log2_score, t.id))
        return tuple(scored[: ask.k])


def block_dots(v: F32, q: F32, out: F32) -> F32:
    """float32 products of one block with the query. A prefix bound or an int8 copy takes its place here."""
    return np.vecdot(v, q, out=out)
