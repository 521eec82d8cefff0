"""What every Store promises of the log: what was written comes back, as a whole, in order, and as it was at a seq."""

from __future__ import annotations

import math
import threading
from dataclasses import replace

import pytest

from sfmd.domain import ChangeRow, Channel, Event, HalfLife, IdempotencyRecord, Namespace, Op, Outcome, WriteResult
from sfmd.errors import E, Refused
from sfmd.protocols import Store, WriteTx
from testing.log_rows import (
    AT_S,
    change,
    change_one,
    content,
    digest_of,
    make_namespace,
    store_one,
    vector_of,
)


def test_an_empty_store_has_nothing(store: Store) -> None:
    assert store.last_seq() == 0
    assert store.horizon_seq() == 1
    assert store.namespaces() == []
    assert store.changes(1, 100) == []
    assert store.head(1, "a") is None
    assert store.rows([1, 2]) == {}


def test_a_namespace_comes_back_as_it_was_put(store: Store) -> None:
    made = make_namespace(store, half_lives=(HalfLife("day", 86_400.0), HalfLife("pinned", math.inf)),
                          channels=(Channel("trust", 0.25),), alpha=0.5, refuse_normaliser_updates=True)  # fmt: skip
    assert store.namespaces() == [made]
    again = replace(made, alpha=2.0, config_version=2)
    store.write(lambda tx: tx.put_namespace(again))
    assert store.namespaces() == [again]
    assert make_namespace(store, "other").ns_id != made.ns_id


def test_a_row_of_the_log_comes_back_field_by_field(store: Store) -> None:
    ns = make_namespace(store)
    payload = bytes(range(256)) * 40
    written = store_one(store, ns.ns_id, "ünïcode/ид", payload, importance=-3.25, event_time_s=-1.5, half_life_class=1,
                        features=(0.5, 1.0), metadata_json='{"a":"é"}', access_time_s=7.0, access_count=3,
                        detail_json='{"d":1}', kind="fact")  # fmt: skip
    assert store.changes(written.seq, written.seq) == [written]
    assert store.rows([written.seq], vectors=True) == {written.seq: written}
    lean = store.rows([written.seq], payloads=False)[written.seq]
    assert lean == replace(written, payload=None, vector=None)
    head = store.head(ns.ns_id, written.id)
    assert head is not None
    assert (head.seq, head.version, head.digest, head.request_digest) == (
        written.seq, 1, written.digest, written.request_digest)  # fmt: skip
    assert (head.importance, head.access_time_s, head.access_count) == (-3.25, 7.0, 3)


def test_a_missing_importance_and_a_missing_feature_stay_missing(store: Store) -> None:
    ns = make_namespace(store)
    row = store_one(store, ns.ns_id, "a", b"x", features=(math.nan, 0.0))
    back = store.rows([row.seq])[row.seq]
    assert back.importance is None
    assert math.isnan(back.features[0])
    assert back.features[1] == 0.0


def test_a_change_without_content_resolves_to_the_content_it_points_to(store: Store) -> None:
    ns = make_namespace(store)
    first = store_one(store, ns.ns_id, "a", b"payload", metadata_json='{"k":1}', features=(0.5,), importance=2.0)
    touched = change_one(store, ns.ns_id, "a", Op.REINFORCED, access_count=1, importance=9.0)
    assert store.changes(touched.seq, touched.seq)[0].payload is None
    row = store.rows([touched.seq], vectors=True)[touched.seq]
    assert (row.payload, row.vector, row.metadata_json, row.features, row.kind) == (
        b"payload", first.vector, '{"k":1}', (0.5,), "memory")  # fmt: skip
    assert (row.seq, row.content_seq, row.importance, row.access_count) == (touched.seq, first.seq, 9.0, 1)
    head = store.head(ns.ns_id, "a")
    assert head is not None
    assert (head.importance, head.access_count, head.digest) == (9.0, 1, first.digest)


def test_state_at_a_seq_is_what_it_was_then(store: Store) -> None:
    ns = make_namespace(store)
    before = store.last_seq()
    one = store_one(store, ns.ns_id, "a", b"one")
    other = store_one(store, ns.ns_id, "b", b"other")
    two = store_one(store, ns.ns_id, "a", b"two")
    gone = change_one(store, ns.ns_id, "a", Op.DELETED)
    back = change_one(store, ns.ns_id, "a", Op.RESTORED)

    def payload_at(seq: int) -> bytes | None:
        row = store.state_at(ns.ns_id, "a", seq)
        return None if row is None or row.deleted else row.payload

    seqs = (before, one.seq, other.seq, two.seq, gone.seq, back.seq, back.seq + 100)
    assert [payload_at(s) for s in seqs] == [None, b"one", b"one", b"two", None, b"two", b"two"]
    assert store.state_at(ns.ns_id + 1, "a", back.seq) is None


