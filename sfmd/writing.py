"""The writing use cases up to the queue: validate, digest, embed and normalise, many memories at a time.

A batch is judged item by item and normalised as one matrix; a bad item becomes its own outcome and costs the others
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from sfmd import digests, validation
from sfmd.commands import DeleteCommand, Item, PurgeCommand, ReinforceCommand, StoreCommand, UndoCommand
from sfmd.contract import Caller, ImportSummary, ItemResult, Limits, PurgeResult
from sfmd.core import vectors
from sfmd.core.model import F32
from sfmd.domain import Embedder, MemoryInput, Namespace, Outcome, WriteResult
from sfmd.errors import CATALOGUE, Code, E, Refused
from sfmd.measure import Meters
from sfmd.spaces import Space, Spaces
from sfmd.writer import Writer

FIRST_ERRORS = 100
CHUNKS_IN_FLIGHT = 2


class Embedders:
    """The embedders that this daemon has, by fingerprint."""

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        self._by_fingerprint: Mapping[str, Embedder] = {e.fingerprint: e for e in embedders}

    def named(self, name: str) -> Embedder:
        """The embedder of a name ("hash-v1") or fingerprint ("hash-v1/1024"). Refused(INVALID)."""
        for fingerprint, embedder in self._by_fingerprint.items():
            if name in (fingerprint, fingerprint.split("/")[0]):
                return embedder
        known = ", ".join(f.split("/")[0] for f in self._by_fingerprint) or "none"
        raise Refused(E.INVALID, f"this daemon has no embedder of that name; it has: {known}")

    def of(self, namespace: Namespace) -> Embedder:
        """The embedder that a namespace was made with. Refused: NO_EMBEDDER, FINGERPRINT."""
        if not namespace.embedder:
            raise Refused(E.NO_EMBEDDER, f"namespace {namespace.name!r} takes vectors only")
        found = self._by_fingerprint.get(namespace.embedder)
        if found is None:
            raise Refused(
                E.FINGERPRINT,
                f"namespace {namespace.name!r} was made by {namespace.embedder!r}, which this daemon does not have",
            )
        return found


@dataclass(frozen=True, slots=True)
class Prepared:
    """Items in order, and the unit vectors float32[N, D] of those that were not rejected."""

    items: list[Item]
    vectors: F32


def prepare(memories: Sequence[MemoryInput], namespace: Namespace, embedders: Embedders, limits: Limits) -> Prepared:
    """Judge, digest and normalise. A rejected item keeps its refusal; nothing is raised for it."""
    classes = {h.name: number for number, h in enumerate(namespace.half_lives)}
    classes[""] = classes[namespace.default_half_life]
    items: list[Item] = []
    good: list[Item] = []
    raw: list[bytes] = []
    texts: list[tuple[int, str]] = []
    size = 4 * namespace.dim
    for memory in memories:
        item = Item()
        item.id, item.key, item.error, item.place = memory.id, "", None, -1
        items.append(item)
        try:
            validation.memory_fields(memory, limits)
            fill(item, memory, classes, namespace, limits)
            if memory.vector is None:
                embedders.of(namespace)
                texts.append((len(raw), memory.text or ""))
                raw.append(b"")
            elif len(memory.vector) != size:
                raise Refused(E.DIMENSION, dimension_words(len(memory.vector), namespace))
            else:
                raw.append(memory.vector)
            good.append(item)
        except Refused as refused:
            item.error, item.key = refused, ""
            item.id = item.id[:256] if item.id.isprintable() else ""
    if texts:
        embedded = embedders.of(namespace).embed([text for _, text in texts])
        for number, (place, _) in enumerate(texts):
            raw[place] = embedded[number * size : (number + 1) * size]
    return Prepared(items, _normalised(good, raw, namespace.dim, frozenset(place for place, _ in texts)))


def fill(item: Item, memory: MemoryInput, classes: Mapping[str, int], namespace: Namespace, limits: Limits) -> None:
    """Copy a judged memory into an item, with its digests."""
    half_life = classes.get(memory.half_life_class)
    if half_life is None:
        raise Refused(E.INVALID, f"half_life_class {memory.half_life_class[:64]!r} is none of the namespace's")
    item.kind, item.payload, item.content_type = memory.kind, memory.payload, memory.content_type
    item.half_life = half_life
    item.features = validation.features(memory.features, namespace.channels) if memory.features else ()
    item.metadata = validation.metadata(memory.metadata_json, limits)
    item.metadata_json = memory.metadata_json if item.metadata else "{}"
    item.importance, item.event_time_s = memory.importance, memory.event_time_s
    item.expected_version, item.key = memory.expected_version, memory.idempotency_key
    item.digest = sha256(memory.payload).digest()
    item.request_digest = digests.content_digest(memory, item.digest)
    item.key_digest = digests.keyed_digest("store", memory.id, item.request_digest) if item.key else b""


def bad_vector(status: int, *, texts: bool) -> Code:
    """Why a vector cannot be normalised. A text without a word embeds to zeros."""
    if status == vectors.NOT_FINITE:
        return E.NOT_FINITE
    return E.EMPTY_TEXT if texts else E.ZERO_VECTOR


def _normalised(good: list[Item], raw: list[bytes], dim: int, texts: frozenset[int]) -> F32:
    """Unit vectors of the good items; those that have none are rejected here and lose their place."""
    matrix, status = vectors.normalise(b"".join(raw), dim)
    if status.any():
        keep = np.flatnonzero(status == vectors.OK)
        for number in np.flatnonzero(status):
            bad = good[number]
            bad.error, bad.key = Refused(bad_vector(int(status[number]), texts=number in texts)), ""
        good = [good[number] for number in keep]
        matrix = matrix[keep]
    for place, item in enumerate(good):
        item.place = place
    return matrix


def dimension_words(size: int, namespace: Namespace) -> str:
    """Why a vector's bytes do not fit."""
    have = f"{size // 4} components" if size % 4 == 0 else f"{size} bytes, which is no number of float32 components"
    return f"the vector has {have}; namespace {namespace.name!r} takes {namespace.dim}"


