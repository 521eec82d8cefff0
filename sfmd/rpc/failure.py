"""What a client raises: every failed call as one typed error with a stable code and what to type next.

The daemon's own refusals carry their code; what never reached the daemon, or came from gRPC itself, is given the code
that fits, so that a caller never has to read gRPC's words.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import grpc

from sfmd.errors import CATALOGUE, Code, E
from sfmd.rpc.status import CODE, NEXT, REQUEST_ID, RETRY_AFTER_MS

LOST_STATUS = "Internal error from Core"
"""What grpc.aio says instead of the status when the daemon closes a stream during a write."""

_UNRESOLVED = ("errors resolving", "lookup failed", "name resolution", "dns resolution")
"""Words for a host name that nobody knows. The name itself stands beside them, so they are looked for first."""

_CUT_SHORT = ("handshake read failed", "connection reset", "connection refused")
"""Words for a connection that ended during the handshake: a daemon that restarts, not a certificate."""

_HUNG_UP = ("socket closed", "connection reset", "broken pipe")
"""Words for a connection that the daemon ended: it stops, or it wants a certificate that was not shown."""

_UNTRUSTED = ("certificate", "handshake", "ssl", "tsi_protocol", "peer name", "hostname verification")

_FALLBACK: dict[grpc.StatusCode, Code] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: E.DEADLINE,
    grpc.StatusCode.CANCELLED: E.CANCELLED,
    grpc.StatusCode.UNAUTHENTICATED: E.NO_TOKEN,
    grpc.StatusCode.PERMISSION_DENIED: E.DENIED,
    grpc.StatusCode.UNIMPLEMENTED: E.MALFORMED,
    grpc.StatusCode.INVALID_ARGUMENT: E.MALFORMED,
    grpc.StatusCode.DATA_LOSS: E.CORRUPT,
}


class CallFailed(Exception):
    """A call that did not succeed. `code`, `message`, `next_step` and `request_id` are for people to read."""

    def __init__(self, code: Code, message: str, *, status: str = "", next_step: str = "", request_id: str = "",
                 retry_after_s: float | None = None) -> None:  # fmt: skip
        super().__init__(f"{message} [{code.code}]")
        self.code = code.code
        self.message = message
        self.status = status or code.status.name
        self.next_step = next_step or code.next_step
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed a moment later."""
        return self.status in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED") and self.code not in (
            E.UNTRUSTED.code, E.TOO_LARGE.code)  # fmt: skip


def failure(error: grpc.RpcError) -> CallFailed:
    """The typed error of a gRPC error."""
    call: Any = error
    status, words = call.code(), call.details() or ""
    sent = {k: v for k, v in (call.trailing_metadata() or ()) if isinstance(v, str)}
    waits = sent.get(RETRY_AFTER_MS, "")
    code = CATALOGUE.get(sent.get(CODE, "")) or _guess(status, words)
    return CallFailed(code, words if CODE in sent else _told(code, words), status=status.name,
                      next_step=unquote(sent.get(NEXT, "")) or _todo(code, words), request_id=sent.get(REQUEST_ID, ""),
                      retry_after_s=int(waits) / 1000 if waits.isdigit() else None)  # fmt: skip


def _told(code: Code, words: str) -> str:
    return f"{code.title}: {' '.join(words.split())[:300]}" if words else code.title


def _todo(code: Code, words: str) -> str:
    """What to type next where gRPC's words say more than the code; empty for the code's own step."""
    low = words.lower()
    if code is E.NOT_REACHED and any(mark in low for mark in _UNRESOLVED):
        return "correct the host's name: sfmctl memory connection shows where the address is from"
    if code is E.NOT_REACHED and any(mark in low for mark in _HUNG_UP):
        return "sfmctl daemon start; if it wants client certificates, name one: SFM_CERT_FILE=FILE SFM_KEY_FILE=FILE"
    if code is E.UNTRUSTED and ("hostname verification" in low or "peer name" in low):
        return "give --server-name NAME, a name in the certificate, or check that you reach the right daemon"
    return ""


def _guess(status: grpc.StatusCode, words: str) -> Code:
    """The code for a status that came without one."""
    low = words.lower()
    if status is grpc.StatusCode.UNAVAILABLE:
        no_certificate = any(mark in low for mark in _UNRESOLVED + _CUT_SHORT)
        return E.UNTRUSTED if not no_certificate and any(mark in low for mark in _UNTRUSTED) else E.NOT_REACHED
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return E.TOO_LARGE if "larger than max" in low or "metadata size" in low else E.BUSY
    return _FALLBACK.get(status, E.BUG)
