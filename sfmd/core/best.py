"""The floor of a scan: the k-th best lower bound so far, below which no row can be among the k best."""

from __future__ import annotations

from sfmd.core.model import F32, F64

LEAST_FLOOR = 2.0**-1000
"""A smaller floor counts as none: near the least floats, bounds lose the digits that make them bounds."""


class Best:
    """The k best lower bounds so far, and `floor`, the least of them (never falling; 0 while there are fewer).

    blind: no bound can be had, so nothing is ruled out.
    """

    __slots__ = ("_lower", "blind", "floor", "k")

    def __init__(self, k: int) -> None:
        self.k = k
        self.floor = 0.0
        self._lower: list[float] = []
        self.blind = False

    def give_up(self) -> None:
        """Be blind from here on."""
        self.blind, self.floor = True, 0.0

    def offer(self, lower: list[float]) -> None:
        """Take lower bounds on the linear scale."""
        if self.blind:
            return
        pool = self._lower
        pool += lower
        pool.sort(reverse=True)
        del pool[self.k :]
        if len(pool) == self.k and pool[-1] > self.floor and pool[-1] > LEAST_FLOOR:
            self.floor = pool[-1]


def highest(x: F32 | F64, k: int) -> list[float]:
    """The k highest of an array, in any order, perhaps among a few others."""
    surplus = x.size - k
    if surplus > k:
        x = x.copy()
        x.partition(surplus)
        x = x[surplus:]
    out: list[float] = x.tolist()
    return out
