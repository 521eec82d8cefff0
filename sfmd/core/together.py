"""Several scans at once: queries that wait at the same time share what is read of the memory.

Guards the rule that an answer depends on no other query: each scan keeps its own floor and opens its own blocks, and
its products are those that it would have made alone. Only the reading is shared: a piece of a block that is in the
cache is multiplied with every query that has the block open, so that several scans cost the memory little more than
one, and two threads do not slow each other down.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from sfmd.core.model import F32, Cancelled
from sfmd.core.scan import Scan
from sfmd.core.vectors import block_dots
from sfmd.core.view import BLOCK_ROWS_MAX

PIECE_BYTES = 2**19
"""Vectors that are multiplied with one query after another: half of a small second-level cache."""

_mine = threading.local()


def _rooms(count: int) -> list[F32]:
    """Arrays for the products of `count` scans, which a thread keeps: fresh memory costs page faults."""
    kept: list[F32] = _mine.__dict__.setdefault("rooms", [])
    kept += (np.empty(BLOCK_ROWS_MAX, np.float32) for _ in range(count - len(kept)))
    return kept[:count]


def finish_all(scans: Sequence[Scan]) -> set[int]:
    """Take scans that have started to their ends; returns the places of those whose callers cancelled."""
    cancelled: set[int] = set()

    def going_on(places: Sequence[int]) -> list[int]:
        """Those that have a block open now."""
        still = []
        for n in places:
            try:
                if scans[n].advance():
                    still.append(n)
            except Cancelled:
                cancelled.add(n)
        return still

    waiting = going_on(range(len(scans)))
    while waiting:
        # Whoever is least far goes on: scans under one plan open the same blocks in the same order, and meet again.
        slab = scans[min(waiting, key=lambda n: scans[n].opened)].slab
        here = [n for n in waiting if scans[n].slab.part is slab.part and scans[n].slab.low == slab.low]
        _finish_block([scans[n] for n in here])
        waiting = [n for n in waiting if n not in here] + going_on(here)
    return cancelled


def _finish_block(scans: Sequence[Scan]) -> None:
    """Give each scan the products of the block that all of them have open."""
    if len(scans) == 1:
        scans[0].finish(scans[0].products())
        return
    part, low = scans[0].slab.part, scans[0].slab.low
    rooms = _rooms(len(scans))
    step = max(1, PIECE_BYTES // part.row_bytes)
    for at in range(low, max(scan.slab.high for scan in scans), step):
        for scan, room in zip(scans, rooms, strict=True):
            end = min(at + step, scan.slab.high)
            if at < end:
                block_dots(part.v[at:end], scan.ask.q, room[at - low : end - low])
    for scan, room in zip(scans, rooms, strict=True):
        scan.finish(scan.weighted(room[: scan.slab.high - low]))
