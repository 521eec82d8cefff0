"""The store under SIGKILL: whatever was acknowledged is there afterwards, byte for byte, and nothing else is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sfmd.store.check import check
from sfmd.store.open import open_store
from testing.crash.nursery import Nursery
from testing.crash.plan import Expected
from testing.crash.states import states

KILLS, WRITERS = 30, 8


@pytest.mark.slow
def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rng, expected = random.Random(20), Expected()
    with Nursery() as nursery:
        for round_ in range(KILLS):
            for line in nursery.run(tmp_path / "data", round_, WRITERS, acks=rng.randrange(1, 80)):
                expected.hear(line)
            store = open_store(tmp_path / "data")
            found = states(store, store.namespaces()[0].ns_id)
            store.close()
            assert expected.lost(found) == [], f"after kill {round_}"
            expected.settle(found)
    assert expected.acknowledged > 10 * KILLS
    assert expected.refused == []
    assert check(tmp_path / "data").problems == []
