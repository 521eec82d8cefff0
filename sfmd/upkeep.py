"""The background thread: segments are flushed and merged, counts refreshed, gates fed, normaliser cuts measured.

It never stands between a caller and an answer. What goes wrong here is logged and shown in the daemon's health; the
next round tries again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from sfmd import heap
from sfmd.contract import GateState
from sfmd.core.gates import Measures, mode_share
from sfmd.core.normaliser import normalised
from sfmd.measure import Meters, quantile
from sfmd.protocols import Clock, Store
from sfmd.spaces import RecentQuery, Space, Spaces
from sfmd.writer import Cut

log = structlog.get_logger(__name__)

ROUND_S = 1.0
IDLE_S = 2.0
COUNTS_S = 2.0
STEPS_PER_ROUND = 16
MERGE_ROWS = 512
FORGET_KEYS = 512
"""Idempotency keys that an idle round looks at: a few milliseconds of the store's time."""
FORGET_PAUSE_S = 60.0
"""From one look at all of them to the next."""


FIRST_KEY = (0, "")


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory and its limit, bytes."""

    resident: Callable[[], int]
    limit: int


class Upkeep:
    """Runs rounds until it is closed; a commit starts one early."""

    def __init__(
        self, store: Store, spaces: Spaces, meters: Meters, memory: Memory, *, clock: Clock = time.time,
        keys_kept_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`keys_kept_s`: how long idempotency keys are remembered; 0 for ever."""
        self._store, self._spaces, self._meters, self._memory = store, spaces, meters, memory
        self._clock, self._keys_kept_s = clock, keys_kept_s
        self._forget_after: tuple[int, str] = FIRST_KEY
        self._forget_due_s = 0.0
        self._wake = threading.Event()
        self._stop = False
        self._cuts: deque[Cut] = deque(maxlen=64)
        self._counted_at_s: dict[int, tuple[float, int]] = {}
        self._commits = 0
        self._rows_seen = 0
        self._gates_due_s = 0.0
        self._idle_since_s = time.monotonic()
        self._tidy = True
        self.problem = ""
        """What the last round could not do; empty when all is well."""
        self._thread = threading.Thread(target=self._run, name="upkeep")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def committed(self) -> None:
        """A group was committed: after enough of them there is something to merge before the next round is due."""
        if self._meters.rows_committed - self._rows_seen >= MERGE_ROWS:
            self._wake.set()

    def cut(self, cut: Cut) -> None:
        """A normaliser version was cut: its shock is measured in the next round."""
        self._meters.normaliser_cuts += 1
        self._cuts.append(cut)
        self._wake.set()

    def close(self) -> None:
        """End after the step in hand."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(ROUND_S)
            self._wake.clear()
            try:
                self.round()
                self.problem = ""
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"
                log.exception("upkeep_failed")
                time.sleep(0.0 if self._stop else ROUND_S)

    def round(self) -> None:
        """One round over every namespace."""
        now_s = time.monotonic()
        self._rows_seen = self._meters.rows_committed
        if self._meters.commits != self._commits:
            self._commits, self._idle_since_s, self._tidy = self._meters.commits, now_s, False
        idle = now_s - self._idle_since_s > IDLE_S
        while self._cuts:
            log_shock(self._cuts.popleft())
        for space in self._spaces:
            for _ in range(STEPS_PER_ROUND):
                if self._stop or not space.index.maintain(idle=idle):
                    break
            self._count(space, now_s)
            if now_s >= self._gates_due_s:
                self._feed_gates(space, now_s)
        if now_s >= self._gates_due_s:
            self._gates_due_s = now_s + ROUND_S
        if idle:
            self._forget_keys(now_s)
        if idle and not self._tidy:
            heap.give_back()
            self._tidy = True

    def _forget_keys(self, now_s: float) -> None:
        """Look at a few idempotency keys, and forget those that are older than they need to be."""
        if not self._keys_kept_s or now_s < self._forget_due_s:
            return
        before_s = self._clock() - self._keys_kept_s
        went, after = self._store.forget_keys(before_s, self._forget_after, FORGET_KEYS)
        self._forget_after = after or FIRST_KEY
        if after is None:
            self._forget_due_s = now_s + FORGET_PAUSE_S
        if went:
            log.info("idempotency_keys_forgotten", keys=went)

    def _count(self, space: Space, now_s: float) -> None:
        """Refresh counts that only the store knows, no oftener than every 50 times what it costs."""
        ns_id, seq = space.namespace.ns_id, space.index.seq
        due_s, counted = self._counted_at_s.get(ns_id, (0.0, -1))
        if now_s < due_s or counted == seq:
            return
        space.counts = dict(self._store.counts(ns_id))
        cost_s = time.monotonic() - now_s
        self._counted_at_s[ns_id] = (now_s + max(COUNTS_S, 50.0 * cost_s), seq)

    def _feed_gates(self, space: Space, now_s: float) -> None:
        measures = measures_of(space, self._memory)
        for gate in space.gates:
            if gate.observe(measures, now_s):
                log.info("gate_changed", namespace=space.namespace.name, gate=gate.spec.name, tripped=gate.tripped,
                         value=gate.value)  # fmt: skip


def measures_of(space: Space, memory: Memory) -> Measures:
    """What the gates look at, from memory alone."""
    stats = space.stats()
    importance = stats.importance_normalised
    reservoir = sorted(normalised(r, space.now.normaliser) for r in space.normaliser.values())
    ties = space.near_ties.values()
    return Measures(
        n=stats.live,
        recall_p95_s=quantile(space.recall_s.values(), 0.95),
        i_q10=importance.get("q10", 0.0),
        i_q90=importance.get("q90", 1.0),
        i_mode_share=mode_share(reservoir),
        near_tie_share=sum(ties) / len(ties) if ties else 0.0,
        resident_ratio=memory.resident() / memory.limit if memory.limit else 0.0,
        finite_half_life=stats.decay_active_ratio > 0.0,
    )


def acting(space: Space) -> Mapping[str, bool]:
    """What a gate switches on acts only through the namespace's configuration: alpha, beta, a finite half-life."""
    namespace = space.namespace
    return {"G2": namespace.alpha != 1.0, "G3": namespace.beta != 1.0, "G6": True}


