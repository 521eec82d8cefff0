"""A purge leaves nothing: after it no file of the data directory holds the bytes, neighbours and history included."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import apsw

from sfmd.domain import Op
from sfmd.store.check import check
from sfmd.store.open import open_store
from sfmd.store.sqlite import FILE
from testing.log_rows import change_one, make_namespace, store_one


def _files_with(folder: Path, needle: bytes) -> list[str]:
    """Files that hold the bytes. Another process looks: a close in this one would drop SQLite's locks."""
    found = subprocess.run(["grep", "-rlaF", needle.decode(), str(folder)], capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1), found.stderr
    return [Path(line).name for line in found.stdout.split()]


def test_purged_bytes_leave_every_file_while_the_store_is_open(tmp_path: Path) -> None:
    """Payloads from a few bytes to several pages, so that rows share pages and overflow; purged in random order."""
    rng = random.Random(11)
    store = open_store(tmp_path)
    ns = make_namespace(store)
    needles = {}
    for number in range(60):
        size = rng.choice((30, 300, 3_000, 30_000, 90_000))
        needles[f"m{number}"] = needle = f"needle-{number:03}-{rng.getrandbits(64):016x}".encode()
        for version in range(2):
            payload = needle + bytes([version]) * size + needle
            store_one(store, ns.ns_id, f"m{number}", payload, metadata_json=f'{{"m":"{needle.decode()}"}}')
    order = list(needles)
    rng.shuffle(order)
    assert _files_with(tmp_path, needles["m0"]) != []
    for id_ in order[:40]:
        change_one(store, ns.ns_id, id_, Op.PURGED)
        assert _files_with(tmp_path, needles[id_]) == [], id_
    for id_ in order[40:]:
        assert store.state_at(ns.ns_id, id_, store.last_seq()).payload.count(needles[id_]) == 2  # type: ignore[union-attr]
    store.close()
    for id_ in order[:40]:
        assert _files_with(tmp_path, needles[id_]) == [], id_
    assert check(tmp_path).problems == []


def test_kind_and_content_type_go_too_also_of_versions_that_a_compaction_emptied(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ns = make_namespace(store)
    first = store_one(store, ns.ns_id, "a", b"one", kind="needle-kind", content_type="text/needle")
    store_one(store, ns.ns_id, "a", b"two", kind="needle-kind", content_type="text/needle")
    store.write(lambda tx: tx.strip([first.seq]))
    assert _files_with(tmp_path, b"needle") != []
    assert store.write(lambda tx: tx.purge(ns.ns_id, "a")) == 1
    change_one(store, ns.ns_id, "a", Op.PURGED)
    assert _files_with(tmp_path, b"needle") == []
    store.close()
    assert check(tmp_path).problems == []


def test_a_purge_that_a_reader_delays_is_finished_by_the_next_write(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ns = make_namespace(store)
    store_one(store, ns.ns_id, "a", b"needle-under-a-reader")
    reader = apsw.Connection(str(tmp_path / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM memories").fetchall()
    change_one(store, ns.ns_id, "a", Op.PURGED)
    assert _files_with(tmp_path, b"needle-under-a-reader") != [], "the reader's snapshot still needs the WAL"
    reader.close()
    store_one(store, ns.ns_id, "b", b"other")
    assert _files_with(tmp_path, b"needle-under-a-reader") == []
    store.close()
