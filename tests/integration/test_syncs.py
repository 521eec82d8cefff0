"""Group commit, counted in system calls: a lone write is synced by itself, and many at a time share a sync."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfmd.rpc.client import Client
from testing.crash.callers import DIM, vector_of
from testing.crash.trace import SYNCS, strace
from testing.daemon import DaemonProcess

CALLERS, EACH = 32, 25


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path]]:
    """A client of a daemon whose syncs are written to a file as they happen."""
    folder = tmp_path_factory.mktemp("traced")
    log = folder / "syncs"
    wrap = (strace(), "-f", "--seccomp-bpf", "-e", f"trace={SYNCS}", "-o", str(log))
    # A group waits this long for those that are expected: a busy machine must not deliver them too late to count.
    daemon = DaemonProcess(folder, wrap=wrap, settings={"SOMA_WRITER__DELAY_S": "0.5"}).start()
    try:
        with Client(daemon.profile()) as client:
            client.create_namespace("notes", dim=DIM)
            yield client, log
    finally:
        daemon.stop()


def _syncs(log: Path) -> int:
    """Calls that were begun; the continuation of an interrupted line is not another."""
    return sum("sync(" in line for line in log.read_text().splitlines())


def _store(client: Client, name: str, count: int) -> None:
    for number in range(count):
        payload = f"{name}/{number}".encode()
        client.store("notes", payload, content_type="text/plain", vector=vector_of(payload))


def test_a_lone_writer_gets_a_sync_for_each_write(traced: tuple[Client, Path]) -> None:
    client, log = traced
    before = _syncs(log)
    _store(client, "lone", 40)
    assert _syncs(log) - before >= 40


def test_many_writers_share_their_syncs(traced: tuple[Client, Path]) -> None:
    client, log = traced
    threads = [threading.Thread(target=_store, args=(client, f"w{w}", EACH)) for w in range(CALLERS)]
    before, had = _syncs(log), client.stats("notes").namespaces[0].live
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = client.stats("notes").namespaces[0].live - had
    assert stored == CALLERS * EACH
    # How many share one depends on who is awake together, which is the machine's affair; `make bench` states it.
    assert (_syncs(log) - before) / stored <= 0.25
