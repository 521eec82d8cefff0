"""Failures of the disk: refused with a code, never a driver's exception, and never half a transaction."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sfmd.errors import E, Refused
from sfmd.protocols import WriteTx
from sfmd.store.check import check
from sfmd.store.open import open_store
from sfmd.store.sqlite import FILE
from testing.crash.plan import Expected
from testing.crash.states import states
from testing.crash.store_driver import NAMESPACE
from testing.crash.trace import strace
from testing.log_rows import content, make_namespace, store_one


def test_a_full_disk_before_the_commit_is_refused_and_writing_goes_on_later(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ns = make_namespace(store)
    cursor = store._writer.cursor
    cursor.execute("PRAGMA page_count")
    pages = cursor.fetchall()[0][0]
    cursor.execute(f"PRAGMA max_page_count = {pages + 2}")

    def work(tx: WriteTx) -> None:
        content(tx, ns.ns_id, [("big", b"x" * 200_000)])

    for _ in range(2):
        with pytest.raises(Refused) as refusal:
            store.write(work)
        assert refusal.value.code is E.STORE_DOWN
        assert "full" in refusal.value.message
    assert store.last_seq() == 1
    cursor.execute("PRAGMA max_page_count = 1000000")
    store.write(work)
    assert store.last_seq() == 2
    store.close()
    assert check(tmp_path).problems == []


def driven(folder: Path, data: Path, injection: str) -> subprocess.CompletedProcess[str]:
    """A driver over `data` up to 300 acknowledgements, some of its writes to the WAL made to fail."""
    failing = ["-e", "trace=pwrite64", "-P", str(data / f"{FILE}-wal"), "-e", injection]
    driver = [sys.executable, "-m", "testing.crash.store_driver", str(data), "--acks", "300"]
    run = subprocess.run(
        [strace(), "-f", "-o", str(folder / "log"), *failing, *driver],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "(INJECTED)" in (folder / "log").read_text()
    return run


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("nth", [4, 23])
def test_a_failed_write_is_never_an_acknowledgement(tmp_path: Path, error: str, nth: int) -> None:
    data = tmp_path / "data"
    store = open_store(data)
    make_namespace(store, NAMESPACE)
    store.close()
    run = driven(tmp_path, data, f"inject=pwrite64:error={error}:when={nth}+")
    expected = Expected()
    for line in run.stdout.splitlines():
        expected.hear(line)
    assert set(expected.refused) == {E.STORE_DOWN.code}, run.stderr
    assert expected.acknowledged < 300
    assert expected.acknowledged_too_late == 0
    store = open_store(data)
    assert expected.lost(states(store, store.namespaces()[0].ns_id)) == []
    store.close()
    assert check(data).problems == []


@pytest.mark.slow
def test_a_commit_that_found_no_room_is_undone_and_the_next_ones_are_taken(tmp_path: Path) -> None:
    data = tmp_path / "data"
    store = open_store(data)
    make_namespace(store, NAMESPACE)
    store.close()
    run = driven(tmp_path, data, "inject=pwrite64:error=ENOSPC:when=23..24")
    expected = Expected()
    for line in run.stdout.splitlines():
        expected.hear(line)
    assert set(expected.refused) == {E.STORE_DOWN.code}, run.stderr
    assert expected.acknowledged >= 300
    assert "commit_undone" in run.stderr
    store = open_store(data)
    assert expected.lost(states(store, store.namespaces()[0].ns_id)) == []
    store.close()
    assert check(data).problems == []


def test_a_damaged_page_is_data_loss_and_not_a_crash(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ns = make_namespace(store)
    for number in range(200):
        store_one(store, ns.ns_id, f"m{number}", b"p" * 2000)
    store.close()
    path = tmp_path / FILE
    damaged = bytearray(path.read_bytes())
    for start in range(8 * 16_384, len(damaged) - 16_384, 16_384):
        damaged[start : start + 200] = bytes(200)
    path.write_bytes(damaged)
    store = open_store(tmp_path)
    with pytest.raises(Refused) as refusal:
        list(store.core_rows(ns.ns_id, 1, store.last_seq()))
    assert refusal.value.code is E.CORRUPT
    store.close()


def test_writers_from_several_threads_take_turns(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ns = make_namespace(store)

    def write(number: int) -> None:
        for item in range(20):
            store_one(store, ns.ns_id, f"{number}-{item}", b"p")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.last_seq() == 81
    store.close()
    assert check(tmp_path).problems == []
