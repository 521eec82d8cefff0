"""The running state of each namespace: its configuration over time, its index, and what the writer keeps beside it.

Only the writer's thread changes a space; readers take the references that they need once and keep them. The
configuration's history is what makes `as_of` and Replay rank as the log did at that seq.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import structlog

from sfmd import digests
from sfmd.contract import NamespaceInfo
from sfmd.core.gates import GATES, Gate
from sfmd.core.index import Index
from sfmd.core.model import F32, F64, IndexStats, NormaliserVersion, Rows, Scoring, Where
from sfmd.core.normaliser import RESERVOIR, NormaliserState
from sfmd.domain import ChangeRow, Namespace, Op
from sfmd.errors import E, Refused
from sfmd.measure import Window
from sfmd.protocols import Store

log = structlog.get_logger(__name__)

REPLAY_ROWS = 4_096
RECENT_QUERIES = 16


@dataclass(frozen=True, slots=True)
class Ranking:
    """What ranked from `seq` on: a point in the history of a namespace's configuration."""

    seq: int
    namespace: Namespace
    normaliser: NormaliserVersion
    scoring: Scoring
    digest: bytes


def ranking(seq: int, namespace: Namespace, normaliser: NormaliserVersion) -> Ranking:
    """The point of history that a NAMESPACE, CONFIGURED or NORMALISER row makes."""
    scoring = Scoring(
        half_life_s=tuple(h.seconds for h in namespace.half_lives),
        channel_weights=tuple(c.weight for c in namespace.channels),
        alpha=namespace.alpha,
        beta=namespace.beta,
        normaliser=normaliser,
    )
    return Ranking(seq, namespace, normaliser, scoring, digests.config_digest(namespace, normaliser))


def history_from_log(rows: Iterable[ChangeRow], ns_id: int) -> list[Ranking]:
    """The history of a namespace from its NAMESPACE, CONFIGURED and NORMALISER rows in order of seq."""
    history: list[Ranking] = []
    for row in rows:
        detail = json.loads(row.detail_json)
        if row.op is Op.NORMALISER:
            history.append(ranking(row.seq, history[-1].namespace, NormaliserVersion(**detail)))
            continue
        created = history[0].seq if history else row.seq
        normaliser = history[-1].normaliser if history else NormaliserVersion()
        history.append(ranking(row.seq, digests.namespace_from_detail(detail, ns_id, created), normaliser))
    return history


@dataclass(frozen=True, slots=True)
class RecentQuery:
    """A query that was asked lately, kept to measure what a new normaliser version does to answers."""

    vector: F32
    k: int
    now_s: float
    alpha: float
    beta: float
    where: Where | None


@dataclass(slots=True, eq=False)
class Space:
    """One namespace at work."""

    history: list[Ranking]
    index: Index
    normaliser: NormaliserState
    counts: Mapping[str, int]
    recent: deque[RecentQuery] = field(default_factory=lambda: deque(maxlen=RECENT_QUERIES))
    recall_s: Window = field(default_factory=lambda: Window(300.0))
    near_ties: Window = field(default_factory=Window)
    gates: tuple[Gate, ...] = field(default_factory=lambda: tuple(Gate(spec) for spec in GATES))
    measured: tuple[int, IndexStats] | None = None

    def stats(self) -> IndexStats:
        """Measured state of the index; measured anew when the index has changed."""
        seq, known = self.index.seq, self.measured
        if known is None or known[0] != seq:
            known = self.measured = (seq, self.index.stats())
        return known[1]

    @property
    def now(self) -> Ranking:
        """What ranks at present."""
        return self.history[-1]

    @property
    def namespace(self) -> Namespace:
        """The present configuration."""
        return self.history[-1].namespace

    def at(self, seq: int) -> Ranking:
        """What ranked at `seq`. Refused(FUTURE…) never: the caller has bounded seq. NO_NAMESPACE before it was made."""
        place = bisect_right(self.history, seq, key=lambda r: r.seq)
        if place == 0:
            raise Refused(E.NO_NAMESPACE, f"namespace {self.namespace.name!r} did not exist yet at seq {seq}")
        return self.history[place - 1]

    def info(self) -> NamespaceInfo:
        """The namespace as transports show it."""
        now = self.now
        return NamespaceInfo(now.namespace, now.normaliser.version, now.digest)


