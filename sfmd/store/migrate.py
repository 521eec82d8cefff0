"""Bring a store's schema to this version, in one transaction: either all of it happened or none."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from sfmd.errors import E, Refused
from sfmd.store import apsw_dbapi
from sfmd.store.apsw_dialect import engine_on
from sfmd.store.lock import DirectoryLock
from sfmd.store.schema import REVISION
from sfmd.store.sqlite import SqliteDatabase

SCRIPTS = Path(__file__).parent / "migrations"


def migrate(place: str | Path) -> tuple[str, str]:
    """Migrate the store in a data directory, which no daemon may have open. Returns (revision before, after);
    before is "" for a new store.

    Raises Refused(LOCKED) while a daemon runs and Refused(SCHEMA) when the store is newer than this program.
    """
    lock = DirectoryLock(Path(place))
    try:
        return migrate_locked(Path(place))
    finally:
        lock.release()


def migrate_locked(folder: Path) -> tuple[str, str]:
    """As `migrate`, for a caller that holds the directory's lock."""
    database = SqliteDatabase(folder)
    link = database.writer()
    engine = engine_on(apsw_dbapi.Connection(link.raw))
    try:
        with engine.connect() as connection:
            return upgrade(connection)
    except database.errors as error:
        raise database.failure(error).refusal from error
    except sa.exc.DBAPIError as error:
        cause = error.orig if isinstance(error.orig, Exception) else error
        raise database.failure(cause).refusal from error
    finally:
        link.cursor.close()
        engine.dispose()
        link.close()


def revision_of(connection: sa.Connection) -> str:
    """The store's revision; "" where there is no schema yet."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())


def upgrade(connection: sa.Connection) -> tuple[str, str]:
    """Run what is missing and commit. Alembic is loaded only when something is."""
    before = revision_of(connection)
    if before == REVISION:
        return before, before
    if before > REVISION:
        raise Refused(E.SCHEMA, f"the store has schema {before}; this sfmd knows {REVISION} and must not touch it")
    from alembic import command  # noqa: PLC0415 - a third of a second that a start need not pay
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
    return before, revision_of(connection)
