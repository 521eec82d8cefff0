"""How a write ends: pure decisions over the present head, an idempotency record and the request.

The rule guarded here: equal requests answer as the first time, different ones under one name never overwrite each
other silently. Nothing in this module reads or writes anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sfmd.domain import Head, IdempotencyRecord, Outcome, WriteResult
from sfmd.errors import Code, E


@dataclass(frozen=True, slots=True)
class Verdict:
    """CREATED or UPDATED: write a row. DUPLICATE: `answer`, or the head's content when there is none. Else refused."""

    outcome: Outcome
    answer: WriteResult | None = None
    code: Code | None = None
    message: str = ""


CREATE = Verdict(Outcome.CREATED)
UPDATE = Verdict(Outcome.UPDATED)
SAME_CONTENT = Verdict(Outcome.DUPLICATE)


def conflict(code: Code, message: str) -> Verdict:
    """A refusal that leaves the stored memory as it is."""
    return Verdict(Outcome.CONFLICT, code=code, message=message)


def decide_key(record: IdempotencyRecord, keyed_digest: bytes) -> Verdict:
    """A used idempotency key: the same request answers as the first time, another is a conflict whatever it expects."""
    if record.request_digest == keyed_digest:
        return Verdict(Outcome.DUPLICATE, replace(record.result, outcome=Outcome.DUPLICATE))
    return conflict(E.EXISTS, f"idempotency key {record.key!r} was used for another request")


def decide_store(head: Head | None, request_digest: bytes, expected_version: int | None) -> Verdict:
    """What storing under an id does, given the memory that has it now.

    A deleted memory's id is free again. `expected_version` 0 says "must not exist". Equal content is a duplicate only
    at the expected version: of two callers who make the same change of the same version one must be told that it was
    not theirs. A retry of an update that arrived is known by its idempotency key.
    """
    if head is not None and head.purged:
        return conflict(E.PURGED, f"memory {head.id!r} was purged; its id is not used again")
    if head is None or head.deleted:
        version = 0 if head is None else head.version
        if expected_version is None or expected_version in (0, version):
            return CREATE
        return conflict(E.VERSION, f"no live memory has that id, so it is not at version {expected_version}")
    same = head.request_digest == request_digest
    if same and (expected_version is None or expected_version == head.version):
        return SAME_CONTENT
    if not same and (expected_version is None or expected_version == 0):
        return conflict(E.EXISTS, f"memory {head.id!r} exists at version {head.version} with other content")
    if expected_version != head.version:
        return conflict(E.VERSION, f"memory {head.id!r} is at version {head.version}, not {expected_version}")
    return UPDATE


def decide_change(head: Head | None, id_: str, expected_version: int | None = None) -> Verdict:
    """Whether a delete or a reinforcement may go on: the memory must live and be at the expected version."""
    if head is None or head.deleted or head.purged:
        return Verdict(Outcome.REJECTED, code=E.NO_MEMORY, message=f"no live memory has the id {id_!r}")
    if expected_version is not None and expected_version != head.version:
        return conflict(E.VERSION, f"memory {id_!r} is at version {head.version}, not {expected_version}")
    return UPDATE


def decide_undo(head: Head | None, id_: str, expected_seq: int | None) -> Verdict:
    """Whether the latest change of a memory may be reverted."""
    if head is None:
        return Verdict(Outcome.REJECTED, code=E.NO_MEMORY, message=f"no memory has the id {id_!r}")
    if head.purged:
        return conflict(E.PURGED, f"memory {id_!r} was purged and cannot be brought back")
    if expected_seq is not None and expected_seq != head.seq:
        return conflict(E.VERSION, f"the latest change of {id_!r} is seq {head.seq}, not {expected_seq}")
    return UPDATE
