"""The scan: blocks by falling bound, exact early stop, exact answers from the few rows that are left.

Guards the rule that recall is exact: float32 only ever bounds. Every row whose upper bound reaches the k-th lower bound
is scored again by the definition (score.Definition), and only those scores rank.

Bounds live on one linear scale: 2^((L - reference) / beta), where the reference is the best that any row could reach.
On it a row of a class is worth s * weight * factor, and the query's time is in the factor alone.

A query costs as much in calls as in rows, the more so when the caches are cold: hence few calls on whole blocks, and
products kept in float32 until the last floor is known.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import repeat
from typing import NamedTuple

import numpy as np

from sfmd.core.best import Best, highest
from sfmd.core.columns import Bool
from sfmd.core.heads import CHUNK_ROWS
from sfmd.core.model import F32, F64, I64, Cancel, Cancelled, Scoring, Terms, Where
from sfmd.core.score import Definition, ages_in_half_lives
from sfmd.core.segment import Block, Segment
from sfmd.core.vectors import block_dots, dot_error, similarity
from sfmd.core.view import BLOCK_ROWS_MAX, FLOOR, Part, Plan, Span

GATHER_BELOW = 0.3
"""Share of a block's rows that pass the filter below which they are gathered rather than scanned with the others."""
HEADS_FROM_ROWS = 4096
"""Blocks (or what is left of them) shorter than this are read whole: turning the query costs as much as that saves."""
HEADS_AGAIN = 1.1
"""After a block whose heads ruled out too little, the similarity that a block's best row needs must have grown by this
much for heads to be asked again."""
LEAST_FACTOR = 2.0**-900
"""Classes further behind than this are bounded from above only."""
BLIND = 0.5
"""Relative error of what bounds a row from which on they rule nothing out: beta is so small that the rounding of the
rest of the score outweighs the similarity. Up to here 1 - eps and 1 + eps enclose 2^-eps and 2^eps."""
WEIGHT_ERROR = 2.0**-21
"""Relative error of a float32 weight that was rounded up, and of its product with a similarity."""


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


def _room() -> F32:
    """An array for a block's products that a thread keeps from scan to scan: fresh memory costs page faults."""
    kept: F32 | None = getattr(_mine, "room", None)
    if kept is None:
        kept = _mine.room = np.empty(BLOCK_ROWS_MAX + 2 * CHUNK_ROWS, np.float32)
    return kept


class Slab(NamedTuple):
    """The block that a scan has open: rows low:high of a part, or those of them (relative to low) in `rows`.

    sound: its weights bound from below too.
    """

    part: Part
    factor: float
    low: int
    high: int
    rows: I64 | None
    sound: bool


