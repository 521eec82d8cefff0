"""The log, the heads, idempotency, the outbox and the namespaces.

A migration is written out, never derived from the schema: it must go on meaning what it meant when the schema
moves. There is no way down; a backup is.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _needed(name: str, type_: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False)


def upgrade() -> None:
    """Make every table."""
    _log()
    op.create_table(
        "memories",
        _needed("ns_id", sa.Integer()),
        _needed("id", ID),
        _needed("seq", sa.BigInteger()),
        _needed("content_seq", sa.BigInteger()),
        _needed("state", sa.SmallInteger()),
        _needed("payload_bytes", sa.BigInteger()),
        _needed("access_count", sa.BigInteger()),
        sa.PrimaryKeyConstraint("ns_id", "id", name="pk_memories"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency",
        _needed("ns_id", sa.Integer()),
        _needed("key", ID),
        _needed("request_digest", sa.LargeBinary()),
        _needed("id", ID),
        _needed("seq", sa.BigInteger()),
        _needed("version", sa.BigInteger()),
        _needed("outcome", sa.Text()),
        _needed("digest", sa.LargeBinary()),
        _needed("at_s", sa.Double()),
        sa.PrimaryKeyConstraint("ns_id", "key", name="pk_idempotency"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        _needed("seq", sa.BigInteger()),
        _needed("topic", sa.Text()),
        _needed("key", sa.LargeBinary()),
        _needed("body_json", sa.Text()),
        sa.PrimaryKeyConstraint("seq", "topic", name="pk_outbox"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "namespaces",
        sa.Column("ns_id", sa.Integer(), nullable=False, autoincrement=False),
        _needed("name", ID),
        _needed("dim", sa.Integer()),
        _needed("embedder", sa.Text()),
        _needed("half_lives_json", sa.Text()),
        _needed("default_half_life", sa.Text()),
        _needed("channels_json", sa.Text()),
        _needed("alpha", sa.Double()),
        _needed("beta", sa.Double()),
        _needed("refuse_normaliser_updates", sa.SmallInteger()),
        _needed("config_version", sa.BigInteger()),
        _needed("created_seq", sa.BigInteger()),
        sa.PrimaryKeyConstraint("ns_id", name="pk_namespaces"),
        sa.UniqueConstraint("name", name="uq_namespaces_name"),
    )


def _log() -> None:
    op.create_table(
        "memory_changes",
        sa.Column("seq", SEQ, nullable=False, autoincrement=False),
        _needed("ns_id", sa.Integer()),
        _needed("op", sa.SmallInteger()),
        _needed("principal", sa.Text()),
        _needed("at_s", sa.Double()),
        _needed("id", ID),
        _needed("version", sa.BigInteger()),
        _needed("content_seq", sa.BigInteger()),
        _needed("row_seq", sa.BigInteger()),
        _needed("expires_seq", sa.BigInteger()),
        _needed("prev_seq", sa.BigInteger()),
        _needed("deleted", sa.SmallInteger()),
        _needed("purged", sa.SmallInteger()),
        _needed("importances", sa.BigInteger()),
        _needed("kind", sa.Text()),
        _needed("content_type", sa.Text()),
        _needed("digest", sa.LargeBinary()),
        sa.Column("importance", sa.Double(), nullable=True),
        _needed("event_time_s", sa.Double()),
        _needed("half_life_class", sa.SmallInteger()),
        _needed("features", sa.LargeBinary()),
        _needed("access_time_s", sa.Double()),
        _needed("access_count", sa.BigInteger()),
        _needed("request_digest", sa.LargeBinary()),
        _needed("detail_json", sa.Text()),
        _needed("metadata_json", sa.Text()),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_memory_changes"),
    )
    op.create_index("ix_memory_changes_ns_id_seq", "memory_changes", ["ns_id", "seq"])
    op.create_index(
        "ix_memory_changes_details",
        "memory_changes",
        ["ns_id", "op", "seq"],
        sqlite_where=sa.text("op >= 7"),
        postgresql_where=sa.text("op >= 7"),
    )
