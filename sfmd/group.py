"""One transaction's worth of writes: what was decided so far, and what the core has to be told once it is on disk.

Decisions of one group see each other through it: the second write of an id meets the first one's row, not the store's.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sfmd.core.model import F32, NormaliserVersion, Rows
from sfmd.core.normaliser import NormaliserState
from sfmd.domain import ChangeRow, Event, Head, IdempotencyRecord, Op, WriteResult
from sfmd.protocols import WriteTx
from sfmd.spaces import Ranking, Space, normaliser_detail, ranking, rows_for_core

EVENTS = {
    Op.CREATED: "memory.created",
    Op.UPDATED: "memory.updated",
    Op.DELETED: "memory.deleted",
    Op.RESTORED: "memory.restored",
    Op.REINFORCED: "memory.reinforced",
    Op.PURGED: "memory.purged",
}
_EVENT_SPACE = uuid.UUID("6f6b1a64-5b3e-5d0c-9a56-50c5f5a1d0e3")


def event_id(namespace: str, seq: int) -> str:
    """The same for one change for ever: uuid5 of namespace and seq."""
    return str(uuid.uuid5(_EVENT_SPACE, f"{namespace}/{seq}"))


@dataclass(slots=True)
class Delta:
    """What one group does to one namespace's index."""

    space: Space
    made: list[ChangeRow] = field(default_factory=list)
    vectors: list[F32] = field(default_factory=list)
    metadata: list[Mapping[str, Any]] = field(default_factory=list)
    ended: list[tuple[int, int]] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    ranking: Ranking | None = None
    normaliser: NormaliserState | None = None
    cut: tuple[NormaliserVersion, NormaliserVersion] | None = None

    def rows(self) -> Rows | None:
        """The new rows for the core, or None."""
        if not self.made:
            return None
        vectors = self.vectors[0] if len(self.vectors) == 1 else np.concatenate(self.vectors)
        return rows_for_core(self.made, vectors, self.metadata)


class Group:
    """Everything that one transaction will append."""

    def __init__(self, tx: WriteTx, at_s: float, topic: str = "") -> None:
        self.tx = tx
        self.at_s = at_s
        self.rows: list[ChangeRow] = []
        self.records: list[IdempotencyRecord] = []
        self.deltas: dict[int, Delta] = {}
        self.committed: list[Callable[[], None]] = []
        self._topic = topic
        self._heads: dict[tuple[int, str], Head] = {}
        self._changed: dict[tuple[int, str], ChangeRow] = {}
        self._keys: dict[tuple[int, str], IdempotencyRecord] = {}
        self._wanted_ids: dict[int, dict[str, None]] = {}
        self._wanted_keys: dict[int, dict[str, None]] = {}

    def look_up(self, space: Space, names: Iterable[tuple[str, str]]) -> None:
        """Name the ids and idempotency keys that a command will ask for ("" for none); `read` fetches them at once."""
        ns_id = space.namespace.ns_id
        ids, keys = self._wanted_ids.setdefault(ns_id, {}), self._wanted_keys.setdefault(ns_id, {})
        for id_, key in names:
            if id_:
                ids[id_] = None
            if key:
                keys[key] = None

    def read(self) -> None:
        """Fetch what was named, one statement for many."""
        for ns_id, ids in self._wanted_ids.items():
            if ids:
                self._heads.update(((ns_id, id_), head) for id_, head in self.tx.heads(ns_id, list(ids)).items())
        for ns_id, keys in self._wanted_keys.items():
            if keys:
                found = self.tx.idempotent(ns_id, list(keys))
                self._keys.update(((ns_id, key), record) for key, record in found.items())

    def delta(self, space: Space) -> Delta:
        """The index changes of one namespace."""
        ns_id = space.namespace.ns_id
        found = self.deltas.get(ns_id)
        if found is None:
            found = self.deltas[ns_id] = Delta(space)
        return found

    def head(self, ns_id: int, id_: str) -> Head | None:
        """The memory's head as this group would leave it."""
        row = self._changed.get((ns_id, id_))
        return self._heads.get((ns_id, id_)) if row is None else head_of(row)

    def change(self, seq: int) -> ChangeRow | None:
        """A row of the log, or one that this group will append."""
        first = self.rows[0].seq if self.rows else 0
        if first and seq >= first:
            return self.rows[seq - first]
        return self.tx.changes([seq]).get(seq)

    def record(self, ns_id: int, key: str) -> IdempotencyRecord | None:
        """The use of an idempotency key before now, in the store or in this group."""
        return self._keys.get((ns_id, key))

    def remember(self, ns_id: int, key: str, digest: bytes, result: WriteResult) -> None:
        """Note the first use of an idempotency key."""
        record = IdempotencyRecord(ns_id, key, digest, result, self.at_s)
        self._keys[ns_id, key] = record
        self.records.append(record)

    def add(self, row: ChangeRow) -> None:
        """Append a row; its seq comes from `tx.reserve`."""
        self.rows.append(row)
        if row.op < Op.NAMESPACE:
            self._changed[row.ns_id, row.id] = row

    def after(self, then: Callable[[], None]) -> None:
        """Do something in the writer's thread once the group is on disk and in the core."""
        self.committed.append(then)

    def cut_normalisers(self) -> None:
        """Feed the group's raw importances, in log order, to each namespace's normaliser; a cut becomes a row."""
        for delta in self.deltas.values():
            if not delta.raw:
                continue
            space, now = delta.space, delta.ranking or delta.space.now
            trial = space.normaliser.copy()
            cut = trial.observe(delta.raw)
            delta.normaliser = trial
            if cut is None:
                continue
            if now.namespace.refuse_normaliser_updates:
                trial.refuse(now.normaliser)
                continue
            seq = self.tx.reserve(1)
            self.add(
                ChangeRow(
                    seq, now.namespace.ns_id, Op.NORMALISER, "sfmd", self.at_s, detail_json=normaliser_detail(cut)
                )
            )
            delta.ranking = ranking(seq, now.namespace, cut)
            delta.cut = (now.normaliser, cut)

    def write(self) -> None:
        """Hand everything to the transaction."""
        self.tx.append(self.rows)
        if self.records:
            self.tx.remember(self.records)
        if self._topic:
            self.tx.enqueue(self._events())

    def _events(self) -> Sequence[Event]:
        events = []
        for row in self.rows:
            kind = EVENTS.get(row.op)
            if kind is None:
                continue
            name = self.deltas[row.ns_id].space.namespace.name
            body = {
                "event_id": event_id(name, row.seq), "type": kind, "namespace": name, "id": row.id, "seq": row.seq,
                "version": row.version, "digest": row.digest.hex(), "at_s": row.at_s,
            }  # fmt: skip
            events.append(Event(row.seq, self._topic, f"{name}/{row.id}".encode(), json.dumps(body)))
        return events


def head_of(row: ChangeRow) -> Head:
    """The head that a memory has after `row`."""
    return Head(
        row.ns_id, row.id, row.seq, row.version, row.content_seq, row.row_seq, row.deleted, row.op is Op.PURGED,
        row.digest, row.request_digest, row.importance, row.access_time_s, row.access_count,
    )  # fmt: skip
