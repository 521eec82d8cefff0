"""The data directory: one process at a time, a schema of this version, one connection where SQLite is old."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from sfmd.errors import E, Refused
from sfmd.store import apsw_dbapi
from sfmd.store.apsw_dialect import engine_on
from sfmd.store.migrate import SCRIPTS, migrate
from sfmd.store.open import open_store, schema_revision
from sfmd.store.schema import METADATA, REVISION
from sfmd.store.sqlite import FILE, SAFE_FOR_SEVERAL, lib_version
from testing.log_rows import make_namespace, store_one

HOLD = """
import sys, time
from sfmd.store.open import open_store
store = open_store(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""
READ = """
import sys, apsw
connection = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READONLY)
connection.set_busy_timeout(100)
print(connection.execute("SELECT count(*) FROM memories").fetchall())
"""


def test_the_linked_sqlite_may_have_several_connections() -> None:
    assert lib_version() >= SAFE_FOR_SEVERAL


def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        for attempt in (lambda: open_store(tmp_path), lambda: migrate(tmp_path)):
            with pytest.raises(Refused) as refusal:
                attempt()
            assert refusal.value.code is E.LOCKED
            assert f"process {holder.pid} " in refusal.value.message
    finally:
        holder.kill()
        holder.communicate()
    open_store(tmp_path).close()


def test_closing_lets_the_next_one_in(tmp_path: Path) -> None:
    for _ in range(3):
        open_store(tmp_path).close()
    first = open_store(tmp_path)
    with pytest.raises(Refused) as refusal:
        open_store(tmp_path)
    assert refusal.value.code is E.LOCKED
    assert str(os.getpid()) in refusal.value.message
    first.close()


def test_a_failed_opening_lets_the_next_one_in(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to be looked at " * 500)
    for _ in range(2):
        with pytest.raises(Refused) as refusal:
            open_store(tmp_path)
        assert refusal.value.code is E.CORRUPT


def test_only_the_owner_may_read_the_data(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    make_namespace(store)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "data").iterdir()}
    store.close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0o600}, modes


def test_a_directory_that_cannot_be_made_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Refused) as refusal:
        open_store(tmp_path / "file" / "data")
    assert refusal.value.code is E.STORE_DOWN


def test_the_database_is_set_up_as_documented(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    cursor = store._writer.cursor
    pragmas = ("page_size", "journal_mode", "synchronous", "secure_delete", "wal_autocheckpoint")
    found = {p: cursor.execute(f"PRAGMA {p}").fetchall()[0][0] for p in pragmas}  # type: ignore[attr-defined]
    assert store._writer.raw.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1) == 1, "joins stay prepared"
    store.close()
    assert found == {"page_size": 16_384, "journal_mode": "wal", "synchronous": 2, "secure_delete": 1,
                     "wal_autocheckpoint": 0}  # fmt: skip


@pytest.mark.parametrize(("version", "readers"), [((3, 40, 1), 0), ((3, 51, 2), 0), ((3, 51, 3), 2), ((3, 54, 1), 2)])
def test_an_old_sqlite_gets_one_connection(tmp_path: Path, version: tuple[int, ...], readers: int) -> None:
    store = open_store(tmp_path, version=version, readers=2)
    try:
        assert len(store._readers.links) == readers
        make_namespace(store)
        read = subprocess.run(
            [sys.executable, "-c", READ, str(tmp_path / FILE)], capture_output=True, text=True, check=False
        )
        assert (read.returncode == 0) == bool(readers), read.stderr  # nobody else gets in beside the one connection
    finally:
        store.close()


def test_a_sqlite_too_old_for_the_statements_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        open_store(tmp_path, version=(3, 34, 0))
    assert refusal.value.code is E.CONFIG


def test_the_migrations_make_exactly_the_schema(tmp_path: Path) -> None:
    assert migrate(tmp_path) == ("", REVISION)
    assert migrate(tmp_path) == (REVISION, REVISION)
    engine = engine_on(apsw_dbapi.connect(str(tmp_path / FILE)))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
        made = connection.exec_driver_sql("SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'alembic%'").all()
    engine.dispose()
    fresh = engine_on(apsw_dbapi.connect(str(tmp_path / "fresh.sqlite3")))
    with fresh.connect() as connection:
        METADATA.create_all(connection)
        wanted = connection.exec_driver_sql("SELECT name, sql FROM sqlite_schema").all()
    fresh.dispose()
    made_sql = {
        name: " ".join((sql or "").split()) for name, sql in made if not name.startswith("sqlite_autoindex_alem")
    }
    assert made_sql == {name: " ".join((sql or "").split()) for name, sql in wanted}


def test_the_newest_migration_is_the_revision_that_the_store_wants() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_a_store_of_a_newer_sfmd_is_not_touched(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for attempt in (lambda: open_store(tmp_path), lambda: migrate(tmp_path)):
        with pytest.raises(Refused) as refusal:
            attempt()
        assert refusal.value.code is E.SCHEMA
    assert schema_revision(tmp_path) == "9999"


def test_a_store_without_a_schema_is_refused_when_migrating_is_off(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.close()
    with pytest.raises(Refused) as refusal:
        open_store(tmp_path, migrate=False)
    assert refusal.value.code is E.SCHEMA


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / FILE))
    connection.execute("CREATE TABLE outbox(in_the_way)")  # the fourth table of the first migration
    connection.close()
    with pytest.raises(Refused):
        migrate(tmp_path)
    connection = apsw.Connection(str(tmp_path / FILE))
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    connection.close()
    assert tables == [("outbox",)]


def test_the_wal_is_written_back_and_does_not_grow_for_ever(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ns = make_namespace(store)
    sizes = []
    for number in range(300):
        store_one(store, ns.ns_id, f"m{number}", os.urandom(200_000))
        sizes.append((tmp_path / f"{FILE}-wal").stat().st_size)
    store.close()
    assert max(sizes) < 16 << 20, "60 MB were written through a WAL of 8 MB"
    assert not (tmp_path / f"{FILE}-wal").exists()


def test_a_long_reader_lets_the_wal_grow_and_then_it_shrinks_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ns = make_namespace(store)
    wal = tmp_path / f"{FILE}-wal"
    reader = apsw.Connection(str(tmp_path / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM memories").fetchall()
    for number in range(120):
        store_one(store, ns.ns_id, f"m{number}", os.urandom(200_000))
    grown = wal.stat().st_size
    reader.close()
    for number in range(120, 360):
        store_one(store, ns.ns_id, f"m{number}", os.urandom(200_000))
    after = wal.stat().st_size
    store.close()
    assert grown > 20 << 20, "the reader's snapshot needs every page that was replaced"
    assert after < grown + (12 << 20), "48 MB more went through a WAL that began anew"
