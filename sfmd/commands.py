"""What each write does to the log: store, delete, undo, reinforce, purge, as rows of one group.

Version grows by one exactly when the core's row of a memory changes; a reinforcement that only notes an access keeps
it, so that reading agents do not spoil each other's `expected_version`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from sfmd.contract import ItemError, ItemResult, PurgeResult
from sfmd.core.model import F32
from sfmd.decide import CREATE, Verdict, decide_change, decide_key, decide_store, decide_undo
from sfmd.domain import ChangeRow, Head, MemoryInput, Op, Outcome, WriteResult
from sfmd.errors import Code, E, Refused
from sfmd.group import Group
from sfmd.preparing import Item, Preparing
from sfmd.spaces import Space, parsed_metadata, purged_rows

NO_DIGEST = b""
NO_VECTORS: F32 = np.empty((0, 0), dtype=np.float32)


class Command(Protocol):
    """A write that waits for its transaction."""

    size: int
    size_bytes: int
    alone: bool
    future: asyncio.Future[Any]

    def look_up(self, group: Group) -> None:
        """Name the heads and keys that `decide` will ask for."""

    def decide(self, group: Group) -> Any:
        """Add rows to the group and return the reply. Raises Refused, before it added anything."""


class StoreCommand:
    """One or many memories for one namespace; the reply is an outcome per item, in order."""

    __slots__ = (
        "_buffer", "_raw", "alone", "first_index", "future", "items", "principal", "size", "size_bytes",
        "space", "vectors",
    )  # fmt: skip

    def __init__(
        self, space: Space, principal: str, items: Sequence[Item], vectors: F32, first_index: int = 0,
        size_bytes: int = 0,
    ) -> None:  # fmt: skip
        self.space, self.principal, self.first_index, self.size_bytes = space, principal, first_index, size_bytes
        self.alone = False
        self._raw: tuple[MemoryInput, Preparing] | None = None
        self.future: asyncio.Future[list[ItemResult]]
        self._take(items, vectors)

    @classmethod
    def unprepared(cls, space: Space, principal: str, memory: MemoryInput, preparing: Preparing) -> StoreCommand:
        """One memory that the writer prepares together with the others of its group: see `prepare_together`."""
        made = cls(space, principal, (), NO_VECTORS, size_bytes=len(memory.payload) + len(memory.metadata_json))
        made.size, made._raw = 1, (memory, preparing)
        return made

    def _take(self, items: Sequence[Item], vectors: F32) -> None:
        self.items, self.vectors, self.size = items, vectors, len(items)
        self._buffer = vectors.tobytes()

    @staticmethod
    def prepare_together(commands: Sequence[Command]) -> None:
        """Judge and normalise the single memories of a group as one matrix: a tenth of what each costs alone."""
        waiting: dict[int, list[StoreCommand]] = {}
        for command in commands:
            if type(command) is StoreCommand and command._raw is not None:
                waiting.setdefault(command.space.namespace.ns_id, []).append(command)
        for mine in waiting.values():
            raws = [command._raw for command in mine if command._raw is not None]
            prepared = raws[0][1].prepare([memory for memory, _ in raws], mine[0].space.namespace)
            for command, item in zip(mine, prepared.items, strict=True):
                at, item.place = item.place, min(item.place, 0)
                command._take((item,), prepared.vectors[at : at + 1] if at >= 0 else NO_VECTORS)
                command._raw = None

    def look_up(self, group: Group) -> None:
        group.look_up(self.space, [(i.id, i.key) for i in self.items if i.error is None])

    def decide(self, group: Group) -> list[ItemResult]:
        results: list[ItemResult] = []
        places: list[int] = []
        delta = group.delta(self.space)
        for index, item in enumerate(self.items, self.first_index):
            if item.error is not None:
                result = WriteResult(item.id, 0, 0, Outcome.REJECTED, NO_DIGEST)
                results.append(ItemResult(index, result, item_error(item.error.code, item.error.message)))
                continue
            result, error = self._store(group, item)
            results.append(ItemResult(index, result, error))
            if result.outcome is Outcome.CREATED or result.outcome is Outcome.UPDATED:
                places.append(item.place)
                delta.metadata.append(item.metadata)
                if item.importance is not None:
                    delta.raw.append(item.importance)
        if places:
            whole = len(places) == self.vectors.shape[0]
            delta.vectors.append(self.vectors if whole else self.vectors[places])
        return results

    def _store(self, group: Group, item: Item) -> tuple[WriteResult, ItemError | None]:
        ns_id = self.space.namespace.ns_id
        if item.key:
            record = group.record(ns_id, item.key)
            if record is not None:
                verdict = decide_key(record, item.key_digest)
                return (verdict.answer, None) if verdict.answer is not None else self._refused(verdict, None, item)
        head = group.head(ns_id, item.id) if item.id else None
        if head is None and item.expected_version is None:
            verdict = CREATE  # what decide_store says of most
        else:
            verdict = decide_store(head, item.request_digest, item.expected_version)
        if verdict.outcome is Outcome.CONFLICT:
            return self._refused(verdict, head, item)
        if verdict.outcome is Outcome.DUPLICATE:
            result = first_answer(group, head)
        else:
            result = self._write(group, item, head, verdict.outcome)
        if item.key:
            group.remember(ns_id, item.key, item.key_digest, result)
        return result, None

    def _write(self, group: Group, item: Item, head: Head | None, outcome: Outcome) -> WriteResult:
        seq = group.tx.reserve(1)
        id_ = item.id or str(uuid.uuid4())
        version, prev, expires, count = 1, 0, 0, 0
        if head is not None:
            version, prev, expires = head.version + 1, head.seq, head.row_seq
            count = 0 if head.deleted else head.access_count
        at_s, dim4 = group.at_s, self.vectors.shape[1] * 4
        start = item.place * dim4
        row = ChangeRow(
            seq, self.space.namespace.ns_id, Op.CREATED if outcome is Outcome.CREATED else Op.UPDATED, self.principal,
            at_s, id_, version, seq, seq, expires, prev, False, item.kind, item.payload, item.content_type, item.digest,
            self._buffer[start : start + dim4], item.importance,
            at_s if item.event_time_s is None else item.event_time_s, item.half_life, item.features,
            item.metadata_json, at_s, count, item.request_digest,
        )  # fmt: skip
        group.add(row)
        delta = group.deltas[row.ns_id]
        delta.made.append(row)
        if expires:
            delta.ended.append((expires, seq))
        return WriteResult(id_, seq, version, outcome, item.digest)

    def _refused(self, verdict: Verdict, head: Head | None, item: Item) -> tuple[WriteResult, ItemError | None]:
        seq, version, digest = (head.seq, head.version, head.digest) if head else (0, 0, NO_DIGEST)
        assert verdict.code is not None  # noqa: S101 - every refusal has one
        return WriteResult(item.id, seq, version, verdict.outcome, digest), item_error(verdict.code, verdict.message)


def first_answer(group: Group, head: Head | None) -> WriteResult:
    """The reply that the change which brought the head's content was answered with, as a duplicate."""
    assert head is not None  # noqa: S101 - only a head can be equal
    version = head.version
    if head.content_seq != head.seq:
        row = group.change(head.content_seq)
        version = version if row is None else row.version
    return WriteResult(head.id, head.content_seq, version, Outcome.DUPLICATE, head.digest)


