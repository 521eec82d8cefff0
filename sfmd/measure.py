"""What the daemon measures of itself, in memory: latencies and rates over a sliding window, counts since the start.

Stats, metrics and gates read it; nothing here waits for a store, so it answers while everything else is busy.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable

WINDOW_S = 60.0
SAMPLES = 4_096


class Window:
    """The most recent samples of a quantity with their times: at most `samples`, at most `window_s` old."""

    def __init__(
        self,
        window_s: float = WINDOW_S,
        samples: int = SAMPLES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window_s, self._clock = window_s, clock
        self._samples: deque[tuple[float, float]] = deque(maxlen=samples)
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Note a sample now."""
        with self._lock:
            self._samples.append((self._clock(), value))

    def values(self) -> list[float]:
        """The samples inside the window, in order of time."""
        since = self._clock() - self._window_s
        with self._lock:
            times = [at for at, _ in self._samples]
            return [value for _, value in list(self._samples)[bisect_left(times, since) :]]

    def rate(self) -> float:
        """Sum of the samples inside the window per second of the time they cover; samples are counts here."""
        now = self._clock()
        with self._lock:
            inside = [(at, value) for at, value in self._samples if at >= now - self._window_s]
            full = len(self._samples) == self._samples.maxlen
        if not inside:
            return 0.0
        covered = max(now - inside[0][0], 1e-3) if full else self._window_s
        return sum(value for _, value in inside) / covered


def quantile(values: list[float], q: float) -> float:
    """The nearest-rank quantile of the values; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


class Meters:
    """All counters of the service."""

    def __init__(self) -> None:
        self.started_s = time.monotonic()
        self.recall_s = Window()
        self.store_s = Window()
        self.recalls = Window(samples=65_536)
        self.rows = Window(samples=16_384)
        self.group_rows = Window()
        self.outcomes: Counter[str] = Counter()
        self.commits = 0
        self.rows_committed = 0
        self.recalls_total = 0
        self.normaliser_cuts = 0
        self.commit_seconds_total = 0.0
        self.on_group: Callable[[int], None] | None = None

    @staticmethod
    def now() -> float:
        """The clock of durations."""
        return time.monotonic()

    def committed(self, rows: int, seconds: float) -> None:
        """A group reached the disk and the core."""
        if self.on_group is not None:
            self.on_group(rows)
        self.commits += 1
        self.rows_committed += rows
        self.commit_seconds_total += seconds
        self.group_rows.add(float(rows))
        self.rows.add(float(rows))

    def recalled(self, seconds: float) -> None:
        """A recall was answered."""
        self.recalls_total += 1
        self.recall_s.add(seconds)
        self.recalls.add(1.0)

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_s
