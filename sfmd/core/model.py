"""What goes into the core and what comes out: arrays and frozen records, numpy alone.

A row of the core is known by the seq of the change that made it (`seq`, unique over the log). It is never mutated: a
change makes a new row and ends the old one at the change's seq.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I16 = NDArray[np.int16]

Scalar = str | float | int | bool | None

NEVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class NormaliserVersion:
    """One version of the importance normaliser: `i = f(r; version)`, a pure function of raw r.

    kind      "none" (nothing seen: everything is 0.5), "minmax" or "logistic"
    a, b      minmax: the lowest and highest raw value; logistic: centre c and slope k
    n         raw values seen when it was cut
    q10, q90  quantiles of the reservoir when it was cut (what the next cut is measured against)
    """

    version: int = 0
    kind: str = "none"
    a: float = 0.0
    b: float = 0.0
    n: int = 0
    q10: float = 0.0
    q50: float = 0.0
    q90: float = 0.0


@dataclass(frozen=True, slots=True)
class Scoring:
    """Everything that ranks, as the log has it at one seq. Equal values compare and hash equal.

    half_life_s      tau by class number, seconds > 0, math.inf never ages
    channel_weights  w_j by channel number, >= 0, sum <= 1
    """

    half_life_s: tuple[float, ...]
    channel_weights: tuple[float, ...] = ()
    alpha: float = 1.0
    beta: float = 1.0
    normaliser: NormaliserVersion = NormaliserVersion()


@dataclass(frozen=True, slots=True)
class Rows:
    """N rows to add, as struct of arrays. Vectors are unit length, checked by `vectors.normalise`.

    seq int64[N] ascending; ids N byte strings; vectors float32[N, D]; importance float64[N] (nan: none);
    event_time_s float64[N]; half_life int16[N]; features float64[N, J] (nan: missing; J may be less than the
    channels); kinds N words; metadata N mappings (top-level keys; values that are no scalars only exist).
    """

    seq: I64
    ids: Sequence[bytes]
    vectors: F32
    importance: F64
    event_time_s: F64
    half_life: I16
    features: F64
    kinds: Sequence[str]
    metadata: Sequence[Mapping[str, object]]

    def __len__(self) -> int:
        return int(self.seq.shape[0])


@dataclass(frozen=True, slots=True)
class MetaCondition:
    """`op` is one of EQ NE LT LE GT GE EXISTS NOT_EXISTS; semantics as in proto/memory.proto."""

    key: str
    op: str
    values: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True)
class Where:
    """A filter; all parts hold. Time range is half open: from_s <= t < to_s."""

    kinds: tuple[str, ...] = ()
    from_s: float | None = None
    to_s: float | None = None
    metadata: tuple[MetaCondition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.kinds or self.metadata or self.from_s is not None or self.to_s is not None)


@dataclass(slots=True)
class Terms:
    """One hit's score taken apart. `log2_score` is their sum, left to right. Not frozen only because that is slower."""

    seq: int
    id: bytes
    similarity: float
    importance: float
    age_s: float
    half_life_s: float
    log2_similarity_term: float
    log2_importance_term: float
    log2_decay_term: float
    feature_values: tuple[float, ...]
    log2_feature_terms: tuple[float, ...]
    log2_score: float


@dataclass(slots=True)
class Found:
    """Hits, best first (log2_score descending, then id by bytes), and what was looked at. Not frozen, as Terms.

    rows_total: rows visible at the read's seq (before filters); rows_scored: rows whose vector was read;
    bytes_touched: bytes of vectors read; path: how it was computed, e.g. "impact" or "view".
    """

    hits: tuple[Terms, ...]
    seq: int
    rows_total: int
    rows_scored: int
    bytes_touched: int
    path: str


@dataclass(frozen=True, slots=True)
class IndexStats:
    """Measured state of one index."""

    live: int
    rows: int
    tail_rows: int
    segments: int
    norm_error_max: float
    decay_active_ratio: float
    importance_raw: Mapping[str, float] = field(default_factory=dict)
    importance_normalised: Mapping[str, float] = field(default_factory=dict)
    bytes_resident: int = 0


Cancel = Callable[[], bool]
"""Whether the caller has gone away."""


@dataclass(slots=True)
class Question:
    """One query of the present, as `Index.search` takes it. Not frozen, as Terms."""

    q: F32
    k: int
    now_s: float
    alpha: float | None = None
    beta: float | None = None
    where: Where | None = None
    min_score: float = 0.0
    cancelled: Cancel | None = None


class Cancelled(Exception):
    """The caller's `cancelled()` said yes between two blocks."""
