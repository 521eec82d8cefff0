"""Immutable segments: rows of one namespace in impact order, as contiguous arrays.

Rows are grouped by half-life class and, inside a class, sorted by key = alpha log2 i + sum w_j log2 f_j + t/tau,
highest first: that order does not change with time, so a scan can stop early for ever after. Only `ended` changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sfmd.core import columns as cols
from sfmd.core.heads import Heads
from sfmd.core.model import F32, F64, I16, I64, NEVER, Scoring
from sfmd.core.score import half_lives, log2_features, log2_importance


@dataclass(frozen=True, slots=True)
class Ids:
    """N byte strings as one blob: id n is blob[offsets[n]:offsets[n+1]]."""

    blob: NDArray[np.uint8]
    offsets: I64

    def __getitem__(self, n: int) -> bytes:
        return self.blob[self.offsets[n] : self.offsets[n + 1]].tobytes()

    def at(self, rows: I64) -> list[bytes]:
        """The ids of chosen rows."""
        blob = self.blob
        lows, highs = self.offsets[rows].tolist(), self.offsets[rows + 1].tolist()
        return [blob[low:high].tobytes() for low, high in zip(lows, highs, strict=True)]

    def packed(self) -> Ids:
        """Itself."""
        return self

    def take(self, rows: I64) -> Ids:
        """The ids of chosen rows, in the order given."""
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        within = np.arange(int(offsets[-1]), dtype=np.int64) - np.repeat(offsets[:-1], lengths)
        return Ids(np.asarray(self.blob)[np.repeat(starts, lengths) + within], offsets)


def pack_ids(ids: Sequence[bytes]) -> Ids:
    """Ids from N byte strings."""
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)), out=offsets[1:])
    return Ids(np.frombuffer(b"".join(ids), dtype=np.uint8), offsets)


@dataclass(frozen=True, slots=True)
class ListedIds:
    """The first n ids of a growing list, read in place: what a tail has."""

    ids: list[bytes]
    n: int

    def __getitem__(self, n: int) -> bytes:
        return self.ids[n]

    def at(self, rows: I64) -> list[bytes]:
        """The ids of chosen rows."""
        return [self.ids[n] for n in rows.tolist()]

    def packed(self) -> Ids:
        """A copy as a blob."""
        return pack_ids(self.ids[: self.n])


@dataclass(slots=True, eq=False)
class Block:
    """Plain columns of N rows in any order: what the tail is and what a merge reads and writes.

    seq, t_s, r, half_life, features, ids, columns and V as in `Rows`; ended int64[N] is the seq that ended a row, or
    NEVER: the one array that changes.
    """

    v: F32
    seq: I64
    t_s: F64
    r: F64
    half_life: I16
    features: F64
    ids: Ids | ListedIds
    columns: cols.Columns
    ended: I64

    def __len__(self) -> int:
        return int(self.seq.shape[0])


def join(parts: Sequence[Block], channels: int, vectors: F32 | None = None) -> Block:
    """All parts one after another; `vectors`, when given, stands for the joined V (which is then not copied here)."""
    widen = [
        np.pad(p.features, ((0, 0), (0, channels - p.features.shape[1])), constant_values=np.nan) for p in parts
    ]  # fmt: skip
    ids = [p.ids.packed() for p in parts]
    base = np.cumsum([0] + [int(p.offsets[-1]) for p in ids])
    offsets = [p.offsets[:-1] + b for p, b in zip(ids, base[:-1], strict=True)]
    return Block(
        v=np.concatenate([p.v for p in parts]) if vectors is None else vectors,
        seq=np.concatenate([p.seq for p in parts]),
        t_s=np.concatenate([p.t_s for p in parts]),
        r=np.concatenate([p.r for p in parts]),
        half_life=np.concatenate([p.half_life for p in parts]),
        features=np.concatenate(widen),
        ids=Ids(np.concatenate([p.blob for p in ids]), np.concatenate([*offsets, base[-1:]])),
        columns=cols.concatenate([p.columns for p in parts]),
        ended=np.concatenate([p.ended for p in parts]),
    )


def take(block: Block, rows: I64, *, vectors: F32 | None = None) -> Block:
    """Chosen rows in the order given; `vectors`, when given, is used as V instead of a copy."""
    return Block(
        v=block.v[rows] if vectors is None else vectors,
        seq=block.seq[rows], t_s=block.t_s[rows], r=block.r[rows], half_life=block.half_life[rows],
        features=block.features[rows], ids=block.ids.packed().take(rows), columns=block.columns.take(rows),
        ended=block.ended[rows],
    )  # fmt: skip


def base_of(r: F64, features: F64, scoring: Scoring) -> F64:
    """float64[N]: alpha log2 i + sum w_j log2 f_j, the part of L that neither query nor time changes."""
    base = scoring.alpha * log2_importance(r, scoring) if scoring.alpha > 0.0 else np.zeros(r.shape[0])
    extra = log2_features(features, scoring)
    return base if extra is None else base + extra


def base_and_key(block: Block, scoring: Scoring, t_ref_s: float) -> tuple[F64, F64]:
    """float64[N] twice: `base_of`, and the key base + (t - t_ref)/tau that orders the rows of a class for ever."""
    base = base_of(block.r, block.features, scoring)
    tau = half_lives(block.half_life, scoring)
    return base, base + (block.t_s - t_ref_s) / tau


def impact_order(block: Block, scoring: Scoring) -> I64:
    """int64[N]: rows by class, then key descending, then seq: the order of a segment."""
    t_ref_s = float(block.t_s.max()) if len(block) else 0.0
    order: I64 = np.lexsort((block.seq, -base_and_key(block, scoring, t_ref_s)[1], block.half_life)).astype(np.int64)
    return order


@dataclass(slots=True, eq=False)
class Segment:
    """A block in impact order, with what a scan asks of it.

    dead_by: the seq by which every row had ended (NEVER while one lives): reads at or after it skip the segment.
    n_ended: rows that ended; 0 lets a scan skip the look. name: its folder on disk, or "" while it is in memory only;
    seal_crc32: checksum of its segment.json, which the manifest repeats. heads: made once, by upkeep, where they pay.
    """

    data: Block
    built_for: Scoring
    name: str = ""
    seal_crc32: int = 0
    n_ended: int = 0
    min_seq: int = 0
    max_seq: int = 0
    t_max_s: float = 0.0
    dead_by: int = NEVER
    by_seq: tuple[I64, NDArray[np.int32]] | None = None
    views: dict[Scoring, object] = field(default_factory=dict)
    heads: Heads | None = None
    heads_tried: bool = False

    def __len__(self) -> int:
        return len(self.data)

    def locate(self, row_seq: int) -> int:
        """The row made by that seq, or -1."""
        if not self.min_seq <= row_seq <= self.max_seq:
            return -1
        if self.by_seq is None:
            order = np.argsort(self.data.seq, kind="stable").astype(np.int32)
            self.by_seq = (self.data.seq[order], order)
        ordered, order = self.by_seq
        place = int(np.searchsorted(ordered, row_seq))
        return int(order[place]) if place < len(ordered) and ordered[place] == row_seq else -1


def seal(data: Block, scoring: Scoring, name: str = "") -> Segment:
    """A segment over a block that is already in impact order and has at least one row."""
    ended = data.ended
    return Segment(
        data=data, built_for=scoring, name=name, n_ended=int(np.count_nonzero(ended != NEVER)),
        min_seq=int(data.seq.min()), max_seq=int(data.seq.max()), t_max_s=float(data.t_s.max()),
        dead_by=int(ended.max()),
    )  # fmt: skip
