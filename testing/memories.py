"""A population of memories made from a seed, fed to a real index and kept in plain Python beside it.

Tests and the bench ask the index and the oracle the same question; `World` is what makes that one line. The filter here
is written from proto/memory.proto over dictionaries and shares nothing with sfmd/core/columns.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sfmd.core.index import Index
from sfmd.core.model import F32, F64, I16, I64, NEVER, MetaCondition, NormaliserVersion, Rows, Scoring, Where
from sfmd.core.normaliser import normalised
from sfmd.core.vectors import normalise
from testing import oracle

NOW_S = 1_700_000_000.0
DAY_S = 86_400.0


@dataclass
class World:
    """N memories whose row n is made by seq n + 1, and the seq that ended each (NEVER while it lives)."""

    dim: int
    scoring: Scoring
    v: F32
    r: F64
    t_s: F64
    half_life: I16
    features: F64
    ids: list[bytes]
    kinds: list[str]
    metadata: list[dict[str, object]]
    ended: dict[int, int] = field(default_factory=dict)
    last_seq: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, low: int, high: int) -> Rows:
        """Rows low:high as the core takes them."""
        return Rows(
            np.arange(low + 1, high + 1), self.ids[low:high], self.v[low:high], self.r[low:high], self.t_s[low:high],
            self.half_life[low:high], self.features[low:high], self.kinds[low:high], self.metadata[low:high],
        )  # fmt: skip

    def add(self, index: Index, low: int, high: int) -> None:
        """Apply rows low:high."""
        self.last_seq = max(self.last_seq, high)
        index.apply(high, self.rows(low, high) if high > low else None)

    def end(self, index: Index, numbers: Sequence[int]) -> None:
        """End rows by number, each at a seq of its own, in one apply."""
        pairs = []
        for n in numbers:
            self.last_seq += 1
            self.ended[n] = self.last_seq
            pairs.append((n + 1, self.last_seq))
        index.apply(self.last_seq, None, pairs)

    def _passes(self, n: int, where: Where | None) -> bool:
        return passes(where, self.kinds[n], float(self.t_s[n]), self.metadata[n])

    def want(
        self, q: F32, *, k: int, now_s: float, at: int | None = None, scoring: Scoring | None = None,
        alpha: float | None = None, beta: float | None = None, where: Where | None = None, min_score: float = 0.0,
        s: F64 | None = None,
    ) -> list[tuple[int, float]]:  # fmt: skip
        """(seq, L) by the oracle over the rows that are visible at `at` and pass the filter."""
        used = scoring or self.scoring
        seq = self.last_seq if at is None else at
        seen = [n for n in range(len(self)) if n + 1 <= seq < self.ended.get(n, NEVER) and self._passes(n, where)]
        rows = [
            oracle.OracleRow(
                n + 1, self.ids[n], normalised(float(self.r[n]), used.normaliser), float(self.t_s[n]),
                used.half_life_s[self.half_life[n]], tuple(self.features[n].tolist()),
            )
            for n in seen
        ]  # fmt: skip
        return oracle.recall(
            q, self.v[seen], rows, k=k, now_s=now_s, alpha=used.alpha if alpha is None else alpha,
            beta=used.beta if beta is None else beta, weights=used.channel_weights, min_score=min_score,
            s=None if s is None else s[seen],
        )  # fmt: skip


def passes(where: Where | None, kind: str, t_s: float, metadata: Mapping[str, object]) -> bool:
    """The filter as the protocol's file describes it, for one memory."""
    if where is None:
        return True
    if where.kinds and kind not in where.kinds:
        return False
    if (where.from_s is not None and t_s < where.from_s) or (where.to_s is not None and t_s >= where.to_s):
        return False
    return all(_meets(metadata, condition) for condition in where.metadata)


def _meets(metadata: Mapping[str, object], condition: MetaCondition) -> bool:
    there = condition.key in metadata
    if condition.op == "EXISTS":
        return there
    if condition.op == "NOT_EXISTS":
        return not there
    if condition.op == "NE":
        return not (there and any(_json_equal(metadata[condition.key], v) for v in condition.values))
    if not there:
        return False
    value = metadata[condition.key]
    if condition.op == "EQ":
        return any(_json_equal(value, v) for v in condition.values)
    return any(_json_ordered(value, v, condition.op) for v in condition.values)


def _json_type(value: object) -> str:
    names: dict[type, str] = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}
    return names.get(type(value), "other")


def _json_equal(a: object, b: object) -> bool:
    return _json_type(a) == _json_type(b) != "other" and a == b


def _json_ordered(a: Any, b: Any, op: str) -> bool:
    if _json_type(a) != _json_type(b) or _json_type(a) not in ("number", "string"):
        return False
    return bool({"LT": a < b, "LE": a <= b, "GT": a > b, "GE": a >= b}[op])


NORMALISERS = {
    "none": NormaliserVersion(),
    "minmax": NormaliserVersion(1, "minmax", -3.0, 4.0, 10, -2.0, 0.0, 2.0),
    "logistic": NormaliserVersion(2, "logistic", 0.0, 1.0, 64, -2.0, 0.0, 2.0),
    "no spread": NormaliserVersion(3, "logistic", 1.0, 0.0, 64, 1.0, 1.0, 1.0),
}


def make_world(
    seed: int, n: int, dim: int, scoring: Scoring, *, span_s: float = 365 * DAY_S, distinct: int | None = None,
    noise: float = 0.1, future_share: float = 0.0, rounded_times: bool = False,
) -> World:  # fmt: skip
    """N memories. distinct: how many different vectors there are before noise (0 noise makes exact duplicates);
    span_s: ages are uniform over it; future_share: event times after NOW_S."""
    rng = np.random.default_rng(seed)
    channels = len(scoring.channel_weights)
    base = rng.standard_normal((max(1, distinct or n), dim)).astype(np.float32)
    raw = base[rng.integers(0, len(base), n)] + noise * rng.standard_normal((n, dim)).astype(np.float32)
    v, _ = normalise(raw.astype(np.float32), dim)
    r = rng.standard_normal(n) * 2
    r[rng.random(n) < 0.1] = math.nan
    t_s = NOW_S - rng.random(n) * span_s
    late = rng.random(n) < future_share
    t_s[late] = NOW_S + rng.random(int(late.sum())) * 1e6
    if rounded_times:
        t_s = np.round(t_s / 3600.0) * 3600.0
    features = rng.random((n, channels))
    features[rng.random((n, channels)) < 0.1] = math.nan
    features[rng.random((n, channels)) < 0.05] = 0.0
    picks = rng.integers(0, 50, n).tolist()
    return World(
        dim, scoring, v, r, t_s, rng.integers(0, len(scoring.half_life_s), n).astype(np.int16), features,
        [b"%06d" % x for x in rng.permutation(n)], [("a", "b", "c")[x] for x in rng.integers(0, 3, n)],
        [{"n": x, "s": f"x{x % 3}"} if x % 5 else {} for x in picks],
    )  # fmt: skip


def unit(raw: F32) -> F32:
    """float32[D] scaled to length one."""
    out: F32 = normalise(raw.astype(np.float32)[None], raw.shape[0])[0][0]
    return out


def got(index: Index, q: F32, **ask: Any) -> list[tuple[int, float]]:
    """(seq, L) by the index; `at` stands for `seq`."""
    at = ask.pop("at", None)
    return [(hit.seq, hit.log2_score) for hit in index.search(q, seq=at, **ask).hits]


def seqs(pairs: Sequence[tuple[int, float]]) -> I64:
    """The seqs alone."""
    return np.array([seq for seq, _ in pairs], dtype=np.int64)
