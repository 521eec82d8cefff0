"""Importance: raw r to i in (0, 1), by a versioned pure function.

Guards the rules that earlier attempts broke: quantiles never freeze (the reservoir is a ring of the 512 most recent
values), a first or constant importance is 0.5 and never 0, and a missing one is "none", which counts as 0.5.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from sfmd.core.model import F64, NormaliserVersion

RESERVOIR = 512
BOOTSTRAP = 64
LOOK_EVERY = 64
MOVED = 0.10
LOW, HIGH = 0.05, 0.95
CLAMP = 30.0
NEUTRAL = 0.5
_STEEPEST = 1e300
UNSEEN = NormaliserVersion()


def normalised(r: float | None, v: NormaliserVersion) -> float:
    """Normalised importance of one raw value: the definition.

    min-max: LOW + (HIGH - LOW) * (r - min) / (max - min), clipped to [LOW, HIGH]; logistic: 1 / (1 + exp(-k (r - c)))
    with the exponent clamped to +-30; no spread, or r none: 0.5. Rises with r. Differences are taken of halves, so that
    the largest floats do not overflow.
    """
    if r is None or math.isnan(r) or v.kind == "none":
        return NEUTRAL
    if v.kind == "minmax":
        spread = 0.5 * v.b - 0.5 * v.a
        if spread <= 0.0:
            return NEUTRAL
        return min(HIGH, max(LOW, LOW + (HIGH - LOW) * ((0.5 * r - 0.5 * v.a) / spread)))
    if v.b == 0.0:
        return NEUTRAL
    x = (2.0 * v.b) * (0.5 * r - 0.5 * v.a)
    return 1.0 / (1.0 + math.exp(-min(CLAMP, max(-CLAMP, x))))


def normalised_array(r: F64, v: NormaliserVersion) -> F64:
    """`normalised` over float64[N] (nan: none), within a few ulps of it: for bounds, not answers."""
    out = np.full(r.shape, NEUTRAL)
    if v.kind == "none":
        return out
    with np.errstate(over="ignore", invalid="ignore"):
        if v.kind == "minmax":
            spread = 0.5 * v.b - 0.5 * v.a
            if spread <= 0.0:
                return out
            out = np.clip(LOW + (HIGH - LOW) * ((0.5 * r - 0.5 * v.a) / spread), LOW, HIGH)
        elif v.b != 0.0:
            x = np.clip((2.0 * v.b) * (0.5 * r - 0.5 * v.a), -CLAMP, CLAMP)
            out = 1.0 / (1.0 + np.exp(-x))
    out[np.isnan(r)] = NEUTRAL
    return out


def quantile(ordered: Sequence[float], q: float) -> float:
    """Linear-interpolated quantile of an ascending, non-empty sequence (type 7 of Hyndman and Fan)."""
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    share = place - low
    return ordered[low] * (1.0 - share) + ordered[high] * share


def quantiles(ordered: Sequence[float]) -> dict[str, float]:
    """The quantiles that Stats and metrics show, or nothing for no values."""
    points = {"q05": 0.05, "q10": 0.10, "q25": 0.25, "q50": 0.50, "q75": 0.75, "q90": 0.90, "q95": 0.95}
    return {name: quantile(ordered, q) for name, q in points.items()} if ordered else {}


class NormaliserState:
    """The reservoir and the present version; given the log's raw values in order it always cuts the same versions.

    Versions are cut at n = 1, 2, 4 … 32 (min-max), at 64 (the first logistic one), and then, looked at every 64 values,
    whenever q10, q50 or q90 has moved by a tenth of the present version's q90 - q10.
    """

    def __init__(
        self, version: NormaliserVersion = UNSEEN, recent: Sequence[float] = (), n: int = 0
    ) -> None:  # fmt: skip
        self.version = version
        self.n = n
        self._ring: deque[float] = deque(recent, maxlen=RESERVOIR)

    def observe(self, raw: Sequence[float]) -> NormaliserVersion | None:
        """Take in finite raw values in log order; the last version that they cut, or None when none was."""
        before = self.version
        for value in raw:
            self._ring.append(value)
            self.n += 1
            if self.n < BOOTSTRAP:
                if self.n & (self.n - 1) == 0:
                    self.version = self._min_max()
            elif self.n % LOOK_EVERY == 0:
                self._look()
        return self.version if self.version is not before else None

    def copy(self) -> NormaliserState:
        """A state of its own, so that what an uncommitted transaction observed can be thrown away."""
        return NormaliserState(self.version, self._ring, self.n)

    def values(self) -> list[float]:
        """The raw values in the reservoir, oldest first."""
        return list(self._ring)

    def refuse(self, version: NormaliserVersion) -> None:
        """Go back to `version`: the cut was refused by the namespace's flag."""
        self.version = version

    def _min_max(self) -> NormaliserVersion:
        ordered = sorted(self._ring)
        return NormaliserVersion(
            version=self.version.version + 1, kind="minmax", a=ordered[0], b=ordered[-1], n=self.n,
            q10=quantile(ordered, 0.1), q50=quantile(ordered, 0.5), q90=quantile(ordered, 0.9),
        )  # fmt: skip

    def _look(self) -> None:
        ordered = sorted(self._ring)
        q10, q50, q90 = (quantile(ordered, q) for q in (0.1, 0.5, 0.9))
        old = self.version
        if old.kind == "logistic":
            spread = old.q90 - old.q10
            drift = max(abs(q10 - old.q10), abs(q50 - old.q50), abs(q90 - old.q90))
            if drift == 0.0 or drift < MOVED * spread:
                return
        half = 0.5 * q90 - 0.5 * q10
        slope = math.log(9.0) / 2.0 / half if half > 0.0 else 0.0
        self.version = NormaliserVersion(
            version=old.version + 1, kind="logistic", a=q50, b=slope if slope < _STEEPEST else 0.0, n=self.n,
            q10=q10, q50=q50, q90=q90,
        )  # fmt: skip
