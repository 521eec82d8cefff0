"""What the use cases ask of their adapters: the durable store and its transactions, embedders, the clock.

An adapter depends on this module and on `domain`, and never on another adapter. One contract suite holds every store
to the promises that stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from sfmd.domain import ChangeRow, Event, Head, IdempotencyRecord, Namespace, Op

T = TypeVar("T")

FEW = 16
"""Rows of one read where payloads may be large: a reader who has enough stops before the next."""


class WriteTx(Protocol):
    """One write transaction. Every method runs on the store's single writing connection, in the writer's thread."""

    def heads(self, ns_id: int, ids: Sequence[str]) -> dict[str, Head]:
        """The present heads of those ids that exist (deleted and purged ones too)."""

    def changes(self, seqs: Sequence[int]) -> dict[int, ChangeRow]:
        """Rows of the log by seq, content included where the row carries it."""

    def idempotent(self, ns_id: int, keys: Sequence[str]) -> dict[str, IdempotencyRecord]:
        """Records of those keys that were used before."""

    def reserve(self, count: int) -> int:
        """The first of `count` consecutive seqs, which this transaction must all append."""

    def append(self, rows: Sequence[ChangeRow]) -> None:
        """Append rows to the log, in the order of their seqs, and bring `memories` up to date.

        A namespace's row goes with a `put_namespace` of the caller: the log keeps its detail as JSON, which the store
        does not read. Raises Refused(BUG) for a gap, an unreserved seq or a commit time that goes back.
        """

    def put_namespace(self, namespace: Namespace) -> None:
        """Insert or replace the namespace's current configuration."""

    def new_namespace_id(self) -> int:
        """A number that no namespace had before."""

    def remember(self, records: Sequence[IdempotencyRecord]) -> None:
        """Store idempotency records."""

    def forget(self, keys: Mapping[int, Sequence[str]], before_s: float) -> None:
        """Remove the idempotency records of those keys, by namespace, that were first used before `before_s`."""

    def strip(self, seqs: Sequence[int]) -> None:
        """Drop payload, vector, metadata and features of those rows for good; digests and small columns stay."""

    def enqueue(self, events: Sequence[Event]) -> None:
        """Add events to the outbox."""

    def purge(self, ns_id: int, id_: str) -> int:
        """Erase payload, vector, metadata, features, kind and content type of every version; digests stay. Returns of
        how many versions the payload was erased.

        Call it before the PURGED row is appended. From then on those versions read as payload None, metadata "".
        """


class Store(Protocol):
    """The durable truth. All methods are blocking and called from threads, never from the event loop."""

    @property
    def problem(self) -> str:
        """Why nothing is written any more until the store is opened anew; empty while it can be. Answers at once."""

    def write(self, work: Callable[[WriteTx], T]) -> T:
        """Run `work` in one transaction and return once it is on disk. Any error rolls all of it back.

        Raises Refused(STORE_DOWN) when the commit failed or its outcome is not known to be durable.
        """

    def last_seq(self) -> int:
        """The seq of the last committed row; 0 for an empty log."""

    def horizon_seq(self) -> int:
        """The first seq the log still reaches back to: what the last COMPACTED row says; 1 where there is none."""

    def namespaces(self) -> list[Namespace]:
        """Every namespace with its current configuration."""

    def changes(self, from_seq: int, to_seq: int, *, ns_id: int | None = None, payloads: bool = True,
                limit: int = 1000, max_bytes: int = 0) -> list[ChangeRow]:  # fmt: skip
        """Rows with from_seq <= seq <= to_seq in order, at most `limit`, as logged; vectors come with payloads.

        With `max_bytes` it reads on only while their content is less, and then few rows at a time.
        """

    def rows(self, seqs: Sequence[int], *, payloads: bool = True, vectors: bool = False) -> dict[int, ChangeRow]:
        """Rows by seq, with their content (payload, vector, kind, digest, metadata…) from the row at content_seq.

        Everything else is the row's own: importance, event time, half-life class, access and request digest.
        """

    def head(self, ns_id: int, id_: str) -> Head | None:
        """The current state of a memory, or None."""

    def state_at(self, ns_id: int, id_: str, seq: int) -> ChangeRow | None:
        """The last change of a memory at or before `seq`, content resolved; None when it did not exist."""

    def list_rows(self, ns_id: int, after_id: str, limit: int, *, include_deleted: bool = False,
                  as_of_seq: int | None = None, payloads: bool = True, vectors: bool = False,
                  max_bytes: int = 0) -> list[ChangeRow]:  # fmt: skip
        """Memories with id > after_id in byte order of the id, content resolved, at most `limit`.

        `max_bytes` as in `changes`. An empty list says that there are no more.
        """

    def core_rows(self, ns_id: int, from_seq: int, to_seq: int) -> Iterator[ChangeRow]:
        """Rows that made or ended a core row (row_seq or expires_seq set), in order, content resolved with vectors."""

    def recent_importances(self, ns_id: int, to_seq: int, limit: int) -> list[float]:
        """The last `limit` raw importances of the log (ChangeRow.raw_importance), oldest first."""

    def count_importances(self, ns_id: int, to_seq: int) -> int:
        """How many raw importances the log has up to `to_seq`."""

    def details(self, ns_id: int, op: Op, to_seq: int) -> list[ChangeRow]:
        """All NAMESPACE, CONFIGURED or NORMALISER rows of a namespace up to `to_seq`, in order."""

    def counts(self, ns_id: int) -> Mapping[str, int]:
        """`live`, `deleted`, `purged`; of the live: `payload_bytes`, `median_payload_bytes`, `max_access_count`."""

    def forget_keys(self, before_s: float, after: tuple[int, str], limit: int) -> tuple[int, tuple[int, str] | None]:
        """Forget the idempotency keys first used before `before_s` among the next `limit` after (ns_id, key).

        Returns how many went, and where to go on; None at the end. Its work is bounded by `limit`.
        """

    def backup(self, target: str) -> None:
        """Write a consistent, verified copy into the new directory `target` while serving."""

    def close(self) -> None:
        """Flush and close; later calls raise Refused(STOPPING)."""


class Embedder(Protocol):
    """Turns text into a vector. Its fingerprint is stamped on namespaces."""

    @property
    def fingerprint(self) -> str:
        """Name, version and dimension, e.g. `hash-v1/1024`."""

    @property
    def dim(self) -> int:
        """Components of a vector."""

    def embed(self, texts: Sequence[str]) -> bytes:
        """len(texts) vectors of `dim` little-endian float32, concatenated. A text without content gives zeros."""


class Clock(Protocol):
    """Wall time, as an argument."""

    def __call__(self) -> float:
        """Unix seconds."""
