"""What only a database with several writers has to show: one gapless log, and the schema that the migrations make."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from sfmd.errors import E, Refused
from sfmd.store.migrate import migrate
from sfmd.store.open import open_store
from sfmd.store.schema import METADATA, REVISION
from testing.log_rows import make_namespace, store_one
from testing.postgres import PostgresServer


def test_the_migrations_make_exactly_the_schema(postgres: PostgresServer) -> None:
    url = postgres.make("migrated")
    assert migrate(url) == ("", REVISION)
    assert migrate(url) == (REVISION, REVISION)
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []


def test_two_writers_share_one_gapless_log(postgres: PostgresServer) -> None:
    url = postgres.make("shared", template="template")
    stores = [open_store(url, readers=1) for _ in range(2)]
    ns = make_namespace(stores[0])

    def write(number: int) -> None:
        for item in range(40):
            store_one(stores[number], ns.ns_id, f"{number}-{item}", b"p", importance=1.0)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = stores[0].changes(1, 1000)
    assert [row.seq for row in log] == list(range(1, 82))
    assert [store.last_seq() for store in stores] == [81, 81]
    assert stores[1].count_importances(ns.ns_id, 81) == 80
    for store in stores:
        store.close()


def test_a_server_that_is_away_is_a_refusal() -> None:
    for attempt in (open_store, migrate):
        with pytest.raises(Refused) as refusal:
            attempt("postgresql://nobody@127.0.0.1:1/none")
        assert refusal.value.code is E.STORE_DOWN


def test_a_server_that_goes_away_stops_the_writing(postgres: PostgresServer) -> None:
    store = open_store(postgres.make("cut", template="template"), readers=1)
    ns = make_namespace(store)
    postgres.disconnect("cut")
    for _ in range(2):
        with pytest.raises(Refused) as refusal:
            store_one(store, ns.ns_id, "a", b"p")
        assert refusal.value.code is E.STORE_DOWN
    store.close()


def test_backups_are_left_to_postgresql(postgres: PostgresServer) -> None:
    store = open_store(postgres.make("kept", template="template"), readers=1)
    with pytest.raises(Refused) as refusal:
        store.backup("/nowhere")
    store.close()
    assert refusal.value.code is E.CONFIG
