"""The words of the daemon: memories, changes, queries, hits and receipts. What adapters fulfil stands in `protocols`.

Nothing here imports anything of ours that does, nor numpy or gRPC: adapters depend on this module and never on each
other. Vectors cross this border as bytes (little-endian float32), payloads as bytes that nobody changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from sfmd.record import record

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
    COMPACTED = 10


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


@record
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


@record
class ChangeRow:
    """One row of `memory_changes`: the log, which is the truth. Every row carries the whole small state of its memory.

    seq          position in the log, global over namespaces, gapless per store, assigned by the writer
    content_seq  the row that carries payload, vector, kind, metadata and features (itself, when it brings content)
    row_seq      the created_seq of the core's row that stands for the memory after this change; 0 when it is deleted
    expires_seq  the created_seq of the core's row that this change ends; 0 for none
    prev_seq     the memory's change before this one; 0 for none
    importance   raw r after this change; None is "none"
    at_s         commit time, Unix seconds, never decreasing along the log
    For NAMESPACE, CONFIGURED, NORMALISER and COMPACTED rows only seq, ns_id, op, principal, at_s and detail_json have
    meaning.
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

    @property
    def content_bytes(self) -> int:
        """What it holds of unbounded size: payload, vector and metadata."""
        metadata = self.metadata_json
        size = len(metadata) if metadata.isascii() else len(metadata.encode())
        return size + len(self.payload or b"") + len(self.vector or b"")

    @property
    def raw_importance(self) -> float | None:
        """The importance that this change gives the namespace's normaliser: what was stored, or given by a
        reinforcement that changed it. An undo gives none: its value was given before.
        """
        return self.importance if self.row_seq == self.seq and self.op is not Op.RESTORED else None


@record
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


@record
class WriteResult:
    """What a reply says of one write; `digest` is the payload's SHA-256."""

    id: str
    seq: int
    version: int
    outcome: Outcome
    digest: bytes


@record
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


@record
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


@record
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


@record
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