def test_a_list_is_in_byte_order_paged_and_as_of_a_seq(store: Store) -> None:
    ns, other = make_namespace(store), make_namespace(store, "other")
    ids = ["B", "a", "aa", "ä", "z", "ß", "0"]
    store.write(lambda tx: content(tx, ns.ns_id, [(i, i.encode()) for i in ids]))
    store_one(store, other.ns_id, "m", b"elsewhere")
    then = store.last_seq()
    change_one(store, ns.ns_id, "aa", Op.DELETED)
    store_one(store, ns.ns_id, "a", b"newer")
    store_one(store, ns.ns_id, "later", b"later")
    in_order = sorted(ids, key=str.encode)

    def listed(**how: object) -> list[tuple[str, bytes | None]]:
        found: list[ChangeRow] = []
        while True:
            page = store.list_rows(ns.ns_id, found[-1].id if found else "", 2, **how)  # type: ignore[arg-type]
            if not page:
                return [(r.id, r.payload) for r in found]
            found += page

    assert listed(as_of_seq=then) == [(i, i.encode()) for i in in_order]
    now = sorted({*ids, "later"} - {"aa"}, key=str.encode)
    assert [i for i, _ in listed()] == now
    assert dict(listed())["a"] == b"newer"
    assert [i for i, _ in listed(include_deleted=True)] == sorted([*now, "aa"], key=str.encode)
    assert all(p is None for _, p in listed(payloads=False))


def test_core_rows_are_those_that_made_or_ended_a_row(store: Store) -> None:
    ns, other = make_namespace(store), make_namespace(store, "other")
    a = store_one(store, ns.ns_id, "a", b"1")
    store_one(store, other.ns_id, "x", b"elsewhere")
    touched = change_one(store, ns.ns_id, "a", Op.REINFORCED)
    b = store_one(store, ns.ns_id, "a", b"2")
    gone = change_one(store, ns.ns_id, "a", Op.DELETED)
    back = change_one(store, ns.ns_id, "a", Op.RESTORED)
    rows = list(store.core_rows(ns.ns_id, 1, store.last_seq()))
    assert [(r.seq, r.row_seq, r.expires_seq) for r in rows] == [
        (a.seq, a.seq, 0), (b.seq, b.seq, a.seq), (gone.seq, 0, b.seq), (back.seq, back.seq, 0)]  # fmt: skip
    assert touched.seq not in {r.seq for r in rows}
    assert rows[-1].vector == b.vector
    assert [r.seq for r in store.core_rows(ns.ns_id, b.seq, gone.seq)] == [b.seq, gone.seq]


def test_core_rows_of_many_come_in_order(store: Store) -> None:
    ns = make_namespace(store)
    for part in range(3):
        items = [(f"{part}-{i}", b"p") for i in range(700)]
        store.write(lambda tx, items=items: content(tx, ns.ns_id, items))
    seqs = [r.seq for r in store.core_rows(ns.ns_id, 1, store.last_seq())]
    assert seqs == list(range(2, 2102))


def test_importances_are_counted_and_recalled_as_given(store: Store) -> None:
    ns, other = make_namespace(store), make_namespace(store, "other")
    for number in range(5):
        store_one(store, ns.ns_id, f"n{number}", b"p", importance=float(number))
        store_one(store, ns.ns_id, f"none{number}", b"p")
        store_one(store, other.ns_id, f"n{number}", b"p", importance=99.0)
    middle = store.last_seq()
    change_one(store, ns.ns_id, "n0", Op.REINFORCED, importance=50.0)
    change_one(store, ns.ns_id, "n0", Op.REINFORCED)
    change_one(store, ns.ns_id, "n0", Op.DELETED)
    change_one(store, ns.ns_id, "n0", Op.RESTORED)
    store.write(lambda tx: content(tx, ns.ns_id, [("x", b"1"), ("y", b"2")], importance=8.0))
    end = store.last_seq()
    assert store.count_importances(ns.ns_id, middle) == 5
    assert store.count_importances(ns.ns_id, end) == 8
    assert store.count_importances(other.ns_id, end) == 5
    assert store.recent_importances(ns.ns_id, middle, 3) == [2.0, 3.0, 4.0]
    assert store.recent_importances(ns.ns_id, end, 100) == [0.0, 1.0, 2.0, 3.0, 4.0, 50.0, 8.0, 8.0]


