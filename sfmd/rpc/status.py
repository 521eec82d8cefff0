"""The one map from the daemon's errors to gRPC: status, message and trailing metadata, and back for the client.

Trailing metadata of every refusal: `sfm-code` (stable), `sfm-next` (what to type, percent-encoded where it is not
ASCII), `retry-after-ms` (when waiting helps), `x-request-id`. Whatever is no `Refused` becomes INTERNAL with
SFM-MEM-030 and stands whole in the log, never in the reply.
"""

from __future__ import annotations

from urllib.parse import quote

import grpc

from sfmd.errors import Refused, Status

CODE = "sfm-code"
NEXT = "sfm-next"
RETRY_AFTER_MS = "retry-after-ms"
REQUEST_ID = "x-request-id"

GRPC_STATUS: dict[Status, grpc.StatusCode] = {status: grpc.StatusCode[status.name] for status in Status}

_PRINTABLE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) != "%")
_MESSAGE_LIMIT = 1024


def trailing(refused: Refused, request_id: str) -> tuple[tuple[str, str], ...]:
    """The trailing metadata of a refusal."""
    pairs = [
        (CODE, refused.code.code),
        (NEXT, quote(refused.next_step, safe=_PRINTABLE)),
        (REQUEST_ID, request_id),
    ]
    if refused.retry_after_s is not None:
        pairs.append((RETRY_AFTER_MS, str(max(1, round(refused.retry_after_s * 1000)))))
    return tuple(pairs)


def message(refused: Refused) -> str:
    """The status message: one line, bounded, and free of lone surrogates that the wire could not carry."""
    line = " ".join(refused.message.split())[:_MESSAGE_LIMIT]
    return line.encode("utf-8", "replace").decode()
