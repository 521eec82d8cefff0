"""Backups: one snapshot while writers go on, verified, and restored whole or not at all."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from sfmd.errors import E, Refused
from sfmd.store.backup import MANIFEST, backup, restore
from sfmd.store.check import check
from sfmd.store.open import open_store
from sfmd.store.sqlite import FILE
from testing.log_rows import make_namespace, store_one


def _filled(folder: Path, count: int = 50) -> None:
    store = open_store(folder)
    ns = make_namespace(store)
    for number in range(count):
        store_one(store, ns.ns_id, f"m{number}", f"payload {number}".encode())
    store.close()


def test_a_backup_of_a_serving_store_is_a_prefix_of_its_log(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    ns = make_namespace(store)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            store_one(store, ns.ns_id, f"m{number}", b"p" * 5000)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while store.last_seq() < 20:
            stop.wait(0.01)
        for round_ in range(3):
            before = store.last_seq()
            store.backup(str(tmp_path / f"backup{round_}"))
            manifest = json.loads((tmp_path / f"backup{round_}" / MANIFEST).read_text())
            assert before <= manifest["last_seq"] <= store.last_seq()
    finally:
        stop.set()
        writer.join()
    log = store.changes(1, manifest["last_seq"], limit=1_000_000)
    store.close()
    restore(tmp_path / "backup2", tmp_path / "again")
    copy = open_store(tmp_path / "again")
    assert copy.last_seq() == manifest["last_seq"]
    assert copy.changes(1, copy.last_seq(), limit=1_000_000) == log
    assert store_one(copy, ns.ns_id, "goes on", b"x").seq == manifest["last_seq"] + 1
    copy.close()


def test_a_store_with_one_connection_backs_up_through_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data", version=(3, 40, 1))
    ns = make_namespace(store)
    store_one(store, ns.ns_id, "a", b"payload")
    store.backup(str(tmp_path / "backup"))
    store_one(store, ns.ns_id, "b", b"later")
    store.close()
    assert restore(tmp_path / "backup", tmp_path / "again").last_seq == 2
    assert check(tmp_path / "again").problems == []


def test_a_stopped_store_can_be_backed_up_too(tmp_path: Path) -> None:
    _filled(tmp_path / "data")
    manifest = backup(tmp_path / "data", tmp_path / "backup")
    assert manifest.last_seq == 51
    assert sorted(p.name for p in (tmp_path / "backup").iterdir()) == [MANIFEST, FILE]
    restore(tmp_path / "backup", tmp_path / "again")
    assert check(tmp_path / "again").problems == []


def test_a_backup_never_overwrites(tmp_path: Path) -> None:
    _filled(tmp_path / "data", 1)
    backup(tmp_path / "data", tmp_path / "backup")
    with pytest.raises(Refused) as refusal:
        backup(tmp_path / "data", tmp_path / "backup")
    assert refusal.value.code is E.CONFIG


def test_a_damaged_store_makes_no_backup(tmp_path: Path) -> None:
    _filled(tmp_path / "data")
    path = tmp_path / "data" / FILE
    path.write_bytes(path.read_bytes().replace(b"payload 17", b"payload 18"))
    with pytest.raises(Refused) as refusal:
        backup(tmp_path / "data", tmp_path / "backup")
    assert refusal.value.code is E.CORRUPT
    assert list(tmp_path.glob("backup*")) == []


def test_no_store_no_backup(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        backup(tmp_path / "nothing", tmp_path / "backup")
    assert refusal.value.code is E.CONFIG
    assert not (tmp_path / "backup").exists()


def test_a_restore_wants_an_empty_directory(tmp_path: Path) -> None:
    _filled(tmp_path / "data")
    backup(tmp_path / "data", tmp_path / "backup")
    before = (tmp_path / "data" / FILE).read_bytes()
    with pytest.raises(Refused) as refusal:
        restore(tmp_path / "backup", tmp_path / "data")
    assert refusal.value.code is E.CONFIG
    assert (tmp_path / "data" / FILE).read_bytes() == before


def test_a_restore_beside_a_running_daemon_is_refused(tmp_path: Path) -> None:
    _filled(tmp_path / "data")
    backup(tmp_path / "data", tmp_path / "backup")
    store = open_store(tmp_path / "other")
    with pytest.raises(Refused) as refusal:
        restore(tmp_path / "backup", tmp_path / "other")
    store.close()
    assert refusal.value.code is E.LOCKED


@pytest.mark.parametrize("damage", ["byte", "short", "manifest", "no manifest", "newer"])
def test_a_damaged_backup_restores_nothing(tmp_path: Path, damage: str) -> None:
    _filled(tmp_path / "data")
    backup(tmp_path / "data", tmp_path / "backup")
    copy, manifest = tmp_path / "backup" / FILE, tmp_path / "backup" / MANIFEST
    content = copy.read_bytes()
    if damage == "byte":
        copy.write_bytes(content.replace(b"payload 17", b"payload 18"))
    elif damage == "short":
        copy.write_bytes(content[:-4096])
    elif damage == "manifest":
        manifest.write_text("{}")
    elif damage == "newer":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"revision": "9999"}))
    else:
        manifest.unlink()
    with pytest.raises(Refused) as refusal:
        restore(tmp_path / "backup", tmp_path / "again")
    expected = {"byte": E.CORRUPT, "short": E.CORRUPT, "newer": E.SCHEMA}.get(damage, E.CONFIG)
    assert refusal.value.code is expected
    assert not (tmp_path / "again" / FILE).exists()
    assert list(tmp_path.glob("again/*.partial")) == []
