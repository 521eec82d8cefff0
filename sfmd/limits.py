"""The bounds of the transport: message size, calls and streams in flight, idle streams. All are settings.

Guards the rule "bounded everything". Calls in flight are counted and shed before a request is read; the message size
is gRPC's own bound. The sizes of what is inside a message are the use cases' (`sfmd.contract.Limits`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sfmd.errors import E, Refused


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of the gRPC server.

    message_bytes           one message in either direction
    waiting_reply_bytes     large replies of unary calls that their callers have not taken yet
    handlers                unary calls in flight
    streams                 StoreBatch, Import, Export and Watch calls in flight
    streams_per_connection  HTTP/2 streams that one connection may open
    stream_idle_s           how long an upload may stay silent between two messages
    retry_after_s           what a shed caller is told to wait
    """

    message_bytes: int = 16 * 2**20
    waiting_reply_bytes: int = 128 * 2**20
    handlers: int = 256
    streams: int = 64
    streams_per_connection: int = 512
    stream_idle_s: float = 120.0
    retry_after_s: float = 0.1

    def __post_init__(self) -> None:
        low = {"message_bytes": 2**16, "stream_idle_s": 0.01, "retry_after_s": 0.001}
        for name in self.__slots__:
            if not getattr(self, name) >= low.get(name, 1):
                raise Refused(E.CONFIG, f"{name} is {getattr(self, name)}; the least is {low.get(name, 1)}")


class InFlight:
    """Counts calls in flight against a bound. Used on the event loop only, so it needs no lock."""

    def __init__(self, name: str, bound: int, retry_after_s: float) -> None:
        self.name = name
        self.bound = bound
        self.now = 0
        self.shed = 0
        self._retry_after_s = retry_after_s

    def check(self) -> None:
        """Raise Refused(BUSY) with a retry hint when all places are taken."""
        if self.now >= self.bound:
            self.shed += 1
            raise Refused(E.BUSY, f"{self.bound} {self.name} are in flight", retry_after_s=self._retry_after_s)

    def enter(self) -> None:
        """Take a place, or raise as `check` does."""
        self.check()
        self.now += 1

    def leave(self) -> None:
        """Give the place back."""
        self.now -= 1


class WaitingReplies:
    """Counts the bytes of large replies from their making until their calls end, on the event loop only.

    A caller who asks for much and reads slowly makes others wait, and not the daemon's memory grow.
    """

    LARGE = 64 * 2**10
    """Smaller replies are not counted: the calls in flight bound them well enough."""

    def __init__(self, bound: int, retry_after_s: float) -> None:
        self.now = 0
        self._bound, self._retry_after_s = bound, retry_after_s

    def add(self, size: int, at_end: Callable[[Any], None]) -> None:
        """Count a reply until its call ends: `at_end` takes what is called then. Raises Refused(BUSY) with a retry hint
        when it does not fit beside others.
        """
        if size < self.LARGE:
            return
        if self.now and self.now + size > self._bound:
            why = f"{self.now} bytes of replies wait for their callers"
            raise Refused(E.BUSY, why, retry_after_s=self._retry_after_s)
        self.now += size
        at_end(lambda _: self._less(size))

    def _less(self, size: int) -> None:
        self.now -= size
