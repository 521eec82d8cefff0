"""SQLite as the store's database: which versions are trusted, how it is set up, and when the WAL is written
back.

Rules that this module guards: a commit is an fsync (`synchronous=FULL`); exactly one connection writes;
several connections only where the SQLite version does not corrupt a WAL that several use; a failing
checkpoint is seen, which is why SQLite's own automatic one (it ignores errors) is off.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import apsw
import sqlalchemy as sa
import structlog

from sfmd.errors import E, Refused
from sfmd.store.apsw_dialect import ApswDialect
from sfmd.store.database import Cursor, Failure
from sfmd.store.statements import Statement

FILE = "memory.sqlite3"


def store_file(folder: str | Path) -> Path:
    """The store's file in a data directory. Raises Refused(CONFIG) where there is none."""
    path = Path(folder) / FILE
    if not path.exists():
        raise Refused(E.CONFIG, f"{folder} holds no store")
    return path


PAGE_BYTES = 16_384
"""Record 011: with smaller pages some vector lengths waste half the disk."""
WAL_PAGES = 512
"""Frames in the WAL at which it is written back: 8 MiB."""

SAFE_FOR_SEVERAL = (3, 51, 3)
"""From this SQLite on, several connections may share a WAL. Older ones get exactly one connection."""

OLDEST = (3, 35, 0)
"""Older SQLite lacks what the statements need."""

BUSY_MS = 10_000
PATIENCE_MS = 1_000
"""How long a write may wait for readers, once, before a WAL that has to be reset is left for later."""
WRITER_CACHE_KIB, READER_CACHE_KIB = 16 * 1024, 4 * 1024
"""The writing connection's cache holds the heads of some 200,000 memories, the only pages that are met again."""
ROWS_PER_STEP = (256, 64, 16, 4, 1)
"""Rows of one INSERT. Every step of SQLite gives the interpreter's lock away and waits to get it back, up to
a switch interval when another thread computes; few large steps are what keeps writing quick beside a busy
daemon.
"""

log = structlog.get_logger(__name__)


def lib_version() -> tuple[int, ...]:
    """The version of the SQLite that is linked, as numbers."""
    return tuple(int(part) for part in apsw.sqlite_lib_version().split("."))


class SqliteLink:
    """One apsw connection and its cursor."""

    def __init__(self, path: Path, *, read_only: bool, cache_kib: int) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        self.raw = apsw.Connection(str(path), flags=flags, statementcachesize=200)
        self.raw.set_busy_timeout(BUSY_MS)
        # Without this SQLite prepares a join anew whenever its parameters change: 30 microseconds instead of one.
        self.raw.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        self.raw.execute(f"PRAGMA cache_size=-{cache_kib}")
        if read_only:
            self.raw.execute("PRAGMA query_only=ON")
        self.cursor = self.raw.cursor()

    def close(self) -> None:
        self.cursor.close()
        self.raw.close()


