"""The daemon's messages as JSON fields, short rows and tables. Only words and layout: nothing is computed here."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sfmctl import quantities, records
from sfmctl.render import Column, printable, table

if TYPE_CHECKING:
    from rich.table import Table

    from sfmd.rpc.gen import memory_pb2 as pb

SNIPPET_CHARS = 160


def outcome_name(value: int) -> str:
    """CREATED, DUPLICATE … of the wire's number."""
    from sfmd.rpc.gen import memory_pb2 as pb

    return str(pb.Outcome.Name(value))


def number(value: float) -> float | str:
    """A float as JSON can carry it: infinities and NaN become words."""
    return value if math.isfinite(value) else str(value)


def change_fields(reply: pb.StoreReply | pb.ChangeReply) -> dict[str, Any]:
    """A write's result as JSON fields."""
    return {
        "id": reply.id, "seq": reply.seq, "version": reply.version, "outcome": outcome_name(reply.outcome),
        "digest": reply.digest.hex(),
    }  # fmt: skip


def metadata_field(text: str) -> Any:
    """Metadata as JSON; the raw text where it is none (the daemon accepts objects only, so this is for safety)."""
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text


def snippet(payload: bytes, content_type: str, chars: int = SNIPPET_CHARS) -> str:
    """One line of a payload for people: `title: text` of such JSON, else its beginning, else its size."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return f"({quantities.size(len(payload))} of {content_type})"
    if "json" in content_type:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if isinstance(body, str):
            text = body
        if isinstance(body, dict) and isinstance(body.get("text"), str):
            text = f"{body['title']}: {body['text']}" if isinstance(body.get("title"), str) else body["text"]
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= chars else flat[: chars - 1] + "…"


def explanation_fields(terms: pb.Explanation) -> dict[str, Any]:
    """A score taken apart, as JSON fields."""
    return {
        "similarity": terms.similarity, "importance": terms.importance, "ageS": terms.age_s,
        "halfLifeS": number(terms.half_life_s), "alpha": terms.alpha, "beta": terms.beta,
        "log2SimilarityTerm": terms.log2_similarity_term, "log2ImportanceTerm": terms.log2_importance_term,
        "log2DecayTerm": terms.log2_decay_term, "retention": terms.retention,
        "features": [
            {"name": f.name, "value": number(f.value), "weight": f.weight, "log2Term": f.log2_term}
            for f in terms.features
        ],
    }  # fmt: skip


def hit_fields(hit: pb.Hit) -> dict[str, Any]:
    """One recalled memory as JSON fields."""
    made: dict[str, Any] = {
        "rank": hit.rank, "id": hit.id, "score": hit.score, "log2Score": hit.log2_score, "seq": hit.seq,
        "version": hit.version, "kind": hit.kind, "contentType": hit.content_type, "digest": hit.digest.hex(),
        "metadata": metadata_field(hit.metadata_json), "eventTimeS": hit.event_time_s,
        "halfLifeClass": hit.half_life_class,
        "importance": hit.importance if hit.HasField("importance") else None,
    }  # fmt: skip
    made |= _payload(hit.payload)
    if hit.HasField("explanation"):
        made["explanation"] = explanation_fields(hit.explanation)
    return made


def _payload(payload: bytes) -> dict[str, Any]:
    fields = records.payload_fields(payload)
    return {"payloadText": fields["payload_text"]} if "payload_text" in fields else {
        "payloadBase64": fields["payload_base64"]
    }  # fmt: skip


def recall_fields(reply: pb.RecallReply) -> dict[str, Any]:
    """A recall's reply as JSON fields."""
    return {
        "hits": [hit_fields(hit) for hit in reply.hits], "seq": reply.seq, "nowS": reply.now_s,
        "truncated": reply.truncated, "rowsTotal": reply.rows_total, "rowsScored": reply.rows_scored,
    }  # fmt: skip


def decay(terms: pb.Explanation) -> float:
    """The factor 2^(-age/half-life) in [0, 1]."""
    return float(2.0**terms.log2_decay_term)


def feature_factor(terms: pb.Explanation) -> float:
    """The product of all feature channels' factors in [0, 1]."""
    return float(2.0 ** math.fsum(f.log2_term for f in terms.features))


