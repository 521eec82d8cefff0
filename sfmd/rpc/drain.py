"""Reads on for a little before an upload is refused, so that its sender learns why.

A sender whose stream is closed under its pen may see "internal error" instead of the status: grpc.aio gives up on the
first write that fails, although the status is on its way. What is read here is thrown away, and there is little of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc.aio

WITHIN_S = 1.0
MESSAGES = 32
MESSAGES_OF_STRANGERS = 1


async def drain(context: grpc.aio.ServicerContext[Any, Any], messages: int = MESSAGES) -> None:
    """Take up to `messages` messages off the wire, until the sender has finished or WITHIN_S has passed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(WITHIN_S):
            for _ in range(messages):
                if await context.read() is grpc.aio.EOF:  # type: ignore[attr-defined]
                    return
