"""A process to be killed: writer threads over one Store with group commit, telling on stdout what was acknowledged.

    python -m testing.crash.store_driver FOLDER --round R --writers W [--synchronous NORMAL] [--acks N] [--wal-pages P]

With `--serve` it stays a nursery instead: it reads `FOLDER ROUND WRITERS` lines and forks one child for each, which
starts in milliseconds because everything is loaded. Lines are short enough for a pipe to take them whole.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, Queue

import structlog

from sfmd.domain import Op
from sfmd.errors import Refused
from sfmd.protocols import Store, WriteTx
from sfmd.store import sqlite
from sfmd.store.open import open_store
from testing.crash.plan import Kind, Operation, operations
from testing.log_rows import change, content, make_namespace

NAMESPACE = "crash"
MOST_PER_COMMIT = 64
REFUSALS = 3
"""How often a writer goes on after a refusal, to show that none of the later ones is acknowledged."""
OPS = {Kind.DELETE: Op.DELETED, Kind.UNDO: Op.RESTORED, Kind.PURGE: Op.PURGED}

Waiting = tuple[Operation, "Future[None]"]


def say(line: str) -> None:
    """One line in one write: a kill leaves it whole or not there."""
    os.write(1, line.encode() + b"\n")


def apply(tx: WriteTx, ns_id: int, operation: Operation) -> None:
    """Log one operation."""
    if operation.kind is Kind.STORE:
        content(tx, ns_id, [(operation.id, operation.payload)], importance=float(operation.number))
        return
    if operation.kind is Kind.PURGE:
        tx.purge(ns_id, operation.id)
    change(tx, ns_id, operation.id, OPS[operation.kind])


def apply_all(tx: WriteTx, ns_id: int, group: list[Waiting]) -> None:
    """Log a group in its order."""
    for operation, _ in group:
        apply(tx, ns_id, operation)


def commit_groups(store: Store, ns_id: int, queue: Queue[Waiting]) -> None:
    """The one writer: everything that waits goes into one transaction, and each waiter hears of it afterwards."""
    while True:
        group = [queue.get()]
        try:
            while len(group) < MOST_PER_COMMIT:
                group.append(queue.get_nowait())
        except Empty:
            pass
        try:
            store.write(lambda tx, group=group: apply_all(tx, ns_id, group))  # type: ignore[misc]
        except Refused as refusal:
            for _, waiter in group:
                waiter.set_exception(refusal)
        else:
            for _, waiter in group:
                waiter.set_result(None)


def write_on(writer: str, queue: Queue[Waiting], enough: threading.Semaphore) -> None:
    """One writer: announce, wait for the commit, tell. An id whose operation was refused is left alone, since the
    plan goes on as if it had happened.
    """
    refusals = 0
    refused_ids: set[str] = set()
    for operation in operations(writer):
        if operation.id in refused_ids:
            continue
        say(f"begin {operation.line()}")
        waiter: Future[None] = Future()
        queue.put((operation, waiter))
        try:
            waiter.result()
        except Refused as refusal:
            say(f"refused {writer} {operation.number} {refusal.code.code}")
            refusals += 1
            refused_ids.add(operation.id)
            if refusals == REFUSALS:
                return
            continue
        say(f"ack {writer} {operation.number}")
        enough.release()


def drive(folder: Path, round_: int, writers: int, *, synchronous: str = "FULL", acks: int = 10**9) -> None:
    """Write until killed, or until so many acknowledgements; never closes the store: that is the point."""
    try:
        store = open_store(folder, synchronous=synchronous)
    except Refused as refusal:
        say(f"unopened {refusal.code.code}")
        return
    known = {n.name: n.ns_id for n in store.namespaces()}
    ns_id = known.get(NAMESPACE) or make_namespace(store, NAMESPACE).ns_id
    queue: Queue[Waiting] = Queue()
    enough = threading.Semaphore(0)
    threading.Thread(target=commit_groups, args=(store, ns_id, queue), daemon=True).start()
    threads = [
        threading.Thread(target=write_on, args=(f"r{round_}w{w}", queue, enough), daemon=True) for w in range(writers)
    ]
    for thread in threads:
        thread.start()
    for _ in range(acks):
        while not enough.acquire(timeout=0.2):
            if not any(thread.is_alive() for thread in threads):
                os._exit(0)
    os._exit(0)


def serve() -> None:
    """Fork a driver for each line of stdin; its pid is told first."""
    for line in sys.stdin:
        folder, round_, writers = line.split()
        pid = os.fork()
        if pid == 0:
            drive(Path(folder), int(round_), int(writers))
        say(f"pid {pid}")
        os.waitpid(pid, 0)
        say("dead")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--round", type=int, default=0)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--acks", type=int, default=10**9)
    parser.add_argument("--wal-pages", type=int, default=sqlite.WAL_PAGES)
    given = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for `say`
    if given.serve:
        serve()
        return
    sqlite.WAL_PAGES = given.wal_pages
    drive(Path(given.folder), given.round, given.writers, synchronous=given.synchronous, acks=given.acks)


if __name__ == "__main__":
    main()
