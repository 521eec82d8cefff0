"""What both clients share on the wire: credentials, channel options, metadata, retry, and how uploads are cut.

There is no plaintext channel. Reads are retried on transient failures with jittered backoff inside the caller's
deadline; a write is retried only when its idempotency key makes that safe.
"""

from __future__ import annotations

import random
import secrets
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import grpc

from sfmd.errors import E
from sfmd.rpc.failure import CallFailed
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.profile import Profile, file_stamp, read_optional
from sfmd.rpc.requests import made
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
        bound = min(self.most_s, self.first_s * 2 ** min(attempt - 1, 32))
        pause = (failed.retry_after_s or 0.0) + self.rng.uniform(0, bound)
        return pause if pause < left_s else None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines in seconds: a unary call with its retries; a whole upload or export; one leg of a watch; how long a
    watch that was open tries to be open again.
    """

    call_s: float = 10.0
    stream_s: float = 3600.0
    watch_leg_s: float = 600.0
    watch_lost_s: float = 60.0


class Reopening:
    """How a watch outlives a daemon that restarts: once open, it is opened again for as long as its patience lasts. One
    that was never open fails like any other call.
    """

    STEADY_S = 1.0
    """A leg that lasted this long was open, though nothing changed."""

    def __init__(self, retry: Retry, lost_s: float) -> None:
        self._retry, self._patience_s = retry, lost_s
        self._was_open, self._failures, self._since_s, self._began_s = False, 0, 0.0, 0.0

    def begin(self, now_s: float) -> None:
        """A leg begins."""
        self._began_s = now_s

    def heard(self) -> None:
        """The leg is known to be open: a change came, or it lasted."""
        self._was_open, self._failures = True, 0

    def pause_s(self, failed: CallFailed, now_s: float) -> float | None:
        """Seconds to wait after the leg broke off, or None to give up."""
        if now_s - self._began_s >= self.STEADY_S:
            self.heard()
        if self._failures == 0:
            self._since_s = now_s
        self._failures += 1
        if not self._was_open:
            return self._retry.pause_s(self._failures, failed, self._patience_s)
        patient = replace(self._retry, attempts=self._failures + 1)
        return patient.pause_s(self._failures, failed, self._since_s + self._patience_s - now_s)


class Access:
    """What a call shows of its caller, as long as the client is open. The token is read again when its file has
    changed, so that a rotation needs no new client.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._token = ""
        self._stamp: tuple[int, ...] = ()
        self._closed = False

    def close(self) -> None:
        """From now on every call is refused."""
        self._closed = True

    def check(self) -> None:
        """Raises CallFailed(INVALID) once the client is closed."""
        if self._closed:
            raise CallFailed(E.INVALID, "this client is closed", next_step="make a new client")

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The caller's proof and a fresh request id."""
        self.check()
        stamp = file_stamp(self._profile.token_file)
        if not self._token or (stamp and stamp != self._stamp):
            try:
                self._token, self._stamp = self._profile.token(), stamp
            except CallFailed:
                if not self._token:  # else the file is being written: the next call looks again
                    raise
        return call_metadata(self._token)


def channel_credentials(profile: Profile) -> grpc.ChannelCredentials:
    """TLS against the profile's CA (or the system's), with a client certificate when one is named."""
    if bool(profile.cert_file) != bool(profile.key_file):
        raise CallFailed(E.CONFIG, "cert_file and key_file go together: a client certificate needs both")
    ca = read_optional(profile.ca_file)
    _usable(profile, ca)
    return grpc.ssl_channel_credentials(ca, read_optional(profile.key_file), read_optional(profile.cert_file))


def _usable(profile: Profile, ca: bytes | None) -> None:
    """CallFailed(CONFIG) for a file that is not what it should be: gRPC would write to stderr and fail at each call."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca is not None:
            context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise CallFailed(E.CONFIG, f"{profile.ca_file} holds no certificate in PEM form") from None
    try:
        if profile.cert_file:
            cert, key = (Path(file).expanduser() for file in (profile.cert_file, profile.key_file))
            context.load_cert_chain(cert, key, password=lambda: b"-")  # gRPC could not ask for one either
    except (ssl.SSLError, OSError, ValueError) as error:
        raise CallFailed(E.CONFIG, f"{profile.cert_file} and {profile.key_file} are no certificate and its key in PEM "
                         f"form: {getattr(error, 'reason', '') or error}") from None  # fmt: skip


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
    message, held, count = made(request, namespace=namespace), 0, 0
    for item in items:
        if not isinstance(item, pb.MemoryInput):
            raise CallFailed(E.INVALID, f"an upload takes what memory_input makes, not {type(item).__name__}")
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