def test_details_are_the_rows_about_the_namespace(store: Store) -> None:
    ns = make_namespace(store)
    store_one(store, ns.ns_id, "a", b"p")

    def configure(tx: WriteTx) -> int:
        seq = tx.reserve(2)
        tx.append([ChangeRow(seq, ns.ns_id, Op.CONFIGURED, "op", AT_S, detail_json='{"alpha":2}'),
                   ChangeRow(seq + 1, ns.ns_id, Op.NORMALISER, "", AT_S, detail_json='{"v":1}')])  # fmt: skip
        return seq

    seq = store.write(configure)
    assert [(r.seq, r.detail_json) for r in store.details(ns.ns_id, Op.CONFIGURED, seq + 1)] == [(seq, '{"alpha":2}')]
    assert [r.seq for r in store.details(ns.ns_id, Op.NORMALISER, seq + 1)] == [seq + 1]
    assert store.details(ns.ns_id, Op.NORMALISER, seq) == []
    assert [r.seq for r in store.details(ns.ns_id, Op.NAMESPACE, seq)] == [ns.created_seq]
    assert store.rows([seq])[seq].detail_json == '{"alpha":2}'


def test_counts_follow_what_is_written(store: Store) -> None:
    ns = make_namespace(store)
    assert store.counts(ns.ns_id)["live"] == 0
    store.write(lambda tx: content(tx, ns.ns_id, [("a", b"1"), ("b", b"22"), ("c", b"333"), ("d", b"4444")]))
    change_one(store, ns.ns_id, "d", Op.DELETED)
    change_one(store, ns.ns_id, "b", Op.REINFORCED, access_count=7)
    assert store.counts(ns.ns_id) == {
        "live": 3, "deleted": 1, "purged": 0, "payload_bytes": 6, "median_payload_bytes": 2, "max_access_count": 7,
    }  # fmt: skip
    change_one(store, ns.ns_id, "c", Op.PURGED)
    assert (store.counts(ns.ns_id)["live"], store.counts(ns.ns_id)["purged"]) == (2, 1)


def test_changes_are_limited_and_of_one_namespace_when_asked(store: Store) -> None:
    ns, other = make_namespace(store), make_namespace(store, "other")
    store.write(lambda tx: content(tx, ns.ns_id, [(f"a{i}", b"p") for i in range(10)]))
    store_one(store, other.ns_id, "x", b"elsewhere")
    assert [r.seq for r in store.changes(3, 100, limit=4)] == [3, 4, 5, 6]
    assert [r.ns_id for r in store.changes(1, 100, ns_id=other.ns_id)] == [other.ns_id, other.ns_id]
    assert all(r.payload is None for r in store.changes(1, 100, payloads=False))


def test_old_idempotency_keys_are_forgotten_a_few_at_a_time(store: Store) -> None:
    first, second = make_namespace(store), make_namespace(store, "other")
    result = WriteResult("m", 1, 1, Outcome.CREATED, b"d")
    records = [
        IdempotencyRecord(ns.ns_id, f"k{n:02}", b"q", result, AT_S + n) for ns in (first, second) for n in range(20)
    ]
    store.write(lambda tx: tx.remember(records))
    went, after, steps = 0, (0, ""), 0
    at: tuple[int, str] | None = after
    while at is not None:
        count, at = store.forget_keys(AT_S + 10, at, 7)
        assert count <= 7
        went, steps = went + count, steps + 1
    assert (went, steps) == (20, 6)
    for ns in (first, second):
        kept = store.write(lambda tx, ns=ns: tx.idempotent(ns.ns_id, [f"k{n:02}" for n in range(20)]))  # type: ignore[misc]
        assert sorted(kept) == [f"k{n:02}" for n in range(10, 20)]
    assert store.forget_keys(AT_S + 10, (0, ""), 100) == (0, None)


def test_idempotency_records_come_back_by_namespace_and_key(store: Store) -> None:
    ns = make_namespace(store)
    row = store_one(store, ns.ns_id, "a", b"p")
    result = WriteResult("a", row.seq, 1, Outcome.CREATED, row.digest)
    records = [IdempotencyRecord(ns.ns_id, f"k{i}", digest_of(b"r"), result, AT_S) for i in range(20)]
    store.write(lambda tx: tx.remember(records))
    found = store.write(lambda tx: tx.idempotent(ns.ns_id, ["k3", "k19", "absent"]))
    assert found == {"k3": records[3], "k19": records[19]}
    assert store.write(lambda tx: tx.idempotent(ns.ns_id + 1, ["k3"])) == {}


def test_the_outbox_takes_events_of_its_transaction(store: Store) -> None:
    ns = make_namespace(store)

    def work(tx: WriteTx) -> None:
        row = content(tx, ns.ns_id, [("a", b"p")])[0]
        tx.enqueue([Event(row.seq, "sfmd.events", b"key", "{}")])
        raise Refused(E.BUSY, "changed my mind")

    with pytest.raises(Refused):
        store.write(work)
    assert store.head(ns.ns_id, "a") is None


