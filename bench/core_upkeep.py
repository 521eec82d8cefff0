"""What writing and restarting cost: inserts in the size of a group commit beside real upkeep, and mapping a saved
index."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.core_data import NOW_S, Population
from sfmd.core.index import Index
from sfmd.core.model import Scoring

BATCH = 64


@dataclass
class Upkeep:
    """insert_us: the writer's processor time a row in microseconds, amortised; pauses by the clock in milliseconds (the
    longest apply, and the longest recall while rows arrive and segments merge); restart_s: open and first answer."""

    rows: int
    inserted: int
    insert_us: float
    pause_ms: float
    recall_pause_ms: float
    steps: int
    restart_s: float
    first_answer_ms: float
    bytes_on_disk: int

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def insert(people: Population, index: Index, count: int) -> tuple[float, float, float, int]:
    """Add `count` rows again in batches with upkeep and recalls in threads of their own."""
    done, steps, slowest = threading.Event(), [0], [0.0]

    def upkeep() -> None:
        while not done.is_set():
            if index.maintain():
                steps[0] += 1
            else:
                done.wait(0.002)

    def recall() -> None:
        n = 0
        while not done.is_set():
            start = time.perf_counter()
            index.search(people.queries[n % len(people.queries)], k=10, now_s=NOW_S)
            slowest[0] = max(slowest[0], time.perf_counter() - start)
            n += 1
            done.wait(0.005)

    batches = [people.rows(at, min(at + BATCH, count), after=people.n) for at in range(0, count, BATCH)]
    threads = [threading.Thread(target=upkeep), threading.Thread(target=recall)]
    for thread in threads:
        thread.start()
    spent = []
    for batch in batches:
        start, processor = time.perf_counter(), time.thread_time()
        index.apply(int(batch.seq[-1]), batch)
        spent.append((time.thread_time() - processor, time.perf_counter() - start))
        time.sleep(0.001)
    done.set()
    for thread in threads:
        thread.join()
    return (
        sum(cpu for cpu, _ in spent) / count * 1e6,
        max(clock for _, clock in spent) * 1e3,
        slowest[0] * 1e3,
        steps[0],
    )


def upkeep_of(people: Population, scoring: Scoring, count: int) -> Upkeep:
    """Build on disk, insert, save, close, open, ask."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "ns"
        index = Index(people.dim, scoring, folder)
        index.apply(people.n, people.rows())
        while index.maintain(idle=True):
            pass
        us, pause, recall_pause, steps = insert(people, index, count)
        index.save()
        index.close()
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        start = time.perf_counter()
        again = Index.open(folder, people.dim, scoring)
        opened = time.perf_counter()
        found = again.search(people.queries[0], k=10, now_s=NOW_S)
        end = time.perf_counter()
        assert again.seq == people.n + count and len(found.hits) == 10, again.problem
        again.close()
    return Upkeep(people.n, count, us, pause, recall_pause, steps, end - start, (end - opened) * 1e3, size)
