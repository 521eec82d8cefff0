"""Write memories straight into a store, as the service would log them: for tests and drivers of the store
alone.

Every function runs inside `Store.write`, takes what was there from the store's own heads, and keeps the log's
rules.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sfmd.domain import ChangeRow, HalfLife, Namespace, Op
from sfmd.protocols import Store, WriteTx

DIM = 8
AT_S = 1_700_000_000.0


def vector_of(number: float, dim: int = DIM) -> bytes:
    """A unit vector in the direction (number, 1, 0, …) as little-endian float32."""
    length = math.hypot(number, 1.0)
    return struct.pack(f"<{dim}f", number / length, 1.0 / length, *([0.0] * (dim - 2)))


def digest_of(payload: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(payload).digest()


def make_namespace(store: Store, name: str = "notes", at_s: float = AT_S, **fields: Any) -> Namespace:
    """A namespace and its row of the log."""

    def work(tx: WriteTx) -> Namespace:
        namespace = Namespace(
            ns_id=tx.new_namespace_id(),
            name=name,
            dim=DIM,
            embedder="",
            half_lives=(HalfLife("week", 604_800.0), HalfLife("pinned", math.inf)),
            default_half_life="pinned",
            channels=(),
            alpha=1.0,
            beta=1.0,
            refuse_normaliser_updates=False,
            config_version=1,
            created_seq=tx.reserve(1),
        )
        namespace = replace(namespace, **fields)
        tx.put_namespace(namespace)
        row = ChangeRow(namespace.created_seq, namespace.ns_id, Op.NAMESPACE, "tester", at_s, detail_json="{}")
        tx.append([row])
        return namespace

    return store.write(work)


def content(
    tx: WriteTx, ns_id: int, items: Sequence[tuple[str, bytes]], at_s: float = AT_S, **fields: Any
) -> list[ChangeRow]:
    """Append a new version with the given payload for each (id, payload); ids are distinct within one call."""
    heads = tx.heads(ns_id, [id_ for id_, _ in items])
    first = tx.reserve(len(items))
    rows = []
    for seq, (id_, payload) in enumerate(items, first):
        head = heads.get(id_)
        row = ChangeRow(
            seq=seq,
            ns_id=ns_id,
            op=Op.UPDATED if head and not head.deleted else Op.CREATED,
            principal="tester",
            at_s=at_s,
            id=id_,
            version=head.version + 1 if head else 1,
            content_seq=seq,
            row_seq=seq,
            expires_seq=head.row_seq if head else 0,
            prev_seq=head.seq if head else 0,
            kind="memory",
            payload=payload,
            content_type="text/plain",
            digest=digest_of(payload),
            vector=vector_of(seq),
            event_time_s=at_s,
            metadata_json="{}",
            access_time_s=at_s,
            request_digest=digest_of(b"request" + payload),
        )
        rows.append(replace(row, **fields))
    tx.append(rows)
    return rows


def change(tx: WriteTx, ns_id: int, id_: str, op: Op, at_s: float = AT_S, **fields: Any) -> ChangeRow:
    """Append a change without content: DELETED, RESTORED, REINFORCED or PURGED."""
    head = tx.heads(ns_id, [id_])[id_]
    last = tx.changes([head.seq])[head.seq]
    seq = tx.reserve(1)
    gone = op in (Op.DELETED, Op.PURGED)
    anew = op is Op.RESTORED or fields.get("importance", last.importance) != last.importance
    row_seq = 0 if gone else seq if anew else head.row_seq
    row = replace(
        last,
        seq=seq,
        op=op,
        at_s=at_s,
        version=head.version + 1,
        content_seq=head.content_seq,
        row_seq=row_seq,
        expires_seq=head.row_seq if head.row_seq != row_seq else 0,
        prev_seq=head.seq,
        deleted=gone,
        payload=None,
        vector=None,
        features=(),
        metadata_json="",
    )
    row = replace(row, **fields)
    tx.append([row])
    return row


def store_one(store: Store, ns_id: int, id_: str, payload: bytes, **fields: Any) -> ChangeRow:
    """One memory in a transaction of its own."""
    return store.write(lambda tx: content(tx, ns_id, [(id_, payload)], **fields)[0])


def change_one(store: Store, ns_id: int, id_: str, op: Op, **fields: Any) -> ChangeRow:
    """One change without content in a transaction of its own; a purge erases first."""

    def work(tx: WriteTx) -> ChangeRow:
        if op is Op.PURGED:
            tx.purge(ns_id, id_)
        return change(tx, ns_id, id_, op, **fields)

    return store.write(work)
