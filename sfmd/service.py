"""The use cases of the daemon, one method each. A transport calls these with domain objects and renders the
answers.

This class only routes: validation and decisions live in the parts that it is given. Every refusal is
`Refused` with a code of the catalogue; anything else that escapes is a bug. All methods run on the event loop
and never block it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from sfmd.contract import (
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

EVERYTHING = Filter()


class MemoryService:
    """Everything that a caller can ask of the daemon."""

    limits: Limits

    @property
    def serving(self) -> bool:
        """True from the end of the start until the drain begins, and while the writer is sound."""
        raise NotImplementedError

    @property
    def applied_seq(self) -> int:
        """Every change up to this seq is visible to recalls."""
        raise NotImplementedError

    async def create_namespace(self, caller: Caller, spec: NamespaceSpec) -> NamespaceInfo:
        """Make a namespace; the same spec again answers as the first time. Refused: INVALID,
        NAMESPACE_EXISTS.
        """
        raise NotImplementedError

    async def configure_namespace(self, caller: Caller, change: NamespaceChange) -> NamespaceInfo:
        """Change what ranks, as a row of the log. Refused: NO_NAMESPACE, INVALID, VERSION."""
        raise NotImplementedError

    async def list_namespaces(self, caller: Caller) -> list[NamespaceInfo]:
        """Every namespace, by name. The transport leaves out those that the caller may not read."""
        raise NotImplementedError

    async def store(self, caller: Caller, namespace: str, memory: MemoryInput) -> WriteResult:
        """Store one memory; returns once it is on disk. A conflict is Refused(EXISTS or VERSION)."""
        raise NotImplementedError

    async def store_batch(
        self, caller: Caller, namespace: str, memories: Sequence[MemoryInput], *, first_index: int = 0
    ) -> list[ItemResult]:
        """Store many in one go, an outcome per item in order; a bad item never stops a good one."""
        raise NotImplementedError

    async def store_stream(
        self, caller: Caller, namespace: str, batches: AsyncIterator[Sequence[MemoryInput]]
    ) -> list[ItemResult]:
        """`store_batch` over a stream, up to `limits.batch_items` in all. What was taken before a break
        stays.
        """
        raise NotImplementedError

    async def import_(
        self, caller: Caller, namespace: str, batches: AsyncIterator[Sequence[MemoryInput]]
    ) -> ImportSummary:
        """Like `store_stream` without a bound on the total; the reply counts instead of listing."""
        raise NotImplementedError

    async def recall(self, caller: Caller, query: Query) -> RecallResult:
        """The k best memories under the whole score. A cancelled task stops its scan."""
        raise NotImplementedError

    async def recall_batch(self, caller: Caller, queries: Sequence[Query]) -> list[RecallResult | ItemError]:
        """Several recalls; each has its own result or error, in order."""
        raise NotImplementedError

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
        """One memory, payload verified against its digest. Refused: NO_MEMORY, CORRUPT, BEHIND_HORIZON,
        FUTURE_SEQ.
        """
        raise NotImplementedError

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
        raise NotImplementedError

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
        raise NotImplementedError

    async def purge(self, caller: Caller, namespace: str, id_: str) -> PurgeResult:
        """Erase the content of every version for good. Refused: NO_MEMORY."""
        raise NotImplementedError

    async def undo(self, caller: Caller, namespace: str, id_: str, *, expected_seq: int | None = None) -> WriteResult:
        """Revert the latest change by a new one. Refused: NO_MEMORY, VERSION, PURGED, NOTHING_TO_UNDO."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def replay(self, caller: Caller, receipt: Receipt, query: Query) -> ReplayResult:
        """Recompute a recall as it was. Refused: RECEIPT when the query is not the receipt's, BEHIND_HORIZON."""
        raise NotImplementedError

    def stats(self, namespaces: Sequence[str] | None = None) -> ServiceStats:
        """Measured state, from memory alone: it answers while the store is busy. None: every namespace."""
        raise NotImplementedError

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
        raise NotImplementedError

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
        raise NotImplementedError

    async def close(self) -> None:
        """Drain: refuse what is new, finish what was taken, flush, save, close."""
        raise NotImplementedError
