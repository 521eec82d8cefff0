"""The daemon under SIGKILL: what it acknowledged over gRPC is there after every restart, and recall agrees with it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sfmd.checking import check_all
from sfmd.config import load
from sfmd.rpc.client import Client
from sfmd.store.open import open_store
from testing.crash.callers import DIM, NAMESPACE, Callers, state_over, vector_of
from testing.crash.daemon_nursery import DaemonNursery
from testing.crash.plan import Expected, live
from testing.crash.states import states
from testing.log_rows import digest_of

KILLS, WRITERS = 100, 8


def _recall_agrees(client: Client, found: dict[str, str], payloads: dict[str, bytes]) -> list[str]:
    """Each live memory must be the best answer to its own vector, and what is gone must not be an answer."""
    problems = []
    for id_, payload in payloads.items():
        hits = client.recall(NAMESPACE, vector=vector_of(payload), k=1).hits
        best = hits[0].id if hits else ""
        if (found[id_] == live(payload)) != (best == id_):
            problems.append(f"{id_} is {found[id_]}, and the recall of its vector answers {best or 'nothing'}")
        elif best == id_ and digest_of(hits[0].payload) != hits[0].digest:
            problems.append(f"the recalled payload of {id_} does not match its digest")
    return problems


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rng, expected = random.Random(3), Expected()
    everything: dict[str, str] = {}
    data = tmp_path / "data"
    with DaemonNursery(data, tmp_path / "log") as nursery:
        profile = nursery.start()
        for round_ in range(KILLS):
            with Client(profile) as client:
                if round_ == 0:
                    client.create_namespace(NAMESPACE, dim=DIM)
                callers = Callers(client, expected, f"r{round_}", WRITERS)
                callers.wait_for(rng.randrange(1, 60))
                nursery.kill()
                callers.join()
            assert callers.unexpected == []
            touched = {id_ for id_ in expected.ids() if id_.startswith(f"r{round_}w")}
            payloads = {id_: o.payload for id_, o in expected.stores.items() if id_ in touched}
            profile = nursery.start()
            with Client(profile) as client:
                found = {id_: state_over(client, id_) for id_ in touched}
                some = dict(rng.sample(sorted(payloads.items()), min(8, len(payloads))))
                assert _recall_agrees(client, found, some) == [], f"after kill {round_}"
            everything |= found
            assert expected.lost(everything) == [], f"after kill {round_}"
            expected.settle(found)
        assert nursery.stop() == 0
    assert expected.acknowledged > 10 * KILLS
    store = open_store(data)
    assert expected.lost(states(store, store.namespaces()[0].ns_id)) == []
    store.close()
    report = check_all(load(data_dir=data))
    assert report.problems == []
    assert report.segments == [f"{NAMESPACE}: {report.segments[0].split(': ')[1]}"]
    assert "compared" in report.segments[0]
