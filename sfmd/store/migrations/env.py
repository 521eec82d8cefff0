"""Alembic's entry: migrations run on the connection that `migrate.py` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from sfmd.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transaction_per_migration=False,
)
context.run_migrations()