class Spaces:
    """All namespaces by name. The dictionary is replaced, never changed, so readers need no lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_name: dict[str, Space] = {}

    def __iter__(self) -> Iterator[Space]:
        return iter(sorted(self._by_name.values(), key=lambda s: s.namespace.name))

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str) -> Space | None:
        """The space of that name, or None."""
        return self._by_name.get(name)

    def get(self, name: str) -> Space:
        """The space of that name. Refused(NO_NAMESPACE)."""
        space = self._by_name.get(name)
        if space is None:
            shown = name if len(name) <= 63 and name.isprintable() else "of that name"
            raise Refused(E.NO_NAMESPACE, f"there is no namespace {shown!r}")
        return space

    def add(self, space: Space) -> None:
        """Make a space findable."""
        self._by_name = {**self._by_name, space.namespace.name: space}

    def folder(self, ns_id: int) -> Path:
        """Where the segments of a namespace lie."""
        return self._folder / str(ns_id)

    def open_all(self, store: Store) -> None:
        """Open every namespace of the log: map its segments, replay the log's tail into it."""
        last = store.last_seq()
        for namespace in store.namespaces():
            self.add(open_space(store, namespace.ns_id, self.folder(namespace.ns_id), last))


def empty_space(first: Ranking, folder: Path) -> Space:
    """The space of a namespace that was just made. Segments left by another log under this number are not used."""
    discard_segments(folder)
    index = Index(first.namespace.dim, first.scoring, folder)
    counts = {"live": 0, "deleted": 0, "payload_bytes": 0, "median_payload_bytes": 0, "max_access_count": 0}
    return Space([first], index, NormaliserState(), counts)


def open_space(store: Store, ns_id: int, folder: Path, last: int) -> Space:
    """A namespace's space as of `last`: good segments are mapped and the log's tail is replayed, else all is."""
    details = sorted(
        (row for op in (Op.NAMESPACE, Op.CONFIGURED, Op.NORMALISER) for row in store.details(ns_id, op, last)),
        key=lambda row: row.seq,
    )
    history = history_from_log(details, ns_id)
    now = history[-1]
    state = NormaliserState(
        now.normaliser,
        store.recent_importances(ns_id, last, RESERVOIR),
        store.count_importances(ns_id, last),
    )
    index = Index.open(folder, now.namespace.dim, now.scoring)
    unfit = f"they reach seq {index.seq}, the log ends at {last}" if index.seq > last else index.problem
    if unfit:
        log.warning("segments_not_used", namespace=now.namespace.name, why=unfit)
        index.close()
        discard_segments(folder)
        index = Index(now.namespace.dim, now.scoring, folder)
    space = Space(history, index, state, dict(store.counts(ns_id)))
    first = index.seq + 1
    rows = catch_up(store, space, last)
    log.info("namespace_opened", namespace=now.namespace.name, mapped_seq=first - 1, replayed_rows=rows, seq=last)
    return space


def discard_segments(folder: Path) -> None:
    """Remove the derived files of a namespace; the store can always rebuild them."""
    if folder.is_dir():
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def catch_up(store: Store, space: Space, last: int) -> int:
    """Replay core rows after the index's seq up to `last`; returns how many rows of the log it read.

    A change without a vector stands on content that was purged or compacted since: no row is made of it, but a row of
    the segments that it ended ends. What segments still hold of a purged memory is erased, so a crash between a purge's
    commit and its erasure is made good here.
    """
    count = 0
    chunk: list[ChangeRow] = []
    ns_id, mapped = space.namespace.ns_id, space.index.seq
    erased = _purged_since(store, ns_id, mapped, last) if mapped else []
    gone = _ended_behind_horizon(store, ns_id, mapped).union(erased)
    for row in store.core_rows(ns_id, mapped + 1, last):
        count += 1
        chunk.append(row)
        if len(chunk) >= REPLAY_ROWS:
            _apply_changes(space, chunk, chunk[-1].seq, mapped, gone)
            chunk = []
    _apply_changes(space, chunk, last, mapped, gone)
    if erased:
        space.index.erase(erased)
    return count


