"""The records that go into the use cases and come out of them, beside the words of `domain`.

A transport (gRPC today) builds these from its messages and renders them back; it decides nothing. Identity
arrives in `Caller`, made by the transport from the token and never from a field of a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sfmd.domain import Channel, HalfLife, Memory, MemoryInput, Namespace, RecallResult, WriteResult
from sfmd.record import record


@record
class Caller:
    """Who asks. `principal` is written into the log; `request_id` into log lines."""

    principal: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of every size that a caller controls. Bytes unless the name says otherwise."""

    payload_bytes: int = 1024 * 1024
    text_bytes: int = 256 * 1024
    metadata_bytes: int = 64 * 1024
    metadata_keys: int = 256
    id_bytes: int = 256
    kind_bytes: int = 64
    content_type_bytes: int = 128
    batch_items: int = 100_000
    chunk_items: int = 2_000
    chunk_bytes: int = 4 * 1024 * 1024
    recall_batch_items: int = 64
    k: int = 1_000
    page_items: int = 1_000
    filter_terms: int = 64
    filter_values: int = 256
    half_life_classes: int = 16
    channels: int = 16
    namespaces: int = 1_024
    queue_items: int = 20_000
    queue_bytes: int = 64 * 1024 * 1024
    recall_queue: int = 256
    watchers: int = 256
    min_seq_wait_s: float = 30.0


@dataclass(frozen=True, slots=True)
class NamespaceSpec:
    """What a caller asks a new namespace to be. `dim` 0 takes the embedder's; no classes: one, "default",
    infinite.
    """

    name: str
    dim: int = 0
    embedder: str = ""
    half_lives: tuple[HalfLife, ...] = ()
    default_half_life: str = ""
    channels: tuple[Channel, ...] = ()
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True)
class NamespaceChange:
    """A change of a namespace's scoring. Named classes and channels are changed or added, never removed."""

    name: str
    half_lives: tuple[HalfLife, ...] = ()
    default_half_life: str | None = None
    channels: tuple[Channel, ...] = ()
    alpha: float | None = None
    beta: float | None = None
    refuse_normaliser_updates: bool | None = None
    expected_config_version: int | None = None


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """A namespace as configured now, its normaliser's version, and the digest of everything that ranks."""

    namespace: Namespace
    normaliser_version: int
    config_digest: bytes


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a batch failed: the catalogue's code, words, and the name of the gRPC status."""

    code: str
    message: str
    status: str


@record
class Batch:
    """What one message of a stream brings: memories, and the message's size in bytes."""

    memories: Sequence[MemoryInput]
    size_bytes: int


@record
class ItemResult:
    """One item's outcome; `index` counts over the whole stream. `error` is set with CONFLICT and REJECTED."""

    index: int
    result: WriteResult
    error: ItemError | None = None


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What became of an import; `first_errors` holds up to 100."""

    received: int = 0
    created: int = 0
    updated: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    first_errors: tuple[ItemResult, ...] = ()
    last_seq: int = 0


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page, in byte order of the id; an empty token says that it was the last."""

    memories: tuple[Memory, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """The seq of the tombstone and how many versions lost their content."""

    id: str
    seq: int
    versions_erased: int


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """A recall computed anew, and whether its hits are byte for byte those of the receipt."""

    result: RecallResult
    identical: bool
    engine: str


@dataclass(frozen=True, slots=True)
class ExportHead:
    """The first record of an export. `total` is 0 when it is not known beforehand (a filter, or a past seq)."""

    info: NamespaceInfo
    seq: int
    total: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change as Watch shows it; `op` is the lower-case name of the log's operation."""

    seq: int
    namespace: str
    id: str
    op: str
    version: int
    digest: bytes
    at_s: float
    principal: str
    payload: bytes
    event_id: str
    detail_json: str


@dataclass(frozen=True, slots=True)
class GateState:
    """A gate as measured: `tripped` is the condition, `acting` is the condition with the configuration's
    leave.
    """

    name: str
    tripped: bool
    acting: bool
    value: float
    threshold: float
    condition: str
    window_s: float


@dataclass(frozen=True, slots=True)
class NamespaceStats:
    """Measured state of one namespace. Quantiles are keyed q05 q10 q25 q50 q75 q90 q95."""

    namespace: str
    live: int
    deleted: int
    rows: int
    tail_rows: int
    segments: int
    payload_bytes: int
    norm_error_max: float
    importance_raw: Mapping[str, float]
    importance_normalised: Mapping[str, float]
    decay_active_ratio: float
    normaliser_version: int
    gates: tuple[GateState, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceStats:
    """Measured state of the daemon. Rates and latencies are over the last minute."""

    namespaces: tuple[NamespaceStats, ...]
    seq: int
    insert_qps: float
    query_qps: float
    recall_p50_s: float
    recall_p95_s: float
    store_p50_s: float
    store_p95_s: float
    uptime_s: float
    resident_bytes: int
    engine: str
    version: str
    queue_items: int = 0
    recalls_waiting: int = 0
    commits: int = 0
    rows_committed: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    normaliser_cuts: int = 0
    horizon_seq: int = 0
    store_ok: bool = True
