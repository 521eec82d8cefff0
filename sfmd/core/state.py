"""What a reader sees of an index: published as one reference."""

from __future__ import annotations

from dataclasses import dataclass

from sfmd.core.columns import Columns
from sfmd.core.model import F64, Scoring
from sfmd.core.segment import Block, Segment
from sfmd.core.tail import Tail
from sfmd.core.view import Plan


@dataclass(slots=True, eq=False)
class State:
    """What a reader sees: published as one reference, never changed but for what it remembers of itself."""

    seq: int
    scoring: Scoring
    segments: tuple[Segment, ...]
    tail: Tail
    tail_n: int
    live: int
    plan: Plan | None = None
    tail_block: Block | None = None
    tail_base: F64 | None = None
    tail_columns: Columns | None = None
