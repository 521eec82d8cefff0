"""MemorySystemBuilder: the only place where the daemon's parts meet. Constructor injection, no singletons.

The order of a start is fixed: lock and migrate, open segments and replay the log's tail, then the writer and the
background thread; only what is returned from here is consistent with the log.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

from sfmd import embed
from sfmd.config import Settings
from sfmd.core.engine import set_blas_threads
from sfmd.measure import Meters
from sfmd.namespaces import Namespaces
from sfmd.preparing import Embedders, Preparing
from sfmd.protocols import Clock, Store
from sfmd.reading import Reading
from sfmd.recalling import Recalling
from sfmd.service import MemoryService, Parts
from sfmd.spaces import Spaces
from sfmd.statistics import Statistics, memory_limit_bytes, resident_bytes
from sfmd.store.open import open_store
from sfmd.upkeep import Memory, Upkeep
from sfmd.writer import GroupCommit, Writer
from sfmd.writing import Writing


def product_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("soma-fractal-memory")
    except PackageNotFoundError:
        return "0+unknown"


class MemorySystemBuilder:
    """Builds a running MemoryService from settings. Call `build` on the event loop that will serve."""

    def __init__(self, settings: Settings, clock: Clock = time.time) -> None:
        self._settings, self._clock = settings, clock

    async def build(self) -> MemoryService:
        """Open everything and return a service that may be asked. Raises Refused: CONFIG, LOCKED, SCHEMA, …"""
        store = await asyncio.to_thread(self.open_store)
        try:
            return await self._build(store)
        except BaseException:
            await asyncio.to_thread(store.close)
            raise

    def open_store(self) -> Store:
        """The durable store, locked and migrated."""
        return open_store(self._settings.data_dir, readers=max(self._settings.store.readers, self._workers()))

    def _workers(self) -> int:
        return self._settings.recall.workers or max(2, os.cpu_count() or 1)

    async def _build(self, store: Store) -> MemoryService:
        settings, limits = self._settings, self._settings.bounds()
        set_blas_threads(1)
        embedders = Embedders(await asyncio.to_thread(embed.available, settings.embedders))
        spaces = Spaces(settings.segments)
        await asyncio.to_thread(spaces.open_all, store)
        meters = Meters()
        limit = settings.memory_limit_bytes or memory_limit_bytes()
        upkeep = Upkeep(
            store, spaces, meters, Memory(resident_bytes, limit), clock=self._clock,
            keys_kept_s=settings.store.keys_kept_s,
        )  # fmt: skip
        workers = self._workers()
        recalls = ThreadPoolExecutor(workers, "recall")
        # Preparing holds the interpreter lock, so more than one thread would only make it wait.
        pool = ThreadPoolExecutor(1, "prepare")
        writer = Writer(
            store, self._clock, meters,
            policy=GroupCommit(settings.writer.rows, settings.writer.delay_s), queue_items=limits.queue_items,
            queue_bytes=limits.queue_bytes, topic=settings.events.topic, on_cut=upkeep.cut, on_commit=upkeep.committed,
        )  # fmt: skip
        upkeep.start()
        recalling = Recalling(store, embedders, settings.call_bounds().message_bytes)
        return MemoryService(
            Parts(
                limits=limits,
                store=store,
                spaces=spaces,
                writer=writer,
                upkeep=upkeep,
                statistics=Statistics(spaces, writer, meters, product_version(), store.horizon_seq()),
                namespaces=Namespaces(spaces, writer, embedders, limits),
                writing=Writing(spaces, writer, Preparing(embedders, limits), limits, pool, meters),
                reading=Reading(
                    store, spaces, writer, recalling, limits, recalls, self._workers(), self._clock, meters
                ),
                pools=(recalls, pool),
                meters=meters,
            )
        )
