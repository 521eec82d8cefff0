"""`check` finds each kind of damage, and says which row it is."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from sfmd.domain import Event, IdempotencyRecord, Op, Outcome, WriteResult
from sfmd.errors import E, Refused
from sfmd.store.check import check
from sfmd.store.open import open_store
from sfmd.store.sqlite import FILE
from testing.log_rows import AT_S, change_one, digest_of, make_namespace, store_one


def _sound(folder: Path) -> None:
    """A store that has everything: versions, a delete, an undo, a reinforcement, a purge, events and keys."""
    store = open_store(folder)
    ns = make_namespace(store)
    store_one(store, ns.ns_id, "a", b"a one", importance=1.0)
    store_one(store, ns.ns_id, "a", b"a two", importance=2.0)
    store_one(store, ns.ns_id, "b", b"b one")
    change_one(store, ns.ns_id, "b", Op.DELETED)
    change_one(store, ns.ns_id, "b", Op.RESTORED)
    change_one(store, ns.ns_id, "a", Op.REINFORCED, access_count=1)
    row = store_one(store, ns.ns_id, "gone", b"gone one")
    change_one(store, ns.ns_id, "gone", Op.PURGED)
    result = WriteResult("a", 2, 1, Outcome.CREATED, digest_of(b"a one"))
    store.write(lambda tx: tx.remember([IdempotencyRecord(ns.ns_id, "key", b"", result, AT_S)]))
    store.write(lambda tx: tx.enqueue([Event(row.seq, "sfmd.events", b"k", "{}")]))
    store.close()


def test_a_sound_store_has_no_problems(tmp_path: Path) -> None:
    _sound(tmp_path)
    report = check(tmp_path)
    assert report.problems == []
    assert (report.last_seq, report.changes, report.memories) == (9, 9, 3)
    assert report.payload_bytes == len(b"a onea twob one")


def test_a_serving_store_can_be_checked(tmp_path: Path) -> None:
    _sound(tmp_path)
    store = open_store(tmp_path)
    assert check(tmp_path).problems == []
    store.close()


DAMAGE = {
    "payload": ("UPDATE memory_changes SET payload = CAST('a twö' AS BLOB) WHERE seq = 3", "row 3 (a): the payload"),
    "no payload": ("UPDATE memory_changes SET payload = NULL WHERE seq = 3", "row 3 (a): the payload"),
    "vector": ("UPDATE memory_changes SET vector = zeroblob(28) WHERE seq = 3", "row 3 (a): the vector has 28 bytes"),
    "a gap": ("DELETE FROM memory_changes WHERE seq = 6", "the log has no rows 6..6"),
    "time": ("UPDATE memory_changes SET at_s = at_s - 5 WHERE seq = 5", "row 5 was committed"),
    "previous": ("UPDATE memory_changes SET prev_seq = 2 WHERE seq = 7", "row 7 (a) names 2"),
    "version": ("UPDATE memory_changes SET version = 1 WHERE seq = 7", "row 7 (a) goes back from version 2 to 1"),
    "content": ("UPDATE memory_changes SET content_seq = 4 WHERE seq = 7", "row 7 (a) points to row 4"),
    "core row": ("UPDATE memory_changes SET row_seq = 2 WHERE seq = 7", "row 7 (a) stands on core row 2"),
    "ended row": ("UPDATE memory_changes SET expires_seq = 0 WHERE seq = 3", "row 3 (a) ends core row 0"),
    "importances": ("UPDATE memory_changes SET importances = 7 WHERE seq = 5", "row 5 counts 7 importances"),
    "namespace": ("UPDATE memory_changes SET ns_id = 2 WHERE seq = 8", "namespace 2, which does not exist"),
    "made": ("UPDATE namespaces SET created_seq = 2", "namespace notes claims"),
    "unpurged": ("UPDATE memory_changes SET payload = CAST('gone one' AS BLOB) WHERE seq = 8", "still holds bytes"),
    "head seq": ("UPDATE memories SET seq = 2 WHERE id = 'a'", "memories says seq 2 of a"),
    "head content": ("UPDATE memories SET content_seq = 2 WHERE id = 'a'", "memories says content_seq 2 of a"),
    "head state": ("UPDATE memories SET state = 1 WHERE id = 'a'", "memories says state 1 of a"),
    "head size": ("UPDATE memories SET payload_bytes = 1 WHERE id = 'a'", "memories says payload_bytes 1 of a"),
    "head access": ("UPDATE memories SET access_count = 9 WHERE id = 'a'", "memories says access_count 9 of a"),
    "head lost": ("DELETE FROM memories WHERE id = 'a'", "memories lacks a"),
    "head made up": ("INSERT INTO memories VALUES (1, 'x', 2, 2, 0, 0, 0)", "memories has x"),
    "outbox": ("UPDATE outbox SET seq = 99", "for row 99"),
    "idempotency": ("UPDATE idempotency SET seq = 4", "idempotency key key answers with a version 1 at row 4"),
    "index": ("UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'outbox') "
              "WHERE name = 'ix_memory_changes_ns_id_seq'", "page structure"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_kind_of_damage_is_found(tmp_path: Path, kind: str) -> None:
    _sound(tmp_path)
    statement, words = DAMAGE[kind]
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(statement)
    connection.close()
    report = check(tmp_path)
    assert any(words in problem for problem in report.problems), report.problems


def test_overwritten_pages_are_found(tmp_path: Path) -> None:
    _sound(tmp_path)
    path = tmp_path / FILE
    content = bytearray(path.read_bytes())
    content[3 * 16_384 : 3 * 16_384 + 2_000] = bytes(range(200)) * 10
    path.write_bytes(content)
    assert check(tmp_path).problems != []


def test_many_problems_are_counted_and_the_first_are_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ns = make_namespace(store)
    for number in range(150):
        store_one(store, ns.ns_id, f"m{number}", b"p")
    store.close()
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute("UPDATE memories SET access_count = 9")
    connection.close()
    report = check(tmp_path)
    assert (len(report.problems), report.more) == (100, 50)


def test_no_store_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        check(tmp_path)
    assert refusal.value.code is E.CONFIG
