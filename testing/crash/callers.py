"""Writers over gRPC for crash tests: each thread keeps one operation in flight and notes what was acknowledged."""

from __future__ import annotations

import hashlib
import random
import struct
import threading

from sfmd.errors import E
from sfmd.rpc.client import CallFailed, Client, Profile, Retry, Timeouts, pb
from testing.crash.plan import Expected, Kind, Operation, live, operations

NAMESPACE, DIM = "crash", 64


def vector_of(payload: bytes) -> bytes:
    """A direction that belongs to this payload alone."""
    rng = random.Random(hashlib.sha256(payload).digest())
    return struct.pack(f"<{DIM}f", *(rng.gauss(0.0, 1.0) for _ in range(DIM)))


class Callers:
    """`writers` threads on one daemon, until it dies or `stop`. Everything heard goes into `expected`."""

    def __init__(self, client: Client, expected: Expected, prefix: str, writers: int) -> None:
        self._client, self._expected = client, expected
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._versions_sent: dict[str, int] = {}
        self._acks = threading.Semaphore(0)
        self.unexpected: list[str] = []
        """Failures other than the daemon being gone or down."""
        self.refusals: list[str] = []
        """Codes of the failures that ended the threads."""
        names = [f"{prefix}w{number}" for number in range(writers)]
        self._threads = [threading.Thread(target=self._write_on, args=(name,)) for name in names]
        for thread in self._threads:
            thread.start()

    def wait_for(self, acks: int) -> None:
        """Return once so many operations more were acknowledged. Raises TimeoutError."""
        for _ in range(acks):
            if not self._acks.acquire(timeout=60):
                raise TimeoutError(f"no acknowledgement in 60 s; {self.unexpected}")

    def join_when_refused(self) -> None:
        """Wait until every thread was refused."""
        for thread in self._threads:
            thread.join()

    def join(self) -> None:
        """Wait until every thread noticed that the daemon is gone, or finished its operation after `stop`."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _hear(self, line: str) -> None:
        with self._lock:
            self._expected.hear(line)

    def _write_on(self, writer: str) -> None:
        versions: dict[str, int] = {}
        for operation in operations(writer):
            if self._stop.is_set():
                return
            self._hear(f"begin {operation.line()}")
            try:
                versions[operation.id] = self._call(operation, versions)
            except CallFailed as failed:
                if failed.status not in ("UNAVAILABLE", "CANCELLED"):
                    self.unexpected.append(f"{operation.line()}: {failed}")
                self.refusals.append(failed.code)
                return
            self._hear(f"ack {writer} {operation.number}")
            self._acks.release()

    def _call(self, operation: Operation, versions: dict[str, int]) -> int:
        """Make the call and return the version that the reply names."""
        client, id_ = self._client, operation.id
        if operation.kind is Kind.DELETE:
            return client.delete(NAMESPACE, id_).version
        if operation.kind is Kind.UNDO:
            return client.undo(NAMESPACE, id_).version
        if operation.kind is Kind.PURGE:
            client.purge(NAMESPACE, id_)
            return 0
        self._versions_sent[operation.writer] = versions.get(id_, 0)
        return store(client, operation, versions.get(id_, 0)).version

    def unanswered(self) -> list[tuple[Operation, int]]:
        """The stores that nobody heard of when the daemon died, with the version that each expected."""
        waiting = (self._expected.in_flight.get(writer) for writer in self._versions_sent)
        return [(o, self._versions_sent[o.writer]) for o in waiting if o is not None and o.kind is Kind.STORE]


def store(client: Client, operation: Operation, expected_version: int) -> pb.StoreReply:
    """Store with an idempotency key of the operation's own: sent again, it must not happen twice."""
    payload = operation.payload
    return client.store(
        NAMESPACE, payload, id=operation.id, content_type="application/octet-stream", vector=vector_of(payload),
        expected_version=expected_version, idempotency_key=f"{operation.writer}-{operation.number}",
    )  # fmt: skip


def connect(profile: Profile) -> Client:
    """A client that tries once, since the tests decide what is sent again, and waits long on a busy machine."""
    return Client(profile, timeouts=Timeouts(call_s=60.0), retry=Retry(attempts=1))


def state_over(client: Client, id_: str) -> str:
    """The state of an id as the daemon tells it; see `plan.live`."""
    try:
        memory = client.get(NAMESPACE, id_, include_deleted=True)
    except CallFailed as failed:
        return {E.NO_MEMORY.code: "absent", E.PURGED.code: "purged"}.get(failed.code, failed.code)
    if memory.deleted:
        return "deleted"
    if hashlib.sha256(memory.payload).digest() != memory.digest:
        return "damaged"
    return live(memory.payload)
