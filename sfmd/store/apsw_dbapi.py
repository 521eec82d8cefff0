"""A thin PEP 249 face over apsw, so that SQLAlchemy and Alembic run on the SQLite that apsw brings.

Why not the standard library's sqlite3: it links whatever SQLite the Python build had, and 3.7.0 to 3.51.2 can
corrupt a WAL that several connections use. Transactions are explicit: the first statement begins one, DDL
included, and only commit() or rollback() ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import apsw

T = TypeVar("T")

apilevel = "2.0"
threadsafety = 1
paramstyle = "qmark"
sqlite_version_info = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
sqlite_version = apsw.sqlite_lib_version()

# PEP 249 fixes these names; apsw's own classes stay the causes.
Error = apsw.Error
Warning = type("Warning", (Exception,), {})
InterfaceError = apsw.MisuseError
DatabaseError = apsw.Error
DataError = apsw.MismatchError
OperationalError = apsw.IOError
IntegrityError = apsw.ConstraintError
InternalError = apsw.InternalError
ProgrammingError = apsw.SQLError
NotSupportedError = apsw.NotFoundError


def Binary(value: bytes) -> bytes:
    """Bytes are SQLite's blobs as they are."""
    return bytes(value)


class Cursor:
    """A PEP 249 cursor. `description` is taken when a statement starts: apsw forgets it at the end."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor = connection.raw.cursor()
        self._cursor.exec_trace = self._note_description
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    def _note_description(self, cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
        columns = cursor.get_description()
        self.description = tuple((c[0], c[1], None, None, None, None, None) for c in columns) or None
        return True

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        self._connection.begin()
        self.description, self.rowcount = None, -1
        before = self._connection.raw.total_changes()
        self._cursor.execute(sql, tuple(parameters))
        self._note_changes(before)
        return self

    def executemany(self, sql: str, many: Iterable[Sequence[Any]]) -> Cursor:
        self._connection.begin()
        self.description, self.rowcount = None, -1
        before = self._connection.raw.total_changes()
        self._cursor.executemany(sql, many)
        self._note_changes(before)
        return self

    def _note_changes(self, before: int) -> None:
        if self.description is None:
            self.rowcount = self._connection.raw.total_changes() - before
            self.lastrowid = self._connection.raw.last_insert_rowid()

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._cursor.fetchone()

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        rows = []
        for _ in range(size or self.arraysize):
            row = self.fetchone()
            if row is None:
                break
            rows.append(row)
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._cursor.fetchall()

    def setinputsizes(self, _sizes: object) -> None:
        """PEP 249 wants it; SQLite has no use for it."""

    def setoutputsize(self, _size: object, _column: object = None) -> None:
        """PEP 249 wants it; SQLite has no use for it."""

    def close(self) -> None:
        self._cursor.close()


class Connection:
    """A PEP 249 connection around one apsw connection (`raw`)."""

    def __init__(self, raw: apsw.Connection) -> None:
        self.raw = raw

    def begin(self) -> None:
        if not self.raw.in_transaction:
            self.raw.execute("BEGIN")

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        if self.raw.in_transaction:
            self.raw.execute("COMMIT")

    def rollback(self) -> None:
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")

    def close(self) -> None:
        self.raw.close()


def connect(path: str) -> Connection:
    """Open `path`, making it where it is absent."""
    return Connection(apsw.Connection(path))