def test_an_error_rolls_everything_back_and_writing_goes_on(store: Store) -> None:
    ns = make_namespace(store)
    last = store.last_seq()

    class Whim(Exception):
        pass

    def work(tx: WriteTx) -> None:
        content(tx, ns.ns_id, [("a", b"p")])
        raise Whim

    with pytest.raises(Whim):
        store.write(work)
    assert store.last_seq() == last
    assert store.head(ns.ns_id, "a") is None
    assert store_one(store, ns.ns_id, "a", b"again").seq == last + 1


@pytest.mark.parametrize("wrong", ["gap", "order", "unreserved", "unused", "time"])
def test_the_log_refuses_what_would_break_its_promises(store: Store, wrong: str) -> None:
    ns = make_namespace(store)
    store_one(store, ns.ns_id, "a", b"p")

    def row(seq: int, at_s: float = AT_S) -> ChangeRow:
        return ChangeRow(seq, ns.ns_id, Op.CONFIGURED, "op", at_s, detail_json="{}")

    def work(tx: WriteTx) -> None:
        seq = tx.reserve(2) if wrong != "unreserved" else 3
        rows = {
            "gap": [row(seq), row(seq + 2)],
            "order": [row(seq + 1), row(seq)],
            "unreserved": [row(seq)],
            "unused": [row(seq)],
            "time": [row(seq, AT_S - 1), row(seq + 1)],
        }
        tx.append(rows[wrong])

    with pytest.raises(Refused) as refusal:
        store.write(work)
    assert refusal.value.code is E.BUG
    assert store.last_seq() == 2


def test_what_was_written_is_there_when_it_is_opened_again(opener) -> None:
    store = opener()
    ns = make_namespace(store)
    row = store_one(store, ns.ns_id, "a", b"kept", importance=1.0)
    change_one(store, ns.ns_id, "a", Op.DELETED)
    store.close()
    store = opener()
    assert store.last_seq() == 3
    assert store.state_at(ns.ns_id, "a", row.seq) == row
    assert store.write(lambda tx: tx.reserve(0)) == 4
    head = store.head(ns.ns_id, "a")
    assert head is not None
    assert head.deleted


def test_a_closed_store_refuses(store: Store) -> None:
    ns = make_namespace(store)
    store.close()
    for call in (lambda: store.rows([1]), lambda: store.write(lambda tx: tx.reserve(0)), lambda: store.backup("/x"),
                 lambda: store.head(ns.ns_id, "a"), lambda: store.list_rows(ns.ns_id, "", 1)):  # fmt: skip
        with pytest.raises(Refused) as refusal:
            call()
        assert refusal.value.code is E.STOPPING
    store.close()


def test_reads_see_whole_transactions_while_another_thread_writes(store: Store) -> None:
    ns = make_namespace(store)
    pairs, stop, torn = 60, threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            listed = store.list_rows(ns.ns_id, "", 1000)
            if len({r.payload for r in listed}) > 1 or len(listed) not in (0, 2):
                torn.append([r.payload for r in listed])

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    try:
        for number in range(pairs):
            items = [("left", b"%d" % number), ("right", b"%d" % number)]
            store.write(lambda tx, items=items: content(tx, ns.ns_id, items))
    finally:
        stop.set()
        for thread in readers:
            thread.join()
    assert torn == []
    assert store.last_seq() == 1 + 2 * pairs


def test_a_purge_erases_every_version_and_keeps_the_digests(store: Store) -> None:
    ns = make_namespace(store)
    one = store_one(store, ns.ns_id, "a", b"secret one", metadata_json='{"who":"me"}', features=(0.5,))
    kept = store_one(store, ns.ns_id, "b", b"not secret")
    two = store_one(store, ns.ns_id, "a", b"secret two")

    def work(tx: WriteTx) -> int:
        erased = tx.purge(ns.ns_id, "a")
        change(tx, ns.ns_id, "a", Op.PURGED)
        return erased

    assert store.write(work) == 2
    assert store.write(lambda tx: tx.purge(ns.ns_id, "a")) == 0
    rows = store.rows([one.seq, two.seq, kept.seq], vectors=True)
    for old in (one, two):
        back = rows[old.seq]
        assert (back.payload, back.vector, back.metadata_json, back.features) == (None, None, "", ())
        assert back.digest == old.digest
    assert rows[kept.seq] == kept
    head = store.head(ns.ns_id, "a")
    assert head is not None
    assert head.purged
    assert head.deleted
    assert vector_of(1.0) != vector_of(2.0)


def test_heads_of_more_ids_than_one_statement_takes(store: Store) -> None:
    ns = make_namespace(store)
    ids = [f"id-{i:04}" for i in range(1300)]
    store.write(lambda tx: content(tx, ns.ns_id, [(i, i.encode()) for i in ids]))
    heads = store.write(lambda tx: tx.heads(ns.ns_id, [*ids, "absent"]))
    assert sorted(heads) == ids
    assert len(store.rows([h.seq for h in heads.values()])) == 1300
    assert isinstance(store.namespaces()[0], Namespace)
