"""The two messages of grpc.health.v1 by hand: the clients then need no package beyond grpcio and protobuf.

HealthCheckRequest has one string (field 1), HealthCheckResponse one enum (field 1); the protocol is frozen.
"""

from __future__ import annotations

_NAMES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def check_request(service: str = "") -> bytes:
    """A HealthCheckRequest."""
    name = service.encode()
    return bytes((0x0A, len(name))) + name if name else b""


def status_of(reply: bytes) -> str:
    """The status in a HealthCheckResponse; an empty one is UNKNOWN, as proto3 says."""
    return _NAMES.get(reply[1], "UNKNOWN") if len(reply) >= 2 and reply[0] == 0x08 else "UNKNOWN"
