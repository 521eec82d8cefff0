"""PostgreSQL as the store's database: several writers, one log.

Guards the log's promise across processes: a write transaction first takes an advisory lock and only then looks where
the log ends, so seqs stay gapless and commit times ordered whoever writes. A commit is durable by the server's
`synchronous_commit`, which the connection insists on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from sfmd.errors import E, Refused
from sfmd.store.database import Cursor, Failure
from sfmd.store.schema import DETAILS, FIRST_NAMESPACE_OP, memory_changes
from sfmd.store.statements import Statement

DETAILS.dialect_kwargs["postgresql_where"] = memory_changes.c.op >= FIRST_NAMESPACE_OP

LOG_LOCK = 0x5F3D0001
"""Key of the advisory lock that whoever appends to the log holds until its commit."""


class PostgresLink:
    """One psycopg connection and its cursor."""

    def __init__(self, url: str, *, read_only: bool) -> None:
        self.raw = psycopg.connect(url, autocommit=True, application_name="sfmd")
        self.cursor = self.raw.cursor()
        setting = "default_transaction_read_only = on" if read_only else "synchronous_commit = on"
        self.cursor.execute(f"SET {setting}")

    def close(self) -> None:
        self.cursor.close()
        self.raw.close()


class PostgresDatabase:
    """A database that may have other writers."""

    exclusive = False
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    errors: type[Exception] = psycopg.Error

    def __init__(self, url: str) -> None:
        """`url` as libpq takes it."""
        dialect: Any = PGDialect_psycopg
        self.dialect: sa.Dialect = dialect(paramstyle="format")
        self._url = url
        self._writer: PostgresLink | None = None

    def writer(self) -> PostgresLink:
        self._writer = PostgresLink(self._url, read_only=False)
        return self._writer

    def reader(self) -> PostgresLink | None:
        return PostgresLink(self._url, read_only=True)

    def begin(self, cursor: Cursor) -> None:
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOG_LOCK,))

    def in_transaction(self) -> bool:
        return self._writer is not None and self._writer.raw.info.transaction_status != TransactionStatus.IDLE

    def insert_many(self, cursor: Cursor, statement: Statement, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            cursor.executemany(statement.sql, rows)

    def committed(self, *, erase: bool) -> None:
        """Nothing: the server writes back by itself. Old versions of purged rows go with its VACUUM."""

    def failure(self, error: Exception) -> Failure:
        words = " ".join(str(error).split())
        if isinstance(error, (psycopg.errors.DiskFull, psycopg.errors.QueryCanceled)):
            return Failure(Refused(E.STORE_DOWN, f"PostgreSQL refused a write: {words}"), False)
        if isinstance(error, (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted)):
            return Failure(Refused(E.CORRUPT, f"PostgreSQL finds its data damaged: {words}"), True)
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            return Failure(Refused(E.STORE_DOWN, f"PostgreSQL cannot be reached: {words}"), True)
        return Failure(Refused(E.BUG, f"the store's statement failed: {type(error).__name__}: {words}"), False)

    def closing(self) -> None:
        """Nothing is left to write."""
