"""What the log says of refused calls: each code a few lines at once, then one a second, with the number left out.

Guards the rule "bounded everything": nobody who reaches the port, with a token or without, can fill the disk by being
refused. The metrics count every call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from sfmd.errors import Code

AT_ONCE = 20
EVERY_S = 1.0

_log = structlog.get_logger("sfmd.rpc")


@dataclass(slots=True)
class _Lines:
    """Lines that one code may still write, as of a time, and how many were left out since the last that it wrote."""

    left: float
    at_s: float
    left_out: int = 0


class RefusalLog:
    """Writes `call refused` lines. Used on the event loop only, so it needs no lock."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lines: dict[str, _Lines] = {}

    def say(self, code: Code, *, bug: BaseException | None = None, **said: Any) -> None:
        """Log a refusal, and the bug that led to it, unless there were too many of this code."""
        now_s = self._now_s()
        lines = self._lines.setdefault(code.code, _Lines(AT_ONCE, now_s))
        lines.left = min(AT_ONCE, lines.left + (now_s - lines.at_s) / EVERY_S)
        lines.at_s = now_s
        if lines.left < 1.0:
            lines.left_out += 1
            return
        if lines.left_out:
            said["left_out"] = lines.left_out
        lines.left, lines.left_out = lines.left - 1.0, 0
        if bug is not None:
            _log.error("bug", exc_info=bug, **said)
        _log.info("call refused", code=code.code, **said)
