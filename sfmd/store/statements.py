"""Every statement of the store, written in SQLAlchemy and compiled once per dialect.

The store runs the compiled text on the driver's own cursor: no result processing, no per-row dictionaries,
which is what keeps an append at a few microseconds a row. Positions, not names, tie the parameters; `order`
is asserted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from sfmd.domain import Op
from sfmd.store.schema import (
    FIRST_NAMESPACE_OP,
    LIVE,
    idempotency,
    memories,
    memory_changes,
    namespaces,
    outbox,
)

SIZES = (1, 8, 16, 64, 512)
"""Lengths of the IN lists that are compiled; a shorter list is padded with its last value."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text, the parameters' names in their order, and the values of those that are constants."""

    sql: str
    order: tuple[str, ...]
    constants: Mapping[str, Any]

    def args(self, **values: Any) -> tuple[Any, ...]:
        """The parameters as the driver wants them."""
        return tuple(values[n] if n in values else self.constants[n] for n in self.order)


def padded(values: Sequence[Any]) -> list[list[Any]]:
    """`values` cut into lists of compiled sizes; the last one is padded by repeating its last value."""
    lists = [list(values[i : i + SIZES[-1]]) for i in range(0, len(values), SIZES[-1])]
    if lists:
        last = lists[-1]
        size = next(s for s in SIZES if s >= len(last))
        last.extend([last[-1]] * (size - len(last)))
    return lists


def _in(column: sa.Column[Any], size: int) -> sa.ColumnElement[bool]:
    return column.in_([sa.bindparam(f"in_{i}") for i in range(size)])


def _columns(table: Any, content: Any, *, payloads: bool, vectors: bool) -> list[sa.ColumnElement[Any]]:
    """The columns of a ChangeRow in its field order; what was purged or not asked for reads as absent."""
    kept = content.c.purged == sa.literal_column("0")

    def unless_purged(column: Any, absent: str = "NULL") -> sa.ColumnElement[Any]:
        return sa.case((kept, column), else_=sa.literal_column(absent))

    none: sa.ColumnElement[Any] = sa.literal_column("NULL")
    t, c = table.c, content.c
    return [
        t.seq, t.ns_id, t.op, t.principal, t.at_s, t.id, t.version, t.content_seq, t.row_seq, t.expires_seq,
        t.prev_seq, t.deleted, unless_purged(c.kind, "''"), unless_purged(c.payload) if payloads else none,
        unless_purged(c.content_type, "''"), c.digest, unless_purged(c.vector) if vectors else none, t.importance,
        t.event_time_s, t.half_life_class, unless_purged(c.features), unless_purged(c.metadata_json), t.access_time_s,
        t.access_count, t.request_digest, t.detail_json,
    ]  # fmt: skip


def _upsert(dialect: sa.Dialect) -> Any:
    """The dialect's INSERT that knows ON CONFLICT."""
    if dialect.name != "postgresql":
        return sqlite.insert
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - only where PostgreSQL is used

    return postgresql.insert


