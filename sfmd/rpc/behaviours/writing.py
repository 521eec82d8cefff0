"""What changes memories: Store, StoreBatch, Import, Delete, Purge, Undo, Reinforce."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from sfmd.contract import Batch
from sfmd.errors import E, Refused
from sfmd.rpc import convert
from sfmd.rpc.call import Call
from sfmd.rpc.gen import memory_pb2 as pb

if TYPE_CHECKING:
    from sfmd.service import MemoryService


class Writing:
    """One method per RPC, named as it is."""

    def __init__(self, service: MemoryService) -> None:
        self._service = service

    async def Store(self, call: Call, r: Any) -> pb.StoreReply:
        if not r.HasField("memory"):
            raise Refused(E.INVALID, "the request has no memory")
        return convert.store_reply(await self._service.store(call.caller, r.namespace, convert.memory_input(r.memory)))

    async def StoreBatch(self, call: Call, requests: AsyncIterator[tuple[Any, int]]) -> pb.StoreBatchReply:
        namespace, batches = await _opened(requests)
        async with aclosing(batches):
            results = await self._service.store_stream(call.caller, namespace, batches)
        reply = pb.StoreBatchReply()
        convert.add_outcomes(reply.items, results)
        return reply

    async def Import(self, call: Call, requests: AsyncIterator[tuple[Any, int]]) -> pb.ImportReply:
        namespace, batches = await _opened(requests)
        async with aclosing(batches):
            s = await self._service.import_(call.caller, namespace, batches)
        reply = pb.ImportReply(received=s.received, created=s.created, updated=s.updated, duplicate=s.duplicate,
                               conflict=s.conflict, rejected=s.rejected, last_seq=s.last_seq)  # fmt: skip
        convert.add_outcomes(reply.first_errors, s.first_errors)
        return reply

    async def Delete(self, call: Call, r: Any) -> pb.ChangeReply:
        done = await self._service.delete(call.caller, r.namespace, r.id, idempotency_key=r.idempotency_key,
                                          expected_version=convert.optional(r, "expected_version"))  # fmt: skip
        return convert.change_reply(done)

    async def Purge(self, call: Call, r: Any) -> pb.PurgeReply:
        done = await self._service.purge(call.caller, r.namespace, r.id)
        return pb.PurgeReply(id=done.id, seq=done.seq, versions_erased=done.versions_erased)

    async def Undo(self, call: Call, r: Any) -> pb.ChangeReply:
        expected = convert.optional_seq(r, "expected_seq")
        return convert.change_reply(await self._service.undo(call.caller, r.namespace, r.id, expected_seq=expected))

    async def Reinforce(self, call: Call, r: Any) -> pb.ChangeReply:
        done = await self._service.reinforce(call.caller, r.namespace, r.id, idempotency_key=r.idempotency_key,
                                             importance=convert.optional(r, "importance"),
                                             access_time_s=convert.optional(r, "access_time_s"))  # fmt: skip
        return convert.change_reply(done)


async def _opened(requests: AsyncIterator[tuple[Any, int]]) -> tuple[str, AsyncGenerator[Batch, None]]:
    """The namespace that the first message names, and the memories of every message, converted as they come.

    Raises Refused(INVALID) for a stream that ends before its first message.
    """
    try:
        first, first_bytes = await anext(requests)
    except StopAsyncIteration:
        raise Refused(E.INVALID, "the stream ended before its first message, which names the namespace") from None

    async def batches() -> AsyncGenerator[Batch, None]:
        yield Batch(convert.memory_inputs(first), first_bytes)
        async for request, size_bytes in requests:
            yield Batch(convert.memory_inputs(request), size_bytes)

    return first.namespace, batches()
