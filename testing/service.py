"""A real service in this process, on a real store, for tests of the use cases: open, ask, close, open again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sfmd.builder import MemorySystemBuilder
from sfmd.config import load
from sfmd.contract import Caller, NamespaceSpec
from sfmd.domain import MemoryInput
from sfmd.service import MemoryService

T = TypeVar("T")
TESTER = Caller("tester")
DIM = 8
EPOCH_S = 1_700_000_000.0


class StepClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now_s: float = EPOCH_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def vector(*components: float, dim: int = DIM) -> bytes:
    """Little-endian float32 bytes, zeros to the right."""
    out = np.zeros(dim, dtype="<f4")
    out[: len(components)] = components
    return out.tobytes()


def memory(id_: str, *components: float, payload: bytes = b"{}", **fields: Any) -> MemoryInput:
    """A memory with a vector of these first components."""
    return MemoryInput(payload=payload, id=id_, vector=vector(*(components or (1.0,))), **fields)


async def open_service(folder: Path, clock: Any = None, **settings: Any) -> MemoryService:
    """A service on the data directory `folder`; the caller closes it."""
    built = MemorySystemBuilder(load(data_dir=folder, **settings), *([clock] if clock else []))
    return await built.build()


@asynccontextmanager
async def service_in(folder: Path, clock: Any = None, **settings: Any) -> AsyncIterator[MemoryService]:
    """A service with a namespace "notes" of DIM dimensions."""
    service = await open_service(folder, clock, **settings)
    try:
        await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM))
        yield service
    finally:
        await service.close()


class Looped:
    """Runs coroutines one after another on a loop of its own, for tests that are not coroutines themselves."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __call__(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self._runner.run(awaited())

    def close(self) -> None:
        """End the loop."""
        self._runner.close()
