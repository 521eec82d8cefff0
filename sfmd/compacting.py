"""`sfmd compact`: moves the horizon of the log, and frees the content of versions that nothing after it can ask for.

Guards two rules: how far the log reaches back is stated, as a row of the log itself, before anything goes; and every
state from the horizon on, the present one included, stays what it was. Small rows stay for good: histories, digests and
the chain that Purge walks are not cut. Broken off and begun again, it goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sfmd.config import Settings
from sfmd.domain import ChangeRow, Op
from sfmd.errors import E, Refused
from sfmd.protocols import Clock, Store, WriteTx
from sfmd.spaces import Spaces
from sfmd.store.open import open_store
from sfmd.store.schema import FIRST_NAMESPACE_OP, NO_NAMESPACE
from sfmd.store.shrink import shrink

CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did: the horizon before and after, versions whose content went, rows that the core dropped."""

    horizon_before: int
    horizon_seq: int
    versions: int
    core_rows: int
    freed_bytes: int


def compact(
    settings: Settings, *, horizon_seq: int | None = None, keep_s: float | None = None, smaller: bool = False,
    clock: Clock = time.time,
) -> Compaction:  # fmt: skip
    """Move the horizon to a seq, or to the first change of the last `keep_s` seconds; `smaller` rewrites the file.

    Raises Refused: LOCKED while a daemon runs, FUTURE_SEQ, BEHIND_HORIZON (a horizon never goes back).
    """
    store = open_store(settings.data_dir, migrate=False)
    try:
        before = store.horizon_seq()
        at = _asked(store, horizon_seq, None if keep_s is None else clock() - keep_s)
        if at > before:
            _state(store, at, clock)
        unneeded = list(_unneeded(store, at))
        for start in range(0, len(unneeded), CHUNK):
            part = unneeded[start : start + CHUNK]
            store.write(lambda tx, part=part: tx.strip(part))  # type: ignore[misc]
        dropped = _compact_segments(settings, store, at)
    finally:
        store.close()
    return Compaction(before, at, len(unneeded), dropped, shrink(settings.data_dir) if smaller else 0)


def _asked(store: Store, horizon_seq: int | None, since_s: float | None) -> int:
    """The horizon that is asked for, no further back than the present one when it is given as a time."""
    before, last = store.horizon_seq(), store.last_seq()
    if horizon_seq is None:
        return max(before, _first_since(store, since_s or 0.0, last))
    if horizon_seq > last:
        raise Refused(E.FUTURE_SEQ, f"the log ends at seq {last}; its horizon cannot be {horizon_seq}")
    if horizon_seq < before:
        raise Refused(E.BEHIND_HORIZON, f"the horizon is at seq {before} already and never goes back")
    return horizon_seq


def _first_since(store: Store, since_s: float, last: int) -> int:
    """The first seq that was committed at or after a time, or the last one: commit times never go back."""
    low, high = 1, max(1, last)
    while low < high:
        middle = (low + high) // 2
        if store.changes(middle, middle, payloads=False)[0].at_s >= since_s:
            high = middle
        else:
            low = middle + 1
    return low


def _state(store: Store, horizon_seq: int, clock: Clock) -> None:
    """Write the new horizon into the log: from here on nobody is answered from before it."""
    last = store.last_seq()
    at_s = max(clock(), store.changes(last, last, payloads=False)[0].at_s)

    def work(tx: WriteTx) -> None:
        detail = json.dumps({"horizon_seq": horizon_seq})
        tx.append([ChangeRow(tx.reserve(1), NO_NAMESPACE, Op.COMPACTED, "sfmd", at_s, detail_json=detail)])

    store.write(work)


def _unneeded(store: Store, horizon_seq: int) -> Iterator[int]:
    """Rows up to the horizon that bring content which no state from the horizon on stands on."""
    brought: set[int] = set()
    stands_on: dict[tuple[int, str], int] = {}
    needed: set[int] = set()
    for row in _log(store):
        if row.seq <= horizon_seq:
            stands_on[row.ns_id, row.id] = row.content_seq
            if row.content_seq == row.seq:
                brought.add(row.seq)
        elif row.content_seq <= horizon_seq:
            needed.add(row.content_seq)
    needed.update(stands_on.values())
    behind = sorted(brought - needed)
    for start in range(0, len(behind), CHUNK):
        found = store.rows(behind[start : start + CHUNK], payloads=False, vectors=True)
        yield from (seq for seq, row in found.items() if row.vector is not None)


def _log(store: Store) -> Iterator[ChangeRow]:
    """Every row about a memory, in order, without content."""
    seq, last = 0, store.last_seq()
    while seq < last:
        rows = store.changes(seq + 1, last, payloads=False, limit=CHUNK)
        yield from (row for row in rows if row.op < FIRST_NAMESPACE_OP)
        seq = rows[-1].seq


def _compact_segments(settings: Settings, store: Store, horizon_seq: int) -> int:
    """Let the core drop what ended by the horizon, on disk too; returns how many rows went."""
    spaces = Spaces(settings.segments)
    spaces.open_all(store)
    dropped = 0
    for space in spaces:
        dropped += space.index.compact(horizon_seq)
        space.index.save()
        space.index.close()
    return dropped
