"""What every Store promises of reads with a bound on bytes: few rows beyond it, in order, and nothing left out."""

from __future__ import annotations

import pytest

from sfmd.domain import ChangeRow, Op
from sfmd.protocols import FEW, Store
from testing.log_rows import change_one, content, make_namespace, store_one

COUNT = 100
PAYLOAD = b"p" * 1000


@pytest.fixture
def ns_id(store: Store) -> int:
    ns_id = make_namespace(store).ns_id
    store.write(lambda tx: content(tx, ns_id, [(f"m{n:03}", PAYLOAD) for n in range(COUNT)]))
    return ns_id


@pytest.mark.parametrize("max_bytes", [1, 20_000, 10**9])
def test_changes_go_on_where_a_bound_ended_them(store: Store, ns_id: int, max_bytes: int) -> None:
    everything = store.changes(1, store.last_seq())
    found: list[ChangeRow] = []
    while part := store.changes(len(found) + 1, store.last_seq(), max_bytes=max_bytes):
        assert len(part) <= max_bytes // 1000 + FEW + 1
        found += part
    assert found == everything
    assert len(store.changes(1, store.last_seq(), max_bytes=10**9, limit=33)) == 33
    assert [r.seq for r in store.changes(5, 7, max_bytes=1)] == [5, 6, 7]


@pytest.mark.parametrize("max_bytes", [1, 20_000, 10**9])
@pytest.mark.parametrize("past", [False, True])
def test_a_list_goes_on_where_a_bound_ended_it(store: Store, ns_id: int, max_bytes: int, past: bool) -> None:
    then = store.last_seq() if past else None
    for n in range(40):
        change_one(store, ns_id, f"m{n:03}", Op.DELETED)
    store_one(store, ns_id, "m050", b"newer")
    everything = store.list_rows(ns_id, "", 1000, as_of_seq=then)
    assert len(everything) == (COUNT if past else COUNT - 40)
    found: list[ChangeRow] = []
    while part := store.list_rows(ns_id, found[-1].id if found else "", 1000, as_of_seq=then, max_bytes=max_bytes):
        assert len(part) <= max_bytes // 1000 + FEW + 1
        found += part
    assert found == everything
    assert len(store.list_rows(ns_id, "", 33, as_of_seq=then, max_bytes=10**9)) == 33
