"""The tail: the newest rows, unsorted, in arrays that grow geometrically and are only ever appended to.

Readers hold a count taken when they began; what a writer appends after it is not theirs to see.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sfmd.core import columns as cols
from sfmd.core.model import F32, F64, I16, I64, NEVER, Rows, Scoring
from sfmd.core.segment import Block, ListedIds, base_of

FIRST_CAPACITY = 1024


class Tail:
    """Rows in the order they were written. One writer; any number of readers of a prefix."""

    def __init__(self, dim: int, channels: int, capacity: int = FIRST_CAPACITY) -> None:
        self.n = 0
        self.v: F32 = np.empty((capacity, dim), dtype=np.float32)
        self.seq: I64 = np.empty(capacity, dtype=np.int64)
        self.t_s: F64 = np.empty(capacity)
        self.r: F64 = np.empty(capacity)
        self.half_life: I16 = np.empty(capacity, dtype=np.int16)
        self.features: F64 = np.full((capacity, channels), np.nan)
        self.ended: I64 = np.empty(capacity, dtype=np.int64)
        self.ids: list[bytes] = []
        self.kinds: list[str] = []
        self.metadata: list[Mapping[str, object]] = []

    def fits(self, rows: Rows) -> bool:
        """True when the rows can be appended in place."""
        return self.n + len(rows) <= len(self.seq) and bool(rows.features.shape[1] <= self.features.shape[1])

    def grown(self, rows: Rows, start: int = 0) -> Tail:
        """A tail with the present rows from `start` on and room for `rows`; readers of this one are not disturbed."""
        need = self.n - start + len(rows)
        channels = max(self.features.shape[1], rows.features.shape[1])
        capacity = max(FIRST_CAPACITY, 1 << (need - 1).bit_length() if need > 1 else 1)
        new = Tail(self.v.shape[1], channels, capacity)
        kept = slice(start, self.n)
        new.n = self.n - start
        for name in ("v", "seq", "t_s", "r", "half_life", "ended"):
            getattr(new, name)[: new.n] = getattr(self, name)[kept]
        new.features[: new.n, : self.features.shape[1]] = self.features[kept]
        new.ids, new.kinds, new.metadata = self.ids[kept], self.kinds[kept], self.metadata[kept]
        return new

    def append(self, rows: Rows) -> None:
        """Add rows that fit."""
        at = slice(self.n, self.n + len(rows))
        self.v[at], self.seq[at], self.t_s[at], self.r[at] = (
            rows.vectors, rows.seq, rows.event_time_s, rows.importance,
        )  # fmt: skip
        self.half_life[at] = rows.half_life
        self.features[at, : rows.features.shape[1]] = rows.features
        self.ended[at] = NEVER
        self.ids.extend(rows.ids)
        self.kinds.extend(rows.kinds)
        self.metadata.extend(rows.metadata)
        self.n += len(rows)

    def locate(self, row_seq: int) -> int:
        """The row made by that seq, or -1."""
        place = int(np.searchsorted(self.seq[: self.n], row_seq))
        return place if place < self.n and self.seq[place] == row_seq else -1

    def columns(self, n: int) -> cols.Columns:
        """The first n rows' kinds and metadata, coded for a filter."""
        return cols.encode(self.kinds[:n], self.metadata[:n])

    def block(self, n: int, *, columns: cols.Columns | None = None) -> Block:
        """The first n rows as a block that shares this tail's arrays; columns only where they are asked for."""
        return Block(
            v=self.v[:n], seq=self.seq[:n], t_s=self.t_s[:n], r=self.r[:n], half_life=self.half_life[:n],
            features=self.features[:n], ids=ListedIds(self.ids, n),
            columns=columns or cols.encode((), ()), ended=self.ended[:n],
        )  # fmt: skip

    def base(self, n: int, scoring: Scoring) -> F64:
        """float64[n]: `base_of` for the first n rows."""
        return base_of(self.r[:n], self.features[:n], scoring)