def hits_table(hits: Iterable[pb.Hit], title: str = "") -> Table:
    """Ranked hits with the terms of their scores: similarity^b x importance^a x decay x features = score."""
    with_features = any(h.explanation.features for h in hits)
    columns = [Column("#", right=True), Column("score", right=True, style="bold"), Column("sim", right=True),
               Column("imp", right=True), Column("decay", right=True)]  # fmt: skip
    columns += [Column("feat", right=True)] if with_features else []
    columns += [Column("age", right=True), Column("memory", fold=True, ratio=1)]
    rows = []
    for hit in hits:
        t = hit.explanation
        explained = hit.HasField("explanation")
        cells: list[object] = [hit.rank, f"{hit.score:.4f}"]
        cells += [f"{t.similarity:.3f}", f"{t.importance:.3f}", f"{decay(t):.3f}"] if explained else ["", "", ""]
        cells += [f"{feature_factor(t):.3f}"] if with_features else []
        cells += [quantities.age(t.age_s) if explained else "", memory_cell(hit)]
        rows.append(cells)
    return table(columns, rows, title=title)


def memory_cell(hit: pb.Hit) -> object:
    """What a hit says, then its id, dimmed."""
    from rich.text import Text

    said = snippet(hit.payload, hit.content_type)
    return Text.assemble(said, " " if said else "", (printable(hit.id), "dim"))


def memory_fields(memory: pb.Memory) -> dict[str, Any]:
    """One memory as JSON fields."""
    made: dict[str, Any] = {
        "namespace": memory.namespace, "id": memory.id, "seq": memory.seq, "version": memory.version,
        "kind": memory.kind, "contentType": memory.content_type, "digest": memory.digest.hex(),
        "metadata": metadata_field(memory.metadata_json), "eventTimeS": memory.event_time_s,
        "halfLifeClass": memory.half_life_class,
        "importance": memory.importance if memory.HasField("importance") else None,
        "importanceNormalised": memory.importance_normalised, "features": dict(sorted(memory.features.items())),
        "accessTimeS": memory.access_time_s, "accessCount": memory.access_count, "deleted": memory.deleted,
        "retention": memory.retention, "storedAtS": memory.stored_at_s,
    }  # fmt: skip
    made |= _payload(memory.payload)
    if memory.vector_f32_le:
        made["vectorF32Base64"] = base64.b64encode(memory.vector_f32_le).decode()
    return made


def memories_table(memories: Sequence[pb.Memory]) -> Table:
    """A list of memories."""
    return table(
        [Column("id", fold=True), Column("v", right=True), Column("kind"), Column("event time", no_wrap=True),
         Column("memory", fold=True, ratio=1)],
        [[m.id, m.version, m.kind + (" (deleted)" if m.deleted else ""), quantities.moment(m.event_time_s),
          snippet(m.payload, m.content_type, 80)] for m in memories],
    )  # fmt: skip


def namespace_fields(namespace: pb.Namespace) -> dict[str, Any]:
    """A namespace's configuration as JSON fields."""
    return {
        "name": namespace.name, "dim": namespace.dim, "embedder": namespace.embedder,
        "halfLifeClasses": [
            {"name": c.name, "halfLifeS": number(c.half_life_s)} for c in namespace.half_life_classes
        ],
        "defaultHalfLifeClass": namespace.default_half_life_class,
        "features": [{"name": f.name, "weight": f.weight} for f in namespace.features],
        "alpha": namespace.alpha, "beta": namespace.beta,
        "refuseNormaliserUpdates": namespace.refuse_normaliser_updates,
        "configVersion": namespace.config_version, "createdSeq": namespace.created_seq,
        "normaliserVersion": namespace.normaliser_version, "configDigest": namespace.config_digest.hex(),
    }  # fmt: skip


def namespaces_table(namespaces: Iterable[pb.Namespace]) -> Table:
    """Namespaces, one a row."""
    return table(
        [Column("namespace"), Column("dim", right=True), Column("embedder"), Column("half-lives", fold=True),
         Column("features", fold=True), Column("alpha", right=True), Column("beta", right=True)],
        [[n.name, n.dim, n.embedder or "(vectors)", _classes(n),
          " ".join(f"{f.name}={f.weight:g}" for f in n.features), f"{n.alpha:g}", f"{n.beta:g}"] for n in namespaces],
    )  # fmt: skip


def _classes(namespace: pb.Namespace) -> str:
    return " ".join(
        f"{c.name}={quantities.age(c.half_life_s)}{'*' if c.name == namespace.default_half_life_class else ''}"
        for c in namespace.half_life_classes
    )
