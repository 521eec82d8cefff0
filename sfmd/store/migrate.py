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

POSTGRES = ("postgresql://", "postgres://")

SCRIPTS = Path(__file__).parent / "migrations"


def migrate(place: str | Path) -> tuple[str, str]:
    """Migrate the store in a data directory, which no daemon may have open. Returns (revision before, after);
    before is "" for a new store.

    Raises Refused(LOCKED) while a daemon runs and Refused(SCHEMA) when the store is newer than this program.
    """
    if is_postgres(place):
        return migrate_postgres(str(place))
    lock = DirectoryLock(Path(place))
    try:
        return migrate_locked(Path(place))
    finally:
        lock.release()


def is_postgres(place: str | Path) -> bool:
    """Whether a store's place is a PostgreSQL url and not a data directory."""
    return str(place).startswith(POSTGRES)


def migrate_locked(folder: Path) -> tuple[str, str]:
    """As `migrate`, for a caller that holds the directory's lock."""
    database = SqliteDatabase(folder)
    try:
        link = database.writer()
        engine = engine_on(apsw_dbapi.Connection(link.raw))
        try:
            with engine.connect() as connection:
                return upgrade(connection)
        finally:
            link.cursor.close()
            engine.dispose()
            link.close()
    except database.errors as error:
        raise database.failure(error).refusal from error
    except sa.exc.DBAPIError as error:
        cause = error.orig if isinstance(error.orig, Exception) else error
        raise database.failure(cause).refusal from error


def migrate_postgres(url: str) -> tuple[str, str]:
    """As `migrate`, for PostgreSQL, where an advisory lock makes other migrations wait. Raises Refused."""
    from sfmd.store.postgres import LOG_LOCK, PostgresDatabase  # noqa: PLC0415 - only where PostgreSQL is used

    database = PostgresDatabase(url)
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOG_LOCK)))
            return upgrade(connection)
    except sa.exc.DBAPIError as error:
        cause = error.orig if isinstance(error.orig, Exception) else error
        raise database.failure(cause).refusal from error
    finally:
        engine.dispose()


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
