"""The populations that the core is measured on: real text embeddings with constructed importance and times.

Importance is the sigmoid of a normal, ages are uniform over a year: stated, because cost follows both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sfmd.core.index import Index
from sfmd.core.model import F32, F64, I64, NormaliserVersion, Rows, Scoring
from sfmd.core.vectors import normalise
from testing import oracle
from testing.embeddings import embeddings

NOW_S = 1_700_000_000.0
DAY_S = 86_400.0
HALF_LIVES_S = {"7 d": 7 * DAY_S, "30 d": 30 * DAY_S, "180 d": 180 * DAY_S, "infinite": math.inf}
SIGMOID = NormaliserVersion(1, "logistic", 0.0, 1.0, 64, -1.28, 0.0, 1.28)
REAL_LINES = 200_000


def short(n: int) -> str:
    """200000 as 200k."""
    return f"{n // 1_000_000}M" if n % 1_000_000 == 0 else f"{n // 1000}k"


@dataclass
class Population:
    """v float32[N, D]; r, i, t_s float64[N]; queries float32[Q, D], none of them a row; s float64[Q, N] by the oracle,
    computed once and used for every half-life and k."""

    n: int
    dim: int
    source: str
    v: F32
    r: F64
    i: F64
    t_s: F64
    ids: list[bytes]
    queries: F32
    s: F64

    @property
    def name(self) -> str:
        return f"{short(self.n)} x{self.dim}"

    def rows(self, low: int = 0, high: int | None = None, after: int = 0) -> Rows:
        """Rows low:high as the core takes them, their seqs moved by `after`."""
        high = self.n if high is None else high
        return Rows(
            np.arange(low + 1, high + 1) + after, self.ids[low:high], self.v[low:high], self.r[low:high],
            self.t_s[low:high], np.zeros(high - low, np.int16), np.zeros((high - low, 0)), ["m"] * (high - low),
            [{}] * (high - low),
        )  # fmt: skip

    def index(self, scoring: Scoring, *, tail: int = 0) -> Index:
        """A settled index, but for `tail` rows that came last."""
        index = Index(self.dim, scoring)
        index.apply(self.n - tail, self.rows(0, self.n - tail))
        while index.maintain(idle=True):
            pass
        if tail:
            index.apply(self.n, self.rows(self.n - tail, self.n))
        return index

    def log2_rest(self, scoring: Scoring) -> F64:
        """float64[N]: all of L but the similarity, for brute force."""
        out: F64 = scoring.alpha * np.log2(self.i) - (NOW_S - self.t_s) / scoring.half_life_s[0]
        return out


def vectors_for(n: int, dim: int, extra: int) -> tuple[F32, str]:
    """float32[n + extra, dim] and where they come from."""
    wanted = n + extra
    real = embeddings(min(wanted, REAL_LINES + 1000))
    rng = np.random.default_rng(7)
    if dim == real.shape[1] and wanted <= len(real):
        return real[:wanted], "real text"
    if dim % real.shape[1] == 0 and wanted <= len(real):
        parts = [real[rng.permutation(len(real))[:wanted]] for _ in range(dim // real.shape[1])]
        return normalise(np.concatenate(parts, axis=1), dim)[0], f"real text, {dim // real.shape[1]} lines side by side"
    moved = real[rng.integers(0, len(real), wanted)] + 0.03 * rng.standard_normal((wanted, dim), dtype=np.float32)
    return normalise(moved.astype(np.float32), dim)[0], "synthetic: real text, each row moved a little"


def population(n: int, dim: int, queries: int) -> Population:
    """N memories and Q queries; a minute at 200k, most of it the oracle's similarities."""
    rng = np.random.default_rng(n + dim)
    both, source = vectors_for(n, dim, queries)
    v, q = both[:n], both[n:]
    r = rng.standard_normal(n)
    return Population(
        n, dim, source, np.ascontiguousarray(v), r, 1.0 / (1.0 + np.exp(-r)), NOW_S - rng.random(n) * 365 * DAY_S,
        [b"%08d" % x for x in rng.permutation(n)], q, np.stack([oracle.similarities(x, v) for x in q]),
    )  # fmt: skip


def truth(people: Population, scoring: Scoring, rest: F64, query: int, k: int) -> list[tuple[int, float]]:
    """The oracle's (seq, L). Rows more than 1e-6 below the k-th best by a vectorised estimate are not asked about."""
    from sfmd.core.normaliser import normalised  # noqa: PLC0415 - the definition, as the oracle wants it

    s = people.s[query]
    with np.errstate(divide="ignore"):
        level = np.log2(np.maximum(s, 0.0)) * scoring.beta + rest
    kth = np.partition(level, people.n - k)[people.n - k]
    near: I64 = np.flatnonzero(level >= kth - 1e-6)
    rows = [
        oracle.OracleRow(n + 1, people.ids[n], normalised(float(people.r[n]), scoring.normaliser),
                         float(people.t_s[n]), scoring.half_life_s[0])
        for n in near.tolist()
    ]  # fmt: skip
    return oracle.recall(
        people.queries[query], people.v[near], rows, k=k, now_s=NOW_S, alpha=scoring.alpha, beta=scoring.beta, s=s[near]
    )