def item_error(code: Code, message: str) -> ItemError:
    """A refusal as one item's error."""
    return ItemError(code.code, message, code.status.value)


def refuse(verdict: Verdict) -> None:
    """Raise what a verdict refuses; nothing when it lets the write go on."""
    if verdict.code is not None:
        raise Refused(verdict.code, verdict.message)


class ChangeCommand:
    """A change of one memory that exists: the common part of delete, undo and reinforce."""

    op = Op.DELETED
    outcome = Outcome.DELETED
    alone = False
    size = 1
    size_bytes = 0

    def __init__(
        self, space: Space, principal: str, id_: str, *, key: str = "", key_digest: bytes = NO_DIGEST,
        expected: int | None = None, importance: float | None = None, access_time_s: float | None = None,
    ) -> None:  # fmt: skip
        self.space, self.principal, self.id = space, principal, id_
        self.key, self.key_digest, self.expected = key, key_digest, expected
        self.importance, self.access_time_s = importance, access_time_s
        self.future: asyncio.Future[WriteResult]

    def look_up(self, group: Group) -> None:
        group.look_up(self.space, [(self.id, self.key)])

    def decide(self, group: Group) -> WriteResult:
        ns_id = self.space.namespace.ns_id
        record = group.record(ns_id, self.key) if self.key else None
        if record is not None:
            verdict = decide_key(record, self.key_digest)
            refuse(verdict)
            assert verdict.answer is not None  # noqa: S101 - a record always has one
            return verdict.answer
        head = group.head(ns_id, self.id)
        refuse(self.judge(head))
        assert head is not None  # noqa: S101 - every judge refuses a memory that never was
        last = group.change(head.seq)
        if last is None:
            raise Refused(E.CORRUPT, f"the log lacks seq {head.seq}, the last change of {self.id!r}")
        row, vector = self.next_row(group, head, last)
        return self._append(group, head, row, vector)

    def judge(self, head: Head | None) -> Verdict:
        """Whether the change may go on."""
        return decide_change(head, self.id, self.expected)

    def next_row(self, group: Group, head: Head, last: ChangeRow) -> tuple[ChangeRow, bool]:
        """The row after this change (seq, row_seq and expires_seq not yet final), and whether it needs a core row."""
        return replace(bare(last, head), deleted=True, row_seq=0), False

    def _append(self, group: Group, head: Head, row: ChangeRow, new_core_row: bool) -> WriteResult:
        delta = group.delta(self.space)
        content = group.change(row.content_seq) if new_core_row else None
        if new_core_row and (content is None or content.vector is None):
            raise Refused(E.NOTHING_TO_UNDO, f"the content of {self.id!r} at that version went with a compaction")
        seq = group.tx.reserve(1)
        row_seq = seq if new_core_row else row.row_seq
        ended = head.row_seq if head.row_seq != row_seq else 0
        version = head.version + (1 if row_seq != head.row_seq or row.deleted != head.deleted else 0)
        row = replace(
            row, seq=seq, op=self.op, principal=self.principal, at_s=group.at_s, version=version, row_seq=row_seq,
            expires_seq=ended, prev_seq=head.seq,
        )  # fmt: skip
        group.add(row)
        if row.raw_importance is not None:
            delta.raw.append(row.raw_importance)
        if ended:
            delta.ended.append((ended, seq))
        if content is not None and content.vector is not None:
            delta.made.append(replace(row, kind=content.kind, features=content.features))
            delta.vectors.append(np.frombuffer(content.vector, dtype="<f4")[None, :])
            delta.metadata.append(parsed_metadata(content.metadata_json))
        result = WriteResult(self.id, seq, version, self.outcome, row.digest)
        if self.key:
            group.remember(row.ns_id, self.key, self.key_digest, result)
        return result


