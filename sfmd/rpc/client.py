"""The blocking client of the daemon. It needs grpcio and protobuf, neither numpy nor the daemon.

    from sfmd.rpc.client import Client

    with Client() as memory:                       # profile or SFM_ADDRESS, SFM_CA_FILE, SFM_TOKEN_FILE
        memory.create_namespace("notes", embedder="hash-v1")
        memory.store("notes", "The build is green since Tuesday.", importance=3.0, idempotency_key="note-1")
        for hit in memory.recall("notes", "is the build green?", k=3).hits:
            print(f"{hit.score:.3f}  {hit.payload.decode()}")

Every call has a deadline; every failure is a `CallFailed` with a stable code and what to type next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import grpc

from sfmd.rpc import requests
from sfmd.rpc.connection import (
    BATCH_ITEMS,
    HEALTH_PATH,
    SERVICE_PATH,
    Access,
    Reopening,
    Retry,
    Timeouts,
    batches,
    channel_credentials,
    channel_options,
    cut,
)
from sfmd.rpc.failure import CallFailed, failure
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.health import check_request, status_of
from sfmd.rpc.profile import Profile, load_profile
from sfmd.rpc.requests import Unary, memory_input, recall_request

__all__ = ["CallFailed", "Client", "Profile", "Retry", "Timeouts", "load_profile", "memory_input", "pb",
           "recall_request", "requests"]  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")


def _bound(build: Callable[P, Unary[R]]) -> Callable[Concatenate[Client, P], R]:
    """A method that makes the request and calls it."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.call(build(*args, **kwargs))

    method.__name__, method.__doc__ = build.__name__, build.__doc__
    return method