class SqliteDatabase:
    """A database file in a directory that the caller has locked."""

    exclusive = True
    begin_read = "BEGIN"
    errors: type[Exception] = apsw.Error

    def __init__(self, folder: Path, *, version: tuple[int, ...] | None = None, synchronous: str = "FULL") -> None:
        """`version` is what the number of connections is decided by; the default is what is linked.

        `synchronous` other than FULL loses acknowledged writes in a power cut: it exists for the test that
        proves it.
        """
        self.version = version or lib_version()
        if self.version < OLDEST:
            need = ".".join(map(str, OLDEST))
            raise Refused(
                E.CONFIG, f"SQLite {apsw.sqlite_lib_version()} is linked; {need} is the oldest that can serve"
            )
        self.dialect: sa.Dialect = ApswDialect(paramstyle="qmark")
        self.path = folder / FILE
        self.several = self.version >= SAFE_FOR_SEVERAL
        self._synchronous = synchronous
        self._wal_pages = 0
        self._checkpoint_at = WAL_PAGES
        self._erase_due = False
        self._writer: SqliteLink | None = None

    def writer(self) -> SqliteLink:
        new = not self.path.exists()
        link = SqliteLink(self.path, read_only=False, cache_kib=WRITER_CACHE_KIB)
        try:
            self._set_up(link, new=new)
        except BaseException:
            link.close()
            raise
        self._writer = link
        return link

    def _set_up(self, link: SqliteLink, *, new: bool) -> None:
        if new:
            link.raw.execute(f"PRAGMA page_size={PAGE_BYTES}")
        if not self.several:
            link.raw.execute("PRAGMA locking_mode=EXCLUSIVE")
        mode = link.cursor.execute("PRAGMA journal_mode=WAL").fetchall()[0][0]
        if mode != "wal":
            raise Refused(
                E.STORE_DOWN, f"the file system of {self.path.parent} cannot hold a WAL (journal mode {mode})"
            )
        for pragma in (
            f"synchronous={self._synchronous}",
            "wal_autocheckpoint=0",
            "secure_delete=ON",
            "cell_size_check=ON",
        ):
            link.cursor.execute(f"PRAGMA {pragma}").fetchall()
        link.raw.set_wal_hook(self._note_wal)
        link.raw.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._settle()

    def _settle(self) -> None:
        """The file is the owner's alone, and its name and the WAL's are on disk: SQLite syncs the directory too, but
        takes no notice when that fails."""
        try:
            self.path.chmod(0o600)
            sync_directory(self.path.parent)
        except OSError as error:
            raise Refused(E.STORE_DOWN, f"{self.path} cannot be made durable: {error.strerror}") from error

    def reader(self) -> SqliteLink | None:
        return SqliteLink(self.path, read_only=True, cache_kib=READER_CACHE_KIB) if self.several else None

    def begin(self, cursor: Cursor) -> None:
        cursor.execute("BEGIN IMMEDIATE")

    def in_transaction(self) -> bool:
        return self._writer is not None and self._writer.raw.in_transaction

    def insert_many(self, cursor: Cursor, statement: Statement, rows: Sequence[tuple[Any, ...]]) -> None:
        if len(rows) == 1:
            cursor.execute(statement.sql, rows[0])
            return
        start = 0
        for size in ROWS_PER_STEP if rows else ():
            while len(rows) - start >= size:
                part = rows[start : start + size]
                cursor.execute(_widened(statement.sql, size), list(chain.from_iterable(part)))
                start += size

    def committed(self, *, erase: bool) -> None:
        if erase or self._erase_due:
            self._erase_due = not self._truncate_wal(PATIENCE_MS if erase else 0)
        elif self._wal_pages >= self._checkpoint_at:
            self._checkpoint()

    def failure(self, error: Exception) -> Failure:
        if isinstance(error, apsw.FullError):
            return Failure(Refused(E.STORE_DOWN, f"the disk that holds {self.path} is full"), False)
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
            return Failure(Refused(E.CORRUPT, f"SQLite finds {self.path} damaged: {error}"), True)
        if isinstance(error, apsw.BusyError):
            return Failure(Refused(E.STORE_DOWN, f"another process holds {self.path}"), False)
        if isinstance(error, (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError)):
            return Failure(Refused(E.STORE_DOWN, f"reading or writing {self.path} failed: {error}"), True)
        return Failure(Refused(E.BUG, f"the store's statement failed: {type(error).__name__}: {error}"), False)

    def closing(self) -> None:
        self._truncate_wal(BUSY_MS)

    def _note_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        if pages < self._wal_pages:  # it began anew
            self._checkpoint_at = WAL_PAGES
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        """Write the WAL back without waiting for readers. Where one of them needs old pages (a backup does), or the
        database finds no room, it grows and is tried again later; at sixteen times its size a write waits for readers,
        within PATIENCE_MS.
        """
        patient = self._checkpoint_at >= 16 * WAL_PAGES
        written = self._written_back(
            apsw.SQLITE_CHECKPOINT_RESTART if patient else apsw.SQLITE_CHECKPOINT_PASSIVE, PATIENCE_MS if patient else 0
        )
        if not written:
            log.warning("wal_not_written_back", pages=self._wal_pages)
            self._checkpoint_at = max(self._wal_pages, self._checkpoint_at) + WAL_PAGES

    def _truncate_wal(self, wait_ms: int) -> bool:
        """Whether the WAL is now empty; False while a reader (a backup, say) needs it or the database has no room."""
        return self._written_back(apsw.SQLITE_CHECKPOINT_TRUNCATE, wait_ms)

    def _written_back(self, mode: int, wait_ms: int) -> bool:
        """Whether the whole WAL is in the database now, waiting for readers so long at most."""
        if self._writer is None:
            return False
        self._writer.raw.set_busy_timeout(wait_ms)
        try:
            frames, done = self._writer.raw.wal_checkpoint(mode=mode)
        except (apsw.BusyError, apsw.FullError):  # what is not written back stays in the WAL, which is as durable
            return False
        finally:
            self._writer.raw.set_busy_timeout(BUSY_MS)
        return bool(done >= frames)


@cache
def _widened(sql: str, rows: int) -> str:
    """An INSERT of one row as one of many: its VALUES group repeated."""
    start = sql.index(" VALUES (") + len(" VALUES ")
    depth, end = 0, start
    for end in range(start, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[end], 0)
        if depth == 0:
            break
    group = sql[start : end + 1].replace(", ?", ",?")  # apsw keeps statements of up to 16 KiB prepared
    return sql[:start] + ",".join([group] * rows) + sql[end + 1 :]


def sync_directory(folder: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
