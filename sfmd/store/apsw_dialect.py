"""SQLAlchemy's SQLite dialect on the DB-API of apsw_dbapi.py, and nothing more."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.pool import StaticPool

from sfmd.store import apsw_dbapi


class ApswDialect(SQLiteDialect):
    """`sqlite+apsw`: qmark parameters, explicit transactions, DDL inside them."""

    driver = "apsw"
    supports_statement_cache = True
    default_paramstyle = "qmark"

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        return apsw_dbapi

    def _get_server_version_info(self, connection: Any) -> tuple[int, ...]:
        return apsw_dbapi.sqlite_version_info

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """SQLite in WAL mode has one level, and it is serialisable."""

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        return "SERIALIZABLE"


registry.register("sqlite.apsw", __name__, "ApswDialect")


def engine_on(connection: apsw_dbapi.Connection) -> sa.Engine:
    """An engine whose only connection is the given, already open one. Disposing the engine closes it."""
    creator: Any = lambda: connection  # noqa: E731 - the shim is no DBAPIConnection by name
    return sa.create_engine("sqlite+apsw://", creator=creator, poolclass=StaticPool)
