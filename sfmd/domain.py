"""The words of the daemon: memories, changes, queries, hits, receipts, and the protocols that adapters fulfil.

Nothing here imports anything of ours, nor numpy or gRPC: adapters depend on this module and never on each other.
Vectors cross this border as bytes (little-endian float32), payloads as bytes that nobody changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Protocol, TypeVar

T = TypeVar("T")

NEVER = 2**63 - 1
"""A seq that no commit reaches: the deletion seq of a live row."""


class Op(IntEnum):
    """What a row of the log did. The numbers are stored: never reuse one."""

    CREATED = 1
    UPDATED = 2
    DELETED = 3
    RESTORED = 4
    REINFORCED = 5
    PURGED = 6
    NAMESPACE = 7
    CONFIGURED = 8
    NORMALISER = 9


class Outcome(Enum):
    """How a write ended."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    DELETED = "DELETED"
    RESTORED = "RESTORED"
    REINFORCED = "REINFORCED"
    REJECTED = "REJECTED"


class ConditionOp(Enum):
    """How a metadata condition compares; see proto/memory.proto."""

    EQ = "EQ"
    NE = "NE"
    LT = "LT"
    LE = "LE"
    GT = "GT"
    GE = "GE"
    EXISTS = "EXISTS"
    NOT_EXISTS = "NOT_EXISTS"


Scalar = str | float | int | bool | None