class Writing:
    """Store, delete, undo, reinforce, purge and import."""

    def __init__(
        self, spaces: Spaces, writer: Writer, embedders: Embedders, limits: Limits, pool: Executor, meters: Meters
    ) -> None:
        self._spaces, self._writer, self._embedders = spaces, writer, embedders
        self._limits, self._pool, self._meters = limits, pool, meters

    async def store(self, caller: Caller, namespace: str, memory: MemoryInput) -> WriteResult:
        """One memory; its refusal is raised."""
        space = self._spaces.get(namespace)
        prepared = await self._prepare([memory], space, inline=memory.text is None)
        error = prepared.items[0].error
        if error is not None:
            self._meters.outcomes[Outcome.REJECTED.value] += 1
            raise error
        results = await self._submit(caller, space, prepared, 0)
        failed = results[0].error
        if failed is not None:
            raise Refused(CATALOGUE[failed.code], failed.message)
        return results[0].result

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
            prepared = await self._prepare(memories[start : start + step], space, inline=False)
            results += await self._submit(caller, space, prepared, first_index + start)
        return results

    async def store_listed(
        self, caller: Caller, namespace: str, batches: AsyncIterator[Sequence[MemoryInput]]
    ) -> list[ItemResult]:
        """A stream of up to `limits.batch_items`, every outcome listed."""
        results: list[ItemResult] = []
        await self.store_stream(caller, namespace, batches, results.extend, self._limits.batch_items)
        return results

    async def store_stream(
        self,
        caller: Caller,
        namespace: str,
        batches: AsyncIterator[Sequence[MemoryInput]],
        seen: Callable[[list[ItemResult]], None],
        limit: int | None,
    ) -> None:
        """Take batches as they come, a few chunks in flight, and hand over results in order.

        Memory stays bounded: nothing more is read from the stream while chunks wait for the disk.
        """
        space = self._spaces.get(namespace)
        flying: list[asyncio.Task[list[ItemResult]]] = []
        chunk: list[MemoryInput] = []
        taken = 0

        async def flush() -> None:
            nonlocal chunk
            while len(flying) >= CHUNKS_IN_FLIGHT:
                seen(await flying.pop(0))
            prepared = await self._prepare(chunk, space, inline=False)
            flying.append(asyncio.create_task(self._submit(caller, space, prepared, taken - len(chunk), patient=True)))
            chunk = []

        try:
            async for batch in batches:
                if limit is not None and taken + len(batch) > limit:
                    raise Refused(E.TOO_LARGE, f"more than {limit} items; see SOMA_LIMITS__BATCH_ITEMS")
                for start in range(0, len(batch), self._limits.chunk_items):
                    part = batch[start : start + self._limits.chunk_items]
                    if len(chunk) + len(part) > self._limits.chunk_items:
                        await flush()
                    chunk += part
                    taken += len(part)
            if chunk:
                await flush()
            while flying:
                seen(await flying.pop(0))
        finally:
            # What was handed to the writer is being committed whatever happens to the stream; see its end.
            await asyncio.gather(*flying, return_exceptions=True)

    async def import_(
        self, caller: Caller, namespace: str, batches: AsyncIterator[Sequence[MemoryInput]]
    ) -> ImportSummary:
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
        result: PurgeResult = await self._writer.submit(PurgeCommand(space, caller.principal, id_))
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
        result: WriteResult = await self._writer.submit(command)
        self._meters.store_s.add(self._meters.now() - started)
        self._meters.outcomes[result.outcome.value] += 1
        return result

    async def _prepare(self, memories: Sequence[MemoryInput], space: Space, *, inline: bool) -> Prepared:
        """On the loop for a single vector, which costs less than a hop to a thread; else in the pool."""
        if inline:
            return prepare(memories, space.namespace, self._embedders, self._limits)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, prepare, memories, space.namespace, self._embedders, self._limits)

    async def _submit(
        self, caller: Caller, space: Space, prepared: Prepared, first_index: int, *, patient: bool = False
    ) -> list[ItemResult]:
        started = self._meters.now()
        command = StoreCommand(space, caller.principal, prepared.items, prepared.vectors, first_index)
        results: list[ItemResult] = await self._writer.submit(command, patient=patient)
        self._meters.store_s.add(self._meters.now() - started)
        for item in results:
            self._meters.outcomes[item.result.outcome.value] += 1
        return results
