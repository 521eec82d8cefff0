"""Verify a store: page structure, every payload's digest, and that all state is what the log folds to.

The log is the truth, so everything else is recomputed from it and compared. Problems come back in words, each
naming the row; nothing is mended here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from sfmd.domain import Op
from sfmd.errors import E, Refused
from sfmd.store.schema import DELETED, FIRST_NAMESPACE_OP, LIVE, PURGED, REVISION
from sfmd.store.sqlite import SqliteDatabase, SqliteLink, store_file

MOST_PROBLEMS = 100

_LOG = """
SELECT seq, ns_id, op, at_s, id, version, content_seq, row_seq, expires_seq, prev_seq, deleted, purged,
       importances, digest, importance, access_count, payload, vector FROM memory_changes ORDER BY seq
"""


@dataclass(slots=True)
class Report:
    """What a check read and what it found wrong."""

    last_seq: int = 0
    changes: int = 0
    memories: int = 0
    payload_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    more: int = 0

    def note(self, problem: str) -> None:
        """Keep the first hundred problems and count the others."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)
        else:
            self.more += 1


@dataclass(slots=True)
class _Memory:
    """The fold of one memory's changes."""

    seq: int
    version: int
    content_seq: int
    row_seq: int
    state: int
    payload_bytes: int
    access_count: int


def check(folder: str | Path) -> Report:
    """Verify the store in a data directory, also while a daemon serves it (one snapshot is read)."""
    return check_file(store_file(folder))


def check_file(path: Path) -> Report:
    """Verify one database file. Raises Refused when it cannot be read at all; what is wrong with it is
    reported.
    """
    database = SqliteDatabase(path.parent)
    report = Report()
    try:
        link = SqliteLink(path, read_only=True, cache_kib=8192)
        try:
            link.cursor.execute("BEGIN")
            _structure(link.raw, report)
            if not report.problems:
                _Check(link.raw, report).run()
            link.cursor.execute("ROLLBACK")
        finally:
            link.close()
    except (apsw.CorruptError, apsw.NotADBError) as error:
        report.note(f"the database is damaged: {error}")
    except apsw.Error as error:
        raise database.failure(error).refusal from error
    return report


def _structure(connection: apsw.Connection, report: Report) -> None:
    """Pages, trees, indexes and the schema's revision."""
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            report.note(f"page structure: {line}")
    revision = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    if revision != [(REVISION,)]:
        raise Refused(E.SCHEMA, f"the store has schema {revision}; this sfmd has {REVISION}")


