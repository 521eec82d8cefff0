"""The `store` fixture: each implementation, freshly made. A new one joins by one more parameter here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sfmd.domain import Store
from sfmd.store.open import open_store

Opener = Callable[[], Store]


@pytest.fixture(params=["sqlite", "sqlite-one-connection"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store again and again; what is still open at the end is closed."""
    opened: list[Store] = []
    version = (3, 40, 1) if request.param == "sqlite-one-connection" else None

    def open_again() -> Store:
        opened.append(open_store(tmp_path / "data", version=version))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    """A new, empty store."""
    return opener()
