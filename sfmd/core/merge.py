"""Background work on an index: flush, merge, re-sort, persist, drop.

Each step reads a state, builds new segments beside it, and swaps them in under the writer's lock, where ends that came
meanwhile are carried over. Rows that had ended go to segments of their own, which reads of the present skip whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sfmd.core import files
from sfmd.core.heads import heads_of
from sfmd.core.model import I64, NEVER, Rows, Scoring
from sfmd.core.segment import Block, Segment, impact_order, join, seal, take
from sfmd.core.state import State
from sfmd.core.tail import Tail
from sfmd.core.view import misordered, view_of

if TYPE_CHECKING:
    from sfmd.core.index import Index

TAIL_ROWS = 1024
PERSIST_ROWS = 16384
HEADS_FROM_BYTES = 2**27
"""Below this many bytes of vectors a scan is short, and half as much memory again is not worth what heads save."""
ENDED_SHARE = 0.25
MISORDERED_SHARE = 0.25


def step(index: Index, *, idle: bool) -> bool:
    """One piece of work, the most urgent first; False when there is none."""
    state = index._state
    if state.tail_n >= TAIL_ROWS or (idle and state.tail_n >= TAIL_ROWS // 4):
        rebuild(index, (), flush=True)
        return True
    chosen = _like_sized(state.segments, idle=idle) or _stale(state.segments, state.scoring)
    if chosen:
        rebuild(index, _with_unsaved(index, chosen), flush=False)
        return True
    return _make_heads(state.segments)


def _make_heads(segments: Sequence[Segment]) -> bool:
    """Heads for one large live segment that has not been looked at yet; False when there is none."""
    for segment in segments:
        if segment.data.v.nbytes >= HEADS_FROM_BYTES and segment.dead_by == NEVER and not segment.heads_tried:
            segment.heads = heads_of(segment.data.v)
            segment.heads_tried = True
            return True
    return False


def _with_unsaved(index: Index, chosen: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """When a step writes files, segments in memory only go along: an old one left behind would keep the manifest from
    reaching past its first row, and a restart would replay all that follows."""
    if index.folder is None or (sum(map(len, chosen)) < PERSIST_ROWS and not any(s.name for s in chosen)):
        return chosen
    taken = set(map(id, chosen))
    return chosen + tuple(s for s in index._state.segments if not s.name and id(s) not in taken)


def _like_sized(segments: Sequence[Segment], *, idle: bool) -> tuple[Segment, ...]:
    """The newest live segments that should become one: each older one joins while it is no larger than what follows it
    (when idle: no larger than four times that), so a row is copied about log2(N) times in all."""
    for group in ([s for s in segments if s.dead_by == NEVER], [s for s in segments if s.dead_by != NEVER]):
        ordered = sorted(group, key=lambda s: s.max_seq)
        if len(ordered) < 2:
            continue
        run, total = [ordered[-1]], len(ordered[-1])
        for older in reversed(ordered[:-1]):
            if len(older) > total * (4 if idle else 1):
                break
            run.append(older)
            total += len(older)
        if len(run) > 1:
            return tuple(run)
    return ()


def _stale(segments: Sequence[Segment], scoring: Scoring) -> tuple[Segment, ...]:
    """One segment with many ended rows among its live ones, or whose order fits the scoring badly."""
    for segment in segments:
        if segment.dead_by != NEVER:
            continue
        if segment.n_ended > ENDED_SHARE * len(segment):
            return (segment,)
        if segment.built_for != scoring and misordered(segment, scoring) > MISORDERED_SHARE:
            return (segment,)
    return ()


def rebuild(
    index: Index,
    chosen: Sequence[Segment],
    *,
    flush: bool,
    keep: Callable[[Block], NDArray[np.bool_]] | None = None,
    persist: bool | None = None,
) -> int:
    """Replace `chosen` segments (and the tail's present rows, with `flush`) by one live and one ended segment.

    keep: rows to keep (all by default). persist: write to disk (default: when large enough). Returns rows dropped.
    """
    state = index._state
    parts = [s.data for s in chosen]
    tail, n = state.tail, state.tail_n if flush else 0
    if n:
        parts.append(tail.block(n, columns=tail.columns(n)))
    if not parts:
        return 0
    channels = max(len(state.scoring.channel_weights), *(p.features.shape[1] for p in parts))
    joined = join(parts, channels, vectors=parts[0].v)
    kept = np.ones(len(joined), dtype=bool) if keep is None else keep(joined)
    wanted_on_disk = int(kept.sum()) >= PERSIST_ROWS or any(s.name for s in chosen) if persist is None else persist
    to_disk = index.folder is not None and wanted_on_disk
    made: list[tuple[Segment, I64]] = []
    for wanted in (kept & (joined.ended == NEVER), kept & (joined.ended != NEVER)):
        rows = np.flatnonzero(wanted)
        if rows.size:
            made.append(_build(index, parts, joined, rows, state.scoring, to_disk=to_disk))
    with index._write:
        now = index._state
        _carry_ends(joined, [s.data.ended for s in chosen] + ([now.tail.ended[:n]] if n else []), made)
        gone = set(map(id, chosen))
        segments = [s for s in now.segments if id(s) not in gone] + [s for s, _ in made]
        new_tail = now.tail.grown(_no_rows(index.dim, now.tail), start=n) if n else now.tail
        live = now.live - int(np.count_nonzero(~kept & (joined.ended == NEVER)))
        index._state = State(now.seq, now.scoring, tuple(segments), new_tail, new_tail.n, live)
    if index.folder is not None and (to_disk or any(s.name for s in chosen)):
        write_manifest(index)
    return int(np.count_nonzero(~kept))


def _build(
    index: Index, parts: Sequence[Block], joined: Block, rows: I64, scoring: Scoring, *, to_disk: bool
) -> tuple[Segment, I64]:  # fmt: skip
    """A segment of chosen rows of the joined parts, and which joined row each of its rows is."""
    order = rows[impact_order(take(joined, rows, vectors=joined.v), scoring)]
    data = take(joined, order, vectors=joined.v)
    borders = np.cumsum([0, *map(len, parts)])
    sources = []
    for n, part in enumerate(parts):
        places = np.flatnonzero((order >= borders[n]) & (order < borders[n + 1]))
        sources.append((part, order[places] - borders[n], places))
    if to_disk and index.folder is not None:
        index._made += 1
        name = f"seg-{int(data.seq.min())}-{int(data.seq.max())}-{index._made}"
        segment = files.write_segment(index.folder, name, data, sources, scoring)
    else:
        v = np.empty((len(order), index.dim), dtype=np.float32)
        for part, of_part, places in sources:
            v[places] = part.v[of_part]
        data.v = v
        segment = seal(data, scoring)
    view_of(segment, scoring)
    return segment, order


def _carry_ends(joined: Block, ended: Sequence[I64], made: Sequence[tuple[Segment, I64]]) -> None:
    """Ends that arrived while the segments were built; called under the writer's lock."""
    present = np.concatenate(ended)
    for segment, order in made:
        late = np.flatnonzero(present[order] != segment.data.ended)
        segment.data.ended[late] = present[order[late]]
        segment.n_ended += int(late.size)
    joined.ended = present


def _no_rows(dim: int, tail: Tail) -> Rows:
    empty = np.zeros(0)
    return Rows(
        seq=empty.astype(np.int64), ids=(), vectors=np.zeros((0, dim), np.float32), importance=empty,
        event_time_s=empty, half_life=empty.astype(np.int16),
        features=np.zeros((0, tail.features.shape[1])), kinds=(), metadata=(),
    )  # fmt: skip


def write_manifest(index: Index) -> None:
    """Name the segments on disk and the seq up to which they hold everything."""
    if index.folder is None:
        return
    state = index._state
    unsaved = [s.min_seq for s in state.segments if not s.name]
    if state.tail_n:
        unsaved.append(int(state.tail.seq[0]))
    reach = min(unsaved) - 1 if unsaved else state.seq
    for s in sorted((s for s in state.segments if s.name), key=lambda s: s.max_seq, reverse=True):
        if s.max_seq > reach:
            reach = min(reach, s.min_seq - 1)
    saved = [s for s in state.segments if s.name and s.max_seq <= reach]
    files.write_manifest(index.folder, index.dim, reach, saved, in_use=[s.name for s in state.segments])


def persist_all(index: Index) -> None:
    """Tail and in-memory segments into one step's files, then the manifest."""
    state = index._state
    chosen = tuple(s for s in state.segments if not s.name)
    if chosen or state.tail_n:
        rebuild(index, chosen, flush=True, persist=True)
    else:
        write_manifest(index)


def drop(index: Index, unwanted: Callable[[Block], NDArray[np.bool_]]) -> int:
    """Rewrite every segment (and the tail) that holds unwanted rows, without them; returns how many rows went."""
    state, gone = index._state, 0
    for segment in state.segments:
        if unwanted(segment.data).any():
            gone += rebuild(
                index, (segment,), flush=False, keep=lambda b: ~unwanted(b), persist=bool(segment.name) or None
            )  # fmt: skip
    state = index._state
    if state.tail_n and unwanted(state.tail.block(state.tail_n)).any():
        gone += rebuild(index, (), flush=True, keep=lambda b: ~unwanted(b))
    return gone
