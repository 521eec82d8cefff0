"""One write transaction: it appends to the log and keeps `memories` equal to the log's fold.

The log's promises are checked here, before anything is written: seqs are gapless and in order, commit times
never go back, and every seq that was reserved is appended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from sfmd.domain import ChangeRow, Event, Head, IdempotencyRecord, Namespace
from sfmd.errors import E, Refused
from sfmd.store import records
from sfmd.store.database import Cursor, Database
from sfmd.store.schema import FIRST_NAMESPACE_OP
from sfmd.store.statements import Statements, padded


class Transaction:
    """The WriteTx of one `Store.write`. `last_seq` and `last_at_s` are the log's end when it began."""

    def __init__(
        self, database: Database, sql: Statements, cursor: Cursor, last_seq: int, last_at_s: float,
        importances: Mapping[int, int],
    ) -> None:  # fmt: skip
        """`importances`: the log's running counts by namespace, as far as they are known."""
        self._database, self._sql, self._cursor = database, sql, cursor
        self.last_seq, self.last_at_s = last_seq, last_at_s
        self._reserved = last_seq
        self.importances = dict(importances)
        self.erased = False

    def heads(self, ns_id: int, ids: Sequence[str]) -> dict[str, Head]:
        """The present heads of those ids that exist (deleted and purged ones too)."""
        found: dict[str, Head] = {}
        for part in padded(ids):
            statement = self._sql.heads(len(part))
            self._cursor.execute(statement.sql, (ns_id, *part))
            found.update((row[1], records.head(row)) for row in self._cursor.fetchall())
        return found

    def changes(self, seqs: Sequence[int]) -> dict[int, ChangeRow]:
        """Rows of the log by seq, content included where the row carries it."""
        found: dict[int, ChangeRow] = {}
        for part in padded(seqs):
            statement = self._sql.by_seq(len(part), True, True, False)
            self._cursor.execute(statement.sql, part)
            found.update((row[0], records.change_row(row)) for row in self._cursor.fetchall())
        return found

    def idempotent(self, ns_id: int, keys: Sequence[str]) -> dict[str, IdempotencyRecord]:
        """Records of those keys that were used before."""
        found: dict[str, IdempotencyRecord] = {}
        for part in padded(keys):
            self._cursor.execute(self._sql.idempotent(len(part)).sql, (ns_id, *part))
            found.update((row[1], records.idempotency_record(row)) for row in self._cursor.fetchall())
        return found

    def reserve(self, count: int) -> int:
        """The first of `count` consecutive seqs, which this transaction must all append."""
        first = self._reserved + 1
        self._reserved += count
        return first

    def append(self, rows: Sequence[ChangeRow]) -> None:
        """Append rows to the log, in seq order, and bring `memories` up to date."""
        if not rows:
            return
        self._guard(rows)
        counts = self.importances
        tuples = []
        for row in rows:
            ns_id = row.ns_id
            if ns_id not in counts:
                counts[ns_id] = self._importances_before(ns_id)
            if row.raw_importance is not None:
                counts[ns_id] += 1
            tuples.append(records.log_tuple(row, counts[ns_id]))
        self._database.insert_many(self._cursor, self._sql.append, tuples)
        self._bring_up_heads(rows)
        self.last_seq, self.last_at_s = rows[-1].seq, rows[-1].at_s

    def put_namespace(self, namespace: Namespace) -> None:
        """Insert or replace the namespace's current configuration."""
        statement = self._sql.put_namespace
        self._cursor.execute(statement.sql, statement.args(**records.namespace_values(namespace)))

    def new_namespace_id(self) -> int:
        """A number that no namespace had before: namespaces are never removed."""
        self._cursor.execute(self._sql.last_namespace_id.sql, self._sql.last_namespace_id.args())
        return int(self._cursor.fetchall()[0][0]) + 1

    def remember(self, recorded: Sequence[IdempotencyRecord]) -> None:
        """Store idempotency records."""
        self._database.insert_many(self._cursor, self._sql.remember, [records.idempotency_tuple(r) for r in recorded])

    def forget(self, keys: Mapping[int, Sequence[str]], before_s: float) -> None:
        """Remove the idempotency records of those keys, by namespace, that were first used before `before_s`."""
        for ns_id, mine in keys.items():
            for part in padded(mine):
                self._cursor.execute(self._sql.forget(len(part)).sql, (ns_id, *part, before_s))

    def strip(self, seqs: Sequence[int]) -> None:
        """Drop payload, vector, metadata and features of those rows for good; digests and small columns stay."""
        for part in padded(seqs):
            self._cursor.execute(self._sql.strip(len(part)).sql, part)

    def enqueue(self, events: Sequence[Event]) -> None:
        """Add events to the outbox."""
        rows = [(e.seq, e.topic, e.key, e.body_json) for e in events]
        self._database.insert_many(self._cursor, self._sql.enqueue, rows)

    def purge(self, ns_id: int, id_: str) -> int:
        """Overwrite what a caller said in every version (payload, vector, metadata, features, kind, content type) with
        as many zeros or blanks.

        In place and of equal length, so that SQLite moves no neighbouring row and leaves no stale copy of
        one. Digests stay. Returns the number of versions whose payload was erased.
        """
        statement = self._sql.versions
        self._cursor.execute(statement.sql, statement.args(ns_id=ns_id, id=id_))
        versions = self._cursor.fetchall()
        for seq, payload, vector, features, *texts in versions:
            metadata, kind, content_type = (" " * len(text.encode()) for text in texts)
            blank = {
                "new_payload": None if payload is None else bytes(payload),
                "new_vector": None if vector is None else bytes(vector),
                "new_features": bytes(features or 0),
                "new_metadata_json": metadata,
                "new_kind": kind,
                "new_content_type": content_type,
                "of": seq,
            }
            self._cursor.execute(self._sql.purge.sql, self._sql.purge.args(**blank))
        self.erased = self.erased or bool(versions)
        return sum(payload is not None for _, payload, *_ in versions)

    def finish(self) -> None:
        """Called before the commit. Raises Refused(BUG) when a reserved seq was not appended."""
        if self._reserved != self.last_seq:
            raise Refused(E.BUG, f"seqs up to {self._reserved} were reserved and {self.last_seq} is the last appended")

    def _guard(self, rows: Sequence[ChangeRow]) -> None:
        first, last = self.last_seq + 1, self.last_seq + len(rows)
        if last > self._reserved or [r.seq for r in rows] != list(range(first, last + 1)):
            raise Refused(E.BUG, f"the log continues at {first}; rows must come in order and be reserved")
        if rows[0].at_s < self.last_at_s or any(b.at_s < a.at_s for a, b in pairwise(rows)):
            raise Refused(E.BUG, "commit times never go back along the log")

    def _importances_before(self, ns_id: int) -> int:
        statement = self._sql.importances
        self._cursor.execute(statement.sql, statement.args(ns_id=ns_id, to_seq=self.last_seq))
        rows = self._cursor.fetchall()
        return int(rows[0][0]) if rows else 0

    def _bring_up_heads(self, rows: Sequence[ChangeRow]) -> None:
        """Upsert the head of every memory that the rows changed, from its last change among them."""
        content: dict[tuple[int, str], ChangeRow] = {}
        state: dict[tuple[int, str], ChangeRow] = {}
        for r in rows:
            if r.op < FIRST_NAMESPACE_OP:
                key = (r.ns_id, r.id)
                if r.content_seq == r.seq:
                    content[key] = r
                    state.pop(key, None)
                else:
                    state[key] = r
                    content.pop(key, None)
        self._database.insert_many(
            self._cursor,
            self._sql.head_content,
            [
                (
                    r.ns_id,
                    r.id,
                    r.seq,
                    r.content_seq,
                    records.state_of(r),
                    len(r.payload or b""),
                    r.access_count,
                )
                for r in content.values()
            ],
        )
        self._database.insert_many(
            self._cursor,
            self._sql.head_state,
            [
                (r.ns_id, r.id, r.seq, r.content_seq, records.state_of(r), r.content_seq, r.access_count)
                for r in state.values()
            ],
        )
