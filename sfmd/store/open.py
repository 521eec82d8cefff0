"""Open the durable store: lock the data directory, see to the schema, hand out the Store."""

from __future__ import annotations

from pathlib import Path

from sfmd.errors import E, Refused
from sfmd.store.backup import backup
from sfmd.store.lock import DirectoryLock
from sfmd.store.log_store import READERS, LogStore
from sfmd.store.migrate import is_postgres, migrate_locked, migrate_postgres
from sfmd.store.schema import REVISION
from sfmd.store.sqlite import FILE, SqliteDatabase, SqliteLink, store_file


def open_store(
    place: str | Path,
    *,
    migrate: bool = True,
    readers: int = READERS,
    synchronous: str = "FULL",
    version: tuple[int, ...] | None = None,
) -> LogStore:
    """Open the store in the data directory or PostgreSQL database `place`.

    migrate      bring an older schema up to date, and make a store where there is none; otherwise refuse both
    readers      reading connections; fewer where the SQLite version cannot take several
    synchronous  only tests give another than FULL
    version      the SQLite version to decide by; default: what is linked

    Raises Refused: LOCKED (names the process), SCHEMA, STORE_DOWN, CORRUPT, CONFIG.
    """
    if is_postgres(place):
        return _open_postgres(str(place), migrate=migrate, readers=readers)
    folder = Path(place) if migrate else store_file(place).parent
    lock = DirectoryLock(folder)
    try:
        _see_to_schema(folder, migrate=migrate)
        database = SqliteDatabase(folder, version=version, synchronous=synchronous)
        return LogStore(
            database, readers=readers, backup_to=lambda target, link: backup(folder, target, link), release=lock.release
        )
    except BaseException:
        lock.release()
        raise


def _open_postgres(url: str, *, migrate: bool, readers: int) -> LogStore:
    from sfmd.store.postgres import PostgresDatabase  # noqa: PLC0415 - only where PostgreSQL is used

    def back_up(_target: Path, _link: object) -> None:
        raise Refused(E.CONFIG, "a store in PostgreSQL is backed up by PostgreSQL's own means, pg_dump for one")

    if migrate:
        migrate_postgres(url)
    return LogStore(PostgresDatabase(url), readers=readers, backup_to=back_up, release=lambda: None)


def _see_to_schema(folder: Path, *, migrate: bool) -> None:
    found = schema_revision(folder)
    if found == REVISION:
        return
    if found > REVISION or (found and not migrate):
        raise Refused(E.SCHEMA, f"the store in {folder} has schema {found}; this sfmd has {REVISION}")
    migrate_locked(folder)


def schema_revision(folder: Path) -> str:
    """The revision of the store in a directory, without loading Alembic; "" where there is none."""
    path = folder / FILE
    if not path.exists():
        return ""
    database = SqliteDatabase(folder)
    try:
        link = SqliteLink(path, read_only=False, cache_kib=1024)
        try:
            tables = link.cursor.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchall()
            rows = link.cursor.execute("SELECT version_num FROM alembic_version").fetchall() if tables else []
        finally:
            link.close()
    except database.errors as error:
        raise database.failure(error).refusal from error
    return str(rows[0][0]) if rows else ""
