"""What a store holds, in the words of `plan.live`: for comparing with what its writers were told."""

from __future__ import annotations

import hashlib

from sfmd.domain import Op
from sfmd.protocols import Store
from testing.crash.plan import live


def states(store: Store, ns_id: int) -> dict[str, str]:
    """The state of every id of the namespace. A live payload that does not match its digest is its own state."""
    found: dict[str, str] = {}
    after = ""
    while rows := store.list_rows(ns_id, after, 1000, include_deleted=True):
        after = rows[-1].id
        for row in rows:
            if row.op is Op.PURGED:
                found[row.id] = "purged" if row.payload is None else "purged, but its payload is there"
            elif row.deleted:
                found[row.id] = "deleted"
            elif row.payload is None or hashlib.sha256(row.payload).digest() != row.digest:
                found[row.id] = "damaged"
            else:
                found[row.id] = live(row.payload)
    return found
