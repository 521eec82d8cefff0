"""Rows of the tables as the domain's records and back: tuples in a fixed order, as this runs for each row."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

from sfmd.domain import ChangeRow, Channel, HalfLife, Head, IdempotencyRecord, Namespace, Op, Outcome, WriteResult
from sfmd.store.schema import DELETED, LIVE, PURGED

_OPS = {int(op): op for op in Op}
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}


def state_of(row: ChangeRow) -> int:
    """The value of memories.state after this change."""
    if row.op is Op.PURGED:
        return PURGED
    return DELETED if row.deleted else LIVE


def log_tuple(r: ChangeRow, importances: int) -> tuple[Any, ...]:
    """A row as `memory_changes` has it; `importances` counts those of the namespace up to this row."""
    return (
        r.seq, r.ns_id, int(r.op), r.principal, r.at_s, r.id, r.version, r.content_seq, r.row_seq,
        r.expires_seq, r.prev_seq, int(r.deleted), 0, importances, r.kind, r.content_type, r.digest, r.importance,
        r.event_time_s, r.half_life_class, _pack(r.features) if r.features else b"",
        r.access_time_s, r.access_count, r.request_digest, r.detail_json, r.metadata_json, r.vector,
        r.payload,
    )  # fmt: skip


def change_row(t: Sequence[Any]) -> ChangeRow:
    """A ChangeRow from the columns in its field order."""
    (seq, ns_id, op, principal, at_s, id_, version, content_seq, row_seq, expires_seq, prev_seq, deleted,
     kind, payload, content_type, digest, vector, importance, event_time_s, half_life, features, metadata,
     access_time_s, access_count, request_digest, detail) = t  # fmt: skip
    return ChangeRow(
        seq, ns_id, _OPS[op], principal, at_s, id_, version, content_seq, row_seq, expires_seq, prev_seq,
        deleted == 1, kind, payload, content_type, digest, vector, importance, event_time_s, half_life,
        _unpack(features) if features else (), metadata or "", access_time_s, access_count, request_digest,
        detail,
    )  # fmt: skip


def head(t: Sequence[Any]) -> Head:
    """A Head from the columns of Statements.heads."""
    ns_id, id_, seq, version, content_seq, row_seq, state, digest, request, importance, access_s, count = t
    return Head(
        ns_id, id_, seq, version, content_seq, row_seq, state != LIVE, state == PURGED, digest or b"",
        request or b"", importance, access_s, count,
    )  # fmt: skip


def idempotency_tuple(record: IdempotencyRecord) -> tuple[Any, ...]:
    """A record as `idempotency` has its columns."""
    r = record.result
    return (
        record.ns_id,
        record.key,
        record.request_digest,
        r.id,
        r.seq,
        r.version,
        r.outcome.value,
        r.digest,
        record.at_s,
    )


def idempotency_record(t: Sequence[Any]) -> IdempotencyRecord:
    """The inverse of idempotency_tuple."""
    ns_id, key, request_digest, id_, seq, version, outcome, digest, at_s = t
    result = WriteResult(id_, seq, version, _OUTCOMES[outcome], digest)
    return IdempotencyRecord(ns_id, key, request_digest, result, at_s)


def namespace_values(n: Namespace) -> dict[str, Any]:
    """A namespace by the columns of `namespaces`. JSON has no infinity: null is the half-life that never
    ages.
    """
    return {
        "ns_id": n.ns_id,
        "name": n.name,
        "dim": n.dim,
        "embedder": n.embedder,
        "half_lives_json": json.dumps([[h.name, None if math.isinf(h.seconds) else h.seconds] for h in n.half_lives]),
        "default_half_life": n.default_half_life,
        "channels_json": json.dumps([[c.name, c.weight] for c in n.channels]),
        "alpha": n.alpha,
        "beta": n.beta,
        "refuse_normaliser_updates": int(n.refuse_normaliser_updates),
        "config_version": n.config_version,
        "created_seq": n.created_seq,
    }


def namespace(t: Sequence[Any]) -> Namespace:
    """The inverse of namespace_values, from the table's columns in order."""
    (
        ns_id,
        name,
        dim,
        embedder,
        half_lives,
        default,
        channels,
        alpha,
        beta,
        refuse,
        config_version,
        created_seq,
    ) = t
    return Namespace(
        ns_id=ns_id,
        name=name,
        dim=dim,
        embedder=embedder,
        half_lives=tuple(HalfLife(n, math.inf if s is None else float(s)) for n, s in json.loads(half_lives)),
        default_half_life=default,
        channels=tuple(Channel(n, float(w)) for n, w in json.loads(channels)),
        alpha=alpha,
        beta=beta,
        refuse_normaliser_updates=bool(refuse),
        config_version=config_version,
        created_seq=created_seq,
    )


def _pack(features: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(features)}d", *features)


def _unpack(features: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(features) // 8}d", features)
