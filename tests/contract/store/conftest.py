"""The `store` fixture: each implementation, freshly made. A new one joins by one more parameter here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sfmd.protocols import Store
from sfmd.store.migrate import migrate
from sfmd.store.open import open_store
from sfmd.store.schema import METADATA
from testing.postgres import PostgresServer, server_programs

Opener = Callable[[], Store]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server whose databases `template` and `contract` have the schema."""
    programs = server_programs()
    if programs is None:
        pytest.skip("NOT PROVED HERE: the store on PostgreSQL needs a server (apt-get install postgresql)")
    server = PostgresServer(programs)
    migrate(server.make("template"))
    server.make("contract", template="template")
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "sqlite-one-connection", "postgresql"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store again and again; what is still open at the end is closed."""
    opened: list[Store] = []
    version = (3, 40, 1) if request.param == "sqlite-one-connection" else None
    place: str | Path = tmp_path / "data"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        place = server.url("contract")
        server.empty("contract", [table.name for table in METADATA.sorted_tables])

    def open_again() -> Store:
        opened.append(open_store(place, version=version))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    """A new, empty store."""
    return opener()
