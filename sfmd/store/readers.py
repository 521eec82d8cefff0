"""The store's reading connections: a small pool, or the writing one in turn where a database gives no others.

Rules that this module guards: a read is short and holds its connection no longer; no driver's exception leaves it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, LifoQueue
from typing import TypeVar

import structlog

from sfmd.errors import E, Refused
from sfmd.store.database import Cursor, Database, Link

T = TypeVar("T")

WAIT_S = 30.0

log = structlog.get_logger(__name__)


@contextmanager
def refusing(database: Database) -> Iterator[None]:
    """A driver's error leaves the block as the refusal that it means."""
    try:
        yield
    except database.errors as error:
        raise database.failure(error).refusal from error


class Readers:
    """Up to `count` connections. Without any, reads take `writer` and wait for `turn`, which a write holds."""

    def __init__(self, database: Database, count: int, writer: Link, turn: threading.RLock) -> None:
        self._database, self._writer, self._turn = database, writer, turn
        self._closed = False
        self.links = [link for link in (database.reader() for _ in range(count)) if link is not None]
        self._free: LifoQueue[Link] = LifoQueue()
        for link in self.links:
            self._free.put(link)

    def read(self, work: Callable[[Cursor], T]) -> T:
        """What `work` reads with one statement. Raises Refused: STOPPING, BUSY, STORE_DOWN, CORRUPT."""
        with self._link() as link, refusing(self._database):
            return work(link.cursor)

    @contextmanager
    def snapshot(self) -> Iterator[Cursor]:
        """Several statements on one snapshot. Raises as `read` does."""
        with self._link() as link, refusing(self._database):
            nested = link is self._writer and self._database.in_transaction()
            if not nested:
                link.cursor.execute(self._database.begin_read)
            try:
                yield link.cursor
            except self._database.errors:
                with suppress(self._database.errors):  # the first error is the one to tell; it may have ended this
                    link.cursor.execute("ROLLBACK")
                raise
            except BaseException:
                if not nested:
                    link.cursor.execute("ROLLBACK")
                raise
            if not nested:
                link.cursor.execute("ROLLBACK")

    def close(self) -> None:
        """Refuse new reads, wait for the running ones and close the connections. The writing one is left alone."""
        self._closed = True
        for _ in self.links:
            try:
                self._free.get(timeout=WAIT_S).close()
            except Empty:
                log.error("reader_stuck", waited_s=WAIT_S)

    @contextmanager
    def _link(self) -> Iterator[Link]:
        if not self.links:  # one connection for everything: reads wait for the write that runs
            with self._turn:
                self._check_open()
                yield self._writer
            return
        self._check_open()
        try:
            link = self._free.get(timeout=WAIT_S)
        except Empty:
            raise Refused(E.BUSY, "no reading connection came free", retry_after_s=1.0) from None
        try:
            yield link
        finally:
            self._free.put(link)

    def _check_open(self) -> None:
        if self._closed:
            raise Refused(E.STOPPING)
