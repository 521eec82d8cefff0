"""The index of one namespace: a small unsorted tail, immutable segments in impact order, and one published state.

Guards three rules. Readers take no lock: they work on the state they began with. What is visible changes at one seq:
rows, ends and scoring of an `apply` appear together. Everything here can be rebuilt from the log.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sfmd.core import files, merge, together
from sfmd.core.columns import Bool
from sfmd.core.model import (
    F32,
    F64,
    I64,
    NEVER,
    Cancel,
    Cancelled,
    Found,
    IndexStats,
    Question,
    Rows,
    Scoring,
    Where,
)  # fmt: skip
from sfmd.core.scan import Ask, Scan
from sfmd.core.segment import Block, Segment
from sfmd.core.state import State
from sfmd.core.statistics import stats_of
from sfmd.core.tail import Tail
from sfmd.core.vectors import norm_error_max
from sfmd.core.view import Plan, view_of

_NOTHING: F64 = np.empty(0)


def _locate(segments: Sequence[Segment], tail: Tail, row_seq: int) -> tuple[I64 | None, int]:
    """The `ended` column that has the row made by that seq, and its place there."""
    place = tail.locate(row_seq)
    if place >= 0:
        return tail.ended, place
    for segment in segments:
        place = segment.locate(row_seq)
        if place >= 0:
            return segment.data.ended, place
    return None, -1


def _end(segments: Sequence[Segment], tail: Tail, row_seq: int, at_seq: int) -> bool:
    """End a row at a seq; False when it had ended then already. The mark is set before it is counted: a reader that
    sees no count looks at a state in which the row still lives."""
    ended, place = _locate(segments, tail, row_seq)
    if ended is None or ended[place] != NEVER:
        return False
    ended[place] = at_seq
    for segment in segments:
        if segment.data.ended is ended:
            segment.n_ended += 1
    return True


class Index:
    """Exact top-k under the whole score over the memories of one namespace."""

    def __init__(self, dim: int, scoring: Scoring, folder: Path | None = None) -> None:
        self.dim = dim
        self.folder = folder
        self.problem = ""
        """Why the files could not be used at `open`; empty when they could."""
        self._write = threading.Lock()
        self._upkeep = threading.Lock()
        self._made = 0
        self._norm_error = 0.0
        self._state = State(0, scoring, (), Tail(dim, len(scoring.channel_weights)), 0, 0)

    @classmethod
    def open(cls, folder: Path, dim: int, scoring: Scoring) -> Index:
        """Map the segments in `folder`; nothing there is changed. Where they are absent or not usable the index is
        empty, `seq` is 0, `problem` says why, and the caller applies the whole log."""
        index = cls(dim, scoring, folder)
        try:
            seq, segments = files.read_manifest(folder, dim)
        except files.Unusable as why:
            index.problem = str(why) if folder.exists() else ""
            return index
        live = sum(len(s) - s.n_ended for s in segments)
        index._made = max((int(s.name.rsplit("-", 1)[1]) for s in segments), default=0)
        index._norm_error = max((norm_error_max(s.data.v[:4096]) for s in segments), default=0.0)
        index._state = State(seq, scoring, tuple(segments), index._state.tail, 0, live)
        return index

    @property
    def seq(self) -> int:
        """Everything of the log up to here is applied."""
        return self._state.seq

    @property
    def scoring(self) -> Scoring:
        """The scoring of the present state."""
        return self._state.scoring

    def apply(
        self,
        seq: int,
        rows: Rows | None = None,
        ended: Sequence[tuple[int, int]] = (),
        scoring: Scoring | None = None,
    ) -> None:
        """Make rows, ends `(row_seq, at_seq)` and a new scoring visible together, as of `seq`. One writer at a time.

        Raises ValueError, with nothing changed, when seq goes back, rows do not ascend, or an ended row is not there.
        Ending a row again at the same seq changes nothing.
        """
        with self._write:
            old = self._state
            self._refuse_wrong(old, seq, rows, ended)
            tail = old.tail
            if rows is not None and len(rows):
                if not tail.fits(rows):
                    tail = tail.grown(rows)
                tail.append(rows)
                self._norm_error = max(self._norm_error, norm_error_max(rows.vectors))
            went = sum(_end(old.segments, tail, row_seq, at_seq) for row_seq, at_seq in ended)
            live = old.live + (len(rows) if rows is not None else 0) - went
            changed = scoring is not None and scoring != old.scoring
            self._state = State(
                seq, scoring if scoring is not None and changed else old.scoring, old.segments, tail, tail.n, live,
                plan=None if changed else old.plan,
            )  # fmt: skip

    def _refuse_wrong(self, old: State, seq: int, rows: Rows | None, ended: Sequence[tuple[int, int]]) -> None:
        """Raise before anything has changed: an `apply` happens wholly or not at all."""
        if seq < old.seq:
            raise ValueError(f"seq {seq} is before {old.seq}")
        coming: set[int] = set()
        if rows is not None and len(rows):
            falls = len(rows) > 1 and bool((rows.seq[1:] <= rows.seq[:-1]).any())
            if rows.vectors.shape[1] != self.dim or int(rows.seq[0]) <= old.seq or falls:
                raise ValueError("rows must have the index's dimension and ascending seqs after its own")
            if int(rows.seq[-1]) > seq:
                raise ValueError(f"row {int(rows.seq[-1])} is after seq {seq}")
            coming = set(rows.seq.tolist()) if ended else coming
        for row_seq, at_seq in ended:
            if row_seq not in coming:
                known, place = _locate(old.segments, old.tail, row_seq)
                if known is None or known[place] not in (NEVER, at_seq):
                    raise ValueError(f"no live row was made by seq {row_seq}")

    def search(
        self,
        q: F32,
        *,
        k: int,
        now_s: float,
        alpha: float | None = None,
        beta: float | None = None,
        seq: int | None = None,
        scoring: Scoring | None = None,
        where: Where | None = None,
        min_score: float = 0.0,
        cancelled: Cancel | None = None,
    ) -> Found:
        """The k best visible rows by the definition in `score`, ties by id bytes.

        q: float32[D], unit length. seq: read as of that seq (default: the present). scoring: the one in force at that
        seq (default: the present one); alpha and beta override it. Never returns fewer than k when k rows pass the
        filter with a score above 0 and >= min_score. Raises Cancelled between two blocks.
        """
        state = self._state
        question = Question(q, k, now_s, alpha, beta, where, min_score, cancelled)
        scan, plan, path = self._ready(state, question, seq, scoring)
        scan.run(*self._tail_of(state, scan.ask), plan)
        return self._found(state, scan, path)

    def search_together(self, questions: Sequence[Question]) -> list[Found | Cancelled]:
        """`search` of the present for several questions at once: equal answers for fewer bytes read. A question whose
        caller cancelled has that in its place."""
        state = self._state
        ready = [self._ready(state, question, None, None) for question in questions]
        for scan, plan, _ in ready:
            scan.start(*self._tail_of(state, scan.ask), plan)
        cancelled = together.finish_all([scan for scan, _, _ in ready])
        return [
            Cancelled() if n in cancelled else self._found(state, scan, path) for n, (scan, _, path) in enumerate(ready)
        ]

    def _ready(
        self, state: State, asked: Question, seq: int | None, scoring: Scoring | None
    ) -> tuple[Scan, Plan | None, str]:
        """The scan of a question, the plan that it walks, and what a receipt calls that."""
        used = state.scoring if scoring is None else scoring
        alpha, beta = asked.alpha, asked.beta
        if alpha is not None or beta is not None:
            used = replace(used, alpha=used.alpha if alpha is None else alpha, beta=used.beta if beta is None else beta)
        at = state.seq if seq is None else seq
        where = asked.where if asked.where else None
        scan = Scan(Ask(asked.q, asked.k, asked.now_s, at, used, where, asked.min_score, asked.cancelled))
        present = used is state.scoring and at >= state.seq
        return scan, self._plan(state, used, at, present), "impact" if present else "view"

    def _tail_of(self, state: State, ask: Ask) -> tuple[Block | None, F64, Bool | None]:
        """The tail, its bases and which of its rows pass the filter, as `Scan.run` takes them."""
        if not state.tail_n:
            return None, _NOTHING, None
        if state.tail_block is None:
            state.tail_block = state.tail.block(state.tail_n)
        return state.tail_block, self._tail_base(state, ask.scoring), self._tail_matches(state, ask.where)

    def _found(self, state: State, scan: Scan, path: str) -> Found:
        at = scan.ask.seq
        return Found(
            hits=scan.answer(), seq=at, rows_total=state.live if at >= state.seq else self._visible(state, at),
            rows_scored=scan.rows_scored, bytes_touched=scan.bytes_touched, path=path,
        )  # fmt: skip

    def _tail_base(self, state: State, scoring: Scoring) -> F64:
        """`base_of` for the tail, kept for the state's own scoring."""
        if scoring is not state.scoring:
            return state.tail.base(state.tail_n, scoring)
        if state.tail_base is None:
            state.tail_base = state.tail.base(state.tail_n, scoring)
        return state.tail_base

    def _tail_matches(self, state: State, where: Where | None) -> Bool | None:
        """bool[n] of the tail's rows that pass the filter; None without one."""
        if where is None:
            return None
        if state.tail_columns is None:
            state.tail_columns = state.tail.columns(state.tail_n)
        return state.tail_columns.mask(where, state.tail.t_s[: state.tail_n])

    def _plan(self, state: State, scoring: Scoring, at: int, present: bool) -> Plan | None:
        """The segments that a read may need, each with its view; those wholly ended by then are left out."""
        if present and state.plan is not None:
            return state.plan
        parts = [(s, view_of(s, scoring)) for s in state.segments if s.dead_by > at and s.min_seq <= at]
        plan = Plan(parts) if parts else None
        if present:
            state.plan = plan
        return plan

    def _visible(self, state: State, at: int) -> int:
        blocks = [s.data for s in state.segments] + [state.tail.block(state.tail_n)]
        return sum(int(np.count_nonzero((b.seq <= at) & (b.ended > at))) for b in blocks)

    def maintain(self, *, idle: bool = False) -> bool:
        """One step of background work: flush a full tail, merge segments of like size, or sort one anew whose order no
        longer fits the scoring. With `idle` (no writes for a while) a small tail and unlike segments go too. True when
        it did something. One caller at a time; safe beside apply and search."""
        with self._upkeep:
            return merge.step(self, idle=idle)

    def save(self) -> None:
        """Put every row into segments on disk, so that a restart maps them and replays nothing."""
        if self.folder is None:
            return
        with self._upkeep:
            merge.persist_all(self)

    def compact(self, horizon_seq: int) -> int:
        """Drop rows that ended at or before `horizon_seq`; reads as of an earlier seq are no longer possible. Returns
        how many rows went. Everything is saved first: a replay after a restart must not meet the end of a row that is
        gone."""
        with self._upkeep:
            if self.folder is not None:
                merge.persist_all(self)
            return merge.drop(self, lambda block: block.ended <= horizon_seq)

    def erase(self, row_seqs: Sequence[int]) -> None:
        """Drop the rows made by these seqs from memory and from files for good (Purge)."""
        wanted = np.asarray(sorted(row_seqs), dtype=np.int64)
        with self._upkeep:
            merge.drop(self, lambda block: np.isin(block.seq, wanted))

    def stats(self) -> IndexStats:
        """Measured state; importance quantiles are over an even sample of at most 4,096 live rows."""
        return stats_of(self._state, self._norm_error)

    def check(self, rows: Iterable[tuple[int, int]]) -> list[str]:
        """Compare with the store's `(row_seq, ended_seq)` (NEVER for live rows); what differs, in words."""
        state = self._state
        mine = {
            int(a): int(b)
            for block in [*(s.data for s in state.segments), state.tail.block(state.tail_n)]
            for a, b in zip(block.seq, block.ended, strict=True)
        }
        problems: list[str] = []
        for row_seq, ended_seq in rows:
            have = mine.pop(row_seq, None)
            if have is None:
                if ended_seq == NEVER:
                    problems.append(f"the core lacks live row {row_seq}")
            elif have != ended_seq:
                problems.append(f"row {row_seq} ended at {have} in the core, at {ended_seq} in the store")
        problems += [f"the core has row {row_seq}, which the store does not know" for row_seq in sorted(mine)]
        return problems

    def close(self) -> None:
        """Wait for background work and let go of the arrays."""
        with self._upkeep, self._write:
            old = self._state
            self._state = State(old.seq, old.scoring, (), Tail(self.dim, 0), 0, 0)
