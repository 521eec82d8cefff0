"""Progress of a long transfer on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sfmctl import render

LINE_EVERY_S = 5.0


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)`; `total` None: the end is not known, so there is no time left to tell."""
    if render.is_terminal(sys.stderr):
        with _bar(what, total) as advance:
            yield advance
    else:
        yield _Lines(what, total).advance


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
    started_s, done = time.monotonic(), 0
    with Progress(*columns, console=render.stderr(), transient=True) as bar:
        task = bar.add_task(what, total=total, rate="")

        def advance(count: int) -> None:
            nonlocal done
            done += count
            rate = done / max(time.monotonic() - started_s, 1e-3)
            bar.update(task, advance=count, rate=f"{rate:,.0f}/s")

        yield advance


class _Lines:
    """A line every LINE_EVERY_S seconds, so that a log of a pipeline shows that it moves."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total = what, total
        self._started_s = self._said_s = time.monotonic()
        self._done = 0

    def advance(self, count: int) -> None:
        """Count, and say so when it is time."""
        self._done += count
        now_s = time.monotonic()
        if now_s - self._said_s >= LINE_EVERY_S:
            self._said_s = now_s
            rate = self._done / (now_s - self._started_s)
            of = f" of {self._total:,}, {(self._total - self._done) / rate:.0f} s left" if self._total else ""
            render.note(f"{self._what}: {self._done:,}{of}, {rate:,.0f}/s")
