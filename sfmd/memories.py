"""Rows of the log as callers see them: memories, and hits with their terms. Payloads are checked against their digest.

Never a wrong byte: a payload that does not match its SHA-256 is refused as corrupt, whoever asks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import sha256

from sfmd.core.columns import holds
from sfmd.core.model import MetaCondition, Terms, Where
from sfmd.core.normaliser import normalised
from sfmd.core.retention import retention
from sfmd.domain import ChangeRow, Explanation, FeatureTerm, Filter, Hit, Memory, Op
from sfmd.errors import E, Refused
from sfmd.spaces import Ranking, parsed_metadata


def verified(row: ChangeRow) -> bytes:
    """The row's payload, which has the digest that was stored with it. Refused(CORRUPT)."""
    payload = row.payload if row.payload is not None else b""
    if row.payload is not None and sha256(payload).digest() != row.digest:
        raise Refused(E.CORRUPT, f"the payload of {row.id!r} at seq {row.content_seq} does not match its digest")
    return payload


def retention_of(row: ChangeRow, ranking: Ranking, counts: Mapping[str, int], now_s: float, alpha: float) -> float:
    """R of a memory for information: its own half-life fades the access term; cost is against the median payload."""
    i_adj = normalised(row.importance, ranking.normaliser) ** alpha
    tau_s = ranking.scoring.half_life_s[row.half_life_class]
    median = counts.get("median_payload_bytes", 0)
    size = len(row.payload or b"")
    cost = size / median if median > 0 else 0.0
    count_max = max(row.access_count, counts.get("max_access_count", 0))
    return retention(i_adj, max(0.0, now_s - row.access_time_s), tau_s, row.access_count, count_max, cost)


def memory_of(row: ChangeRow, ranking: Ranking, counts: Mapping[str, int], now_s: float) -> Memory:
    """A row with its content as Get, List and Export show it."""
    namespace = ranking.namespace
    features = {
        channel.name: value
        for channel, value in zip(namespace.channels, row.features, strict=False)
        if not math.isnan(value)
    }
    return Memory(
        namespace=namespace.name,
        id=row.id,
        seq=row.seq,
        version=row.version,
        kind=row.kind,
        payload=verified(row),
        content_type=row.content_type,
        digest=row.digest,
        metadata_json=row.metadata_json or "{}",
        event_time_s=row.event_time_s,
        half_life_class=namespace.half_lives[row.half_life_class].name,
        importance=row.importance,
        importance_normalised=normalised(row.importance, ranking.normaliser),
        features=features,
        vector=row.vector or b"",
        access_time_s=row.access_time_s,
        access_count=row.access_count,
        deleted=row.deleted,
        retention=retention_of(row, ranking, counts, now_s, namespace.alpha),
        stored_at_s=row.at_s,
    )


def hit_of(rank: int, terms: Terms, row: ChangeRow, ranking: Ranking, explanation: Explanation | None) -> Hit:
    """A hit: the core's terms beside the row that they stand for."""
    return Hit(
        rank=rank,
        id=row.id,
        score=2.0**terms.log2_score,
        log2_score=terms.log2_score,
        seq=row.seq,
        version=row.version,
        kind=row.kind,
        payload=row.payload or b"",
        content_type=row.content_type,
        digest=row.digest,
        metadata_json=row.metadata_json or "{}",
        event_time_s=row.event_time_s,
        half_life_class=ranking.namespace.half_lives[row.half_life_class].name,
        importance=row.importance,
        explanation=explanation,
    )


def explanation_of(terms: Terms, ranking: Ranking, alpha: float, beta: float, kept: float) -> Explanation:
    """A score taken apart; `kept` is the retention R."""
    channels = ranking.namespace.channels
    features = tuple(
        FeatureTerm(channel.name, value, channel.weight, term)
        for channel, value, term in zip(channels, terms.feature_values, terms.log2_feature_terms, strict=False)
    )
    return Explanation(
        similarity=terms.similarity,
        importance=terms.importance,
        age_s=terms.age_s,
        half_life_s=terms.half_life_s,
        alpha=alpha,
        beta=beta,
        log2_similarity_term=terms.log2_similarity_term,
        log2_importance_term=terms.log2_importance_term,
        log2_decay_term=terms.log2_decay_term,
        features=features,
        retention=kept,
    )


def where_of(given: Filter) -> Where | None:
    """The filter in the core's words; None passes everything."""
    conditions = tuple(MetaCondition(c.key, c.op.value, c.values) for c in given.metadata)
    where = Where(given.kinds, given.from_s, given.to_s, conditions)
    return where if where else None


def passes(row: ChangeRow, where: Where | None) -> bool:
    """The core's filter applied to one row, for List and Export. What a purge left of a memory never passes."""
    if row.op is Op.PURGED:
        return False
    if where is None:
        return True
    if where.kinds and row.kind not in where.kinds:
        return False
    if where.from_s is not None and row.event_time_s < where.from_s:
        return False
    if where.to_s is not None and row.event_time_s >= where.to_s:
        return False
    if not where.metadata:
        return True
    metadata = parsed_metadata(row.metadata_json)
    return all(_meets(metadata, condition) for condition in where.metadata)


def _meets(metadata: Mapping[str, object], condition: MetaCondition) -> bool:
    if condition.key not in metadata:
        return condition.op in ("NE", "NOT_EXISTS")
    value = metadata[condition.key]
    if value is None or isinstance(value, str | bool | int | float):
        return holds(value, condition)
    return condition.op in ("EXISTS", "NE")
