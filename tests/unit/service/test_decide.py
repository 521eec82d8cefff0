"""How a write ends, as a table: head, request, expected version -> outcome and code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfmd.decide import decide_change, decide_key, decide_store, decide_undo
from sfmd.domain import Head, IdempotencyRecord, Outcome, WriteResult
from sfmd.errors import Code, E

SAME, OTHER = b"same", b"other"
LIVE = Head(1, "a", 9, 3, 9, 9, False, False, b"digest", SAME, None, 0.0, 0)
DELETED = replace(LIVE, deleted=True, row_seq=0)
PURGED = replace(DELETED, purged=True)

TABLE: list[tuple[str, Head | None, bytes, int | None, Outcome, Code | None]] = [
    ("nothing there", None, SAME, None, Outcome.CREATED, None),
    ("nothing there, must not exist", None, SAME, 0, Outcome.CREATED, None),
    ("nothing there, but expected", None, SAME, 1, Outcome.CONFLICT, E.VERSION),
    ("equal", LIVE, SAME, None, Outcome.DUPLICATE, None),
    ("equal, at the expected version", LIVE, SAME, 3, Outcome.DUPLICATE, None),
    ("equal, must not exist", LIVE, SAME, 0, Outcome.CONFLICT, E.VERSION),
    ("equal, at another version: somebody else made the same change", LIVE, SAME, 2, Outcome.CONFLICT, E.VERSION),
    ("other", LIVE, OTHER, None, Outcome.CONFLICT, E.EXISTS),
    ("other, must not exist", LIVE, OTHER, 0, Outcome.CONFLICT, E.EXISTS),
    ("other, at the expected version", LIVE, OTHER, 3, Outcome.UPDATED, None),
    ("other, at another version", LIVE, OTHER, 2, Outcome.CONFLICT, E.VERSION),
    ("deleted", DELETED, OTHER, None, Outcome.CREATED, None),
    ("deleted, even the same", DELETED, SAME, None, Outcome.CREATED, None),
    ("deleted, must not exist", DELETED, OTHER, 0, Outcome.CREATED, None),
    ("deleted, at its last version", DELETED, OTHER, 3, Outcome.CREATED, None),
    ("deleted, at another version", DELETED, OTHER, 1, Outcome.CONFLICT, E.VERSION),
    ("purged", PURGED, OTHER, None, Outcome.CONFLICT, E.PURGED),
    ("purged, even the same", PURGED, SAME, 3, Outcome.CONFLICT, E.PURGED),
]


@pytest.mark.parametrize(("case", "head", "digest", "expected", "outcome", "code"), TABLE, ids=[t[0] for t in TABLE])
def test_store(case: str, head: Head | None, digest: bytes, expected: int | None, outcome: Outcome,
               code: Code | None) -> None:  # fmt: skip
    verdict = decide_store(head, digest, expected)
    assert (verdict.outcome, verdict.code) == (outcome, code)


def test_a_used_key_answers_the_same_request_as_the_first_time() -> None:
    first = WriteResult("a", 9, 3, Outcome.UPDATED, b"digest")
    verdict = decide_key(IdempotencyRecord(1, "k", SAME, first, 0.0), SAME)
    assert verdict.answer == replace(first, outcome=Outcome.DUPLICATE)


def test_a_used_key_refuses_another_request() -> None:
    record = IdempotencyRecord(1, "k", SAME, WriteResult("a", 9, 3, Outcome.UPDATED, b""), 0.0)
    verdict = decide_key(record, OTHER)
    assert (verdict.outcome, verdict.code) == (Outcome.CONFLICT, E.EXISTS)


CHANGES: list[tuple[Head | None, int | None, Code | None]] = [
    (LIVE, None, None),
    (LIVE, 3, None),
    (LIVE, 2, E.VERSION),
    (DELETED, None, E.NO_MEMORY),
    (PURGED, None, E.NO_MEMORY),
    (None, None, E.NO_MEMORY),
]


@pytest.mark.parametrize(("head", "expected", "code"), CHANGES)
def test_delete_and_reinforce(head: Head | None, expected: int | None, code: Code | None) -> None:
    assert decide_change(head, "a", expected).code is code


UNDOS: list[tuple[Head | None, int | None, Code | None]] = [
    (LIVE, None, None),
    (LIVE, 9, None),
    (LIVE, 8, E.VERSION),
    (DELETED, None, None),
    (PURGED, None, E.PURGED),
    (None, None, E.NO_MEMORY),
]


@pytest.mark.parametrize(("head", "expected", "code"), UNDOS)
def test_undo(head: Head | None, expected: int | None, code: Code | None) -> None:
    assert decide_undo(head, "a", expected).code is code
