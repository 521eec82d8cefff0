"""The use cases of the daemon, one method each. A transport calls these with domain objects and renders the
answers.

This class only routes: validation and decisions live in the parts that it is given. Every refusal is
`Refused` with a code of the catalogue; anything else that escapes is a bug. All methods run on the event loop
and never block it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from sfmd.contract import (
    Batch,
    Caller,
    Change,
    ExportHead,
    ImportSummary,
    ItemError,
    ItemResult,
    Limits,
    ListPage,
    NamespaceChange,
    NamespaceInfo,
    NamespaceSpec,
    PurgeResult,
    ReplayResult,
    ServiceStats,
)
from sfmd.domain import Filter, Memory, MemoryInput, Query, RecallResult, Receipt, WriteResult
from sfmd.measure import Meters
from sfmd.namespaces import Namespaces
from sfmd.protocols import Store
from sfmd.reading import Reading
from sfmd.spaces import Spaces
from sfmd.statistics import Statistics
from sfmd.upkeep import Upkeep
from sfmd.writer import Writer
from sfmd.writing import Writing

log = structlog.get_logger(__name__)

EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of; see builder.py."""

    limits: Limits
    store: Store
    spaces: Spaces
    writer: Writer
    upkeep: Upkeep
    statistics: Statistics
    namespaces: Namespaces
    writing: Writing
    reading: Reading
    pools: tuple[ThreadPoolExecutor, ...]
    meters: Meters


