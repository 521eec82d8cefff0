"""Canonical digests: of a request to store, of a query, of what ranks, and of an answer.

They decide what counts as "the same": a duplicate, a receipt's request, a byte-identical replay. Each is SHA-256 over
one fixed encoding; changing an encoding makes old receipts and retries unknown, so it may only ever be extended.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from hashlib import sha256

from sfmd.core.model import NormaliserVersion
from sfmd.domain import Channel, HalfLife, Hit, MemoryInput, Namespace, Query

_FLOATS = struct.Struct("<ddd")


def content_digest(memory: MemoryInput, payload_digest: bytes) -> bytes:
    """What a caller asked to store, without its id, key and expected version: equal digests are equal requests."""
    m = memory
    words = repr((m.kind, m.content_type, m.importance, m.event_time_s, m.half_life_class, m.metadata_json))
    features = repr(sorted(m.features.items())) if m.features else ""
    parts = [(words + features).encode("utf-8", "surrogatepass"), payload_digest]
    if m.text is not None:
        parts += (b"T", m.text.encode("utf-8", "surrogatepass"))
    if m.vector is not None:
        parts += (b"V", m.vector)
    return sha256(b"".join(parts)).digest()


def keyed_digest(verb: str, id_: str, rest: bytes) -> bytes:
    """The digest that an idempotency key stands for."""
    return sha256(repr((verb, id_)).encode("utf-8", "surrogatepass") + rest).digest()


def query_digest(query: Query) -> bytes:
    """What a recall asked for; `min_seq`, `explain` and `receipt` change no hit and are left out."""
    asked = asdict(query)
    for name in ("min_seq", "explain", "receipt"):
        del asked[name]
    asked["vector"] = None if query.vector is None else sha256(query.vector).hexdigest()
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), default=lambda value: value.value)
    return sha256(text.encode("ascii")).digest()


def namespace_detail(namespace: Namespace) -> dict[str, object]:
    """A namespace's configuration as JSON can hold it (an infinite half-life is the word "Infinity")."""
    return {
        "name": namespace.name,
        "dim": namespace.dim,
        "embedder": namespace.embedder,
        "half_lives": [[h.name, h.seconds if math.isfinite(h.seconds) else "Infinity"] for h in namespace.half_lives],
        "default_half_life": namespace.default_half_life,
        "channels": [[c.name, c.weight] for c in namespace.channels],
        "alpha": namespace.alpha,
        "beta": namespace.beta,
        "refuse_normaliser_updates": namespace.refuse_normaliser_updates,
        "config_version": namespace.config_version,
    }


def namespace_from_detail(detail: Mapping[str, object], ns_id: int, created_seq: int) -> Namespace:
    """The inverse of `namespace_detail`."""
    d: dict[str, object] = dict(detail)
    halves, channels = d.pop("half_lives"), d.pop("channels")
    assert isinstance(halves, list) and isinstance(channels, list)  # noqa: S101 - our own rows of the log
    return Namespace(
        ns_id=ns_id,
        created_seq=created_seq,
        half_lives=tuple(HalfLife(str(name), float(seconds)) for name, seconds in halves),
        channels=tuple(Channel(str(name), float(weight)) for name, weight in channels),
        **d,  # type: ignore[arg-type]
    )


def detail_json(detail: Mapping[str, object]) -> str:
    """One canonical text of a detail."""
    return json.dumps(detail, sort_keys=True, separators=(",", ":"))


def config_digest(namespace: Namespace, normaliser: NormaliserVersion) -> bytes:
    """Everything that ranks: the namespace's configuration and the normaliser's version with its numbers."""
    text = detail_json({"namespace": namespace_detail(namespace), "normaliser": asdict(normaliser)})
    return sha256(text.encode("ascii")).digest()


def answer_digest(hits: Iterable[Hit]) -> bytes:
    """The hits in order, every field that the log decides; payloads by their digests.

    An explanation is left out: it restates the score, and its retention is measured against today's namespace.
    """
    digest = sha256()
    for hit in hits:
        words = repr((hit.rank, hit.id, hit.seq, hit.version, hit.kind, hit.content_type, hit.metadata_json,
                      hit.half_life_class, hit.importance))  # fmt: skip
        digest.update(words.encode("utf-8", "surrogatepass"))
        digest.update(_FLOATS.pack(hit.log2_score, hit.score, hit.event_time_s))
        digest.update(hit.digest)
    return digest.digest()
