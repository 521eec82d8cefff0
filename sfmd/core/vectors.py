"""Vectors at the border: checked, scaled to length one, and multiplied exactly.

Guards two rules: every stored vector has ||v|| = 1 within 1e-4 (roadmap §2, test_norm_invariant), and a similarity's
bits depend on no BLAS and no CPU.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sfmd.core.model import F32, F64

NORM_TOLERANCE = 1e-4
NORM_TOLERANCE_F16 = 1e-3
OK, NOT_FINITE, ZERO = 0, 1, 2

_ALREADY_UNIT = 2.0**-22
"""A float32 rounding of a unit vector is this near to length one: it is left as it is, so normalising twice changes
nothing."""


FEW_ROWS = 32
"""Up to here turning the products round first makes every addition of the tree one run through memory."""


def tree_sum(x: F64) -> F64:
    """Sum float64[m, D] over its last axis to float64[m] by a fixed halving tree.

    D is padded with zeros to a power of two, then the upper half is added to the lower until one column is left. Only
    element-wise additions happen, in one order, so every IEEE machine gives the same bits.
    """
    width = x.shape[-1]
    size = 1 << (width - 1).bit_length() if width > 1 else 1
    if size != width:
        padded = np.zeros((*x.shape[:-1], size), dtype=np.float64)
        padded[..., :width] = x
        x = padded
    x = np.ascontiguousarray(x.T) if x.ndim == 2 and x.shape[0] <= FEW_ROWS else x.T
    while size > 1:
        size //= 2
        x = x[:size] + x[size:]
    out: F64 = x[0]
    return out


def similarity(q: F32, v: F32) -> F64:
    """Exact-definition similarity of float32[D] with float32[m, D]: min(1, q.v) as float64[m].

    The product of two float32 is exact in float64; the sum is `tree_sum`. Source: the score's definition.
    """
    out: F64 = np.minimum(1.0, tree_sum(np.multiply(v, q, dtype=np.float64)))
    return out


def normalise(raw: bytes | memoryview | F32, dim: int) -> tuple[F32, NDArray[np.uint8]]:
    """Scale rows to length one.

    `raw` is little-endian float32 bytes of N * dim components, or float32[N, dim]. Returns float32[N, dim] and a
    status per row: 0 ok, 1 a component is not finite, 2 length zero (such rows come back as zeros). The length is taken
    in float64. A row that is a rounded unit vector comes back bit for bit.
    Raises ValueError when the bytes are no whole number of rows.
    """
    data = raw if isinstance(raw, np.ndarray) else np.frombuffer(raw, dtype="<f4")
    rows: F32 = np.ascontiguousarray(data.reshape(-1, dim), dtype=np.float32)
    status = np.zeros(rows.shape[0], dtype=np.uint8)
    if _all_unit(rows):
        return rows, status
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(rows), axis=1)
    status[~finite] = NOT_FINITE
    wide = np.where(finite[:, None], rows, np.float32(0)).astype(np.float64)
    length = np.sqrt(tree_sum(wide * wide))
    status[finite & (length == 0.0)] = ZERO
    unit = np.abs(length - 1.0) <= _ALREADY_UNIT
    scaled = (wide / np.where(length > 0.0, length, 1.0)[:, None]).astype(np.float32)
    out: F32 = np.where(unit[:, None], rows, scaled)
    out[status != OK] = 0.0
    return out, status


def _all_unit(rows: F32) -> bool:
    """Whether every row is so surely a rounded unit vector that it would come back bit for bit.

    The squared length is summed in another order than `tree_sum`'s, so the bound is narrower than _ALREADY_UNIT by far
    more than the two orders can differ (D * 2^-52).
    """
    if rows.shape[0] == 1:  # a store of its own: three calls instead of eight
        one = rows[0].astype(np.float64)
        return abs(float(one.dot(one)) - 1.0) <= _ALREADY_UNIT
    with np.errstate(all="ignore"):
        wide = rows.astype(np.float64)
        off = np.abs(np.einsum("ij,ij->i", wide, wide) - 1.0)
        return bool((off <= _ALREADY_UNIT).all())


def norm_error_max(v: F32) -> float:
    """The largest | ||v|| - 1 | over float32[N, D]; 0 for no rows. A metric, not a guard."""
    if v.shape[0] <= 1:
        one = v.reshape(-1).astype(np.float64)
        return abs(math.sqrt(one.dot(one)) - 1.0) if v.shape[0] else 0.0
    worst = 0.0
    for start in range(0, v.shape[0], 8192):
        part = v[start : start + 8192].astype(np.float64)
        worst = max(worst, float(np.abs(np.sqrt(np.einsum("ij,ij->i", part, part)) - 1.0).max()))
    return worst


def dot_error(dim: int) -> float:
    """How far a float32 product of two unit vectors can be from the exact one: D 2^-24, and a little for |v| > 1."""
    return dim * 2.0**-24 * 1.001 + 2.0**-40


def block_dots(v: F32, q: F32, out: F32) -> F32:
    """float32 products of one block with the query. An int8 copy takes its place here.

    vecdot saturates the memory's bandwidth, which BLAS gemv does not.
    """
    return np.vecdot(v, q, out)
