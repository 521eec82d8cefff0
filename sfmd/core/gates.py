"""The gates G1-G6: complexity is switched on by a measurement, never by hope (roadmap §7).

Pure conditions with hysteresis: a gate trips when its condition has held over its whole window, and lets go only when
the measured value is clearly (a tenth) back on the safe side for as long. Tripped is what was measured; acting needs
the operator's flag as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

RELEASE = 0.9
"""Share of the threshold that the value must fall below before a tripped gate lets go."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What the gates look at, measured over the last moments of one namespace.

    n: live memories; recall_p95_s: seconds; i_q10, i_q90: quantiles of normalised importance; i_mode_share: largest
    share of i within 0.02 of one value; near_tie_share: share of top-k lists with neighbours whose L differ by less
    than 1e-3 that beta would part; resident_ratio: resident memory over its limit; ann_in_use, finite_half_life: facts.
    """

    n: int = 0
    recall_p95_s: float = 0.0
    i_q10: float = 0.0
    i_q90: float = 1.0
    i_mode_share: float = 0.0
    near_tie_share: float = 0.0
    resident_ratio: float = 0.0
    ann_in_use: bool = False
    finite_half_life: bool = False


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A gate: `value(measures) >= threshold` for `window_s` seconds trips it."""

    name: str
    condition: str
    action: str
    threshold: float
    window_s: float
    value: Callable[[Measures], float]


def _g1(m: Measures) -> float:
    """p95 in units of 25 ms, once there are more than 200,000 memories."""
    return m.recall_p95_s / 0.025 if m.n > 200_000 else 0.0


def _g2(m: Measures) -> float:
    """How skewed importance is: 1 is the border of either condition."""
    if m.n == 0:
        return 0.0
    spread = m.i_q90 - m.i_q10
    narrow = 0.05 / spread if spread > 0.0 else 2.0
    return max(min(2.0, narrow), m.i_mode_share / 0.5)


GATES: tuple[GateSpec, ...] = (
    GateSpec("G1", "N > 200,000 and p95 > 25 ms", "hot tier and retention score", 1.0, 300.0, _g1),
    GateSpec("G2", "q90 - q10 < 0.05, or over half of i within 0.02 of one value", "alpha", 1.0, 60.0, _g2),
    GateSpec("G3", "near-ties in more than 5 % of top-k lists", "beta", 0.05, 60.0, lambda m: m.near_tie_share),
    GateSpec("G4", "resident memory above 80 % of its limit", "float16 or projection", 0.80, 60.0,
             lambda m: m.resident_ratio),
    GateSpec("G5", "an approximate path is in use", "residual penalty", 1.0, 0.0, lambda m: float(m.ann_in_use)),
    GateSpec("G6", "a finite half-life is asked for", "tau", 1.0, 0.0, lambda m: float(m.finite_half_life)),
)  # fmt: skip


@dataclass(slots=True)
class Gate:
    """One gate's state. Feed it with `observe`; read `tripped` and `value`."""

    spec: GateSpec
    tripped: bool = False
    value: float = 0.0
    _since_s: float | None = None

    def observe(self, measures: Measures, now_s: float) -> bool:
        """Take a measurement; True when the state changed. `now_s` must not go back."""
        self.value = self.spec.value(measures)
        border = self.spec.threshold * RELEASE if self.tripped else self.spec.threshold
        wants = self.value >= border and self.value > 0.0
        if wants == self.tripped:
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < self.spec.window_s:
            return False
        self.tripped, self._since_s = wants, None
        return True


def near_tie(log2_scores: Sequence[float], log2_similarities: Sequence[float]) -> bool:
    """True when a top-k list has neighbours with |dL| < 1e-3 whose similarities differ, so that another beta would part
    them. Duplicates (equal similarity) are no near-tie: no beta parts those."""
    pairs = zip(log2_scores, log2_scores[1:], log2_similarities, log2_similarities[1:], strict=False)
    return any(abs(a - b) < 1e-3 and abs(x - y) > 1e-9 for a, b, x, y in pairs)


def mode_share(ordered: Sequence[float], width: float = 0.02) -> float:
    """The largest share of ascending values that lie within `width` of one of them, to either side."""
    best, low, high = 0, 0, 0
    for value in ordered:
        while ordered[low] < value - width:
            low += 1
        while high < len(ordered) and ordered[high] <= value + width:
            high += 1
        best = max(best, high - low)
    return best / len(ordered) if ordered else 0.0