def gate_states(space: Space) -> tuple[GateState, ...]:
    """The gates as Stats shows them."""
    allowed = acting(space)
    return tuple(
        GateState(
            name=gate.spec.name,
            tripped=gate.tripped,
            acting=gate.tripped and allowed.get(gate.spec.name, False),
            value=gate.value,
            threshold=gate.spec.threshold,
            condition=gate.spec.condition,
            window_s=gate.spec.window_s,
        )
        for gate in space.gates
    )


def log_shock(cut: Cut) -> None:
    """Log how far a new normaliser version changes the answers to the last recent queries."""
    assert cut.delta.cut is not None  # noqa: S101 - only a cut comes here
    old, new = cut.delta.cut
    shares = [_kept(cut, query) for query in list(cut.space.recent)]
    log.info(
        "normaliser_cut",
        namespace=cut.space.namespace.name,
        seq=cut.seq,
        from_version=old.version,
        to_version=new.version,
        queries=len(shares),
        top_k_kept=round(sum(shares) / len(shares), 4) if shares else None,
        top_k_kept_min=round(min(shares), 4) if shares else None,
    )


def _kept(cut: Cut, query: RecentQuery) -> float:
    """The share of a query's hits that stay under the new version, at the seq of the cut."""
    space = cut.space
    found = []
    for at in (space.at(cut.seq - 1), space.at(cut.seq)):
        answer = space.index.search(
            query.vector, k=query.k, now_s=query.now_s, alpha=query.alpha, beta=query.beta, seq=cut.seq,
            scoring=at.scoring, where=query.where,
        )  # fmt: skip
        found.append({hit.id for hit in answer.hits})
    before, after = found
    return len(before & after) / len(before) if before else 1.0
