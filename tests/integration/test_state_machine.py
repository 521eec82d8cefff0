"""Whatever is done in whatever order, with restarts in between, the daemon equals a plain dictionary of histories.

The model knows nothing of logs, segments or heads: per memory a list of states, and after every change a copy of all
live states under the seq that the service replied. Recalls, also of the past, are held against the oracle.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sfmd.contract import NamespaceChange, NamespaceSpec
from sfmd.core import vectors
from sfmd.core.model import NormaliserVersion
from sfmd.core.normaliser import NormaliserState, normalised
from sfmd.domain import HalfLife, MemoryInput, Outcome, Query
from sfmd.errors import E, Refused
from testing import oracle
from testing.service import DIM, EPOCH_S, TESTER, Looped, StepClock, open_service, vector

IDS = ("a", "é", "p")
PURGEABLE = ("p",)  # a purged id is of no more use, so most are spared
COMPONENTS = st.sampled_from((-1.0, 0.0, 0.25, 0.5, 1.0, 3.0))
VECTORS = st.lists(COMPONENTS, min_size=3, max_size=3).filter(any)
IMPORTANCES = st.none() | st.sampled_from((-5.0, 0.0, 0.5, 2.0, 1e6)) | st.floats(-100, 100)
CLASSES = (HalfLife("week", 7 * 86_400.0), HalfLife("ever", float("inf")))
CONTENTS = st.builds(
    lambda payload, v, importance, age_s, half_life: MemoryInput(
        payload=payload, vector=vector(*v), importance=importance, event_time_s=EPOCH_S - age_s,
        half_life_class=half_life, content_type="text/plain",
    ),
    st.binary(max_size=6), VECTORS, IMPORTANCES, st.sampled_from((-50.0, 0.0, 86_400.0, 5e6)),
    st.sampled_from(("", "week", "ever")),
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """What one memory is after one change. `row` is what the core shows: any two equal rows rank alike."""

    content: MemoryInput
    importance: float | None
    live: bool
    count: int
    version: int


@dataclass(frozen=True)
class Past:
    """Everything visible at one seq."""

    live: dict[str, State]
    normaliser: NormaliserVersion
    alpha: float


class Daemon(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="sfm-machine-"))
        self.clock = StepClock()
        self.run = Looped()
        self.service = self.run(open_service(self.folder, self.clock))
        self.histories: dict[str, list[State]] = {}
        self.purged: set[str] = set()
        self.pasts: dict[int, Past] = {}
        self.normaliser = NormaliserState()
        self.alpha = 1.0

    def teardown(self) -> None:
        self.run(self.service.close())
        self.run.close()
        shutil.rmtree(self.folder)

    @initialize()
    def make_namespace(self) -> None:
        spec = NamespaceSpec("notes", dim=DIM, half_lives=CLASSES)
        self.run(self.service.create_namespace(TESTER, spec))
        self.note()

    # -- the model

    def head(self, id_: str) -> State | None:
        return self.histories[id_][-1] if self.histories.get(id_) else None

    def note(self, id_: str | None = None) -> None:
        """Remember all that is visible under the present seq; what was just changed must read as the model has it."""
        if id_ is not None:
            self.get(id_)
        live = {id_: states[-1] for id_, states in self.histories.items() if states[-1].live}
        self.pasts[self.service.applied_seq] = Past(live, self.normaliser.version, self.alpha)
        self.clock.now_s += 1.0

    def push(self, id_: str, state: State) -> None:
        event(f"changes of one memory: {min(8, len(self.histories.get(id_, ())))}")
        self.histories.setdefault(id_, []).append(state)

    def stored(self, id_: str, given: MemoryInput, outcome: Outcome, version: int) -> None:
        if outcome is Outcome.DUPLICATE:
            return
        head = self.head(id_)
        count = head.count if head and head.live else 0
        self.push(id_, State(given, given.importance, True, count, version))
        if given.importance is not None:
            self.normaliser.observe([given.importance])

    # -- writes

    @rule(id_=st.sampled_from(IDS), given=CONTENTS, expected=st.sampled_from(("none", "right", "wrong", "new")))
    def store(self, id_: str, given: MemoryInput, expected: str) -> None:
        head = self.head(id_)
        version = head.version if head else 0
        wanted = {"none": None, "right": version, "wrong": version + 7, "new": 0}[expected]
        asked = replace(given, id=id_, expected_version=wanted)
        live = head is not None and head.live
        same = live and head is not None and head.content == given
        allowed = expected == "right" or (same and expected == "none") or (not live and expected != "wrong")
        if id_ in self.purged or not allowed:
            with pytest.raises(Refused) as refused:
                self.run(self.service.store(TESTER, "notes", asked))
            code = E.PURGED if id_ in self.purged else E.EXISTS if live and not same and not wanted else E.VERSION
            assert refused.value.code is code
            return
        result = self.run(self.service.store(TESTER, "notes", asked))
        assert result.outcome is (Outcome.DUPLICATE if same else Outcome.UPDATED if live else Outcome.CREATED)
        assert same or result.version == version + 1
        self.stored(id_, given, result.outcome, result.version)
        self.note(id_)

    @rule(given=st.lists(CONTENTS, min_size=1, max_size=70))
    def store_batch(self, given: list[MemoryInput]) -> None:
        results = self.run(self.service.store_batch(TESTER, "notes", given))
        raw = [m.importance for m in given if m.importance is not None]
        self.normaliser.observe(raw)
        for item, memory in zip(results, given, strict=True):
            assert item.result.outcome is Outcome.CREATED
            self.push(item.result.id, State(memory, memory.importance, True, 0, 1))
        self.note()

    def refused_without_a_live_one(self, id_: str, call: str) -> bool:
        head = self.head(id_)
        if head is not None and head.live and id_ not in self.purged:
            return False
        with pytest.raises(Refused) as refused:
            self.run(getattr(self.service, call)(TESTER, "notes", id_))
        assert refused.value.code is E.NO_MEMORY
        return True

    @rule(id_=st.sampled_from(IDS))
    def delete(self, id_: str) -> None:
        if self.refused_without_a_live_one(id_, "delete"):
            return
        head = self.histories[id_][-1]
        result = self.run(self.service.delete(TESTER, "notes", id_))
        assert (result.outcome, result.version) == (Outcome.DELETED, head.version + 1)
        self.push(id_, replace(head, live=False, version=result.version))
        self.note(id_)

    @rule(id_=st.sampled_from(IDS), importance=IMPORTANCES)
    def reinforce(self, id_: str, importance: float | None) -> None:
        if self.refused_without_a_live_one(id_, "reinforce"):
            return
        head = self.histories[id_][-1]
        result = self.run(self.service.reinforce(TESTER, "notes", id_, importance=importance))
        changes = importance is not None and importance != head.importance
        assert result.version == head.version + changes
        new = head.importance if importance is None else importance
        self.push(id_, replace(head, importance=new, count=head.count + 1, version=result.version))
        if changes and importance is not None:
            self.normaliser.observe([importance])
        self.note(id_)

    @rule(id_=st.sampled_from(IDS))
    def undo(self, id_: str) -> None:
        head = self.head(id_)
        if head is None or id_ in self.purged:
            with pytest.raises(Refused) as refused:
                self.run(self.service.undo(TESTER, "notes", id_))
            assert refused.value.code is (E.PURGED if id_ in self.purged else E.NO_MEMORY)
            return
        result = self.run(self.service.undo(TESTER, "notes", id_))
        assert result.outcome is Outcome.RESTORED
        states = self.histories[id_]
        before = states[-2] if len(states) > 1 else replace(head, live=False)
        self.push(id_, replace(before, version=result.version))
        self.note(id_)

    @rule(id_=st.sampled_from(PURGEABLE))
    def purge(self, id_: str) -> None:
        head = self.head(id_)
        if head is None:
            with pytest.raises(Refused):
                self.run(self.service.purge(TESTER, "notes", id_))
            return
        self.run(self.service.purge(TESTER, "notes", id_))
        self.purged.add(id_)
        self.push(id_, replace(head, live=False, version=head.version + 1))
        # What is purged is gone from the past too.
        self.pasts = {s: replace(p, live={k: v for k, v in p.live.items() if k != id_}) for s, p in self.pasts.items()}
        self.note(id_)

    @rule(alpha=st.sampled_from((0.0, 0.5, 1.0, 2.0)))
    def configure(self, alpha: float) -> None:
        self.run(self.service.configure_namespace(TESTER, NamespaceChange("notes", alpha=alpha)))
        self.alpha = alpha
        self.note()

    @rule()
    def restart(self) -> None:
        self.run(self.service.close())
        self.service = self.run(open_service(self.folder, self.clock))

    @rule()
    def restart_without_segments(self) -> None:
        self.run(self.service.close())
        shutil.rmtree(self.folder / "segments", ignore_errors=True)
        self.service = self.run(open_service(self.folder, self.clock))

    # -- reads

    def expected(self, past: Past, query: list[float], k: int, now_s: float) -> list[tuple[str, float]]:
        ids = sorted(past.live)
        if not ids:
            return []
        states = [past.live[id_] for id_ in ids]
        matrix, _ = vectors.normalise(b"".join(s.content.vector or b"" for s in states), DIM)
        unit, _ = vectors.normalise(vector(*query), DIM)
        half_lives = {"": CLASSES[0].seconds, "week": CLASSES[0].seconds, "ever": CLASSES[1].seconds}
        rows = [
            oracle.OracleRow(
                n, id_.encode(), normalised(s.importance, past.normaliser), s.content.event_time_s or 0.0,
                half_lives[s.content.half_life_class],
            )
            for n, (id_, s) in enumerate(zip(ids, states, strict=True))
        ]  # fmt: skip
        found = oracle.recall(unit[0], matrix, rows, k=k, now_s=now_s, alpha=past.alpha)
        return [(ids[n], score) for n, score in found]

    @rule(query=VECTORS, k=st.sampled_from((1, 3, 100)))
    def recall_now(self, query: list[float], k: int) -> None:
        result = self.run(self.service.recall(TESTER, Query("notes", vector=vector(*query), k=k)))
        past = self.pasts[self.service.applied_seq]
        got = [(hit.id, hit.log2_score) for hit in result.hits]
        assert got == self.expected(past, query, k, self.clock.now_s)
        assert result.rows_total == len(past.live)
        for hit in result.hits:
            assert (hit.payload, hit.version) == (past.live[hit.id].content.payload, past.live[hit.id].version)

    @precondition(lambda self: self.pasts)
    @rule(query=VECTORS, data=st.data())
    def recall_the_past(self, query: list[float], data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.pasts)))
        now_s = self.clock.now_s + 86_400.0
        asked = Query("notes", vector=vector(*query), k=50, as_of_seq=seq, now_s=now_s, receipt=True)
        result = self.run(self.service.recall(TESTER, asked))
        got = [(hit.id, hit.log2_score) for hit in result.hits]
        assert got == self.expected(self.pasts[seq], query, 50, now_s)
        assert result.receipt is not None
        assert self.run(self.service.replay(TESTER, result.receipt, asked)).identical

    @rule(id_=st.sampled_from(IDS))
    def get_one(self, id_: str) -> None:
        self.get(id_)

    def get(self, id_: str) -> None:
        head = self.head(id_)
        if head is None or not head.live:
            with pytest.raises(Refused) as refused:
                self.run(self.service.get(TESTER, "notes", id_))
            assert refused.value.code is (E.PURGED if id_ in self.purged else E.NO_MEMORY)
            return
        found = self.run(self.service.get(TESTER, "notes", id_, include_vector=True))
        unit, _ = vectors.normalise(head.content.vector or b"", DIM)
        assert found.payload == head.content.payload
        assert found.importance == head.importance
        assert (found.version, found.access_count) == (head.version, head.count)
        assert found.vector == np.asarray(unit[0], dtype="<f4").tobytes()

    @rule()
    def list_everything(self) -> None:
        ids: list[str] = []
        token = ""
        while True:
            page = self.run(self.service.list_page(TESTER, "notes", page_size=7, page_token=token))
            ids += [m.id for m in page.memories]
            token = page.next_page_token
            if not token:
                break
        live = [id_ for id_, states in self.histories.items() if states[-1].live]
        assert ids == sorted(live, key=lambda id_: id_.encode())

    @invariant()
    def counts_are_right(self) -> None:
        stats = self.service.stats(["notes"]).namespaces
        live = sum(states[-1].live for states in self.histories.values())
        assert not stats or stats[0].live == live


Daemon.TestCase.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestDaemon = pytest.mark.slow(Daemon.TestCase)