class MemoryService:
    """Everything that a caller can ask of the daemon."""

    def __init__(self, parts: Parts) -> None:
        """Only the builder makes one; `parts` are started and consistent with the log."""
        self.limits = parts.limits
        self._store, self._spaces = parts.store, parts.spaces
        self._writer, self._upkeep, self._statistics = parts.writer, parts.upkeep, parts.statistics
        self._namespaces, self._writing, self._reading = parts.namespaces, parts.writing, parts.reading
        self._pools, self.meters = parts.pools, parts.meters
        self._serving = True

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong right now, in words, for health; empty when all is well."""
        found = {"problem_writer": self._writer.problem, "problem_upkeep": self._upkeep.problem}
        return {name: words for name, words in found.items() if words}

    @property
    def serving(self) -> bool:
        """True from the end of the start until the drain begins, and while writes are taken."""
        return self._serving and not self._writer.problem

    @property
    def applied_seq(self) -> int:
        """Every change up to this seq is visible to recalls."""
        return self._writer.applied_seq

    async def create_namespace(self, caller: Caller, spec: NamespaceSpec) -> NamespaceInfo:
        """Make a namespace; the same spec again answers as the first time. Refused: INVALID,
        NAMESPACE_EXISTS.
        """
        return await self._namespaces.create(caller, spec)

    async def configure_namespace(self, caller: Caller, change: NamespaceChange) -> NamespaceInfo:
        """Change what ranks, as a row of the log. Refused: NO_NAMESPACE, INVALID, VERSION."""
        return await self._namespaces.configure(caller, change)

    async def list_namespaces(self, caller: Caller) -> list[NamespaceInfo]:
        """Every namespace, by name. The transport leaves out those that the caller may not read."""
        return self._namespaces.list_all()

    async def store(self, caller: Caller, namespace: str, memory: MemoryInput) -> WriteResult:
        """Store one memory; returns once it is on disk. A conflict is Refused(EXISTS or VERSION)."""
        return await self._writing.store(caller, namespace, memory)

    async def store_batch(
        self, caller: Caller, namespace: str, memories: Sequence[MemoryInput], *, first_index: int = 0
    ) -> list[ItemResult]:
        """Store many in one go, an outcome per item in order; a bad item never stops a good one."""
        return await self._writing.store_batch(caller, namespace, memories, first_index)

    async def store_stream(self, caller: Caller, namespace: str, batches: AsyncIterator[Batch]) -> list[ItemResult]:
        """`store_batch` over a stream, up to `limits.batch_items` in all. What was taken before a break
        stays.
        """
        return await self._writing.store_listed(caller, namespace, batches)

    async def import_(self, caller: Caller, namespace: str, batches: AsyncIterator[Batch]) -> ImportSummary:
        """Like `store_stream` without a bound on the total; the reply counts instead of listing."""
        return await self._writing.import_(caller, namespace, batches)

    async def recall(self, caller: Caller, query: Query) -> RecallResult:
        """The k best memories under the whole score. A cancelled task stops its scan."""
        return await self._reading.recall(query)

    async def recall_batch(self, caller: Caller, queries: Sequence[Query]) -> list[RecallResult | ItemError]:
        """Several recalls; each has its own result or error, in order."""
        return await self._reading.recall_batch(queries)

    async def get(
        self,
        caller: Caller,
        namespace: str,
        id_: str,
        *,
        as_of_seq: int | None = None,
        include_vector: bool = False,
        include_deleted: bool = False,
    ) -> Memory:
        """One memory, payload verified against its digest. Refused: NO_MEMORY, PURGED, CORRUPT,
        BEHIND_HORIZON, FUTURE_SEQ.
        """
        return await self._reading.get(
            namespace, id_, as_of_seq, include_vector=include_vector, include_deleted=include_deleted
        )

    async def list_page(
        self,
        caller: Caller,
        namespace: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        filter_: Filter = EVERYTHING,
        include_deleted: bool = False,
        omit_payload: bool = False,
    ) -> ListPage:
        """A page of memories in byte order of the id; page_size 0 counts as 100."""
        return await self._reading.list_page(
            namespace, page_size, page_token, filter_, include_deleted=include_deleted, omit_payload=omit_payload
        )

    async def delete(
        self,
        caller: Caller,
        namespace: str,
        id_: str,
        *,
        expected_version: int | None = None,
        idempotency_key: str = "",
    ) -> WriteResult:
        """Mark a memory deleted; Undo brings it back. Refused: NO_MEMORY, VERSION, EXISTS (key used
        otherwise).
        """
        return await self._writing.delete(caller, namespace, id_, expected_version, idempotency_key)

    async def purge(self, caller: Caller, namespace: str, id_: str) -> PurgeResult:
        """Erase the content of every version for good. Refused: NO_MEMORY."""
        return await self._writing.purge(caller, namespace, id_)

    async def undo(self, caller: Caller, namespace: str, id_: str, *, expected_seq: int | None = None) -> WriteResult:
        """Revert the latest change by a new one. Refused: NO_MEMORY, VERSION, PURGED, NOTHING_TO_UNDO."""
        return await self._writing.undo(caller, namespace, id_, expected_seq)

    async def reinforce(
        self,
        caller: Caller,
        namespace: str,
        id_: str,
        *,
        importance: float | None = None,
        access_time_s: float | None = None,
        idempotency_key: str = "",
    ) -> WriteResult:
        """Note an access; with an importance, change retrieval too. Refused: NO_MEMORY, INVALID, CLOCK,
        EXISTS.
        """
        return await self._writing.reinforce(caller, namespace, id_, importance, access_time_s, idempotency_key)

    async def replay(self, caller: Caller, receipt: Receipt, query: Query) -> ReplayResult:
        """Recompute a recall as it was. Refused: RECEIPT when the query is not the receipt's, BEHIND_HORIZON."""
        return await self._reading.replay(receipt, query)

    def stats(self, namespaces: Sequence[str] | None = None) -> ServiceStats:
        """Measured state, from memory alone: it answers while the store is busy. None: every namespace."""
        return self._statistics.read(namespaces, self._reading.waiting)

    def export(
        self,
        caller: Caller,
        namespace: str,
        *,
        as_of_seq: int | None = None,
        include_vectors: bool = False,
        filter_: Filter = EVERYTHING,
    ) -> AsyncIterator[ExportHead | list[Memory]]:
        """The head, then every live memory as of one seq in id order, in lists."""
        return self._reading.export(namespace, as_of_seq, filter_, include_vectors=include_vectors)

    def watch(
        self,
        caller: Caller,
        namespace: str,
        from_seq: int,
        *,
        to_seq: int | None = None,
        include_payload: bool = False,
    ) -> AsyncIterator[Change]:
        """Changes with seq >= from_seq in order, until to_seq or for ever; woken by commits."""
        return self._reading.watch(namespace, from_seq, to_seq, include_payload=include_payload)

    def end_watches(self) -> None:
        """Let Watch calls end, so that they do not hold up a drain."""
        self._writer.applied.stop()

    async def close(self) -> None:
        """Drain: refuse what is new, finish what was taken, flush, save, close."""
        self._serving = False
        await self._writer.close()
        await asyncio.to_thread(self._close_rest)

    def _close_rest(self) -> None:
        self._upkeep.close()
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)
        for space in self._spaces:
            try:
                space.index.save()
            except OSError as error:  # a full disk, say: the next start makes anew from the log what is not saved
                log.warning("segments_not_saved", namespace=space.namespace.name, cause=error.strerror)
            space.index.close()
        self._store.close()