@dataclass(frozen=True, slots=True)
class HalfLife:
    """A class of records that age alike. `seconds` is tau, > 0; math.inf never ages."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Channel:
    """A feature channel f_j in [0, 1] with exponent w_j >= 0; the weights of a namespace sum to <= 1."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace as configured by the log up to some seq. `ns_id` is the store's small integer for it.

    The position of a half-life class and of a channel in its tuple is its number in the core: entries are appended,
    never removed or moved.
    """

    ns_id: int
    name: str
    dim: int
    embedder: str
    half_lives: tuple[HalfLife, ...]
    default_half_life: str
    channels: tuple[Channel, ...]
    alpha: float
    beta: float
    refuse_normaliser_updates: bool
    config_version: int
    created_seq: int


@dataclass(frozen=True, slots=True)
class MemoryInput:
    """What a caller asks to store. Exactly one of `text` and `vector` (raw, not yet normalised) is given."""

    payload: bytes
    id: str = ""
    kind: str = "memory"
    content_type: str = "application/json"
    text: str | None = None
    vector: bytes | None = None
    importance: float | None = None
    event_time_s: float | None = None
    half_life_class: str = ""
    features: Mapping[str, float] = field(default_factory=dict)
    metadata_json: str = ""
    expected_version: int | None = None
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One row of `memory_changes`: the log, which is the truth. Every row carries the whole small state of its memory.

    seq          position in the log, global over namespaces, gapless per store, assigned by the writer
    content_seq  the row that carries payload, vector, kind, metadata and features (itself, when it brings content)
    row_seq      the created_seq of the core's row that stands for the memory after this change; 0 when it is deleted
    expires_seq  the created_seq of the core's row that this change ends; 0 for none
    prev_seq     the memory's change before this one; 0 for none
    importance   raw r after this change; None is "none"
    at_s         commit time, Unix seconds, never decreasing along the log
    For NAMESPACE, CONFIGURED and NORMALISER rows only seq, ns_id, op, principal, at_s and detail_json have meaning.
    """

    seq: int
    ns_id: int
    op: Op
    principal: str
    at_s: float
    id: str = ""
    version: int = 0
    content_seq: int = 0
    row_seq: int = 0
    expires_seq: int = 0
    prev_seq: int = 0
    deleted: bool = False
    kind: str = ""
    payload: bytes | None = None
    content_type: str = ""
    digest: bytes = b""
    vector: bytes | None = None
    importance: float | None = None
    event_time_s: float = 0.0
    half_life_class: int = 0
    features: tuple[float, ...] = ()  # by channel number, nan is "missing"; shorter than the channels: the rest missing
    metadata_json: str = ""
    access_time_s: float = 0.0
    access_count: int = 0
    request_digest: bytes = b""
    detail_json: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """The current state of one memory: a row of `memories`."""

    ns_id: int
    id: str
    seq: int
    version: int
    content_seq: int
    row_seq: int
    deleted: bool
    purged: bool
    digest: bytes
    request_digest: bytes
    importance: float | None
    access_time_s: float
    access_count: int


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a reply says of one write; `digest` is the payload's SHA-256."""

    id: str
    seq: int
    version: int
    outcome: Outcome
    digest: bytes


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """An idempotency key, the digest of the request that used it first, and its result."""

    ns_id: int
    key: str
    request_digest: bytes
    result: WriteResult
    at_s: float


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the outbox, written in the transaction of its change."""

    seq: int
    topic: str
    key: bytes
    body_json: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on a top-level key of the metadata object."""

    key: str
    op: ConditionOp
    values: tuple[Scalar, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """What a memory must be to be looked at; all parts must hold. Applied before top-k."""

    kinds: tuple[str, ...] = ()
    from_s: float | None = None
    to_s: float | None = None
    metadata: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """A recall. Missing values take the namespace's, or the server's clock."""

    namespace: str
    text: str | None = None
    vector: bytes | None = None
    k: int = 10
    alpha: float | None = None
    beta: float | None = None
    now_s: float | None = None
    as_of_seq: int | None = None
    min_seq: int | None = None
    filter: Filter = Filter()
    min_score: float = 0.0
    max_bytes: int = 0
    explain: bool = False
    receipt: bool = False
    omit_payload: bool = False


@dataclass(frozen=True, slots=True)
class FeatureTerm:
    """One feature channel's share of a score."""

    name: str
    value: float
    weight: float
    log2_term: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score taken apart; the log2 terms sum, left to right, to the hit's `log2_score`."""

    similarity: float
    importance: float
    age_s: float
    half_life_s: float
    alpha: float
    beta: float
    log2_similarity_term: float
    log2_importance_term: float
    log2_decay_term: float
    features: tuple[FeatureTerm, ...]
    retention: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One recalled memory. `log2_score` ranks; `score` is 2 to its power, for people."""

    rank: int
    id: str
    score: float
    log2_score: float
    seq: int
    version: int
    kind: str
    payload: bytes
    content_type: str
    digest: bytes
    metadata_json: str
    event_time_s: float
    half_life_class: str
    importance: float | None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a recall was computed from; `Replay` gives the same bytes on an equal engine."""

    namespace: str
    seq: int
    now_s: float
    normaliser_version: int
    config_digest: bytes
    request_digest: bytes
    engine: str
    path: str
    rows_total: int
    rows_scored: int
    answer_digest: bytes


@dataclass(frozen=True, slots=True)
class RecallResult:
    """Hits, best first, and the state they were read from."""

    hits: tuple[Hit, ...]
    seq: int
    now_s: float
    truncated: bool
    rows_total: int
    rows_scored: int
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory as Get, List and Export show it."""

    namespace: str
    id: str
    seq: int
    version: int
    kind: str
    payload: bytes
    content_type: str
    digest: bytes
    metadata_json: str
    event_time_s: float
    half_life_class: str
    importance: float | None
    importance_normalised: float
    features: Mapping[str, float]
    vector: bytes
    access_time_s: float
    access_count: int
    deleted: bool
    retention: float
    stored_at_s: float


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

    def enqueue(self, events: Sequence[Event]) -> None:
        """Add events to the outbox."""

    def purge(self, ns_id: int, id_: str) -> int:
        """Erase payload, vector, metadata and features of every version; digests stay. Returns how many were erased.

        Call it before the PURGED row is appended. From then on those versions read as payload None, metadata "".
        """


class Store(Protocol):
    """The durable truth. All methods are blocking and called from threads, never from the event loop."""

    def write(self, work: Callable[[WriteTx], T]) -> T:
        """Run `work` in one transaction and return once it is on disk. Any error rolls all of it back.

        Raises Refused(STORE_DOWN) when the commit failed or its outcome is not known to be durable.
        """

    def last_seq(self) -> int:
        """The seq of the last committed row; 0 for an empty log."""

    def horizon_seq(self) -> int:
        """The first seq the log still reaches back to."""

    def namespaces(self) -> list[Namespace]:
        """Every namespace with its current configuration."""

    def changes(self, from_seq: int, to_seq: int, *, ns_id: int | None = None, payloads: bool = True,
                limit: int = 1000) -> list[ChangeRow]:  # fmt: skip
        """Rows with from_seq <= seq <= to_seq in order, at most `limit`, as logged; vectors come with payloads."""

    def rows(self, seqs: Sequence[int], *, payloads: bool = True, vectors: bool = False) -> dict[int, ChangeRow]:
        """Rows by seq, with their content (payload, vector, kind, digest, metadata…) from the row at content_seq.

        Everything else is the row's own: importance, event time, half-life class, access and request digest.
        """

    def head(self, ns_id: int, id_: str) -> Head | None:
        """The current state of a memory, or None."""

    def state_at(self, ns_id: int, id_: str, seq: int) -> ChangeRow | None:
        """The last change of a memory at or before `seq`, content resolved; None when it did not exist."""

    def list_rows(self, ns_id: int, after_id: str, limit: int, *, include_deleted: bool = False,
                  as_of_seq: int | None = None, payloads: bool = True,
                  vectors: bool = False) -> list[ChangeRow]:  # fmt: skip
        """Memories with id > after_id in byte order of the id, content resolved, at most `limit`."""

    def core_rows(self, ns_id: int, from_seq: int, to_seq: int) -> Iterator[ChangeRow]:
        """Rows that made or ended a core row (row_seq or expires_seq set), in order, content resolved with vectors."""

    def recent_importances(self, ns_id: int, to_seq: int, limit: int) -> list[float]:
        """The last `limit` raw importances that the log stored (content rows with one), oldest first."""

    def count_importances(self, ns_id: int, to_seq: int) -> int:
        """How many raw importances the log stored up to `to_seq`."""

    def details(self, ns_id: int, op: Op, to_seq: int) -> list[ChangeRow]:
        """All NAMESPACE, CONFIGURED or NORMALISER rows of a namespace up to `to_seq`, in order."""

    def counts(self, ns_id: int) -> Mapping[str, int]:
        """`live`, `deleted`, `purged`; of the live: `payload_bytes`, `median_payload_bytes`, `max_access_count`."""

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
