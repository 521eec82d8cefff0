"""Messages to domain objects and back. It decides nothing: absent stays absent, and every check is the use case's.

`memory_input` and the outcome of a batch item run once per streamed row, 30,000 times a second, so they are plain
attribute reads and positional constructors.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from sfmd import domain, validation
from sfmd.contract import ItemError, ItemResult, NamespaceChange, NamespaceInfo, NamespaceSpec
from sfmd.errors import E, Refused
from sfmd.rpc.gen import memory_pb2 as pb

SEQ_MAX = 2**63 - 1
_OUTCOME: dict[domain.Outcome, Any] = {o: pb.Outcome.Value(o.value) for o in domain.Outcome}
_CONDITION = {pb.Op.Value(op.value): op for op in domain.ConditionOp}


def vector_bytes(vector: Any) -> bytes:
    """Little-endian float32 of either form; an empty one stays empty and is refused for its dimension."""
    if vector.HasField("f32_le"):
        return vector.f32_le  # type: ignore[no-any-return]
    values = vector.values.values
    return struct.pack(f"<{len(values)}f", *values)


def memory_input(m: Any) -> domain.MemoryInput:
    """One memory to store, positionally in the order of domain.MemoryInput."""
    has = m.HasField
    features = m.features
    return domain.MemoryInput(
        m.payload,
        m.id,
        m.kind or "memory",
        m.content_type or "application/json",
        m.text if has("text") else None,
        vector_bytes(m.vector) if has("vector") else None,
        m.importance if has("importance") else None,
        m.event_time_s if has("event_time_s") else None,
        m.half_life_class,
        dict(features) if features else {},
        m.metadata_json,
        m.expected_version if has("expected_version") else None,
        m.idempotency_key,
    )


def memory_inputs(request: Any) -> list[domain.MemoryInput]:
    """The memories of one upload message."""
    return [memory_input(m) for m in request.memories]


def optional(message: Any, name: str) -> Any:
    """A field's value, or None when it was not set."""
    return getattr(message, name) if message.HasField(name) else None


def optional_seq(message: Any, name: str) -> int | None:
    """A seq, or None. Raises Refused(FUTURE_SEQ) for what no log can reach."""
    return seq(getattr(message, name)) if message.HasField(name) else None


def seq(value: int) -> int:
    """A seq that fits the log. Raises Refused(FUTURE_SEQ) otherwise."""
    if value > SEQ_MAX:
        raise Refused(E.FUTURE_SEQ, f"seq {value} is beyond any log")
    return value


def half_lives(classes: Iterable[Any]) -> tuple[domain.HalfLife, ...]:
    """Half-life classes in their order."""
    return tuple(domain.HalfLife(c.name, c.half_life_s) for c in classes)


def channels(features: Iterable[Any]) -> tuple[domain.Channel, ...]:
    """Feature channels in their order."""
    return tuple(domain.Channel(c.name, c.weight) for c in features)


def namespace_spec(r: Any) -> NamespaceSpec:
    """A namespace to make."""
    return NamespaceSpec(r.name, r.dim, r.embedder, half_lives(r.half_life_classes), r.default_half_life_class,
                         channels(r.features), optional(r, "alpha"), optional(r, "beta"))  # fmt: skip


def namespace_change(r: Any) -> NamespaceChange:
    """A namespace to configure."""
    return NamespaceChange(r.name, half_lives(r.half_life_classes), optional(r, "default_half_life_class"),
                           channels(r.features), optional(r, "alpha"), optional(r, "beta"),
                           optional(r, "refuse_normaliser_updates"),
                           optional(r, "expected_config_version"))  # fmt: skip


def namespace_info(info: NamespaceInfo) -> pb.Namespace:
    """A namespace as it is."""
    n = info.namespace
    return pb.Namespace(
        name=n.name, dim=n.dim, embedder=n.embedder,
        half_life_classes=[pb.HalfLifeClass(name=h.name, half_life_s=h.seconds) for h in n.half_lives],
        default_half_life_class=n.default_half_life,
        features=[pb.FeatureChannel(name=c.name, weight=c.weight) for c in n.channels],
        alpha=n.alpha, beta=n.beta, refuse_normaliser_updates=n.refuse_normaliser_updates,
        config_version=n.config_version, created_seq=n.created_seq, normaliser_version=info.normaliser_version,
        config_digest=info.config_digest,
    )  # fmt: skip


def _condition(c: Any) -> domain.Condition:
    op = _CONDITION.get(c.op)
    if op is None:
        raise Refused(E.INVALID, f"the condition on {c.key[:64]!r} has no known op")
    return domain.Condition(c.key, op, tuple(validation.scalar(v) for v in c.values_json))


def filter_of(message: Any) -> domain.Filter:
    """The filter of a request; one that was not sent holds for everything."""
    if not message.HasField("filter"):
        return domain.Filter()
    f = message.filter
    return domain.Filter(tuple(f.kinds), optional(f, "from_s"), optional(f, "to_s"),
                         tuple(_condition(c) for c in f.metadata))  # fmt: skip