def _ended_behind_horizon(store: Store, ns_id: int, mapped: int) -> set[int]:
    """Core rows that were made after `mapped` and ended by the horizon: nothing may ask for them, and compaction has
    taken the content of some. So none is made, and none is ended."""
    horizon, seq = store.horizon_seq(), mapped
    gone: set[int] = set()
    while seq < horizon:
        rows = store.changes(seq + 1, horizon, ns_id=ns_id, payloads=False)
        if not rows:
            break
        gone.update(row.expires_seq for row in rows if row.expires_seq > mapped)
        seq = rows[-1].seq
    return gone


def _purged_since(store: Store, ns_id: int, seq: int, last: int) -> list[int]:
    erased: list[int] = []
    while seq < last:
        rows = store.changes(seq + 1, last, ns_id=ns_id, payloads=False)
        if not rows:
            break
        for row in rows:
            if row.op is Op.PURGED:
                erased += purged_rows(row, lambda seqs: store.rows(seqs, payloads=False))
        seq = rows[-1].seq
    return erased


def purged_rows(tombstone: ChangeRow, read: Callable[[Sequence[int]], Mapping[int, ChangeRow]]) -> list[int]:
    """Every core row that a purged memory ever had, found by walking its changes backwards."""
    found: set[int] = set()
    at = tombstone.prev_seq
    while at:
        row = read([at]).get(at)
        if row is None:
            break
        found.update(seq for seq in (row.row_seq, row.expires_seq) if seq)
        at = row.prev_seq
    return sorted(found)


def _apply_changes(space: Space, changes: Sequence[ChangeRow], seq: int, mapped: int, gone: Set[int]) -> None:
    """Make and end the core rows of these changes, but for those that are `gone`."""
    if seq <= space.index.seq:
        return
    made = [c for c in changes if c.row_seq == c.seq and c.vector is not None and c.seq not in gone]
    ended = [
        (c.expires_seq, c.seq)
        for c in changes
        if c.expires_seq and c.expires_seq not in gone and (c.vector is not None or c.expires_seq <= mapped)
    ]
    rows = core_rows(made, space.namespace.dim) if made else None
    space.index.apply(seq, rows, ended, space.now.scoring)


def core_rows(made: Sequence[ChangeRow], dim: int) -> Rows:
    """Rows for the core from changes whose content is resolved and carries a vector."""
    vectors = np.frombuffer(b"".join(cast(bytes, c.vector) for c in made), dtype="<f4").reshape(-1, dim)
    return rows_for_core(made, vectors, [parsed_metadata(c.metadata_json) for c in made])


def rows_for_core(made: Sequence[ChangeRow], vectors: F32, metadata: Sequence[Mapping[str, Any]]) -> Rows:
    """Struct of arrays from changes, their unit vectors float32[N, D] and their parsed metadata."""
    width = max((len(c.features) for c in made), default=0)
    features: F64 = np.empty((len(made), 0))
    if width:
        features = np.full((len(made), width), np.nan)
        for number, change in enumerate(made):
            features[number, : len(change.features)] = change.features
    return Rows(
        seq=np.array([c.seq for c in made], dtype=np.int64),
        ids=[c.id.encode() for c in made],
        vectors=vectors,
        importance=np.array([np.nan if c.importance is None else c.importance for c in made], dtype=np.float64),
        event_time_s=np.array([c.event_time_s for c in made], dtype=np.float64),
        half_life=np.array([c.half_life_class for c in made], dtype=np.int16),
        features=features,
        kinds=[c.kind for c in made],
        metadata=metadata,
    )


def parsed_metadata(text: str) -> Mapping[str, Any]:
    """The metadata object of a stored row."""
    return cast("dict[str, Any]", json.loads(text)) if text and text != "{}" else {}


def normaliser_detail(version: NormaliserVersion) -> str:
    """A normaliser version as its row of the log carries it."""
    return digests.detail_json(asdict(version))
