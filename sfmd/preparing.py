"""Memories on their way into the log: judged, digested, embedded and normalised, many at a time.

A batch is judged item by item and normalised as one matrix; a bad item becomes its own outcome and costs the others
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from sfmd import digests, validation
from sfmd.contract import Limits
from sfmd.core import vectors
from sfmd.core.model import F32
from sfmd.domain import MemoryInput, Namespace
from sfmd.errors import Code, E, Refused
from sfmd.protocols import Embedder


class Item:
    """One memory, validated and digested, on its way into the log. Not frozen: ten thousands are made a second."""

    __slots__ = (
        "content_type", "digest", "error", "event_time_s", "expected_version", "features", "half_life", "id",
        "importance", "key", "key_digest", "kind", "metadata", "metadata_json", "payload", "place", "request_digest",
    )  # fmt: skip

    id: str
    kind: str
    payload: bytes
    content_type: str
    digest: bytes
    request_digest: bytes
    importance: float | None
    event_time_s: float | None
    half_life: int
    features: tuple[float, ...]
    metadata_json: str
    metadata: Mapping[str, Any]
    expected_version: int | None
    key: str
    key_digest: bytes
    place: int
    """Its row in the command's matrix of vectors; -1 when it was rejected."""
    error: Refused | None


class Embedders:
    """The embedders that this daemon has, by fingerprint."""

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        self._by_fingerprint: Mapping[str, Embedder] = {e.fingerprint: e for e in embedders}

    def named(self, name: str) -> Embedder:
        """The embedder of a name ("hash-v1") or fingerprint ("hash-v1/1024"). Refused(INVALID)."""
        for fingerprint, embedder in self._by_fingerprint.items():
            if name in (fingerprint, fingerprint.split("/")[0]):
                return embedder
        known = ", ".join(f.split("/")[0] for f in self._by_fingerprint) or "none"
        raise Refused(E.INVALID, f"this daemon has no embedder of that name; it has: {known}")

    def of(self, namespace: Namespace) -> Embedder:
        """The embedder that a namespace was made with. Refused: NO_EMBEDDER, FINGERPRINT."""
        if not namespace.embedder:
            raise Refused(E.NO_EMBEDDER, f"namespace {namespace.name!r} takes vectors only")
        found = self._by_fingerprint.get(namespace.embedder)
        if found is None:
            raise Refused(
                E.FINGERPRINT,
                f"namespace {namespace.name!r} was made by {namespace.embedder!r}, which this daemon does not have",
            )
        return found


@dataclass(frozen=True, slots=True)
class Prepared:
    """Items in order, and the unit vectors float32[N, D] of those that were not rejected."""

    items: list[Item]
    vectors: F32


class Preparing:
    """Turns memories into items; holds what that needs beside the namespace."""

    def __init__(self, embedders: Embedders, limits: Limits) -> None:
        self._embedders, self._limits = embedders, limits

    def prepare(self, memories: Sequence[MemoryInput], namespace: Namespace) -> Prepared:
        """Judge, digest and normalise. A rejected item keeps its refusal; nothing is raised for it."""
        classes = {h.name: number for number, h in enumerate(namespace.half_lives)}
        classes[""] = classes[namespace.default_half_life]
        items: list[Item] = []
        good: list[Item] = []
        raw: list[bytes] = []
        texts: list[tuple[int, str]] = []
        size = 4 * namespace.dim
        for memory in memories:
            item = Item()
            item.id, item.key, item.error, item.place = memory.id, "", None, -1
            items.append(item)
            try:
                validation.memory_fields(memory, self._limits)
                fill(item, memory, classes, namespace, self._limits)
                if memory.vector is None:
                    self._embedders.of(namespace)
                    texts.append((len(raw), memory.text or ""))
                    raw.append(b"")
                elif len(memory.vector) != size:
                    raise Refused(E.DIMENSION, dimension_words(len(memory.vector), namespace))
                else:
                    raw.append(memory.vector)
                good.append(item)
            except Refused as refused:
                item.error, item.key = refused, ""
                item.id = item.id[:256] if item.id.isprintable() else ""
        if texts:
            embedded = self._embedders.of(namespace).embed([text for _, text in texts])
            for number, (place, _) in enumerate(texts):
                raw[place] = embedded[number * size : (number + 1) * size]
        return Prepared(items, _normalised(good, raw, namespace.dim, frozenset(place for place, _ in texts)))


def fill(item: Item, memory: MemoryInput, classes: Mapping[str, int], namespace: Namespace, limits: Limits) -> None:
    """Copy a judged memory into an item, with its digests."""
    half_life = classes.get(memory.half_life_class)
    if half_life is None:
        raise Refused(E.INVALID, f"half_life_class {memory.half_life_class[:64]!r} is none of the namespace's")
    item.kind, item.payload, item.content_type = memory.kind, memory.payload, memory.content_type
    item.half_life = half_life
    item.features = validation.features(memory.features, namespace.channels) if memory.features else ()
    item.metadata = validation.metadata(memory.metadata_json, limits)
    item.metadata_json = memory.metadata_json if item.metadata else "{}"
    item.importance, item.event_time_s = memory.importance, memory.event_time_s
    item.expected_version, item.key = memory.expected_version, memory.idempotency_key
    item.digest = sha256(memory.payload).digest()
    item.request_digest = digests.content_digest(memory, item.digest)
    item.key_digest = digests.keyed_digest("store", memory.id, item.request_digest) if item.key else b""


def bad_vector(status: int, *, texts: bool) -> Code:
    """Why a vector cannot be normalised. A text without a word embeds to zeros."""
    if status == vectors.NOT_FINITE:
        return E.NOT_FINITE
    return E.EMPTY_TEXT if texts else E.ZERO_VECTOR


def _normalised(good: list[Item], raw: list[bytes], dim: int, texts: frozenset[int]) -> F32:
    """Unit vectors of the good items; those that have none are rejected here and lose their place."""
    matrix, status = vectors.normalise(b"".join(raw), dim)
    if status.any():
        keep = np.flatnonzero(status == vectors.OK)
        for number in np.flatnonzero(status):
            bad = good[number]
            bad.error, bad.key = Refused(bad_vector(int(status[number]), texts=number in texts)), ""
        good = [good[number] for number in keep]
        matrix = matrix[keep]
    for place, item in enumerate(good):
        item.place = place
    return matrix


def dimension_words(size: int, namespace: Namespace) -> str:
    """Why a vector's bytes do not fit."""
    have = f"{size // 4} components" if size % 4 == 0 else f"{size} bytes, which is no number of float32 components"
    return f"the vector has {have}; namespace {namespace.name!r} takes {namespace.dim}"
