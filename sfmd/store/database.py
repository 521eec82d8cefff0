"""What the store needs of a database, so that one store serves SQLite and PostgreSQL.

Connections are the driver's own (PEP 249 cursors), always in autocommit: BEGIN and COMMIT are said in words,
so that nothing begins a transaction behind the store's back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from sfmd.errors import Refused
from sfmd.store.statements import Statement


class Cursor(Protocol):
    """The part of a PEP 249 cursor that the store uses."""

    def execute(self, sql: Any, parameters: Any = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, sql: Any, rows: Any, /) -> Any:
        """Run one statement for each row."""

    def fetchall(self) -> list[Any]:
        """All rows of the statement that ran last."""

    def close(self) -> None:
        """Free the cursor."""


class Link(Protocol):
    """One open connection and its cursor."""

    @property
    def cursor(self) -> Cursor:
        """The connection's cursor; used by one thread at a time."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A driver's error as a refusal. `fatal`: what is on disk is no longer known, so writing must stop."""

    refusal: Refused
    fatal: bool


class Database(Protocol):
    """Opens connections and knows how its transactions begin, end and fail."""

    dialect: sa.Dialect
    errors: type[Exception]
    exclusive: bool
    """Whether nobody else can write: then the last seq is the store's to remember."""
    begin_read: str
    """Begins a transaction whose reads see one snapshot."""

    def writer(self) -> Link:
        """The writing connection. Called once."""

    def reader(self) -> Link | None:
        """One more read-only connection, or None where everything must go through the writing one."""

    def begin(self, cursor: Cursor) -> None:
        """Begin a write transaction that no other writer can interleave with."""

    def in_transaction(self) -> bool:
        """Whether the writing connection is inside a transaction."""

    def insert_many(self, cursor: Cursor, statement: Statement, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows in order with few steps."""

    def committed(self, *, erase: bool) -> None:
        """Housekeeping after a commit. `erase`: what was overwritten must leave every file too."""

    def failure(self, error: Exception) -> Failure:
        """What an error of the driver means."""

    def closing(self) -> None:
        """Last housekeeping, before the writing connection closes."""
