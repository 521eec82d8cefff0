"""What reads: Recall, RecallBatch, Replay, Get, List, Export, Watch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from sfmd import domain
from sfmd.contract import ExportHead, ItemError
from sfmd.errors import Refused
from sfmd.rpc import convert
from sfmd.rpc.call import Call
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.status import message

if TYPE_CHECKING:
    from sfmd.service import MemoryService

EXPORT_MESSAGE_BYTES = 1024 * 1024
"""An Export message is sent when it holds this much: big enough to be fast, small enough for any client's bound."""


class Reading:
    """One method per RPC, named as it is."""

    def __init__(self, service: MemoryService, message_bytes: int) -> None:
        """`message_bytes`: the most that the transport carries in one message."""
        self._service = service
        self._export_bytes = min(EXPORT_MESSAGE_BYTES, message_bytes // 2)

    async def Recall(self, call: Call, r: Any) -> pb.RecallReply:
        return convert.recall_reply(await self._service.recall(call.caller, convert.query(r)))

    async def RecallBatch(self, call: Call, r: Any) -> pb.RecallBatchReply:
        """Queries that cannot be read have their error in place; the others are asked in one go."""
        read = [_query_or_error(request) for request in r.requests]
        asked = [q for q in read if isinstance(q, domain.Query)]
        answers = iter(await self._service.recall_batch(call.caller, asked))
        items = [next(answers) if isinstance(q, domain.Query) else q for q in read]
        return pb.RecallBatchReply(items=[_batch_item(item) for item in items])

    async def Replay(self, call: Call, r: Any) -> pb.ReplayReply:
        done = await self._service.replay(call.caller, convert.receipt_in(r.receipt), convert.query(r.request))
        return pb.ReplayReply(reply=convert.recall_reply(done.result), identical=done.identical, engine=done.engine)

    async def Get(self, call: Call, r: Any) -> pb.Memory:
        found = await self._service.get(call.caller, r.namespace, r.id, include_deleted=r.include_deleted,
                                        as_of_seq=convert.optional_seq(r, "as_of_seq"),
                                        include_vector=r.include_vector)  # fmt: skip
        return convert.memory(found)

    async def List(self, call: Call, r: Any) -> pb.ListReply:
        page = await self._service.list_page(call.caller, r.namespace, page_size=r.page_size, page_token=r.page_token,
                                             filter_=convert.filter_of(r), include_deleted=r.include_deleted,
                                             omit_payload=r.omit_payload)  # fmt: skip
        return pb.ListReply(memories=[convert.memory(m) for m in page.memories], next_page_token=page.next_page_token)

    async def Export(self, call: Call, r: Any) -> AsyncGenerator[pb.ExportReply, None]:
        source = self._service.export(call.caller, r.namespace, as_of_seq=convert.optional_seq(r, "as_of_seq"),
                                      include_vectors=r.include_vectors, filter_=convert.filter_of(r))  # fmt: skip
        async with _closing(source) as parts:
            async for part in parts:
                if isinstance(part, ExportHead):
                    yield pb.ExportReply(namespace=convert.namespace_info(part.info), seq=part.seq, total=part.total)
                else:
                    for reply in _export_messages(part, self._export_bytes):
                        yield reply

    async def Watch(self, call: Call, r: Any) -> AsyncGenerator[pb.Change, None]:
        from_seq, to_seq = convert.seq(r.from_seq), convert.optional_seq(r, "to_seq")
        source = self._service.watch(call.caller, r.namespace, from_seq, to_seq=to_seq,
                                     include_payload=r.include_payload)  # fmt: skip
        async with _closing(source) as changes:
            async for c in changes:
                yield pb.Change(seq=c.seq, namespace=c.namespace, id=c.id, op=c.op, version=c.version, digest=c.digest,
                                at_s=c.at_s, principal=c.principal, payload=c.payload, event_id=c.event_id,
                                detail_json=c.detail_json)  # fmt: skip


def _closing(source: Any) -> Any:
    """Closes an async generator of the service when the call ends, however it ends."""
    return aclosing(source)


def _query_or_error(request: Any) -> domain.Query | ItemError:
    try:
        return convert.query(request)
    except Refused as refused:
        return ItemError(refused.code.code, message(refused), refused.code.status.name)


def _batch_item(item: domain.RecallResult | ItemError) -> pb.RecallBatchItem:
    if isinstance(item, ItemError):
        return pb.RecallBatchItem(error=convert.item_error(item))
    return pb.RecallBatchItem(reply=convert.recall_reply(item))


def _export_messages(memories: Sequence[domain.Memory], most: int) -> Iterator[pb.ExportReply]:
    """The memories in messages of about `most` bytes, whole memories only."""
    reply, held = pb.ExportReply(), 0
    for m in memories:
        size = len(m.payload) + len(m.vector) + len(m.metadata_json) + 256
        if held and held + size > most:
            yield reply
            reply, held = pb.ExportReply(), 0
        reply.memories.append(convert.memory(m))
        held += size
    if held:
        yield reply
