"""The reading use cases: recall, replay, get, list, export, watch.

Nothing here writes. Blocking work runs in a bounded pool beside the event loop, a cancelled call stops its scan, and
more work than the pool may hold is shed at once with a retry hint.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from sfmd import memories, validation
from sfmd.contract import Change, ExportHead, ItemError, Limits, ListPage, ReplayResult
from sfmd.core.model import Cancelled, Where
from sfmd.domain import ChangeRow, Filter, Memory, Op, Query, RecallResult, Receipt
from sfmd.errors import E, Refused
from sfmd.group import event_id
from sfmd.measure import Meters
from sfmd.protocols import FEW, Clock, Store
from sfmd.recalling import Ask, Recalling, replay_query, replayed, too_much
from sfmd.sharing import Sharing, Waiting
from sfmd.spaces import Space, Spaces
from sfmd.writer import Writer

T = TypeVar("T")
PAGE_DEFAULT = 100
PAGE_MOST = 1_000
"""What the protocol lets anybody ask for; a daemon whose setting is smaller answers with smaller pages."""
EXPORT_ROWS = 500
WATCH_ROWS = 500
READ_BYTES = 2**20
"""Content that an export or a watch reads ahead of its reader."""
ROW_BYTES = 512
"""What a memory in a page may take beside its content."""
SCAN_ROWS = 1_000
SCANS_PER_PAGE = 20


class Reading:
    """What a caller can ask without changing anything."""

    def __init__(
        self, store: Store, spaces: Spaces, writer: Writer, recalling: Recalling, limits: Limits,
        pool: ThreadPoolExecutor, workers: int, clock: Clock, meters: Meters,
    ) -> None:  # fmt: skip
        self._message_bytes = recalling.message_bytes
        self._page_bytes = self._message_bytes // 2
        self._store, self._spaces, self._writer, self._recalling = store, spaces, writer, recalling
        self._limits, self._pool, self._clock, self._meters = limits, pool, clock, meters
        self._sharing = Sharing(pool, workers, self._asked)
        self._turns = asyncio.Semaphore(max(1, limits.recall_queue // 2))
        """Places for the queries of batches: enough to share reads, few enough to leave room for single recalls."""
        self.waiting = 0
        """Recalls in the pool or before it."""
        self._watchers = 0
        self._horizon_seq = store.horizon_seq()

    async def recall(self, query: Query) -> RecallResult:
        """The k best memories under the whole score."""
        return await self._recall(await self._askable(query), query)

    async def _askable(self, query: Query) -> Space:
        """The namespace of a recall that may be asked, once what it wants to see is there."""
        validation.query_fields(query, self._limits)
        space = self._spaces.get(query.namespace)
        if query.min_seq is not None:
            await self._visible(query.min_seq)
        if query.as_of_seq is not None:
            self._reachable(query.as_of_seq)
        return space

    async def _recall(self, space: Space, query: Query) -> RecallResult:
        if self.waiting >= self._limits.recall_queue:
            raise Refused(E.BUSY, f"{self.waiting} recalls are waiting", retry_after_s=0.1)
        return await self._queued(space, query)

    async def _queued(self, space: Space, query: Query) -> RecallResult:
        started = self._meters.now()
        stop = threading.Event()
        self.waiting += 1
        try:
            return await self._sharing.put(space, query, stop)
        except Cancelled:
            raise Refused(E.CANCELLED) from None
        finally:
            stop.set()
            self.waiting -= 1
            spent_s = self._meters.now() - started
            self._meters.recalled(spent_s)
            space.recall_s.add(spent_s)

    def _asked(self, group: Sequence[Waiting]) -> Iterator[RecallResult | Exception]:
        """In the pool: settle what states and what times are meant, then recall."""
        return self._recalling.recall_all([self._settled(one) for one in group])

    def _settled(self, one: Waiting) -> Ask | Exception:
        query = one.query
        past = query.as_of_seq is not None
        seq = query.as_of_seq if query.as_of_seq is not None else self._writer.applied_seq
        try:
            now_s = query.now_s
            if now_s is None:
                now_s = self._committed_at(seq) if past else self._clock()
        except Refused as refused:
            return refused
        return Ask(one.space, query, seq, now_s, past, one.stop)

    async def recall_batch(self, queries: Sequence[Query]) -> list[RecallResult | ItemError]:
        """Each query on its own. Those of all batches wait for their turn in half of the queue, so none is shed."""
        if len(queries) > self._limits.recall_batch_items:
            most = self._limits.recall_batch_items
            raise Refused(E.TOO_LARGE, f"{len(queries)} queries; SOMA_LIMITS__RECALL_BATCH_ITEMS allows {most}")
        held = 0

        async def recalled(query: Query) -> RecallResult | ItemError:
            nonlocal held
            item = await self._recall_item(query)
            if isinstance(item, RecallResult):
                held += sum(len(hit.payload) + len(hit.metadata_json) for hit in item.hits)
            if held > self._message_bytes:
                raise too_much(self._message_bytes)
            return item

        tasks = [asyncio.ensure_future(recalled(query)) for query in queries]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _recall_item(self, query: Query) -> RecallResult | ItemError:
        try:
            space = await self._askable(query)
            async with self._turns:
                return await self._queued(space, query)
        except Refused as refused:
            return ItemError(refused.code.code, refused.message, refused.code.status.value)

    async def replay(self, receipt: Receipt, query: Query) -> ReplayResult:
        """A recall as it was, and whether it comes out the same."""
        validation.query_fields(query, self._limits)
        space = self._spaces.get(query.namespace)
        asked = replay_query(receipt, query)
        self._reachable(receipt.seq)
        return replayed(receipt, query, await self._recall(space, asked))

    async def get(
        self, namespace: str, id_: str, as_of_seq: int | None, *, include_vector: bool, include_deleted: bool
    ) -> Memory:
        """One memory."""
        space = self._spaces.get(namespace)
        validation.memory_id(id_, self._limits)
        if as_of_seq is not None:
            validation.seq("as_of_seq", as_of_seq)
            self._reachable(as_of_seq)
        seq = self._writer.applied_seq if as_of_seq is None else as_of_seq
        return await self._in_pool(lambda: self._get(space, id_, seq, vector=include_vector, dead=include_deleted))

    def _get(self, space: Space, id_: str, seq: int, *, vector: bool, dead: bool) -> Memory:
        row = self._store.state_at(space.namespace.ns_id, id_, seq)
        if row is not None and row.payload is None:
            raise Refused(E.PURGED, f"memory {id_!r} was purged; it is gone from the past too")
        if row is None or (row.deleted and not dead):
            raise Refused(E.NO_MEMORY, f"no live memory has the id {id_!r}")
        if not vector:
            row = replace(row, vector=None)
        return memories.memory_of(row, space.at(seq), space.counts, self._clock())

    async def list_page(
        self, namespace: str, page_size: int, page_token: str, filter_: Filter, *, include_deleted: bool,
        omit_payload: bool,
    ) -> ListPage:  # fmt: skip
        """A page in byte order of the id."""
        space = self._spaces.get(namespace)
        most = max(self._limits.page_items, PAGE_MOST)
        if not 0 <= page_size <= most:
            raise Refused(E.INVALID, f"page_size is {page_size}; give 1 to {most}")
        size = min(page_size or PAGE_DEFAULT, self._limits.page_items)
        validation.filter_fields(filter_, self._limits)
        after = read_token(page_token)
        where = memories.where_of(filter_)
        return await self._in_pool(
            lambda: self._page(space, after, size, where, dead=include_deleted, payloads=not omit_payload)
        )

    def _page(
        self, space: Space, after: str, size: int, where: Where | None, *, dead: bool, payloads: bool
    ) -> ListPage:
        """Rows that pass, up to `size` and to half a message. A filter that finds little ends the page early, too: then
        there is a token to go on.
        """
        kept: list[ChangeRow] = []
        held = 0
        for _ in range(SCANS_PER_PAGE):
            wanted = size - len(kept) + 1 if where is None else SCAN_ROWS
            rows = self._store.list_rows(
                space.namespace.ns_id, after, wanted, include_deleted=dead, payloads=payloads and where is None,
                max_bytes=self._page_bytes,
            )  # fmt: skip
            for row in self._passed(rows, where, payloads=payloads):
                held += row.content_bytes + ROW_BYTES
                if kept and (len(kept) == size or held > self._page_bytes):
                    return self._listed(space, kept, kept[-1].id)
                kept.append(row)
            if len(rows) < wanted and sum(row.content_bytes for row in rows) <= self._page_bytes:
                return self._listed(space, kept, "")
            after = rows[-1].id
        return self._listed(space, kept, after)

    def _passed(self, rows: Sequence[ChangeRow], where: Where | None, *, payloads: bool) -> Iterator[ChangeRow]:
        """Rows that pass. Behind a filter only their payloads are read, a few at a time as they are asked for."""
        passed = [row for row in rows if memories.passes(row, where)]
        if where is None or not payloads:
            yield from passed
            return
        for at in range(0, len(passed), FEW):
            part = passed[at : at + FEW]
            whole = self._store.rows([row.seq for row in part])
            yield from (whole[row.seq] for row in part if whole[row.seq].payload is not None)  # not purged meanwhile

    def _listed(self, space: Space, rows: Sequence[ChangeRow], last_id: str) -> ListPage:
        now = self._clock()
        found = tuple(memories.memory_of(row, space.now, space.counts, now) for row in rows)
        return ListPage(found, write_token(last_id))

    async def export(
        self, namespace: str, as_of_seq: int | None, filter_: Filter, *, include_vectors: bool
    ) -> AsyncIterator[ExportHead | list[Memory]]:
        """The head, then memories in lists, all as of one seq."""
        space = self._spaces.get(namespace)
        validation.filter_fields(filter_, self._limits)
        where = memories.where_of(filter_)
        if as_of_seq is not None:
            validation.seq("as_of_seq", as_of_seq)
            self._reachable(as_of_seq)
        known = as_of_seq is None and where is None
        seq = self._writer.applied_seq if as_of_seq is None else as_of_seq
        total = space.index.stats().live if known else 0
        yield ExportHead(space.info(), seq, total)
        after, ranking = "", space.at(seq)
        while True:
            rows = await self._in_pool(
                lambda start=after: self._store.list_rows(  # type: ignore[misc]
                    space.namespace.ns_id,
                    start,
                    EXPORT_ROWS,
                    as_of_seq=seq,
                    vectors=include_vectors,
                    max_bytes=READ_BYTES,
                )
            )
            if not rows:
                return
            now = self._clock()
            passed = [row for row in rows if row.payload is not None and memories.passes(row, where)]
            if passed:
                yield [memories.memory_of(row, ranking, space.counts, now) for row in passed]
            after = rows[-1].id

    async def watch(
        self, namespace: str, from_seq: int, to_seq: int | None, *, include_payload: bool
    ) -> AsyncIterator[Change]:
        """Changes in order; waits for commits when it has caught up."""
        space = self._spaces.get(namespace)
        validation.seq("from_seq", from_seq)
        if to_seq is not None:
            validation.seq("to_seq", to_seq)
        if self._watchers >= self._limits.watchers:
            raise Refused(E.BUSY, f"{self._watchers} callers are watching", retry_after_s=1.0)
        at = max(1, from_seq)
        if from_seq > 1:
            self._not_behind(from_seq)
        self._watchers += 1
        try:
            while to_seq is None or at <= to_seq:
                last = self._writer.applied.seq
                if at > last:
                    await self._writer.applied.after(at - 1)
                    continue
                end = last if to_seq is None else min(last, to_seq)
                rows = await self._in_pool(
                    lambda start=at, stop=end: self._store.changes(  # type: ignore[misc]
                        start,
                        stop,
                        ns_id=space.namespace.ns_id,
                        payloads=include_payload,
                        limit=WATCH_ROWS,
                        max_bytes=READ_BYTES if include_payload else 0,
                    )
                )
                for row in rows:
                    yield change_of(row, namespace, include_payload=include_payload)
                at = rows[-1].seq + 1 if rows else end + 1
        finally:
            self._watchers -= 1

    async def _visible(self, seq: int) -> None:
        """Wait until `seq` is visible. Refused(DEADLINE) when it is not within `limits.min_seq_wait_s`."""
        if self._writer.applied_seq >= seq:
            return
        try:
            await asyncio.wait_for(self._writer.applied.after(seq - 1), self._limits.min_seq_wait_s)
        except TimeoutError:
            at = self._writer.applied_seq
            raise Refused(E.DEADLINE, f"seq {seq} was not visible in time; the log is at {at}") from None

    def _reachable(self, seq: int) -> None:
        if seq > self._writer.applied_seq:
            raise Refused(E.FUTURE_SEQ, f"seq {seq} has not been written; the log is at {self._writer.applied_seq}")
        self._not_behind(seq)

    def _not_behind(self, seq: int) -> None:
        horizon = self._horizon_seq
        if seq < horizon:
            raise Refused(E.BEHIND_HORIZON, f"the log reaches back to seq {horizon}, not to {seq}")

    def _committed_at(self, seq: int) -> float:
        """When a seq was committed, Unix seconds."""
        rows = self._store.changes(seq, seq, payloads=False, limit=1)
        if not rows:
            raise Refused(E.BEHIND_HORIZON, f"the log no longer holds seq {seq}")
        return rows[0].at_s

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def change_of(row: ChangeRow, namespace: str, *, include_payload: bool) -> Change:
    """A row of the log as Watch shows it."""
    payload = memories.verified(row) if include_payload and row.op < Op.NAMESPACE else b""
    return Change(
        seq=row.seq,
        namespace=namespace,
        id=row.id,
        op=row.op.name.lower(),
        version=row.version,
        digest=row.digest,
        at_s=row.at_s,
        principal=row.principal,
        payload=payload,
        event_id=event_id(namespace, row.seq),
        detail_json=row.detail_json,
    )


def write_token(last_id: str) -> str:
    """An opaque place to go on from; empty at the end."""
    return base64.urlsafe_b64encode(b"1" + last_id.encode()).decode() if last_id else ""


def read_token(token: str) -> str:
    """The id that a token goes on after. Refused(INVALID) for a token that is none of ours."""
    if not token:
        return ""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        if raw[:1] != b"1" or b"\x00" in raw:
            raise ValueError(token)
        return raw[1:].decode()
    except (ValueError, binascii.Error):
        raise Refused(E.INVALID, "page_token is none that this daemon gave") from None
