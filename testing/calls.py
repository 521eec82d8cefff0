"""One valid request per RPC, and a way to send any bytes to any method: for tests that must cover them all."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from sfmd.rpc.connection import SERVICE_PATH, channel_credentials, channel_options
from sfmd.rpc.failure import LOST_STATUS, CallFailed, failure
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.profile import Profile

METHODS = {m.name: m for m in pb.DESCRIPTOR.services_by_name["MemoryService"].methods}

DIM = 8
ONE = struct.pack(f"<{DIM}f", 1.0, *([0.0] * (DIM - 1)))


def _memory() -> pb.MemoryInput:
    return pb.MemoryInput(id="one", payload=b"{}", vector=pb.Vector(f32_le=ONE))


def _recall(ns: str) -> pb.RecallRequest:
    return pb.RecallRequest(namespace=ns, vector=pb.Vector(f32_le=ONE), k=3)


REQUESTS: dict[str, Callable[[str], Any]] = {
    "CreateNamespace": lambda ns: pb.CreateNamespaceRequest(name=ns, dim=DIM),
    "ConfigureNamespace": lambda ns: pb.ConfigureNamespaceRequest(name=ns, alpha=1.0),
    "ListNamespaces": lambda _: pb.ListNamespacesRequest(),
    "Store": lambda ns: pb.StoreRequest(namespace=ns, memory=_memory()),
    "StoreBatch": lambda ns: pb.StoreBatchRequest(namespace=ns, memories=[_memory()]),
    "Recall": _recall,
    "RecallBatch": lambda ns: pb.RecallBatchRequest(requests=[_recall(ns)]),
    "Get": lambda ns: pb.GetRequest(namespace=ns, id="one"),
    "List": lambda ns: pb.ListRequest(namespace=ns),
    "Delete": lambda ns: pb.DeleteRequest(namespace=ns, id="one"),
    "Purge": lambda ns: pb.PurgeRequest(namespace=ns, id="one"),
    "Undo": lambda ns: pb.UndoRequest(namespace=ns, id="one"),
    "Reinforce": lambda ns: pb.ReinforceRequest(namespace=ns, id="one"),
    "Replay": lambda ns: pb.ReplayRequest(request=_recall(ns), receipt=pb.Receipt(namespace=ns, seq=1)),
    "Stats": lambda ns: pb.StatsRequest(namespace=ns),
    "Export": lambda ns: pb.ExportRequest(namespace=ns),
    "Import": lambda ns: pb.ImportRequest(namespace=ns, memories=[_memory()]),
    "Watch": lambda ns: pb.WatchRequest(namespace=ns, from_seq=1, to_seq=1),
}


class RawChannel:
    """A TLS channel that sends bytes as they are, whatever the method makes of them."""

    def __init__(self, profile: Profile, token: str | None = None) -> None:
        """`token`: None takes the profile's, "" sends none."""
        self._channel = grpc.aio.secure_channel(
            profile.address, channel_credentials(profile), options=channel_options(profile)
        )
        self._token = profile.token({}) if token is None else token

    async def __aenter__(self) -> RawChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close(None)

    async def send(self, method: str, messages: Sequence[bytes], *, timeout_s: float = 20.0,
                   metadata: tuple[tuple[str, str], ...] = ()) -> list[bytes]:  # fmt: skip
        """Send every message and return every reply. Raises CallFailed."""
        proof = (("authorization", f"Bearer {self._token}"),) if self._token else ()
        path = method if method.startswith("/") else SERVICE_PATH + method
        while True:
            call: Any = self._channel.stream_stream(path, None, None)(
                iter(list(messages)), timeout=timeout_s, metadata=(*proof, *metadata)
            )
            try:
                return [reply async for reply in call]
            except grpc.RpcError as error:
                failed: Any = error
                if failed.details() != LOST_STATUS:  # else it was refused before it was written: ask again
                    raise failure(error) from error

    async def outcome(self, method: str, messages: Sequence[bytes], **how: Any) -> CallFailed | list[bytes]:
        """`send`, with the failure as a value."""
        try:
            return await self.send(method, messages, **how)
        except CallFailed as failed:
            return failed