class Statements:
    """The compiled statements of one dialect."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self._insert = _upsert(dialect)
        self.of_log = cache(self._of_log)
        self.by_seq = cache(self._by_seq)
        self.heads = cache(self._heads)
        self.idempotent = cache(self._idempotent)
        self.listed = cache(self._listed)
        self.state_at = cache(self._state_at)
        self.core_rows = cache(self._core_rows)
        self.append = self._append()
        self.head_content = self._head(of_content=True)
        self.head_state = self._head(of_content=False)
        self.put_namespace = self._put_namespace()
        self.remember = self._compile(sa.insert(idempotency))
        self.keys = self._keys()
        self.forget = cache(self._forget)
        self.enqueue = self._compile(sa.insert(outbox))
        self.last = self._compile(
            sa.select(memory_changes.c.seq, memory_changes.c.at_s)
            .order_by(memory_changes.c.seq.desc())
            .limit(sa.literal_column("1"))
        )
        self.namespaces = self._compile(sa.select(namespaces).order_by(namespaces.c.ns_id))
        self.last_namespace_id = self._compile(sa.select(sa.func.coalesce(sa.func.max(namespaces.c.ns_id), 0)))
        self.importances = self._importances()
        self.recent_importances = self._recent_importances()
        self.details = self._details()
        self.counts = self._counts()
        self.median_payload = self._median_payload()
        self.versions = self._versions()
        self.purge = self._purge()
        self.strip = cache(self._strip)

    def _compile(self, statement: sa.sql.ClauseElement) -> Statement:
        compiled: Any = statement.compile(dialect=self._dialect)
        order = tuple(compiled.positiontup or ())
        constants = {k: v for k, v in compiled.params.items() if v is not None}
        return Statement(str(compiled), order, constants)

    # -- writes

    def _append(self) -> Statement:
        statement = self._compile(sa.insert(memory_changes))
        if statement.order != tuple(c.name for c in memory_changes.columns):
            raise AssertionError("an append binds its columns in the table's order")
        return statement

    def _head(self, *, of_content: bool) -> Statement:
        """Upsert of `memories`. A row without content takes the size of the content that it points to."""
        size: Any = sa.bindparam("payload_bytes")
        if not of_content:
            size = (
                sa.select(sa.func.length(memory_changes.c.payload))
                .where(
                    memory_changes.c.seq == sa.bindparam("payload_of"),
                    memory_changes.c.purged == sa.literal_column("0"),
                )
                .scalar_subquery()
            )
        values: dict[str, Any] = {c.name: sa.bindparam(c.name) for c in memories.columns}
        insert = self._insert(memories).values(
            values | {"payload_bytes": sa.func.coalesce(size, sa.literal_column("0"))}
        )
        update = {n: insert.excluded[n] for n in ("seq", "content_seq", "state", "payload_bytes", "access_count")}
        return self._compile(insert.on_conflict_do_update(index_elements=["ns_id", "id"], set_=update))

    def _put_namespace(self) -> Statement:
        insert = self._insert(namespaces).values({c.name: sa.bindparam(c.name) for c in namespaces.columns})
        update = {c.name: insert.excluded[c.name] for c in namespaces.columns if c.name != "ns_id"}
        return self._compile(insert.on_conflict_do_update(index_elements=["ns_id"], set_=update))

    def _versions(self) -> Statement:
        """Content rows of one memory that were not purged, by walking its chain: seq and what to overwrite. Compacted
        ones too: their small columns are still there.
        """
        chain = self._chain("ns_id", "id")
        row = memory_changes
        return self._compile(
            sa.select(
                row.c.seq,
                sa.func.length(row.c.payload),
                sa.func.length(row.c.vector),
                sa.func.length(row.c.features),
                row.c.metadata_json,
                row.c.kind,
                row.c.content_type,
            )
            .select_from(row)
            .join(chain, chain.c.seq == row.c.seq)
            .where(row.c.content_seq == row.c.seq, row.c.purged != sa.literal_column("1"))
            .order_by(row.c.seq)
        )

    def _purge(self) -> Statement:
        values: dict[str, Any] = {
            n: sa.bindparam(f"new_{n}")
            for n in ("payload", "vector", "features", "metadata_json", "kind", "content_type")
        }
        return self._compile(
            sa.update(memory_changes)
            .values(values | {"purged": sa.literal_column("1")})
            .where(memory_changes.c.seq == sa.bindparam("of"))
        )

    def _strip(self, size: int) -> Statement:
        literal = sa.literal_column
        gone: dict[str, Any] = {
            "payload": sa.null(), "vector": sa.null(), "features": sa.cast(literal("''"), sa.LargeBinary()),
            "metadata_json": literal("''"), "purged": literal("2"),
        }  # fmt: skip
        t = memory_changes
        return self._compile(sa.update(t).values(gone).where(_in(t.c.seq, size), t.c.purged == literal("0")))

    # -- reads

    def _of_log(self, payloads: bool, of_namespace: bool) -> Statement:
        t = memory_changes
        query = sa.select(*_columns(t, t, payloads=payloads, vectors=payloads))
        query = query.where(t.c.seq >= sa.bindparam("from_seq"), t.c.seq <= sa.bindparam("to_seq"))
        if of_namespace:
            query = query.where(t.c.ns_id == sa.bindparam("ns_id"))
        return self._compile(query.order_by(t.c.seq).limit(sa.bindparam("rows")))

    def _resolved(self, *, payloads: bool, vectors: bool) -> tuple[Any, sa.Select[Any]]:
        t, c = memory_changes, memory_changes.alias("content")
        content_seq = sa.case((t.c.content_seq == sa.literal_column("0"), t.c.seq), else_=t.c.content_seq)
        query = sa.select(*_columns(t, c, payloads=payloads, vectors=vectors)).select_from(t)
        return t, query.join(c, c.c.seq == content_seq)

    def _by_seq(self, size: int, payloads: bool, vectors: bool, resolved: bool) -> Statement:
        t: Any = memory_changes
        query = sa.select(*_columns(t, t, payloads=payloads, vectors=vectors))
        if resolved:
            t, query = self._resolved(payloads=payloads, vectors=vectors)
        return self._compile(query.where(_in(t.c.seq, size)))

    def _heads(self, size: int) -> Statement:
        m, s, c = memories, memory_changes.alias("last"), memory_changes.alias("content")
        return self._compile(
            sa.select(
                m.c.ns_id,
                m.c.id,
                m.c.seq,
                s.c.version,
                m.c.content_seq,
                s.c.row_seq,
                m.c.state,
                c.c.digest,
                c.c.request_digest,
                s.c.importance,
                s.c.access_time_s,
                m.c.access_count,
            )
            .select_from(m)
            .join(s, s.c.seq == m.c.seq)
            .outerjoin(c, c.c.seq == m.c.content_seq)
            .where(m.c.ns_id == sa.bindparam("ns_id"), _in(m.c.id, size))
        )

    def _idempotent(self, size: int) -> Statement:
        t = idempotency
        return self._compile(sa.select(t).where(t.c.ns_id == sa.bindparam("ns_id"), _in(t.c.key, size)))

    def _keys(self) -> Statement:
        """Idempotency keys after one, in the order of the primary key, with the time of their first use."""
        t = idempotency
        at = sa.tuple_(sa.bindparam("ns_id", type_=sa.Integer()), sa.bindparam("after", type_=t.c.key.type))
        query = sa.select(t.c.ns_id, t.c.key, t.c.at_s).where(sa.tuple_(t.c.ns_id, t.c.key) > at)
        return self._compile(query.order_by(t.c.ns_id, t.c.key).limit(sa.bindparam("rows")))

    def _forget(self, size: int) -> Statement:
        t = idempotency
        old = t.c.at_s < sa.bindparam("before_s")
        return self._compile(sa.delete(t).where(t.c.ns_id == sa.bindparam("ns_id"), _in(t.c.key, size), old))

    def _listed(self, any_state: bool) -> Statement:
        """Ids and last seqs after an id, in byte order of the id."""
        m = memories
        query = sa.select(m.c.id, m.c.seq).where(m.c.ns_id == sa.bindparam("ns_id"), m.c.id > sa.bindparam("after"))
        if not any_state:
            query = query.where(m.c.state == sa.literal_column(str(LIVE)))
        return self._compile(query.order_by(m.c.id).limit(sa.bindparam("rows")))

    def _chain(self, *names: str) -> sa.CTE:
        """A memory's changes from the last one back along prev_seq."""
        start = (
            sa.select(memory_changes.c.seq, memory_changes.c.prev_seq)
            .select_from(memory_changes)
            .join(memories, memories.c.seq == memory_changes.c.seq)
        )
        chain = start.where(*(memories.c[n] == sa.bindparam(n) for n in names)).cte("chain", recursive=True)
        older = (
            sa.select(memory_changes.c.seq, memory_changes.c.prev_seq)
            .select_from(memory_changes)
            .join(chain, chain.c.prev_seq == memory_changes.c.seq)
        )
        return chain.union_all(older)

    def _state_at(self, size: int) -> Statement:
        """For each of some ids, the seq of its last change at or before a seq."""
        m, t = memories, memory_changes
        start = sa.select(m.c.id.label("of"), t.c.seq, t.c.prev_seq).select_from(m).join(t, t.c.seq == m.c.seq)
        chain = start.where(m.c.ns_id == sa.bindparam("ns_id"), _in(m.c.id, size)).cte("chain", recursive=True)
        older = (
            sa.select(chain.c.of, t.c.seq, t.c.prev_seq)
            .select_from(t)
            .join(chain, chain.c.prev_seq == t.c.seq)
            .where(chain.c.seq > sa.bindparam("at_seq"))
        )
        chain = chain.union_all(older)
        return self._compile(sa.select(chain.c.of, chain.c.seq).where(chain.c.seq <= sa.bindparam("at_seq")))

    def _core_rows(self) -> Statement:
        t, query = self._resolved(payloads=False, vectors=True)
        query = query.where(
            t.c.ns_id == sa.bindparam("ns_id"),
            t.c.seq >= sa.bindparam("from_seq"),
            t.c.seq <= sa.bindparam("to_seq"),
            sa.or_(t.c.row_seq == t.c.seq, t.c.expires_seq != sa.literal_column("0")),
        )
        return self._compile(query.order_by(t.c.seq).limit(sa.bindparam("rows")))

    def _importances(self) -> Statement:
        t = memory_changes
        query = sa.select(t.c.importances).where(t.c.ns_id == sa.bindparam("ns_id"), t.c.seq <= sa.bindparam("to_seq"))
        return self._compile(query.order_by(t.c.seq.desc()).limit(sa.literal_column("1")))

    def _recent_importances(self) -> Statement:
        """Those of ChangeRow.raw_importance, the last first."""
        t = memory_changes
        query = sa.select(t.c.importance).where(
            t.c.ns_id == sa.bindparam("ns_id"),
            t.c.seq <= sa.bindparam("to_seq"),
            t.c.row_seq == t.c.seq,
            t.c.op != sa.literal_column(str(int(Op.RESTORED))),
            t.c.importance.is_not(None),
        )
        return self._compile(query.order_by(t.c.seq.desc()).limit(sa.bindparam("rows")))

    def _details(self) -> Statement:
        t = memory_changes
        query = sa.select(*_columns(t, t, payloads=False, vectors=False)).where(
            t.c.ns_id == sa.bindparam("ns_id"),
            t.c.op >= sa.literal_column(str(FIRST_NAMESPACE_OP)),  # lets the partial index serve
            t.c.op == sa.bindparam("op"),
            t.c.seq <= sa.bindparam("to_seq"),
        )
        return self._compile(query.order_by(t.c.seq))

    def _counts(self) -> Statement:
        m = memories
        return self._compile(
            sa.select(m.c.state, sa.func.count(), sa.func.sum(m.c.payload_bytes), sa.func.max(m.c.access_count))
            .where(m.c.ns_id == sa.bindparam("ns_id"))
            .group_by(m.c.state)
        )

    def _median_payload(self) -> Statement:
        m = memories
        query = sa.select(m.c.payload_bytes).where(
            m.c.ns_id == sa.bindparam("ns_id"), m.c.state == sa.literal_column(str(LIVE))
        )
        return self._compile(
            query.order_by(m.c.payload_bytes).limit(sa.literal_column("1")).offset(sa.bindparam("below"))
        )
