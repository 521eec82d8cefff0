"""What a command raises when it cannot go on: the one thing that the error boundary prints for people."""

from __future__ import annotations

from sfmctl.exits import Exit


class Fault(Exception):
    """What happened, why, what to type next, a stable code, and the exit code to leave with."""

    def __init__(self, code: str, what: str, *, why: str = "", next_step: str = "", exit_: Exit = Exit.USAGE) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.why = why
        self.next_step = next_step
        self.exit = exit_
