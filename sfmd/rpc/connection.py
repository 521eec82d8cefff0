"""What both clients share on the wire: credentials, channel options, metadata, retry, and how uploads are cut.

There is no plaintext channel. Reads are retried on transient failures with jittered backoff inside the caller's
deadline; a write is retried only when its idempotency key makes that safe.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import grpc

from sfmd.errors import E
from sfmd.rpc.failure import CallFailed
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.profile import Profile, read_optional
from sfmd.rpc.status import REQUEST_ID

SERVICE_PATH = "/soma.memory.v1.MemoryService/"
HEALTH_PATH = "/grpc.health.v1.Health/Check"
MESSAGE_BYTES = 64 * 2**20
"""What a client accepts in one message; the daemon's own bound is usually lower."""
UPLOAD_BYTES = 512 * 2**10
UPLOAD_ITEMS = 512
BATCH_ITEMS = 20_000
"""Memories of one StoreBatch call as the clients make them, well under the daemon's bound."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how long to wait: full jitter on a doubling bound, never less than the daemon asked for."""

    attempts: int = 4
    first_s: float = 0.05
    most_s: float = 2.0
    rng: random.Random = field(default_factory=random.Random)

    def pause_s(self, attempt: int, failed: CallFailed, left_s: float) -> float | None:
        """Seconds to wait after the attempt'th failure (from 1), or None to give up."""
        if not failed.transient or attempt >= self.attempts:
            return None
        pause = (failed.retry_after_s or 0.0) + self.rng.uniform(0, min(self.most_s, self.first_s * 2 ** (attempt - 1)))
        return pause if pause < left_s else None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines in seconds: a unary call with its retries; a whole upload or export; one leg of a watch."""

    call_s: float = 10.0
    stream_s: float = 3600.0
    watch_leg_s: float = 600.0


def channel_credentials(profile: Profile) -> grpc.ChannelCredentials:
    """TLS against the profile's CA (or the system's), with a client certificate when one is named."""
    if bool(profile.cert_file) != bool(profile.key_file):
        raise CallFailed(E.CONFIG, "cert_file and key_file go together: a client certificate needs both")
    return grpc.ssl_channel_credentials(read_optional(profile.ca_file), read_optional(profile.key_file),
                                        read_optional(profile.cert_file))  # fmt: skip


def channel_options(profile: Profile) -> list[tuple[str, Any]]:
    """No retries of gRPC's own (ours know what is safe), bounded reconnect backoff, dead peers found."""
    options: list[tuple[str, Any]] = [
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
    if profile.server_name:
        options.append(("grpc.ssl_target_name_override", profile.server_name))
    return options


def call_metadata(token: str) -> tuple[tuple[str, str], ...]:
    """The caller's proof and a fresh request id."""
    return (("authorization", f"Bearer {token}"), (REQUEST_ID, secrets.token_hex(8)))


def cut(namespace: str, items: Iterable[pb.MemoryInput], request: type[Any]) -> Iterator[Any]:
    """The upload messages for `items`: the first names the namespace; each within UPLOAD_ITEMS and UPLOAD_BYTES."""
    message, held, count = request(namespace=namespace), 0, 0
    for item in items:
        size = item.ByteSize()
        if count and (held + size > UPLOAD_BYTES or count >= UPLOAD_ITEMS):
            yield message
            message, held, count = request(), 0, 0
        message.memories.append(item)
        held, count = held + size, count + 1
    yield message


def batches(items: Iterable[pb.MemoryInput], size: int) -> Iterator[Iterator[pb.MemoryInput]]:
    """Runs of at most `size`. Each must be used up before the next is asked for."""
    source = iter(items)
    for first in source:
        yield chain((first,), islice(source, size - 1))
