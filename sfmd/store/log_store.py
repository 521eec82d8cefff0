"""The durable store over a database: one writing connection, a small pool of reading ones, refusals and
nothing else.

Rules that this module guards: a commit whose outcome is unknown is never reported as done, and nothing is
written after it until the store is opened anew; no driver's exception leaves it; reads are short, so that the
WAL can be written back.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog

from sfmd.domain import ChangeRow, Head, Namespace, Op
from sfmd.errors import E, Refused
from sfmd.protocols import FEW, WriteTx
from sfmd.store import records
from sfmd.store.database import Cursor, Database, Link
from sfmd.store.readers import Readers, refusing
from sfmd.store.schema import DELETED, LIVE, NO_NAMESPACE, PURGED
from sfmd.store.statements import SIZES, Statement, Statements, padded
from sfmd.store.transaction import Transaction

T = TypeVar("T")

READERS = 4
CHUNK = 512

log = structlog.get_logger(__name__)


class LogStore:
    """The Store of sfmd.protocols.

    backup_to  writes a backup into a new directory: from the given connection, where nothing else may open the
               database, or from one of its own
    release    lets go of what guards the data
    """

    def __init__(
        self,
        database: Database,
        *,
        readers: int = READERS,
        backup_to: Callable[[Path, Link | None], object],
        release: Callable[[], None],
    ) -> None:
        self._database = database
        self._sql = Statements(database.dialect)
        self._backup_to, self._release = backup_to, release
        self._write_lock = threading.RLock()
        self._closed = False
        self._down: Refused | None = None
        self._counts: dict[int, tuple[int, Mapping[str, int]]] = {}
        self._importances: Mapping[int, int] = {}
        with refusing(database):
            self._writer = database.writer()
            self._readers = Readers(database, readers, self._writer, self._write_lock)
            self._last_seq, self._last_at_s = self._end_of_log(self._writer.cursor)

    # -- writing

    def write(self, work: Callable[[WriteTx], T]) -> T:
        """Run `work` in one transaction and return once it is on disk. Any error rolls all of it back.

        Raises Refused(STORE_DOWN) when the commit failed or its outcome is not known to be durable. Unless it
        failed for want of room and is undone, every write is refused from then on until the store is opened again.
        """
        with self._write_lock:
            self._refuse_writes()
            cursor = self._writer.cursor
            transaction, result = self._run(cursor, work)
            try:
                cursor.execute("COMMIT")
            except self._database.errors as error:
                raise self._not_committed(cursor, error) from error
            self._last_seq, self._last_at_s = transaction.last_seq, transaction.last_at_s
            if self._database.exclusive:
                self._importances = transaction.importances
            try:
                self._database.committed(erase=transaction.erased)
            except self._database.errors as error:
                self._stop_writing(error, "writing the WAL back")  # this commit is on disk all the same
            return result

    def _run(self, cursor: Cursor, work: Callable[[WriteTx], T]) -> tuple[Transaction, T]:
        try:
            self._database.begin(cursor)
            last_seq, at_s = (self._last_seq, self._last_at_s) if self._database.exclusive else self._end_of_log(cursor)
            transaction = Transaction(self._database, self._sql, cursor, last_seq, at_s, self._importances)
            result = work(transaction)
            transaction.finish()
        except BaseException as error:
            self._roll_back(cursor)
            if isinstance(error, self._database.errors):
                failure = self._database.failure(error)
                if failure.fatal:
                    raise self._stop_writing(error, "a write") from error
                raise failure.refusal from error
            raise
        return transaction, result

    def _not_committed(self, cursor: Cursor, error: Exception) -> Refused:
        """Why there was no commit. One that found no room is undone, and when the log ends where it did, writing goes
        on: what was written of it lacks its last frame, which nobody reads and the next commit overwrites.
        """
        failure = self._database.failure(error)
        if failure.fatal or failure.refusal.code is not E.STORE_DOWN:
            return self._stop_writing(error, "the commit")
        self._roll_back(cursor)
        try:
            if self._down is None and self._end_of_log(cursor) == (self._last_seq, self._last_at_s):
                log.warning("commit_undone", cause=failure.refusal.message)
                return failure.refusal
        except self._database.errors as second:
            return self._stop_writing(second, "reading the log's end")
        return self._stop_writing(error, "the commit")

    def _roll_back(self, cursor: Cursor) -> None:
        """End the transaction; SQLite may have ended it already, after a full disk for one."""
        try:
            if self._database.in_transaction():
                cursor.execute("ROLLBACK")
        except self._database.errors as error:
            self._stop_writing(error, "the rollback")

    def _stop_writing(self, error: Exception, what: str) -> Refused:
        cause = self._database.failure(error).refusal
        self._down = Refused(
            cause.code if cause.code is E.CORRUPT else E.STORE_DOWN,
            f"{what} failed, so nothing more is written until the daemon is started again: {cause.message}",
        )
        log.error("store_down", what=what, cause=cause.message)
        return self._down

    @property
    def problem(self) -> str:
        """Why nothing is written any more until the store is opened anew; empty while it can be."""
        return self._down.message if self._down else ""

    def _refuse_writes(self) -> None:
        if self._closed:
            raise Refused(E.STOPPING)
        if self._down is not None:
            raise Refused(self._down.code, self._down.message)

    def forget_keys(self, before_s: float, after: tuple[int, str], limit: int) -> tuple[int, tuple[int, str] | None]:
        """Forget the idempotency keys first used before `before_s` among the next `limit` after (ns_id, key).

        Returns how many went, and where to go on; None at the end. Keys are looked at in the order of their own index.
        """
        rows = self._rows(self._sql.keys, self._sql.keys.args(ns_id=after[0], after=after[1], rows=limit))
        old: dict[int, list[str]] = {}
        for ns_id, key, at_s in rows:
            if at_s < before_s:
                old.setdefault(ns_id, []).append(key)
        if old:
            self.write(lambda tx: tx.forget(old, before_s))
        return sum(map(len, old.values())), ((rows[-1][0], rows[-1][1]) if len(rows) == limit else None)

    # -- reading

    def last_seq(self) -> int:
        """The seq of the last committed row; 0 for an empty log."""
        if self._database.exclusive:
            return self._last_seq
        return self._readers.read(lambda cursor: self._end_of_log(cursor)[0])

    def horizon_seq(self) -> int:
        """The first seq the log still reaches back to: what the last COMPACTED row says; 1 where there is none."""
        rows = self.details(NO_NAMESPACE, Op.COMPACTED, self.last_seq())
        return int(json.loads(rows[-1].detail_json)["horizon_seq"]) if rows else 1

    def namespaces(self) -> list[Namespace]:
        """Every namespace with its current configuration."""
        return [records.namespace(row) for row in self._rows(self._sql.namespaces, ())]

    def changes(self, from_seq: int, to_seq: int, *, ns_id: int | None = None, payloads: bool = True,
                limit: int = 1000, max_bytes: int = 0) -> list[ChangeRow]:  # fmt: skip
        """Rows with from_seq <= seq <= to_seq in order, at most `limit`, as logged; vectors come with the
        payloads. With `max_bytes` it reads on only while their content is less, FEW rows at a time.
        """
        statement = self._sql.of_log(payloads, ns_id is not None)
        found: list[ChangeRow] = []
        held = 0
        while len(found) < limit and held <= max_bytes:
            wanted = min(FEW, limit - len(found)) if max_bytes else limit
            values = statement.args(from_seq=from_seq, to_seq=to_seq, ns_id=ns_id, rows=wanted)
            part = [records.change_row(row) for row in self._rows(statement, values)]
            found += part
            if len(part) < wanted or not max_bytes:
                break
            held += sum(row.content_bytes for row in part)
            from_seq = part[-1].seq + 1
        return found

    def rows(self, seqs: Sequence[int], *, payloads: bool = True, vectors: bool = False) -> dict[int, ChangeRow]:
        """Rows by seq with their content resolved through content_seq (kind, payload, metadata… always
        filled).
        """
        if len(seqs) <= SIZES[-1]:  # one statement is a snapshot of its own
            return self._readers.read(lambda cursor: self._resolved(cursor, seqs, payloads=payloads, vectors=vectors))
        with self._readers.snapshot() as cursor:
            return self._resolved(cursor, seqs, payloads=payloads, vectors=vectors)

    def head(self, ns_id: int, id_: str) -> Head | None:
        """The current state of a memory, or None."""
        rows = self._rows(self._sql.heads(1), (ns_id, id_))
        return records.head(rows[0]) if rows else None

    def state_at(self, ns_id: int, id_: str, seq: int) -> ChangeRow | None:
        """The last change of a memory at or before `seq`, content resolved; None when it did not exist."""
        with self._readers.snapshot() as cursor:
            at = self._seqs_at(cursor, ns_id, [id_], seq).get(id_)
            return self._resolved(cursor, [at], payloads=True, vectors=True)[at] if at else None

    def list_rows(
        self,
        ns_id: int,
        after_id: str,
        limit: int,
        *,
        include_deleted: bool = False,
        as_of_seq: int | None = None,
        payloads: bool = True,
        vectors: bool = False,
        max_bytes: int = 0,
    ) -> list[ChangeRow]:
        """Memories with id > after_id in byte order of the id, content resolved, at most `limit`. With `max_bytes` it
        reads on only while their content is less, FEW rows at a time. An empty list says that there are no more.
        """
        found: list[ChangeRow] = []
        step, held = FEW if max_bytes else CHUNK, 0
        statement = self._sql.listed(include_deleted or as_of_seq is not None)
        with self._readers.snapshot() as cursor:
            while len(found) < limit:
                cursor.execute(statement.sql, statement.args(ns_id=ns_id, after=after_id, rows=min(limit, CHUNK)))
                heads = cursor.fetchall()
                if not heads:
                    break
                after_id = heads[-1][0]
                seqs = self._seqs_as_of(cursor, ns_id, heads, as_of_seq)
                for at in range(0, len(seqs), step):
                    part = seqs[at : at + step]
                    rows = self._resolved(cursor, part, payloads=payloads, vectors=vectors)
                    kept = [rows[s] for s in part if include_deleted or not rows[s].deleted]
                    found += kept
                    if max_bytes:
                        held += sum(row.content_bytes for row in kept)
                        if held > max_bytes:
                            return found[:limit]
        return found[:limit]

    def core_rows(self, ns_id: int, from_seq: int, to_seq: int) -> Iterator[ChangeRow]:
        """Rows that made or ended a core row (row_seq == seq or expires_seq set), in order, with content and
        vectors.

        Each step is a read of its own: the log only grows, so nothing is missed and nothing holds the WAL
        open.
        """
        statement = self._sql.core_rows()
        while from_seq <= to_seq:
            rows = self._rows(statement, statement.args(ns_id=ns_id, from_seq=from_seq, to_seq=to_seq, rows=CHUNK))
            yield from map(records.change_row, rows)
            if len(rows) < CHUNK:
                return
            from_seq = rows[-1][0] + 1

    def recent_importances(self, ns_id: int, to_seq: int, limit: int) -> list[float]:
        """The last `limit` raw importances of the log (ChangeRow.raw_importance), oldest first."""
        statement = self._sql.recent_importances
        rows = self._rows(statement, statement.args(ns_id=ns_id, to_seq=to_seq, rows=limit))
        return [row[0] for row in reversed(rows)]

    def count_importances(self, ns_id: int, to_seq: int) -> int:
        """How many raw importances the log has up to `to_seq`: a running count in the log, one look-up."""
        statement = self._sql.importances
        rows = self._rows(statement, statement.args(ns_id=ns_id, to_seq=to_seq))
        return int(rows[0][0]) if rows else 0

    def details(self, ns_id: int, op: Op, to_seq: int) -> list[ChangeRow]:
        """All NAMESPACE, CONFIGURED or NORMALISER rows of a namespace up to `to_seq`, in order."""
        statement = self._sql.details
        rows = self._rows(statement, statement.args(ns_id=ns_id, op=int(op), to_seq=to_seq))
        return [records.change_row(row) for row in rows]

    def counts(self, ns_id: int) -> Mapping[str, int]:
        """`live`, `deleted`, `purged`; of the live: `payload_bytes`, `median_payload_bytes`,
        `max_access_count`.

        Kept until something is written, because it reads every head of the namespace.
        """
        seq = self.last_seq()
        known = self._counts.get(ns_id)
        if known is not None and known[0] == seq:
            return known[1]
        with self._readers.snapshot() as cursor:
            cursor.execute(self._sql.counts.sql, self._sql.counts.args(ns_id=ns_id))
            by_state = {row[0]: row[1:] for row in cursor.fetchall()}
            live, payload_bytes, max_access = by_state.get(LIVE, (0, 0, 0))
            statement = self._sql.median_payload
            cursor.execute(statement.sql, statement.args(ns_id=ns_id, below=max(0, live - 1) // 2))
            median = cursor.fetchall()
        counts = {
            "live": int(live),
            "deleted": int(by_state.get(DELETED, (0,))[0]),
            "purged": int(by_state.get(PURGED, (0,))[0]),
            "payload_bytes": int(payload_bytes),
            "median_payload_bytes": int(median[0][0]) if median else 0,
            "max_access_count": int(max_access),
        }
        self._counts[ns_id] = (seq, counts)
        return counts

    # -- life

    def backup(self, target: str) -> None:
        """Write a consistent, verified copy into the new directory `target` while serving."""
        if self._closed:
            raise Refused(E.STOPPING)
        if self._readers.links:
            self._backup_to(Path(target), None)
            return
        with self._write_lock:
            self._backup_to(Path(target), self._writer)

    def close(self) -> None:
        """Flush and close; later calls raise Refused(STOPPING). Waits for running reads and the running
        write.
        """
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._readers.close()
                with refusing(self._database):
                    if self._down is None:
                        self._database.closing()
                    self._writer.close()
            finally:
                self._release()

    # -- inside

    def _end_of_log(self, cursor: Cursor) -> tuple[int, float]:
        cursor.execute(self._sql.last.sql, self._sql.last.args())
        rows = cursor.fetchall()
        return (int(rows[0][0]), float(rows[0][1])) if rows else (0, 0.0)

    def _resolved(self, cursor: Cursor, seqs: Sequence[int], *, payloads: bool, vectors: bool) -> dict[int, ChangeRow]:
        found: dict[int, ChangeRow] = {}
        for part in padded(seqs):
            cursor.execute(self._sql.by_seq(len(part), payloads, vectors, True).sql, part)
            found.update((row[0], records.change_row(row)) for row in cursor.fetchall())
        return found

    def _seqs_as_of(
        self, cursor: Cursor, ns_id: int, heads: Sequence[tuple[str, int]], as_of_seq: int | None
    ) -> list[int]:
        """The seqs of those heads, in order; of a head that is newer than `as_of_seq`, what it was then."""
        if as_of_seq is None:
            return [seq for _, seq in heads]
        newer = self._seqs_at(cursor, ns_id, [id_ for id_, seq in heads if seq > as_of_seq], as_of_seq)
        seqs = (seq if seq <= as_of_seq else newer.get(id_) for id_, seq in heads)
        return [seq for seq in seqs if seq is not None]

    def _seqs_at(self, cursor: Cursor, ns_id: int, ids: Sequence[str], seq: int) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in padded(ids):
            statement = self._sql.state_at(len(part))
            values = {f"in_{i}": id_ for i, id_ in enumerate(part)}
            cursor.execute(statement.sql, statement.args(ns_id=ns_id, at_seq=seq, **values))
            for id_, at in cursor.fetchall():
                found[id_] = max(at, found.get(id_, 0))
        return found

    def _rows(self, statement: Statement, values: Sequence[Any]) -> list[Any]:
        return self._readers.read(lambda cursor: _all(cursor, statement.sql, values or statement.args()))


def _all(cursor: Cursor, sql: str, values: Sequence[Any]) -> list[Any]:
    cursor.execute(sql, values)
    return cursor.fetchall()
