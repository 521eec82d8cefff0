"""What the store costs: rows a second by transaction size, beside bare SQLite, and bytes on disk by page size.

    python -m bench.store [--quick] [--json FILE]

Every commit is durable. Processor time is given beside wall time, because a shared disk makes wall time vary.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw

from sfmd.domain import ChangeRow, Op
from sfmd.protocols import WriteTx
from sfmd.store import sqlite
from sfmd.store.open import open_store
from testing.log_rows import make_namespace

PAYLOAD_BYTES = 400


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `ratio` is bytes on disk by raw bytes of vector and payload."""

    what: str
    page_bytes: int
    dim: int
    rows_per_commit: int
    rows_per_s: float
    cpu_us_per_row: float
    ratio: float


def _batch(ns_id: int, dim: int, count: int) -> Callable[[WriteTx], None]:
    """New memories with random ids, and the look-up of their heads that a service makes."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    payloads = [os.urandom(PAYLOAD_BYTES) for _ in ids]
    digests = [hashlib.sha256(payload).digest() for payload in payloads]
    vector = os.urandom(4 * dim)

    def work(tx: WriteTx) -> None:
        tx.heads(ns_id, ids)
        first, at_s = tx.reserve(count), time.time()
        tx.append(
            [
                ChangeRow(
                    seq=seq,
                    ns_id=ns_id,
                    op=Op.CREATED,
                    principal="bench",
                    at_s=at_s,
                    id=id_,
                    version=1,
                    content_seq=seq,
                    row_seq=seq,
                    kind="memory",
                    payload=payload,
                    content_type="application/json",
                    digest=digest,
                    vector=vector,
                    importance=0.5,
                    event_time_s=at_s,
                    metadata_json="{}",
                    access_time_s=at_s,
                    request_digest=digest,
                )
                for seq, id_, payload, digest in zip(range(first, first + count), ids, payloads, digests, strict=True)
            ]
        )

    return work


def store_run(page_bytes: int, dim: int, rows_per_commit: int, total: int) -> Measured:
    """Append `total` rows through Store.write."""
    kept = sqlite.PAGE_BYTES, sqlite.WAL_PAGES
    sqlite.PAGE_BYTES, sqlite.WAL_PAGES = page_bytes, (8 << 20) // page_bytes
    folder = Path(tempfile.mkdtemp(dir="."))
    try:
        store = open_store(folder)
        ns_id = make_namespace(store, dim=dim).ns_id
        wall_s = cpu_s = 0.0
        for _ in range(total // rows_per_commit):
            work = _batch(ns_id, dim, rows_per_commit)
            wall_at, cpu_at = time.perf_counter(), time.thread_time()
            store.write(work)
            wall_s, cpu_s = wall_s + time.perf_counter() - wall_at, cpu_s + time.thread_time() - cpu_at
        store.close()
        size = (folder / sqlite.FILE).stat().st_size
    finally:
        sqlite.PAGE_BYTES, sqlite.WAL_PAGES = kept
        shutil.rmtree(folder)
    ratio = size / total / (4 * dim + PAYLOAD_BYTES)
    return Measured("store", page_bytes, dim, rows_per_commit, total / wall_s, 1e6 * cpu_s / total, ratio)


def floor_run(dim: int, rows_per_commit: int, total: int) -> Measured:
    """The same bytes into one table of bare SQLite, with an index by id: the least that a durable write costs here."""
    folder = Path(tempfile.mkdtemp(dir="."))
    connection = apsw.Connection(str(folder / "floor.sqlite3"))
    try:
        for setting in (f"page_size={sqlite.PAGE_BYTES}", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("CREATE TABLE rows(seq INTEGER PRIMARY KEY, id TEXT UNIQUE, vector BLOB, payload BLOB)")
        vector, payload = os.urandom(4 * dim), os.urandom(PAYLOAD_BYTES)
        wall_s = cpu_s = 0.0
        for first in range(0, total, rows_per_commit):
            rows = [(first + i, str(uuid.uuid4()), vector, payload) for i in range(rows_per_commit)]
            wall_at, cpu_at = time.perf_counter(), time.thread_time()
            with connection:
                connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", rows)
            wall_s, cpu_s = wall_s + time.perf_counter() - wall_at, cpu_s + time.thread_time() - cpu_at
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        size = (folder / "floor.sqlite3").stat().st_size
    finally:
        connection.close()
        shutil.rmtree(folder)
    ratio = size / total / (4 * dim + PAYLOAD_BYTES)
    return Measured("floor", sqlite.PAGE_BYTES, dim, rows_per_commit, total / wall_s, 1e6 * cpu_s / total, ratio)


def measure(quick: bool) -> list[Measured]:
    """Every run, store and floor in turns."""
    scale = 1 if quick else 5
    found = []
    for rows_per_commit, total in ((1, 400), (32, 4_096), (256, 8_192), (1_000, 10_000)):
        found.append(floor_run(256, rows_per_commit, total * scale))
        found.append(store_run(sqlite.PAGE_BYTES, 256, rows_per_commit, total * scale))
    for page_bytes in (4_096, 8_192, 16_384, 32_768):
        found += [store_run(page_bytes, dim, 512, 2_048 * scale) for dim in (256, 384, 768, 1_024, 1_536)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    given = parser.parse_args()
    found = measure(given.quick)
    print(f"{'':6} {'page':>6} {'dims':>5} {'rows/commit':>11} {'rows/s':>8} {'cpu µs/row':>10} {'disk/raw':>8}")
    for m in found:
        print(f"{m.what:6} {m.page_bytes:6} {m.dim:5} {m.rows_per_commit:11} {m.rows_per_s:8.0f} "
              f"{m.cpu_us_per_row:10.1f} {m.ratio:8.2f}")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps([asdict(m) for m in found], indent=1))


if __name__ == "__main__":
    main()
