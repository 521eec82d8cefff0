"""The writing use cases up to the queue: store, delete, undo, reinforce, purge and import.

A batch is cut into chunks that are prepared in a thread of their own and committed a few at a time, so that memory
stays bounded whatever a stream brings.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor

from sfmd import digests, validation
from sfmd.commands import DeleteCommand, PurgeCommand, ReinforceCommand, StoreCommand, UndoCommand
from sfmd.contract import Batch, Caller, ImportSummary, ItemResult, Limits, PurgeResult
from sfmd.domain import MemoryInput, Outcome, WriteResult
from sfmd.errors import CATALOGUE, E, Refused
from sfmd.measure import Meters
from sfmd.preparing import Prepared, Preparing
from sfmd.spaces import Space, Spaces
from sfmd.writer import Writer

FIRST_ERRORS = 100
CHUNKS_IN_FLIGHT = 2


class Writing:
    """Store, delete, undo, reinforce, purge and import."""

    def __init__(
        self, spaces: Spaces, writer: Writer, preparing: Preparing, limits: Limits, pool: Executor, meters: Meters
    ) -> None:
        self._spaces, self._writer, self._preparing = spaces, writer, preparing
        self._limits, self._pool, self._meters = limits, pool, meters

    async def store(self, caller: Caller, namespace: str, memory: MemoryInput) -> WriteResult:
        """One memory; its refusal is raised."""
        space = self._spaces.get(namespace)
        if memory.text is None:
            command = StoreCommand.unprepared(space, caller.principal, memory, self._preparing)
        else:  # embedding takes its time: not in the writer's thread
            prepared = await self._prepare([memory], space)
            command = StoreCommand(space, caller.principal, prepared.items, prepared.vectors)
        item = (await self._commit(command))[0]
        if item.error is not None:
            raise Refused(CATALOGUE[item.error.code], item.error.message)
        return item.result

    async def store_batch(
        self, caller: Caller, namespace: str, memories: Sequence[MemoryInput], first_index: int = 0
    ) -> list[ItemResult]:
        """Many memories in chunks; an outcome per item, in order."""
        if len(memories) > self._limits.batch_items:
            raise Refused(
                E.TOO_LARGE, f"{len(memories)} items; SOMA_LIMITS__BATCH_ITEMS allows {self._limits.batch_items}"
            )
        space = self._spaces.get(namespace)
        results: list[ItemResult] = []
        step = self._limits.chunk_items
        for start in range(0, len(memories), step):
            prepared = await self._prepare(memories[start : start + step], space)
            results += await self._submit(caller, space, prepared, first_index + start)
        return results

    async def store_listed(self, caller: Caller, namespace: str, batches: AsyncIterator[Batch]) -> list[ItemResult]:
        """A stream of up to `limits.batch_items`, every outcome listed."""
        results: list[ItemResult] = []
        await self.store_stream(caller, namespace, batches, results.extend, self._limits.batch_items)
        return results

    async def store_stream(
        self,
        caller: Caller,
        namespace: str,
        batches: AsyncIterator[Batch],
        seen: Callable[[list[ItemResult]], None],
        limit: int | None,
    ) -> None:
        """Take batches as they come, a few chunks in flight, and hand over results in order.

        Memory stays bounded: nothing more is read from the stream while chunks wait for the disk.
        """
        space = self._spaces.get(namespace)
        limits = self._limits
        flying: list[asyncio.Task[list[ItemResult]]] = []
        chunk: list[MemoryInput] = []
        held = taken = 0

        async def flush() -> None:
            nonlocal chunk, held
            while len(flying) >= CHUNKS_IN_FLIGHT:
                seen(await flying.pop(0))
            prepared = await self._prepare(chunk, space)
            submitting = self._submit(caller, space, prepared, taken - len(chunk), size_bytes=held, patient=True)
            flying.append(asyncio.create_task(submitting))
            chunk, held = [], 0

        try:
            async for batch in batches:
                count = len(batch.memories)
                if limit is not None and taken + count > limit:
                    raise Refused(E.TOO_LARGE, f"more than {limit} items; see SOMA_LIMITS__BATCH_ITEMS")
                mean = 1 + batch.size_bytes // max(1, count)
                step = min(limits.chunk_items, max(1, limits.chunk_bytes // mean))
                for start in range(0, count, step):
                    part = batch.memories[start : start + step]
                    size_bytes = mean * len(part)
                    if chunk and (
                        len(chunk) + len(part) > limits.chunk_items or held + size_bytes > limits.chunk_bytes
                    ):
                        await flush()
                    chunk += part
                    held += size_bytes
                    taken += len(part)
            if chunk:
                await flush()
            while flying:
                seen(await flying.pop(0))
        finally:
            # What was handed to the writer is being committed whatever happens to the stream; see its end.
            await asyncio.gather(*flying, return_exceptions=True)

    async def import_(self, caller: Caller, namespace: str, batches: AsyncIterator[Batch]) -> ImportSummary:
        """A stream without a bound, counted instead of listed."""
        counts: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        errors: list[ItemResult] = []
        last = 0

        def seen(results: list[ItemResult]) -> None:
            nonlocal last
            for item in results:
                counts[item.result.outcome] += 1
                last = max(last, item.result.seq)
                if item.error is not None and len(errors) < FIRST_ERRORS:
                    errors.append(item)

        await self.store_stream(caller, namespace, batches, seen, None)
        return ImportSummary(
            received=sum(counts.values()),
            created=counts[Outcome.CREATED],
            updated=counts[Outcome.UPDATED],
            duplicate=counts[Outcome.DUPLICATE],
            conflict=counts[Outcome.CONFLICT],
            rejected=counts[Outcome.REJECTED],
            first_errors=tuple(errors),
            last_seq=last,
        )

    async def delete(
        self, caller: Caller, namespace: str, id_: str, expected_version: int | None, idempotency_key: str
    ) -> WriteResult:
        """Mark a memory deleted."""
        space = self._changed(namespace, id_, idempotency_key, expected_version)
        digest = digests.keyed_digest("delete", id_, repr(expected_version).encode())
        command = DeleteCommand(
            space, caller.principal, id_, key=idempotency_key, key_digest=digest, expected=expected_version
        )
        return await self._change(command)

    async def undo(self, caller: Caller, namespace: str, id_: str, expected_seq: int | None) -> WriteResult:
        """Revert the latest change."""
        space = self._changed(namespace, id_, "", expected_seq)
        return await self._change(UndoCommand(space, caller.principal, id_, expected=expected_seq))

    async def reinforce(
        self, caller: Caller, namespace: str, id_: str, importance: float | None, access_time_s: float | None,
        idempotency_key: str,
    ) -> WriteResult:  # fmt: skip
        """Note an access."""
        space = self._changed(namespace, id_, idempotency_key, None)
        if importance is not None:
            validation.finite("importance", importance)
        if access_time_s is not None:
            validation.time_s("access_time_s", access_time_s)
        digest = digests.keyed_digest("reinforce", id_, repr((importance, access_time_s)).encode())
        command = ReinforceCommand(
            space, caller.principal, id_, key=idempotency_key, key_digest=digest, importance=importance,
            access_time_s=access_time_s,
        )  # fmt: skip
        return await self._change(command)

    async def purge(self, caller: Caller, namespace: str, id_: str) -> PurgeResult:
        """Erase content for good."""
        space = self._changed(namespace, id_, "", None)
        result: PurgeResult = await self._writer.put(PurgeCommand(space, caller.principal, id_))
        self._meters.outcomes["PURGED"] += 1
        return result

    def _changed(self, namespace: str, id_: str, key: str, expected: int | None) -> Space:
        space = self._spaces.get(namespace)
        validation.memory_id(id_, self._limits)
        if key:
            validation.bounded("idempotency_key", key, self._limits.id_bytes)
        if expected is not None:
            validation.seq("the expected version or seq", expected)
        return space

    async def _change(self, command: DeleteCommand | UndoCommand | ReinforceCommand) -> WriteResult:
        started = self._meters.now()
        result: WriteResult = await self._writer.put(command)
        self._meters.store_s.add(self._meters.now() - started)
        self._meters.outcomes[result.outcome.value] += 1
        return result

    async def _prepare(self, memories: Sequence[MemoryInput], space: Space) -> Prepared:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._preparing.prepare, memories, space.namespace)

    async def _submit(
        self, caller: Caller, space: Space, prepared: Prepared, first_index: int, *, size_bytes: int = 0,
        patient: bool = False,
    ) -> list[ItemResult]:  # fmt: skip
        command = StoreCommand(space, caller.principal, prepared.items, prepared.vectors, first_index, size_bytes)
        return await self._commit(command, patient=patient)

    async def _commit(self, command: StoreCommand, *, patient: bool = False) -> list[ItemResult]:
        started = self._meters.now()
        if patient:
            await self._writer.room(command)
        results: list[ItemResult] = await self._writer.put(command)
        self._meters.store_s.add(self._meters.now() - started)
        outcomes = self._meters.outcomes
        for item in results:
            outcomes[item.result.outcome.value] += 1
        return results
