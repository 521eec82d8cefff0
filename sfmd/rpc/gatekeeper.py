"""The first interceptor: nobody passes without a rule, a token and a free place, unary and stream alike.

It runs before a request is read. A refused call is answered with trailing metadata only, so shedding and denying cost
little.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from sfmd.auth import TokenFile
from sfmd.contract import Caller
from sfmd.errors import E, Refused
from sfmd.limits import InFlight
from sfmd.observe import Metrics
from sfmd.rpc.call import CALL, Call
from sfmd.rpc.drain import MESSAGES, MESSAGES_OF_STRANGERS, drain
from sfmd.rpc.refusals import RefusalLog
from sfmd.rpc.rules import AUTHENTICATED, PUBLIC, RULES, SERVICE, STREAMING, UPLOADS
from sfmd.rpc.status import GRPC_STATUS, REQUEST_ID, message, trailing

if TYPE_CHECKING:
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
else:  # generic in its type stubs only
    _Interceptor = grpc.aio.ServerInterceptor

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_PREFIX = f"/{SERVICE}/"

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Gatekeeper(_Interceptor):
    """Token -> principal; method -> rule; both or denied."""

    def __init__(
        self, tokens: TokenFile, metrics: Metrics, unary: InFlight, streams: InFlight, refusals: RefusalLog
    ) -> None:  # fmt: skip
        self._tokens = tokens
        self._metrics = metrics
        self._unary = unary
        self._streams = streams
        self._refusals = refusals
        self._handlers: dict[str, Any] = {}
        """Handlers by path: they never change, so each is looked up once."""

    async def intercept_service(self, continuation: Continuation, handler_call_details: Any) -> Any:
        """Return the method's handler with CALL set, or one that refuses at once."""
        path, started_s = handler_call_details.method, time.perf_counter()
        if path in PUBLIC:
            return await continuation(handler_call_details)
        sent = dict(handler_call_details.invocation_metadata or ())
        request_id = _request_id(sent.get(REQUEST_ID))
        method = path.removeprefix(_PREFIX)
        try:
            principal = self._tokens.authenticate(sent.get("authorization"))
            rule = RULES.get(method)
            if rule is None and path not in AUTHENTICATED:
                raise Refused(E.DENIED, "no rule admits this method")
            if rule is not None and not principal.may(rule.verb):
                raise Refused(E.DENIED, f"principal {principal.name} lacks the verb {rule.verb}")
            handler = self._handlers.get(path)
            if handler is None:
                handler = await continuation(handler_call_details)
                if rule is not None:
                    self._handlers[path] = handler
            if rule is not None:
                (self._streams if method in STREAMING else self._unary).check()
        except Refused as refused:
            return self._refusal(method if method in RULES else "other", refused, request_id, started_s)
        CALL.set(Call(method, started_s, principal, Caller(principal.name, request_id)))
        return handler

    def _refusal(self, method: str, refused: Refused, request_id: str, started_s: float) -> Any:
        """A handler that answers with the refusal, whatever kind of call it is; only uploads are read, a little."""
        status = GRPC_STATUS[refused.code.status]

        async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            self._metrics.request(method, status.name, time.perf_counter() - started_s)
            self._refusals.say(refused.code, method=method, status=status.name, why=message(refused),
                               request_id=request_id, peer=context.peer())  # fmt: skip
            if method in UPLOADS:
                await drain(context, MESSAGES_OF_STRANGERS if refused.code is E.NO_TOKEN else MESSAGES)
            await context.abort(status, message(refused), trailing(refused, request_id))

        return grpc.stream_stream_rpc_method_handler(refuse)


def _request_id(sent: Any) -> str:
    """The caller's id when it is a sane one, or a new one."""
    return sent if isinstance(sent, str) and _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
