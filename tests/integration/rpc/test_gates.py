"""Gates and the normaliser's shock through a real daemon: tripped by real data, seen in Stats, metrics and the log."""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sfmd.rpc.client import Client, memory_input, pb
from testing.daemon import DaemonProcess, daemon

DIM = 8
WINDOW_S = 60.0
PATIENCE_S = 120.0


def vector(*components: float) -> bytes:
    return struct.pack(f"<{DIM}f", *components, *([0.0] * (DIM - len(components))))


def at_angle(degrees: float) -> bytes:
    return vector(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


def fill(client: Client, namespace: str, items: list[tuple[str, bytes, float]]) -> None:
    """Store (id, vector, importance) and see that each is stored."""
    given = [memory_input(b"{}", id=id_, vector=v, importance=r) for id_, v, r in items]
    assert all(o.result.outcome == pb.CREATED for o in client.store_many(namespace, given))


def said(process: DaemonProcess, event: str, namespace: str) -> list[dict[str, Any]]:
    """The daemon's log lines of an event about a namespace."""
    lines = (json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line.get("event") == event and line.get("namespace") == namespace]


def soon(what: str, found: Any) -> Any:
    """What `found` returns once that is true; fails when it is not within PATIENCE_S."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        value = found()
        if value:
            return value
        time.sleep(0.5)
    pytest.fail(f"{what} did not happen within {PATIENCE_S:g} s")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with daemon(tmp_path_factory.mktemp("gates")) as running:
        yield running


def gates(client: Client, namespace: str) -> dict[str, pb.GateState]:
    (stats,) = client.stats(namespace).namespaces
    return {gate.name: gate for gate in stats.gates}


def test_skew_trips_g2_and_near_ties_trip_g3_and_nothing_else_does(process: DaemonProcess, tmp_path: Path) -> None:
    """A gate's condition has to hold for a minute, so this test takes one."""
    with Client(process.profile()) as client:
        client.create_namespace("flat", dim=DIM, alpha=0.5)
        fill(client, "flat", [(f"m{n}", at_angle(10 * n), 3.0) for n in range(8)])
        client.create_namespace("ties", dim=DIM, beta=2.0)
        fill(client, "ties", [(f"m{n}", at_angle(0.1 * n), 3.0) for n in range(8)])
        client.create_namespace("sound", dim=DIM)
        fill(client, "sound", [(f"m{n}", at_angle(5 * (n % 16)), float(n % 64)) for n in range(256)])
        began_s = time.monotonic()

        def asked() -> bool:
            for namespace in ("flat", "ties", "sound"):
                client.recall(namespace, vector=at_angle(0.0), k=4)
            return gates(client, "flat")["G2"].tripped and gates(client, "ties")["G3"].tripped

        assert not asked(), "a condition trips its gate only when it holds for the window"
        soon("the trip of G2 and G3", asked)
        assert time.monotonic() - began_s > WINDOW_S - 2.0, "neither gate may trip before its window is over"

        flat, ties, sound = (gates(client, name) for name in ("flat", "ties", "sound"))
        assert {name: (g.tripped, g.acting) for name, g in flat.items() if g.tripped} == {"G2": (True, True)}
        assert (ties["G3"].tripped, ties["G3"].acting, ties["G3"].value) == (True, True, 1.0)
        assert (ties["G2"].tripped, ties["G2"].acting) == (True, False), "alpha is 1, so nothing acts on the skew"
        assert not any(g.tripped for g in sound.values())

    shown = {
        (s.name, s.labels["namespace"], s.labels["gate"]): s.value
        for family in text_string_to_metric_families(process.http("/metrics")[1].decode())
        for s in family.samples
        if s.name in ("sfmd_gate_tripped", "sfmd_gate_acting")
    }
    assert shown["sfmd_gate_tripped", "flat", "G2"] == shown["sfmd_gate_acting", "flat", "G2"] == 1.0
    assert shown["sfmd_gate_tripped", "ties", "G3"] == shown["sfmd_gate_acting", "ties", "G3"] == 1.0
    assert (shown["sfmd_gate_tripped", "ties", "G2"], shown["sfmd_gate_acting", "ties", "G2"]) == (1.0, 0.0)
    assert [(line["gate"], line["tripped"]) for line in said(process, "gate_changed", "flat")] == [("G2", True)]
    assert said(process, "gate_changed", "sound") == []


def version_of(client: Client, namespace: str) -> int:
    (stats,) = client.stats(namespace).namespaces
    return int(stats.normaliser_version)


def test_a_cut_logs_how_far_it_moved_recent_answers_and_the_flag_refuses_it(process: DaemonProcess) -> None:
    away = vector(0.0, 0.0, 1.0)  # similarity 0 with every query below: never a hit
    with Client(process.profile()) as client:
        client.create_namespace("moving", dim=DIM)
        fill(client, "moving", [("near", at_angle(0.0), 0.0), ("weighty", at_angle(53.0), 63.0)])
        fill(client, "moving", [(f"a{n}", away, float(n)) for n in range(1, 63)])

        def best() -> str:
            return str(client.recall("moving", vector=at_angle(0.0), k=1).hits[0].id)

        first = version_of(client, "moving")
        assert [best() for _ in range(3)] == ["weighty"] * 3
        cuts = len(soon("the log line of the first cuts", lambda: said(process, "normaliser_cut", "moving")))

        client.configure_namespace("moving", refuse_normaliser_updates=True)
        fill(client, "moving", [(f"b{n}", away, 1_000.0 + n) for n in range(64)])
        assert (version_of(client, "moving"), best()) == (first, "weighty"), "the flag refuses the cut"
        assert len(said(process, "normaliser_cut", "moving")) == cuts

        client.configure_namespace("moving", refuse_normaliser_updates=False)
        fill(client, "moving", [(f"c{n}", away, 1_064.0 + n) for n in range(64)])
        assert version_of(client, "moving") > first
        assert best() == "near", "under the new version both weigh little, and the nearer one is first"

        shock = soon("the shock's log line", lambda: said(process, "normaliser_cut", "moving")[cuts:])[-1]
        assert (shock["from_version"], shock["to_version"]) == (first, version_of(client, "moving"))
        assert shock["queries"] in (4, 5), "the last recall may come before the measurement"
        assert (shock["top_k_kept"], shock["top_k_kept_min"]) == (0.0, 0.0), "every recent top 1 became another"
