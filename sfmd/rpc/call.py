"""What is known of the call in hand: who calls, under which request id. Set by the first interceptor, read below it.

A context variable carries it, since gRPC runs interceptors and handler of one call in one task.
"""

from __future__ import annotations

from contextvars import ContextVar

from sfmd.auth import Principal
from sfmd.contract import Caller
from sfmd.record import record


@record
class Call:
    """One admitted call: method name, start (perf_counter), the token's principal, and the caller the service sees."""

    method: str
    started_s: float
    principal: Principal
    caller: Caller


CALL: ContextVar[Call] = ContextVar("sfmd_call")
