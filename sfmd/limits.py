"""The bounds of the transport: message size, calls and streams in flight, idle streams. All are settings.

Guards the rule "bounded everything". Calls in flight are counted and shed before a request is read; the message size
is gRPC's own bound. The sizes of what is inside a message are the use cases' (`sfmd.contract.Limits`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sfmd.errors import E, Refused


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of the gRPC server.

    message_bytes           one message in either direction
    handlers                unary calls in flight
    streams                 StoreBatch, Import, Export and Watch calls in flight
    streams_per_connection  HTTP/2 streams that one connection may open
    stream_idle_s           how long an upload may stay silent between two messages
    retry_after_s           what a shed caller is told to wait
    """

    message_bytes: int = 16 * 2**20
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