class Scan:
    """One query against tail and segments. Make one per query; nothing is shared between threads."""

    __slots__ = (
        "_eps", "_error", "_factors", "_found", "_heads_from", "_heap", "_masks", "_parts", "_reference", "_room",
        "_scales", "_tail_found", "_turned", "ask", "best", "bytes_touched", "opened", "rows_scored", "slab",
    )  # fmt: skip

    slab: Slab

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.best = Best(ask.k)
        self.rows_scored = self.bytes_touched = self.opened = 0
        self._heads_from = 0.0
        self._turned: dict[int, F32] = {}
        self._error = dot_error(ask.q.shape[0])
        self._room = _room()
        self._masks: dict[int, Bool] = {}
        self._parts: list[Part] = []
        self._factors: list[float] = []
        self._scales: list[float] = []
        self._heap: list[tuple[float, int, int]] = []
        self._found: list[tuple[Block, float, I64, F32, float]] = []
        self._tail_found: tuple[Block, I64, F64] | None = None

    def run(self, tail: Block | None, tail_base: F64, matches: Bool | None, plan: Plan | None) -> None:
        """Scan the tail, then the segments' blocks by falling bound, until no block can change the answer.

        tail_base: float64[N] as in View; matches: bool[N] for the filter.
        """
        self.start(tail, tail_base, matches, plan)
        while self.advance():
            self.finish(self.products())

    def start(self, tail: Block | None, tail_base: F64, matches: Bool | None, plan: Plan | None) -> None:
        """As `run`, up to the first block: after it, `advance` and `finish` take turns."""
        ask = self.ask
        rest: F64 | None = None
        reference = -math.inf
        if tail is not None:
            rest = tail_base - ages_in_half_lives(tail.t_s, tail.half_life, ask.scoring, ask.now_s)
            reference = float(rest.max())
        levels = plan.levels(ask.now_s) if plan is not None else []
        if levels:
            reference = max(reference, *levels)
        if reference == -math.inf:
            return
        self._start(reference)
        if tail is not None and rest is not None:
            self._tail(tail, rest - reference, matches)
        if plan is not None and levels:
            self._segments(plan, [level - reference for level in levels])

    def _start(self, reference: float) -> None:
        ask = self.ask
        self._reference = reference
        if ask.min_score > 0.0:
            wanted = math.log2(ask.min_score)
            least = (wanted - reference) / ask.scoring.beta
            eps = 1e-6 + 2.0**-47 * (abs(wanted) + abs(reference)) / ask.scoring.beta
            if least > -1000.0 and eps < BLIND:
                self.best.floor = 2.0 ** min(least, 1.0) * (1.0 - eps)

    def _tail(self, block: Block, rest: F64, matches: Bool | None) -> None:
        """Score the unsorted tail; `rest` is all of L but the similarity, relative to the reference: 0 at most."""
        ask, best = self.ask, self.best
        seen = (block.seq <= ask.seq) & (block.ended > ask.seq)
        if matches is not None:
            seen &= matches
        rows = seen.nonzero()[0]
        self.rows_scored += rows.size
        self.bytes_touched += rows.size * block.v.shape[1] * 4
        if rows.size == 0:
            return
        v = block.v
        if rows.size < len(block):
            v, rest = v[rows], rest[rows]
        lowest = float(rest.min())
        slack = 1e-6 + 2.0**-47 * (abs(self._reference) + (-lowest if lowest > -math.inf else 1e9))
        eps = slack / ask.scoring.beta
        d = np.vecdot(v, ask.q).astype(np.float64)
        if eps > BLIND:
            best.give_up()
            near = (d > -self._error).nonzero()[0]
            self._tail_found = (block, rows[near], np.ones(near.size))
            return
        worth = np.exp2(rest / ask.scoring.beta)
        best.offer(highest((d - self._error) * worth * (1.0 - eps), best.k))
        upper = (d + self._error) * worth * (1.0 + eps)
        near = (upper >= best.floor).nonzero()[0]
        self._tail_found = (block, rows[near], upper[near])

    def _segments(self, plan: Plan, levels: list[float]) -> None:
        """Make ready to walk the parts' blocks by falling limit; `levels`: each part's best key, relative to the
        reference."""
        beta = self.ask.scoring.beta
        self._eps = (plan.slack + 2.0**-47 * (abs(self._reference) + 2.0**10)) / beta + WEIGHT_ERROR
        if self._eps > BLIND or self.best.blind:
            self._eps = 0.0
            self.best.give_up()
        self._parts = parts = plan.parts
        self._scales = scales = [2.0 ** (level / beta) for level in levels]
        self._factors = [max(scale, LEAST_FACTOR) for scale in scales]
        self._heap = [(-part.spans[0].limit * scales[n], n, 0) for n, part in enumerate(parts)]
        heapify(self._heap)

    def advance(self) -> bool:
        """Go on to the next block whose products are wanted whole, through those that need less; False at the end.
        Raises Cancelled."""
        heap, parts, scales, best = self._heap, self._parts, self._scales, self.best
        cancelled = self.ask.cancelled
        while heap:
            bound, n, at = heap[0]
            if -bound * (1.0 + self._eps) < best.floor:
                return False
            if cancelled is not None and cancelled():
                raise Cancelled
            spans = parts[n].spans
            if at + 1 < len(spans):
                heapreplace(heap, (-spans[at + 1].limit * scales[n], n, at + 1))
            else:
                heappop(heap)
            self.opened += 1
            if self._open(n, spans[at]):
                return True
        return False

    def _mask(self, segment: Segment) -> Bool | None:
        """bool[N] for the filter and for reads of the past, or None when every row of the segment is to be looked at.
        Rows that have ended by now are left out of the candidates: a mask costs a pass over all rows."""
        ask = self.ask
        past = ask.seq < segment.max_seq
        if not past and ask.where is None:
            return None
        key = id(segment)
        if key not in self._masks:
            data = segment.data
            mask = data.columns.mask(ask.where, data.t_s) if ask.where else np.ones(len(data), dtype=bool)
            if past:
                mask &= (data.seq <= ask.seq) & (data.ended > ask.seq)
            self._masks[key] = mask
        return self._masks[key]

    def _least(self, factor: float) -> float:
        """The least product s * weight whose upper bound reaches the floor, in a class with this factor."""
        return self.best.floor / factor * (1.0 - self._eps) - self._error * 1.001

    def _open(self, n: int, span: Span) -> bool:
        """Begin with one block of part n. True when its products are wanted whole: `finish` goes on with them."""
        part, factor, low, high = self._parts[n], self._factors[n], span.low, span.high
        least = self._least(factor)
        if span.falling and span.last < least:
            high = part.reach(low, high, least)
        sound = span.sound and factor > LEAST_FACTOR and part.segment.t_max_s <= self.ask.now_s
        mask = self._mask(part.segment)
        rows = None if mask is None else mask[low:high].nonzero()[0]
        if rows is None or rows.size >= GATHER_BELOW * (high - low):
            self.rows_scored += high - low
            rows = self._by_heads(part, span, high, rows, least)
        else:
            self.rows_scored += rows.size
        whole = rows is None or rows.size >= GATHER_BELOW * (high - low)
        self.slab = Slab(part, factor, low, high, rows, sound)
        if rows is not None and not whole and rows.size:
            self._judge(rows, self._gathered(part, rows + low), least)
        return whole

    def finish(self, p: F32) -> None:
        """Look at the open block, given its products: float32 s * weight against the floor; what passes is a
        candidate."""
        part, factor, low, high, rows, sound = self.slab
        least = self._least(factor)
        if rows is not None:
            self._judge(rows, p[rows], least)
            return
        if self.best.blind or not (sound and self.best.floor == 0.0 and p.size > 2 * self.best.k):
            self._judge(None, p, least)
            return
        if part.segment.n_ended:
            p[part.segment.data.ended[low:high] <= self.ask.seq] = -1.0
        self._raise(highest(p, self.best.k), factor)
        self._judge(None, p, self._least(factor), raised=True)

    def _judge(self, rows: I64 | None, p: F32, least: float, *, raised: bool = False) -> None:
        """Keep those of the open block's rows (relative to its low; None: all) whose products reach the floor."""
        part, factor, low, _, _, sound = self.slab
        near = (p >= least).nonzero()[0]
        if near.size == 0:
            return
        rows, p = (near if rows is None else rows[near]) + low, p[near]
        if part.segment.n_ended:
            living = (part.segment.data.ended[rows] > self.ask.seq).nonzero()[0]
            rows, p = rows[living], p[living]
        self._found.append((part.segment.data, factor, rows, p, self.best.floor))
        if raised or self.best.blind:
            return
        if sound:
            self._raise(highest(p, self.best.k), factor)
        else:
            self.best.offer(highest(self._lower_by_age(part, rows, p), self.best.k))

    def _by_heads(self, part: Part, span: Span, high: int, rows: I64 | None, least: float) -> I64 | None:
        """Of a block's rows up to high (relative to its low; None: all) those that their heads do not rule out; `rows`
        as they came where there are no heads or they would hardly pay."""
        heads, low = part.segment.heads, span.low
        if heads is None or high - low < HEADS_FROM_ROWS:
            return rows
        limit = max(span.limit, float(FLOOR))
        needed = least / limit
        if needed < max(self._heads_from, 8.0 * heads.slack):
            return rows
        turned = self._turned.get(id(heads))
        if turned is None:
            turned = self._turned[id(heads)] = heads.turned(self.ask.q)
        self.bytes_touched += (high - low) * heads.row_bytes
        bound = heads.bounds(turned, low, high, self._room)
        np.multiply(bound, part.weight[low:high], bound)
        near = (bound >= least - 1.01 * heads.slack * limit).nonzero()[0]
        if near.size >= GATHER_BELOW * (high - low):
            self._heads_from = needed * HEADS_AGAIN
            return rows
        return near if rows is None else np.intersect1d(near, rows, assume_unique=True)

    def products(self) -> F32:
        """s * weight, float32[high - low], of every row of the open block; valid until the next block."""
        part, _, low, high, _, _ = self.slab
        return self.weighted(block_dots(part.v[low:high], self.ask.q, self._room[: high - low]))

    def weighted(self, dots: F32) -> F32:
        """The open block's products from its similarities, in the same array."""
        part, _, low, high, _, _ = self.slab
        self.bytes_touched += (high - low) * part.row_bytes
        return np.multiply(dots, part.weight[low:high], dots)

    def _gathered(self, part: Part, rows: I64) -> F32:
        """s * weight of a few chosen rows."""
        self.bytes_touched += rows.size * part.row_bytes
        gathered: F32 = np.vecdot(part.v[rows], self.ask.q)
        return gathered * part.weight[rows]

    def _raise(self, p: list[float], factor: float) -> None:
        """Let products whose weights bound from below move the floor."""
        error, scale = self._error, factor * (1.0 - self._eps)
        self.best.offer([(x - error) * scale for x in p])

    def _lower_by_age(self, part: Part, rows: I64, p: F32) -> F64:
        """Lower bounds where event times lie in the future or weights underflow: from the rows' own ages."""
        data, scoring, weight = part.segment.data, self.ask.scoring, part.weight[rows]
        d = p.astype(np.float64) / weight - 2.0 * self._error
        age = ages_in_half_lives(data.t_s[rows], data.half_life[rows], scoring, self.ask.now_s)
        with np.errstate(under="ignore"):
            worth = np.exp2((part.base[rows] - age - self._reference) / scoring.beta)
        out: F64 = np.where(weight > 2.0**-99, np.maximum(d, 0.0) * worth * (1.0 - 2.0 * self._eps), 0.0)
        return out

    def _candidates(self) -> list[tuple[Block, I64]]:
        """What can still be among the k best, block by block (a block of a segment may come several times)."""
        floor = self.best.floor
        out: list[tuple[Block, I64]] = []
        if self._tail_found is not None:
            block, rows, upper = self._tail_found
            out.append((block, rows[upper >= floor]))
        for block, factor, rows, p, then in self._found:
            if then < floor:
                rows = rows[(p >= self._least(factor)).nonzero()[0]]  # noqa: PLW2901 - the rest of them is not needed
            if rows.size:
                out.append((block, rows))
        return out

    def answer(self) -> tuple[Terms, ...]:
        """The k best by the definition among the candidates, best first."""
        ask = self.ask
        found = self._candidates()
        if not found:
            return ()
        vectors = [block.v.take(rows, axis=0) for block, rows in found]
        s = iter(similarity(ask.q, vectors[0] if len(vectors) == 1 else np.concatenate(vectors)).tolist())
        definition = Definition(ask.scoring, ask.now_s)
        classes, channels = len(ask.scoring.half_life_s) > 1, len(ask.scoring.channel_weights) > 0
        scored: list[Terms] = []
        for block, rows in found:
            columns = (
                block.seq[rows].tolist(), block.r[rows].tolist(), block.t_s[rows].tolist(),
                block.half_life[rows].tolist() if classes else repeat(0),
                block.features[rows].tolist() if channels else repeat(()),
            )  # fmt: skip
            for values in zip(block.ids.at(rows), s, *columns):  # noqa: B905 - s goes on with the next block
                made = definition.terms(*values)
                if made is not None:
                    scored.append(made)
        if ask.min_score > 0.0:
            scored = [t for t in scored if 2.0**t.log2_score >= ask.min_score]
        scored.sort(key=_rank)
        return tuple(scored[: ask.k])


def _rank(t: Terms) -> tuple[float, bytes]:
    """Best first, then id by bytes."""
    return (-t.log2_score, t.id)