class DeleteCommand(ChangeCommand):
    """Marks a memory deleted: its core row ends, its content stays in the log."""


class ReinforceCommand(ChangeCommand):
    """Notes an access; a new importance makes a new core row."""

    op = Op.REINFORCED
    outcome = Outcome.REINFORCED

    def next_row(self, group: Group, head: Head, last: ChangeRow) -> tuple[ChangeRow, bool]:
        row = bare(last, head)
        changed = self.importance is not None and self.importance != last.importance
        return (
            replace(
                row,
                importance=last.importance if self.importance is None else self.importance,
                access_time_s=group.at_s if self.access_time_s is None else self.access_time_s,
                access_count=last.access_count + 1,
            ),
            changed,
        )


class UndoCommand(ChangeCommand):
    """Reverts the latest change: the state before it becomes the state after this one."""

    op = Op.RESTORED
    outcome = Outcome.RESTORED

    def judge(self, head: Head | None) -> Verdict:
        return decide_undo(head, self.id, self.expected)

    def next_row(self, group: Group, head: Head, last: ChangeRow) -> tuple[ChangeRow, bool]:
        if last.prev_seq == 0:
            return replace(bare(last, head), deleted=True, row_seq=0), False
        before = group.change(last.prev_seq)
        if before is None:
            raise Refused(E.NOTHING_TO_UNDO, f"the log no longer holds the state of {self.id!r} before its last change")
        row = bare(before, head)
        if before.deleted:
            return replace(row, deleted=True, row_seq=0), False
        same = not head.deleted and before.row_seq == head.row_seq
        return row, not same


def bare(row: ChangeRow, head: Head) -> ChangeRow:
    """A row's small state without content, which stays where `content_seq` points."""
    return replace(row, id=head.id, kind="", payload=None, content_type="", vector=None, features=(), metadata_json="")


class PurgeCommand:
    """Erases a memory's content for good. Runs in a transaction of its own: the store erases what is on disk."""

    alone = True
    size = 1
    size_bytes = 0

    def __init__(self, space: Space, principal: str, id_: str) -> None:
        self.space, self.principal, self.id = space, principal, id_
        self.future: asyncio.Future[PurgeResult]

    def look_up(self, group: Group) -> None:
        group.look_up(self.space, [(self.id, "")])

    def decide(self, group: Group) -> PurgeResult:
        ns_id = self.space.namespace.ns_id
        head = group.head(ns_id, self.id)
        if head is None:
            raise Refused(E.NO_MEMORY, f"no memory has the id {self.id!r}")
        if head.purged:
            return PurgeResult(self.id, head.seq, 0)
        last = group.change(head.seq)
        if last is None:
            raise Refused(E.CORRUPT, f"the log lacks seq {head.seq}, the last change of {self.id!r}")
        erased = group.tx.purge(ns_id, self.id)
        seq = group.tx.reserve(1)
        row = replace(
            bare(last, head), seq=seq, op=Op.PURGED, principal=self.principal, at_s=group.at_s,
            version=head.version + 1, row_seq=0, expires_seq=head.row_seq, prev_seq=head.seq, deleted=True,
        )  # fmt: skip
        group.add(row)
        group.delta(self.space).erased += purged_rows(row, group.tx.changes)
        return PurgeResult(self.id, seq, erased)
