"""Recalls on their way into the pool: those of one namespace that wait at the same time go to a worker together.

A recall that finds an idle worker is alone with it, so sharing costs nobody time; under load a group reads the memory
once instead of once each.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sfmd.domain import Query, RecallResult
from sfmd.spaces import Space

MOST = 16
"""Recalls of one group: a result is ready when all of its group have been scanned."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A recall that waits for a worker; `stop` is set when its caller goes away."""

    space: Space
    query: Query
    stop: threading.Event
    future: asyncio.Future[RecallResult]


Outcomes = Iterator[RecallResult | Exception]


class Sharing:
    """The queue before the pool. `work` runs in a worker and gives an outcome for each recall of a group, in order."""

    def __init__(
        self, pool: ThreadPoolExecutor, workers: int, work: Callable[[Sequence[Waiting]], Outcomes]
    ) -> None:  # fmt: skip
        self._pool, self._workers, self._work = pool, workers, work
        self._waiting: deque[Waiting] = deque()
        self._lock = threading.Lock()

    def put(self, space: Space, query: Query, stop: threading.Event) -> asyncio.Future[RecallResult]:
        """Queue a recall; the future has its result. Call on the loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[RecallResult] = loop.create_future()
        self._waiting.append(Waiting(space, query, stop, future))
        self._pool.submit(self._take, loop)
        return future

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a worker: the next recall and its share of those that could go with it."""
        group = self._group()
        if not group:
            return  # another worker took it along
        left = list(reversed(group))
        try:
            for outcome in self._work(group):
                loop.call_soon_threadsafe(_settle, left.pop().future, outcome)
        except Exception as bug:  # noqa: BLE001 - nobody may wait for ever: who is left has it
            for waiting in left:
                loop.call_soon_threadsafe(_settle, waiting.future, bug)

    def _group(self) -> list[Waiting]:
        with self._lock:
            if not self._waiting:
                return []
            share = min(MOST, -(-len(self._waiting) // self._workers))
            group, others = [self._waiting.popleft()], list[Waiting]()
            while self._waiting and len(group) < share:
                one = self._waiting.popleft()
                (group if one.space is group[0].space else others).append(one)
            self._waiting.extendleft(reversed(others))
            return group


def _settle(future: asyncio.Future[RecallResult], outcome: RecallResult | Exception) -> None:
    """On the loop: hand over what a worker found, unless nobody waits for it any more."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