def query(r: Any) -> domain.Query:
    """A recall; k = 0 counts as 10."""
    has = r.HasField
    return domain.Query(
        r.namespace,
        r.text if has("text") else None,
        vector_bytes(r.vector) if has("vector") else None,
        r.k or 10,
        r.alpha if has("alpha") else None,
        r.beta if has("beta") else None,
        r.now_s if has("now_s") else None,
        optional_seq(r, "as_of_seq"),
        optional_seq(r, "min_seq"),
        filter_of(r),
        r.min_score,
        r.max_bytes,
        r.explain,
        r.receipt,
        r.omit_payload,
    )


def receipt_in(r: Any) -> domain.Receipt:
    """A receipt that a caller hands back."""
    return domain.Receipt(r.namespace, seq(r.seq), r.now_s, r.normaliser_version, r.config_digest, r.request_digest,
                          r.engine, r.path, r.rows_total, r.rows_scored, r.answer_digest)  # fmt: skip


def receipt_out(r: domain.Receipt) -> pb.Receipt:
    """A receipt to hand out."""
    return pb.Receipt(namespace=r.namespace, seq=r.seq, now_s=r.now_s, normaliser_version=r.normaliser_version,
                      config_digest=r.config_digest, request_digest=r.request_digest, engine=r.engine, path=r.path,
                      rows_total=r.rows_total, rows_scored=r.rows_scored, answer_digest=r.answer_digest)  # fmt: skip


def _explanation(e: domain.Explanation) -> pb.Explanation:
    return pb.Explanation(
        similarity=e.similarity, importance=e.importance, age_s=e.age_s, half_life_s=e.half_life_s, alpha=e.alpha,
        beta=e.beta, log2_similarity_term=e.log2_similarity_term, log2_importance_term=e.log2_importance_term,
        log2_decay_term=e.log2_decay_term, retention=e.retention,
        features=[pb.FeatureTerm(name=f.name, value=f.value, weight=f.weight, log2_term=f.log2_term)
                  for f in e.features],
    )  # fmt: skip


def _hit(h: domain.Hit) -> pb.Hit:
    return pb.Hit(
        rank=h.rank, id=h.id, score=h.score, log2_score=h.log2_score, seq=h.seq, version=h.version, kind=h.kind,
        payload=h.payload, content_type=h.content_type, digest=h.digest, metadata_json=h.metadata_json,
        event_time_s=h.event_time_s, half_life_class=h.half_life_class, importance=h.importance,
        explanation=_explanation(h.explanation) if h.explanation else None,
    )  # fmt: skip


def recall_reply(r: domain.RecallResult) -> pb.RecallReply:
    """Hits, best first, with the receipt when there is one."""
    return pb.RecallReply(hits=[_hit(h) for h in r.hits], seq=r.seq, now_s=r.now_s, truncated=r.truncated,
                          rows_total=r.rows_total, rows_scored=r.rows_scored,
                          receipt=receipt_out(r.receipt) if r.receipt else None)  # fmt: skip


def memory(m: domain.Memory) -> pb.Memory:
    """One memory as Get, List and Export show it."""
    return pb.Memory(
        namespace=m.namespace, id=m.id, seq=m.seq, version=m.version, kind=m.kind, payload=m.payload,
        content_type=m.content_type, digest=m.digest, metadata_json=m.metadata_json, event_time_s=m.event_time_s,
        half_life_class=m.half_life_class, importance=m.importance, importance_normalised=m.importance_normalised,
        features=m.features, vector_f32_le=m.vector, access_time_s=m.access_time_s, access_count=m.access_count,
        deleted=m.deleted, retention=m.retention, stored_at_s=m.stored_at_s,
    )  # fmt: skip


def store_reply(r: domain.WriteResult) -> pb.StoreReply:
    """How a store ended."""
    return pb.StoreReply(id=r.id, seq=r.seq, version=r.version, outcome=_OUTCOME[r.outcome], digest=r.digest)


def change_reply(r: domain.WriteResult) -> pb.ChangeReply:
    """How another change ended."""
    return pb.ChangeReply(id=r.id, seq=r.seq, version=r.version, outcome=_OUTCOME[r.outcome], digest=r.digest)


def item_error(e: ItemError) -> pb.ItemError:
    """Why an item failed."""
    return pb.ItemError(code=e.code, message=e.message, grpc_status=e.status)


def add_outcomes(into: Any, results: Sequence[ItemResult]) -> None:
    """Append outcomes to a repeated field."""
    add = into.add
    for item in results:
        r = item.result
        out = add(index=item.index)
        out.result.id = r.id
        out.result.seq = r.seq
        out.result.version = r.version
        out.result.outcome = _OUTCOME[r.outcome]
        out.result.digest = r.digest
        if item.error is not None:
            out.error.CopyFrom(item_error(item.error))
