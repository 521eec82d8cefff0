"""Exit codes of `sfmd`, the same as `sfmctl`'s. Never 1: a Python traceback takes it."""

from __future__ import annotations

from sfmd.errors import Refused, Status

OK = 0
USAGE = 2
CHECK_FAILED = 3
UNDETERMINED = 5
TIMED_OUT = 6
REFUSED = 7
BUG = 70
INTERRUPTED = 130

_BY_STATUS = {
    Status.FAILED_PRECONDITION: USAGE,
    Status.INVALID_ARGUMENT: USAGE,
    Status.DATA_LOSS: CHECK_FAILED,
    Status.UNAVAILABLE: UNDETERMINED,
    Status.DEADLINE_EXCEEDED: TIMED_OUT,
    Status.INTERNAL: BUG,
}


def exit_code(refused: Refused) -> int:
    """The exit code that a refusal of the daemon's own commands ends with."""
    return _BY_STATUS.get(refused.code.status, REFUSED)
