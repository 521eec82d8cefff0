"""Turns a behaviour per method into gRPC handlers: read, authorise, call, answer, and the one error boundary.

Requests arrive as raw bytes and are parsed here, so that a malformed one is INVALID_ARGUMENT (gRPC itself would say
UNKNOWN), and the reply is serialised here, so that its size is known. Handlers are made from the service descriptor:
a method without a rule or a behaviour stops the server from being built.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from sfmd.auth import Principal
from sfmd.errors import E, Refused
from sfmd.limits import CallLimits, InFlight, WaitingReplies
from sfmd.observe import Metrics
from sfmd.rpc.call import CALL, Call
from sfmd.rpc.drain import drain
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.patience import Patience
from sfmd.rpc.refusals import RefusalLog
from sfmd.rpc.rules import RULES, SERVICE, Rule
from sfmd.rpc.status import GRPC_STATUS, message, trailing

Behaviour = Callable[..., Any]
Context = grpc.aio.ServicerContext


class Endpoints:
    """All methods of the service descriptor as one generic handler."""

    def __init__(self, behaviours: Mapping[str, Behaviour], metrics: Metrics, limits: CallLimits, unary: InFlight,
                 streams: InFlight, refusals: RefusalLog) -> None:  # fmt: skip
        self._behaviours = behaviours
        self._metrics = metrics
        self._limits = limits
        self._unary = unary
        self._streams = streams
        self._refusals = refusals
        self._replies = WaitingReplies(limits.waiting_reply_bytes, limits.retry_after_s)
        self._read = Patience(limits.stream_idle_s).read

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The handler to register. Raises KeyError naming the method that lacks a rule or a behaviour."""
        methods = pb.DESCRIPTOR.services_by_name["MemoryService"].methods
        return grpc.method_handlers_generic_handler(SERVICE, {m.name: self._handler_of(m) for m in methods})

    def _handler_of(self, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
        behaviour, rule = self._behaviours[method.name], RULES[method.name]
        parse = _parser(GetMessageClass(method.input_type))
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(self._upload(behaviour, rule, parse))
        # Registered as streams of requests, of which one is read: gRPC would leave a call without any for ever open.
        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(self._download(behaviour, rule, parse))
        return grpc.stream_unary_rpc_method_handler(self._single(behaviour, rule, parse))

    def _single(self, behaviour: Behaviour, rule: Rule, parse: Callable[[bytes], Any]) -> Behaviour:
        async def single(_: Any, context: Context[Any, Any]) -> bytes:
            call = CALL.get()
            try:
                raw = await self._only(context)
                self._unary.enter()
                try:
                    request = parse(raw)
                    authorise(call.principal, rule.names(request))
                    reply = self._bounded(await behaviour(call, request))
                    self._replies.add(len(reply), context.add_done_callback)
                    self._done(call)
                    return reply
                finally:
                    self._unary.leave()
            except BaseException as error:
                await self._fail(call, context, error)
                raise

        return single

    def _upload(self, behaviour: Behaviour, rule: Rule, parse: Callable[[bytes], Any]) -> Behaviour:
        async def upload(_: Any, context: Context[Any, Any]) -> bytes:
            call = CALL.get()
            try:
                self._streams.enter()
                try:
                    async with aclosing(self._messages(context, call, rule, parse)) as requests:
                        reply = self._bounded(await behaviour(call, requests))
                    self._done(call)
                    return reply
                finally:
                    self._streams.leave()
            except BaseException as error:
                if isinstance(error, Refused):
                    await drain(context)
                await self._fail(call, context, error)
                raise

        return upload

    def _download(self, behaviour: Behaviour, rule: Rule, parse: Callable[[bytes], Any]) -> Behaviour:
        async def download(_: Any, context: Context[Any, Any]) -> AsyncGenerator[bytes, None]:
            call = CALL.get()
            try:
                raw = await self._only(context)
                self._streams.enter()
                try:
                    request = parse(raw)
                    authorise(call.principal, rule.names(request))
                    async with aclosing(behaviour(call, request)) as replies:
                        async for reply in replies:
                            yield self._bounded(reply)
                finally:
                    self._streams.leave()
                self._done(call)
            except BaseException as error:
                await self._fail(call, context, error)
                raise

        return download

    async def _only(self, context: Context[Any, Any]) -> bytes:
        """The one request of a call. Raises Refused(MALFORMED) for a call without any."""
        raw = await self._read(context)
        if raw is None:
            raise Refused(E.MALFORMED, "the call ended without a request")
        return raw

    async def _messages(self, context: Context[Any, Any], call: Call, rule: Rule,
                        parse: Callable[[bytes], Any]) -> AsyncGenerator[tuple[Any, int], None]:  # fmt: skip
        """Messages of an upload, parsed, and their sizes in bytes. The first names the namespace; a later one may
        repeat it, never change it.
        """
        namespace: str | None = None
        while (raw := await self._read(context)) is not None:
            request = parse(raw)
            if namespace is None:
                authorise(call.principal, rule.names(request))
                namespace = request.namespace
            elif request.namespace not in ("", namespace):
                raise Refused(E.INVALID, "a stream writes to one namespace, the one its first message names")
            yield request, len(raw)

    def _bounded(self, reply: Any) -> bytes:
        out: bytes = reply.SerializeToString()
        if len(out) > self._limits.message_bytes:
            why = f"the reply would be {len(out)} bytes, over {self._limits.message_bytes}"
            raise Refused(E.TOO_LARGE, f"{why}: ask for fewer (k, page_size), set max_bytes, or leave payloads out")
        return out

    def _done(self, call: Call) -> None:
        self._metrics.request(call.method, "OK", time.perf_counter() - call.started_s)

    async def _fail(self, call: Call, context: Context[Any, Any], error: BaseException) -> None:
        """Count, log and answer. Returns only when `error` is one that gRPC itself must see (a cancelled task)."""
        known = {"method": call.method, "request_id": call.caller.request_id, "principal": call.caller.principal}
        spent_s = time.perf_counter() - call.started_s
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            late = ran_out(context.time_remaining(), spent_s)
            self._metrics.request(call.method, "DEADLINE_EXCEEDED" if late else "CANCELLED", spent_s)
            return
        bug = None if isinstance(error, Refused) else error
        if not isinstance(error, Refused):
            error = Refused(E.BUG, "a bug in the daemon; its log has the details under this request id")
        status = GRPC_STATUS[error.code.status]
        self._metrics.request(call.method, status.name, spent_s)
        self._refusals.say(error.code, bug=bug, status=status.name, why=message(error), **known)
        await context.abort(status, message(error), trailing(error, call.caller.request_id))


def ran_out(left_s: float | None, spent_s: float) -> bool:
    """Whether a call that was cancelled was out of time. The caller's clock may end it first: gRPC sends a deadline
    rounded up by as much as a hundredth, so a little may be left by ours. None: the call has no deadline.
    """
    return left_s is not None and left_s <= 0.01 * spent_s + 0.01


def authorise(principal: Principal, names: Any) -> None:
    """Raise Refused(DENIED) unless the principal's grant covers every name."""
    for name in names:
        if not principal.reaches(name):
            raise Refused(E.DENIED, f"principal {principal.name} may not reach namespace {name[:64]!r}")


def _parser(kind: type[Any]) -> Callable[[bytes], Any]:
    read = kind.FromString

    def parse(raw: bytes) -> Any:
        try:
            return read(raw)
        except DecodeError as error:
            raise Refused(E.MALFORMED, f"the bytes are no {kind.__name__}") from error

    return parse
