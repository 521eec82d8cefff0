"""Heads: the first coordinates of a segment's vectors in a turned basis, which rule most rows out at 7/16 of the bytes.

Guards two rules. A head only bounds from above: rows that it does not rule out are read whole, so no answer depends on
it. And the bound holds whatever the rounding: basis and coordinates are float32 numbers, taken as they are.

With U the basis (D x H-1, nearly orthonormal), h = U'v and g = U'q as computed, and what they leave out, e = v - U h
and f = q - U g:

    v.q = h.(U'q) + e.q = h.g + e.f + (what rounding of h, g and U adds) <= h.g + |e| |f| + slack

|e| is kept as one more coordinate of the head, and |f| of the query's, so that one product gives the bound. It is
Cauchy's; it lives on principal directions leaving little out.

Heads stand column by column, in chunks of rows: BLAS then reads them as fast as memory gives them, whatever H is, where
products row by row are bound by the calls for short rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sfmd.core.model import F32, F64

LEAST_DIM = 32
SHARE_16THS = 7
ROUNDING = 2.0**-24
SAMPLE_ROWS = 8192
CHUNK_ROWS = 2048
"""Fewer make a chunk's columns too short for BLAS, more make the chunks at both ends of a block longer than need be."""
LONGEST_REST = 0.6
"""Mean |e| above which heads rule out too little to be worth their memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """Heads of N rows.

    basis     float32[H-1, D]
    chunks    float32[C, H, CHUNK_ROWS]: row n is chunks[n // CHUNK_ROWS, :, n % CHUNK_ROWS]; last an upper bound of |e|
    rounding  as `_rounding` has it
    """

    basis: F32
    chunks: F32
    rounding: float

    @property
    def slack(self) -> float:
        """What rounding may add to a product: of h, of g, of the basis, and of the product's own sum, with room."""
        return 6.0 * self.rounding

    @property
    def row_bytes(self) -> int:
        """Bytes of one head."""
        return int(self.chunks.shape[1]) * 4

    def turned(self, q: F32) -> F32:
        """float32[H] for a unit query float32[D], as `bounds` takes it."""
        out = np.empty(self.chunks.shape[1], np.float32)
        h = np.vecdot(self.basis, q, out[:-1])
        square, of_head = np.vecdot(q, q).astype(np.float64), np.vecdot(h, h).astype(np.float64)
        out[-1] = _rest(square, of_head, q.shape[0], self.rounding)
        return out

    def bounds(self, turned: F32, low: int, high: int, room: F32) -> F32:
        """Upper bounds float32[high - low] of the query's products with rows low:high, but for `slack`.

        They are made in `room`, which must have 2 CHUNK_ROWS more than that: chunks are taken whole, because BLAS is
        half as fast on a part of one.
        """
        first, last = low // CHUNK_ROWS, -(-high // CHUNK_ROWS)
        for n in range(first, last):
            at = (n - first) * CHUNK_ROWS
            np.dot(turned, self.chunks[n], room[at : at + CHUNK_ROWS])
        start = low - first * CHUNK_ROWS
        return room[start : start + high - low]


def heads_of(v: F32) -> Heads | None:
    """Heads for float32[N, D] rows of length about one; None where they would rule out too little."""
    rows, dim = v.shape
    if dim < LEAST_DIM:
        return None
    width: int = dim * SHARE_16THS // 16
    basis = _directions(v[:: max(1, rows // SAMPLE_ROWS)], width - 1)
    rounding = _rounding(basis)
    chunks = np.zeros((-(-rows // CHUNK_ROWS), width, CHUNK_ROWS), np.float32)
    left = 0.0
    for n, at in enumerate(range(0, rows, CHUNK_ROWS)):
        part = v[at : at + CHUNK_ROWS]
        h = np.matmul(basis, part.T, out=chunks[n, :-1, : len(part)])
        square, of_head = np.vecdot(part, part).astype(np.float64), np.einsum("hn,hn->n", h, h).astype(np.float64)
        rest = _rest(square, of_head, dim, rounding)
        chunks[n, -1, : len(part)] = np.nextafter(rest.astype(np.float32), np.float32(4.0))
        left += float(rest.sum())
        if left > LONGEST_REST * rows:
            return None
    return Heads(basis, chunks, rounding)


def _directions(sample: F32, count: int) -> F32:
    """The `count` leading principal directions of a sample, float32[count, D]."""
    wide = sample.astype(np.float64)
    _, vectors = np.linalg.eigh(wide.T @ wide)
    out: F32 = np.ascontiguousarray(vectors[:, ::-1][:, :count].T, dtype=np.float32)
    return out


def _rounding(basis: F32) -> float:
    """How far computed coordinates of a unit vector can be from the exact ones, as a length, and how far the basis is
    from orthonormal: one bound for both. A float32 sum of D products of unit vectors errs by at most D 2^-24."""
    count, dim = basis.shape
    wide = basis.astype(np.float64)
    skew = float(np.linalg.norm(wide @ wide.T - np.eye(count)))
    return float(1.01 * dim * ROUNDING * math.sqrt(count) + skew)


def _rest(square: F64, of_head: F64, dim: int, rounding: float) -> F64:
    """Upper bound of |e| from sums |v|^2 and |h|^2 that were made in float32: |e|^2 <= |v|^2 - |h|^2 for exact
    coordinates, and every part is moved to its safe side by its rounding."""
    length = np.maximum(np.sqrt(of_head) - 2.0 * rounding, 0.0)
    slack = 1.01 * dim * ROUNDING + 2.0 * rounding
    out: F64 = np.sqrt(np.maximum(square - length * length + slack, 0.0)) + 2.0 * rounding
    return out
