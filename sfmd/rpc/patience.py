"""How long the daemon waits for a silent caller: one clock for all calls, instead of a timer for each message.

A timer per message costs more than reading the message. Here a call only notes when it began to wait, and one look
every quarter of the bound ends those that have waited for longer. Guards the rule that no call stays open for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from sfmd.errors import E, Refused

LOOKS = 4
"""How often within the bound the clock looks; a call ends at most a quarter of the bound late."""


class Patience:
    """Reads messages, and ends the calls that send none. Used on the event loop only, so it needs no lock."""

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._ended: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def read(self, context: grpc.aio.ServicerContext[Any, Any]) -> bytes | None:
        """The next message of a call, None at its end. Raises Refused(DEADLINE) when none came in time."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        loop = self._loop or asyncio.get_running_loop()
        self._waiting[task] = loop.time()
        if self._timer is None:
            self._loop = loop
            self._timer = loop.call_later(self.bound_s / LOOKS, self._look)
        try:
            raw = await context.read()
        except asyncio.CancelledError:
            if task in self._ended and task.uncancel() == 0:
                raise Refused(E.DEADLINE, f"no message for {self.bound_s:g} s: the call ends") from None
            raise
        finally:
            del self._waiting[task]
            self._ended.discard(task)
        return None if raw is grpc.aio.EOF else raw  # type: ignore[attr-defined]

    def _look(self) -> None:
        """End the calls that have waited for too long; look again while any waits."""
        assert self._loop is not None  # noqa: S101 - set with the timer
        since = self._loop.time() - self.bound_s
        for task, began in self._waiting.items():
            if began <= since and task not in self._ended:
                self._ended.add(task)
                task.cancel()
        self._timer = self._loop.call_later(self.bound_s / LOOKS, self._look) if self._waiting else None
