"""`sfmd check`: the store verifies itself, then the segments are held against it. Nothing is mended here.

The store's part runs beside a serving daemon; the segments belong to the daemon while it runs, and are then named as
not checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sfmd.config import Settings
from sfmd.core.files import MANIFEST
from sfmd.core.index import Index
from sfmd.core.model import NEVER
from sfmd.domain import Op
from sfmd.errors import E, Refused
from sfmd.protocols import Store
from sfmd.spaces import history_from_log
from sfmd.store.check import check as check_store
from sfmd.store.open import open_store


@dataclass(slots=True)
class CheckReport:
    """What was read, what the segments are, and what is wrong, in words."""

    last_seq: int
    changes: int
    memories: int
    payload_bytes: int
    problems: list[str]
    more_problems: int = 0
    segments: list[str] = field(default_factory=list)


def check_all(settings: Settings) -> CheckReport:
    """Check the data directory of these settings. Refused when it holds no store that can be read."""
    found = check_store(settings.data_dir)
    report = CheckReport(
        found.last_seq, found.changes, found.memories, found.payload_bytes, list(found.problems), found.more
    )
    if report.problems:
        report.segments.append("not checked: the store is damaged")
        return report
    try:
        store = open_store(settings.data_dir, migrate=False)
    except Refused as refused:
        if refused.code is not E.LOCKED:
            raise
        report.segments.append("not checked: a daemon has them open")
        return report
    try:
        for namespace in store.namespaces():
            _check_segments(store, namespace.ns_id, settings.segments / str(namespace.ns_id), report)
    finally:
        store.close()
    return report


def _check_segments(store: Store, ns_id: int, folder: Path, report: CheckReport) -> None:
    """Hold one namespace's segments against the rows that the log says they hold."""
    last = store.last_seq()
    ops = (Op.NAMESPACE, Op.CONFIGURED, Op.NORMALISER)
    details = sorted((row for op in ops for row in store.details(ns_id, op, last)), key=lambda row: row.seq)
    now = history_from_log(details, ns_id)[-1]
    index = Index.open(folder, now.namespace.dim, now.scoring)
    try:
        name = now.namespace.name
        if index.problem and (folder / MANIFEST).exists():
            words = f"segments of {name} are unusable: {index.problem}; the next start rebuilds them from the log"
            report.problems.append(words)
        elif index.seq == 0:  # nothing was saved yet, or a kill came before the first manifest
            report.segments.append(f"{name}: none; the next start makes them from the log")
        elif index.seq > last:
            report.problems.append(f"segments of {name} are at seq {index.seq}, the log ends at {last}")
        else:
            problems = index.check(core_rows_by_end(store, ns_id, index.seq).items())
            report.problems += [f"segments of {name}: {words}" for words in problems[:100]]
            report.segments.append(f"{name}: {index.stats().rows} rows up to seq {index.seq} compared")
    finally:
        index.close()


def core_rows_by_end(store: Store, ns_id: int, seq: int) -> dict[int, int]:
    """Every core row that the log made up to `seq` with the seq that ended it (NEVER: live); purged ones are gone."""
    ends: dict[int, int] = {}
    horizon = store.horizon_seq()
    for row in store.core_rows(ns_id, 1, seq):
        if row.vector is None:
            if row.seq <= horizon and row.expires_seq:  # compacted: segments may still hold what ended
                ends[row.expires_seq] = row.seq
            continue
        if row.expires_seq:
            ends[row.expires_seq] = row.seq
        if row.row_seq == row.seq:
            ends.setdefault(row.seq, NEVER)
    return ends