class Client:
    """One connection to one daemon; safe to share between threads. Close it, or use it as a context manager."""

    def __init__(self, profile: Profile | None = None, *, timeouts: Timeouts | None = None,
                 retry: Retry | None = None) -> None:  # fmt: skip
        self.profile = profile or load_profile()
        self.timeouts = timeouts or Timeouts()
        self._retry = retry or Retry()
        self._channel = grpc.secure_channel(self.profile.address, channel_credentials(self.profile),
                                            options=channel_options(self.profile))  # fmt: skip
        self._access = Access(self.profile)
        self._methods: dict[str, Any] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight fail as cancelled."""
        self._access.close()
        self._channel.close()

    def within(self, seconds: float) -> Client:
        """The same connection with another deadline for unary calls."""
        other = copy(self)
        other.timeouts = replace(self.timeouts, call_s=seconds)
        return other

    create_namespace = _bound(requests.create_namespace)
    configure_namespace = _bound(requests.configure_namespace)
    list_namespaces = _bound(requests.list_namespaces)
    store = _bound(requests.store)
    store_input = _bound(requests.store_input)
    recall = _bound(requests.recall)
    recall_batch = _bound(requests.recall_batch)
    replay = _bound(requests.replay)
    get = _bound(requests.get)
    list_page = _bound(requests.list_page)
    delete = _bound(requests.delete)
    purge = _bound(requests.purge)
    undo = _bound(requests.undo)
    reinforce = _bound(requests.reinforce)
    stats = _bound(requests.stats)

    def call(self, request: Unary[R]) -> R:
        """Make one call, retried while that is safe and there is time. Raises CallFailed."""
        end_s = time.monotonic() + self.timeouts.call_s
        send = self._method("unary_unary", request.method, request.reply)
        attempt = 0
        while True:
            attempt += 1
            try:
                reply: R = send(request.request, timeout=max(0.001, end_s - time.monotonic()),
                                metadata=self._access.metadata())  # fmt: skip
            except grpc.RpcError as error:
                failed = failure(error)
                pause = self._retry.pause_s(attempt, failed, end_s - time.monotonic()) if request.retry else None
                if pause is None:
                    raise failed from error
                time.sleep(pause)
            else:
                return reply

    def health(self) -> str:
        """SERVING, NOT_SERVING or SERVICE_UNKNOWN. Needs no token. Raises CallFailed when nobody answers."""
        self._access.check()
        check = self._channel.unary_unary(HEALTH_PATH, None, None)
        try:
            return status_of(check(check_request(), timeout=self.timeouts.call_s))
        except grpc.RpcError as error:
            raise failure(error) from error

    def store_many(self, namespace: str, items: Iterable[pb.MemoryInput], *,
                   batch_items: int = BATCH_ITEMS) -> Iterator[pb.ItemOutcome]:  # fmt: skip
        """Store any number; yields one outcome per item in order, each batch once it is on disk."""
        first = 0
        for batch in batches(items, batch_items):
            reply = self._upload("StoreBatch", cut(namespace, batch, pb.StoreBatchRequest), pb.StoreBatchReply)
            for outcome in reply.items:
                outcome.index += first
                yield outcome
            first += len(reply.items)

    def import_many(self, namespace: str, items: Iterable[pb.MemoryInput]) -> pb.ImportReply:
        """Store any number in one stream and return the counts and the first errors."""
        return self._upload("Import", cut(namespace, items, pb.ImportRequest), pb.ImportReply)

    def list(self, namespace: str, **fields: Any) -> Iterator[pb.Memory]:
        """Every memory in byte order of the id, page by page; the fields are those of `list_page`."""
        while True:
            page = self.call(requests.list_page(namespace, **fields))
            yield from page.memories
            if not page.next_page_token:
                return
            fields["page_token"] = page.next_page_token

    def export(self, namespace: str, *, as_of_seq: int | None = None, include_vectors: bool = False,
               filter: pb.Filter | None = None) -> Iterator[pb.ExportReply]:  # fmt: skip
        """The head, then every live memory as of one seq, a list in each message."""
        request = requests.export_request(
            namespace, as_of_seq=as_of_seq, include_vectors=include_vectors, filter=filter
        )
        yield from self._download("Export", request, pb.ExportReply, self.timeouts.stream_s)

    def watch(self, namespace: str, from_seq: int = 0, *, to_seq: int | None = None,
              include_payload: bool = False) -> Iterator[pb.Change]:  # fmt: skip
        """Changes from `from_seq` on, for ever or until `to_seq`; picks up where it was after a broken connection.

        Once open, it is opened again for `timeouts.watch_lost_s`, as long as a daemon may take to restart.
        """
        legs = Reopening(self._retry, self.timeouts.watch_lost_s)
        while to_seq is None or from_seq <= to_seq:
            request = requests.watch_request(namespace, from_seq, to_seq=to_seq, include_payload=include_payload)
            legs.begin(time.monotonic())
            try:
                for change in self._download("Watch", request, pb.Change, self.timeouts.watch_leg_s):
                    legs.heard()
                    yield change
                    from_seq = change.seq + 1
                return
            except CallFailed as failed:
                if failed.status == "DEADLINE_EXCEEDED":
                    legs.heard()
                    continue
                pause = legs.pause_s(failed, time.monotonic())
                if pause is None:
                    raise
                time.sleep(pause)

    def _method(self, shape: str, name: str, reply: type[Any]) -> Any:
        """The channel's callable for a method, made once."""
        made = self._methods.get(name)
        if made is None:
            made = self._methods[name] = getattr(self._channel, shape)(
                SERVICE_PATH + name, request_serializer=_serialise, response_deserializer=reply.FromString
            )
        return made

    def _upload(self, name: str, messages: Iterator[Any], reply: type[R]) -> R:
        broken: list[Exception] = []

        def guarded() -> Iterator[Any]:
            """gRPC swallows what the caller's own iterator raises; keep it, so that it can be raised here."""
            try:
                yield from messages
            except Exception as error:
                broken.append(error)
                raise

        try:
            out: R = self._method("stream_unary", name, reply)(
                guarded(), timeout=self.timeouts.stream_s, metadata=self._access.metadata()
            )
        except grpc.RpcError as error:
            raise (broken[0] if broken else failure(error)) from error
        return out

    def _download(self, name: str, request: Any, reply: type[R], timeout_s: float) -> Iterator[R]:
        call = self._method("unary_stream", name, reply)(request, timeout=timeout_s, metadata=self._access.metadata())
        try:
            yield from call
        except grpc.RpcError as error:
            raise failure(error) from error
        finally:
            call.cancel()


def _serialise(message: Any) -> bytes:
    return message.SerializeToString()  # type: ignore[no-any-return]
