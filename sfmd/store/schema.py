"""The tables of the durable store, once, for SQLite and PostgreSQL alike; the migrations are tested to equal
them.

`memory_changes` is the log and the truth. Payload and vector live there and nowhere else; `memories` is the
small head that finds a memory's last change by id. Small columns come first and the two large ones last, so
that SQLite reads a row's small part without its overflow pages. Every type is one that both drivers take and
give as the same Python value, because the hot path bypasses SQLAlchemy's result processing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

REVISION = "0001"
"""The Alembic revision that this schema is. A test holds it to the newest migration."""

NAMING = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}
METADATA = sa.MetaData(naming_convention=NAMING)

# INTEGER PRIMARY KEY is SQLite's rowid: the log is then one append-only tree without a second index.
_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Ids sort by their bytes on both databases, whatever the locale of the server.
_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_F64: sa.Double[float] = sa.Double()

LIVE, DELETED, PURGED = 0, 1, 2
"""Values of memories.state."""

FIRST_NAMESPACE_OP = 7
"""Ops from here on are no rows about a memory: about a namespace (NAMESPACE, CONFIGURED, NORMALISER), or the log
itself (COMPACTED, in namespace 0)."""

NO_NAMESPACE = 0
"""The ns_id of rows about the log itself; namespaces count from 1."""


def _column(name: str, type_: sa.types.TypeEngine[Any], nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=nullable)


memory_changes = sa.Table(
    "memory_changes",
    METADATA,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
    _column("ns_id", sa.Integer()),
    _column("op", sa.SmallInteger()),
    _column("principal", sa.Text()),
    _column("at_s", _F64),
    _column("id", _ID),
    _column("version", sa.BigInteger()),
    _column("content_seq", sa.BigInteger()),
    _column("row_seq", sa.BigInteger()),
    _column("expires_seq", sa.BigInteger()),
    _column("prev_seq", sa.BigInteger()),
    _column("deleted", sa.SmallInteger()),
    _column("purged", sa.SmallInteger()),  # of payload, vector, metadata, features: 1 overwritten in place, 2 compacted
    _column("importances", sa.BigInteger()),  # raw importances of the namespace's log up to and with this row
    _column("kind", sa.Text()),
    _column("content_type", sa.Text()),
    _column("digest", sa.LargeBinary()),
    _column("importance", _F64, nullable=True),
    _column("event_time_s", _F64),
    _column("half_life_class", sa.SmallInteger()),
    _column("features", sa.LargeBinary()),  # little-endian float64, by channel number
    _column("access_time_s", _F64),
    _column("access_count", sa.BigInteger()),
    _column("request_digest", sa.LargeBinary()),
    _column("detail_json", sa.Text()),
    _column("metadata_json", sa.Text()),
    _column("vector", sa.LargeBinary(), nullable=True),
    _column("payload", sa.LargeBinary(), nullable=True),
    sa.Index("ix_memory_changes_ns_id_seq", "ns_id", "seq"),
)
DETAILS = sa.Index(
    "ix_memory_changes_details",
    memory_changes.c.ns_id,
    memory_changes.c.op,
    memory_changes.c.seq,
    sqlite_where=memory_changes.c.op >= FIRST_NAMESPACE_OP,
)
"""Rows about namespaces only. `postgres` adds the same for PostgreSQL: an embedded store need not load that dialect."""

memories = sa.Table(
    "memories",
    METADATA,
    _column("ns_id", sa.Integer()),
    _column("id", _ID),
    _column("seq", sa.BigInteger()),
    _column("content_seq", sa.BigInteger()),
    _column("state", sa.SmallInteger()),
    _column("payload_bytes", sa.BigInteger()),
    _column("access_count", sa.BigInteger()),
    sa.PrimaryKeyConstraint("ns_id", "id"),
    sqlite_with_rowid=False,
)

idempotency = sa.Table(
    "idempotency",
    METADATA,
    _column("ns_id", sa.Integer()),
    _column("key", _ID),
    _column("request_digest", sa.LargeBinary()),
    _column("id", _ID),
    _column("seq", sa.BigInteger()),
    _column("version", sa.BigInteger()),
    _column("outcome", sa.Text()),
    _column("digest", sa.LargeBinary()),
    _column("at_s", _F64),
    sa.PrimaryKeyConstraint("ns_id", "key"),
    sqlite_with_rowid=False,
)

outbox = sa.Table(
    "outbox",
    METADATA,
    _column("seq", sa.BigInteger()),
    _column("topic", sa.Text()),
    _column("key", sa.LargeBinary()),
    _column("body_json", sa.Text()),
    sa.PrimaryKeyConstraint("seq", "topic"),
    sqlite_with_rowid=False,
)

namespaces = sa.Table(
    "namespaces",
    METADATA,
    sa.Column("ns_id", sa.Integer(), primary_key=True, autoincrement=False),
    _column("name", _ID),
    _column("dim", sa.Integer()),
    _column("embedder", sa.Text()),
    _column("half_lives_json", sa.Text()),  # [[name, seconds or null for "never ages"], …] by class number
    _column("default_half_life", sa.Text()),
    _column("channels_json", sa.Text()),  # [[name, weight], …] by channel number
    _column("alpha", _F64),
    _column("beta", _F64),
    _column("refuse_normaliser_updates", sa.SmallInteger()),
    _column("config_version", sa.BigInteger()),
    _column("created_seq", sa.BigInteger()),
    sa.UniqueConstraint("name"),
)
