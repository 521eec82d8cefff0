"""Work in threads that never keep the program alive: what hangs is left behind, past ^C and past every deadline.

A pool of `concurrent.futures` waits for its threads, at the end of its block and again at the end of the program.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


def started(work: Callable[..., Found], *arguments: object) -> Future[Found]:
    """`work` in a thread of its own; what it returns or raises is in the future."""
    future: Future[Found] = Future()

    def whole() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is taken
            future.set_exception(error)

    threading.Thread(target=whole, daemon=True).start()
    return future


def each(work: Callable[[Item], Found], items: Iterable[Item], at_once: int) -> list[Found]:
    """`work` of every item in their order, at most `at_once` at a time."""
    slots = threading.Semaphore(at_once)

    def slotted(item: Item) -> Found:
        with slots:
            return work(item)

    return [future.result() for future in [started(slotted, item) for item in items]]
