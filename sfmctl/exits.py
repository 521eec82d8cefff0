"""The exit codes, and which one wins when several apply. Never 1: a Python traceback takes it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """docs/reference/exit-codes.md explains each."""

    OK = 0
    USAGE = 2
    CHECK_FAILED = 3
    WARNINGS = 4
    UNDETERMINED = 5
    TIMED_OUT = 6
    REFUSED = 7
    CHANGES = 10
    BUG = 70
    INTERRUPTED = 130


PRECEDENCE = (
    Exit.INTERRUPTED,
    Exit.BUG,
    Exit.USAGE,
    Exit.CHECK_FAILED,
    Exit.TIMED_OUT,
    Exit.UNDETERMINED,
    Exit.REFUSED,
    Exit.WARNINGS,
    Exit.CHANGES,
)


def worst(codes: Iterable[Exit]) -> Exit:
    """The code to leave with when several apply; OK when none does."""
    present = set(codes)
    return next((code for code in PRECEDENCE if code in present), Exit.OK)
