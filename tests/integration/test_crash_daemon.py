"""The daemon under SIGKILL: what it acknowledged over gRPC is there after every restart, and recall agrees with it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sfmd.checking import check_all
from sfmd.config import load
from sfmd.rpc.client import Client, pb
from sfmd.store.open import open_store
from testing.crash.callers import DIM, NAMESPACE, Callers, connect, state_over, store, vector_of
from testing.crash.daemon_nursery import DaemonNursery
from testing.crash.plan import Expected, Operation, live
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


def _sent_again(client: Client, found: dict[str, str], unanswered: list[tuple[Operation, int]]) -> list[str]:
    """Send again what nobody heard of: what had happened is a duplicate, the rest happens now. Noted in `found`."""
    problems = []
    for operation, expected_version in unanswered:
        outcome = pb.Outcome.Name(store(client, operation, expected_version).outcome)
        had_happened = found[operation.id] == live(operation.payload)
        if (outcome == "DUPLICATE") != had_happened:
            problems.append(f"{operation.id} was {found[operation.id]} and its store, sent again, is {outcome}")
        found[operation.id] = live(operation.payload)
    return problems


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    rng, expected = random.Random(3), Expected()
    everything: dict[str, str] = {}
    data = tmp_path / "data"
    with DaemonNursery(data, tmp_path / "log") as nursery:
        profile = nursery.start()
        for round_ in range(KILLS):
            with connect(profile) as client:
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
            with connect(profile) as client:
                found = {id_: state_over(client, id_) for id_ in touched}
                assert _sent_again(client, found, callers.unanswered()) == [], f"after kill {round_}"
                some = dict(rng.sample(sorted(payloads.items()), min(8, len(payloads))))
                assert _recall_agrees(client, found, some) == [], f"after kill {round_}"
            everything |= found
            assert expected.lost(everything) == [], f"after kill {round_}"
            expected.settle(found)
        assert nursery.stop() == 0
    assert expected.acknowledged > 10 * KILLS
    opened = open_store(data)
    assert expected.lost(states(opened, opened.namespaces()[0].ns_id)) == []
    opened.close()
    report = check_all(load(data_dir=data))
    assert report.problems == []
    assert report.segments == [f"{NAMESPACE}: {report.segments[0].split(': ')[1]}"]
    assert "compared" in report.segments[0]
