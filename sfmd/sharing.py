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
LARGE = 64 * 2**10
"""Payload bytes from which a worker waits until a result is taken."""
TAKEN_WITHIN_S = 5.0


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
        left = self._group()  # nothing else holds on to the futures, which hold on to their results
        if not left:
            return  # another worker took it along
        left.reverse()
        try:
            for outcome in self._work(left[::-1]):
                _hand_over(loop, left.pop().future, outcome)
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


def _hand_over(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[RecallResult], outcome: RecallResult | Exception
) -> None:  # fmt: skip
    """In a worker: give an outcome to the loop. After a large one wait until its caller has made a reply of it: workers
    read faster than the loop writes, and what they have read meanwhile would pile up.
    """
    if isinstance(outcome, Exception) or sum(len(hit.payload) for hit in outcome.hits) < LARGE:
        loop.call_soon_threadsafe(_settle, future, outcome)
        return
    taken = threading.Event()
    loop.call_soon_threadsafe(_settle, future, outcome, lambda: loop.call_soon(taken.set))
    taken.wait(TAKEN_WITHIN_S)


def _settle(
    future: asyncio.Future[RecallResult], outcome: RecallResult | Exception, then: Callable[[], object] | None = None
) -> None:  # fmt: skip
    """On the loop: hand over what a worker found, unless nobody waits for it any more. What `then` puts on the loop
    comes after the caller's turn.
    """
    if not future.done():
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    if then is not None:
        then()