class _Check:
    """One pass over the log, then each table against what the pass made of it."""

    def __init__(self, connection: apsw.Connection, report: Report) -> None:
        self._connection, self._report = connection, report
        self._memories: dict[tuple[int, str], _Memory] = {}
        self._contents: dict[int, tuple[int, str, int]] = {}  # content seq -> namespace, id, payload bytes
        self._importances: dict[int, int] = {}
        self._made: dict[int, int] = {}  # seq of a NAMESPACE row -> namespace
        self._dims: dict[int, int] = {}
        self._first = 0

    def run(self) -> None:
        self._dims = dict(self._connection.execute("SELECT ns_id, dim FROM namespaces"))
        self._log()
        self._heads()
        self._others()
        self._report.memories = len(self._memories)

    def _log(self) -> None:
        note = self._report.note
        before_seq, before_at_s = 0, 0.0
        for row in self._connection.execute(_LOG):
            seq, ns_id, op, at_s = row[:4]
            if before_seq == 0:
                self._first = seq
            elif seq != before_seq + 1:
                note(f"the log has no rows {before_seq + 1}..{seq - 1}")
            if at_s < before_at_s:
                note(f"row {seq} was committed at {at_s}, before row {before_seq} at {before_at_s}")
            if ns_id not in self._dims and op != Op.COMPACTED:
                note(f"row {seq} belongs to namespace {ns_id}, which does not exist")
            before_seq, before_at_s = seq, at_s
            if op == Op.NAMESPACE:
                self._made[seq] = ns_id
            if op < FIRST_NAMESPACE_OP:
                self._change(row)
            counted = self._importances.get(ns_id, 0)
            if row[12] != counted:
                note(f"row {seq} counts {row[12]} importances of its namespace; the log has {counted}")
            self._report.changes += 1
        self._report.last_seq = before_seq

    def _change(self, row: tuple[Any, ...]) -> None:
        (seq, ns_id, op, _, id_, version, content_seq, row_seq, expires_seq, prev_seq, deleted, *_) = row
        access_count = row[15]
        note = self._report.note
        before = self._memories.get((ns_id, id_))
        last = before.seq if before else 0
        if prev_seq != last and prev_seq >= self._first:
            note(f"row {seq} ({id_}) names {prev_seq} as the change before it, not {last}")
        if before and version < before.version:
            note(f"row {seq} ({id_}) goes back from version {before.version} to {version}")
        if content_seq == seq:
            self._content(row)
        elif content_seq >= max(1, self._first) and self._owner(content_seq) != (ns_id, id_):
            note(f"row {seq} ({id_}) points to row {content_seq} for its content, which is not this memory's")
        self._core_row(seq, id_, row_seq, expires_seq, before)
        if row[14] is not None and row_seq == seq and op != Op.RESTORED:  # ChangeRow.raw_importance
            self._importances[ns_id] = self._importances.get(ns_id, 0) + 1
        state = PURGED if op == Op.PURGED else DELETED if deleted else LIVE
        size = self._contents.get(content_seq, (0, "", 0))[2]
        self._memories[(ns_id, id_)] = _Memory(seq, version, content_seq, row_seq, state, size, access_count)

    def _owner(self, content_seq: int) -> tuple[int, str]:
        return self._contents.get(content_seq, (0, "", 0))[:2]

    def _content(self, row: tuple[Any, ...]) -> None:
        """A row that brings content: its digest, its vector's length, or that nothing is left of it."""
        seq, ns_id, id_, purged = row[0], row[1], row[4], row[11]
        digest, payload, vector = row[13], row[16], row[17]
        note = self._report.note
        self._contents[seq] = (ns_id, id_, 0 if purged else len(payload or b""))
        if purged:
            if any(payload or b"") or any(vector or b""):
                note(f"row {seq} ({id_}) is purged but still holds bytes")
            return
        if not isinstance(payload, bytes) or hashlib.sha256(payload).digest() != digest:
            note(f"row {seq} ({id_}): the payload does not match its digest")
        else:
            self._report.payload_bytes += len(payload)
        wanted = 4 * self._dims.get(ns_id, 0)
        if len(vector or b"") != wanted:
            note(f"row {seq} ({id_}): the vector has {len(vector or b'')} bytes, not {wanted}")

    def _core_row(self, seq: int, id_: str, row_seq: int, expires_seq: int, before: _Memory | None) -> None:
        """A change keeps the memory's core row, or ends it and perhaps makes a new one."""
        had = before.row_seq if before else 0
        if row_seq not in (0, seq, had):
            self._report.note(f"row {seq} ({id_}) stands on core row {row_seq}, which is neither its own nor {had}")
        ends = had if had and row_seq != had else 0
        if expires_seq != ends and (expires_seq >= self._first or ends):
            self._report.note(f"row {seq} ({id_}) ends core row {expires_seq}, and should end {ends}")

    def _heads(self) -> None:
        note, left = self._report.note, dict(self._memories)
        query = "SELECT ns_id, id, seq, content_seq, state, payload_bytes, access_count FROM memories"
        for ns_id, id_, *found in self._connection.execute(query):
            m = left.pop((ns_id, id_), None)
            if m is None:
                note(f"memories has {id_} of namespace {ns_id}, of which the log knows nothing")
                continue
            folded = [m.seq, m.content_seq, m.state, m.payload_bytes, m.access_count]
            names = ("seq", "content_seq", "state", "payload_bytes", "access_count")
            for name, is_, should in zip(names, found, folded, strict=True):
                if is_ != should:
                    note(f"memories says {name} {is_} of {id_} in namespace {ns_id}; the log says {should}")
        for ns_id, id_ in left:
            note(f"memories lacks {id_} of namespace {ns_id}, which the log has")

    def _others(self) -> None:
        note, last = self._report.note, self._report.last_seq
        for ns_id, name, created_seq in self._connection.execute("SELECT ns_id, name, created_seq FROM namespaces"):
            if created_seq >= self._first and self._made.get(created_seq) != ns_id:
                note(f"namespace {name} claims to be made by row {created_seq}, which made something else")
        for seq, topic in self._connection.execute("SELECT seq, topic FROM outbox"):
            if not self._first <= seq <= last:
                note(f"the outbox has an event of {topic} for row {seq}, which the log does not have")
        query = (
            "SELECT i.key, i.seq, i.id, i.version, c.id, c.version FROM idempotency i "
            "LEFT JOIN memory_changes c ON c.seq = i.seq AND c.ns_id = i.ns_id WHERE i.seq >= ?"
        )
        for key, seq, id_, version, logged_id, logged_version in self._connection.execute(
            query, (max(1, self._first),)
        ):
            if (id_, version) != (logged_id, logged_version):
                answer = f"{id_} version {version} at row {seq}"
                note(f"idempotency key {key} answers with {answer}, which the log does not have")
