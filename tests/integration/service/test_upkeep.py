"""What the background thread keeps: gates as measured, counts of the store, and segments that restarts can map."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sfmd.contract import NamespaceSpec
from sfmd.domain import HalfLife
from testing.service import DIM, EPOCH_S, TESTER, StepClock, memory, open_service


@pytest.mark.parametrize(("tau_s", "tripped"), [(86_400.0, True), (math.inf, False)])
async def test_a_finite_half_life_trips_g6_and_acts(tau_s: float, tripped: bool, tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM, half_lives=(HalfLife("one", tau_s),)))
    await service.store(TESTER, "notes", memory("a"))
    service._upkeep._gates_due_s = 0.0
    service._upkeep.round()
    gates = {gate.name: gate for gate in service.stats(["notes"]).namespaces[0].gates}
    assert set(gates) == {"G1", "G2", "G3", "G4", "G5", "G6"}
    assert (gates["G6"].tripped, gates["G6"].acting) == (tripped, tripped)
    assert 0.0 < gates["G4"].value < 1.0
    await service.close()


async def test_counts_of_the_store_reach_the_statistics(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM))
    await service.store_batch(TESTER, "notes", [memory(f"m{n}", payload=b'"12345"') for n in range(10)])
    await service.delete(TESTER, "notes", "m3")
    service._upkeep._counted_at_s.clear()
    service._upkeep.round()
    (stats,) = service.stats(["notes"]).namespaces
    assert (stats.live, stats.deleted, stats.payload_bytes) == (9, 1, 9 * 7)
    await service.close()


async def test_a_stop_saves_what_the_next_start_maps(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM))
    await service.store_batch(TESTER, "notes", [memory(f"m{n}") for n in range(3_000)])
    await service.close()
    service = await open_service(tmp_path)
    (stats,) = service.stats(["notes"]).namespaces
    assert (stats.live, stats.tail_rows) == (3_000, 0)
    await service.close()


@pytest.mark.parametrize(("kept_s", "outcome"), [(3_600.0, "CREATED"), (7_200.0, "DUPLICATE"), (0.0, "DUPLICATE")])
async def test_an_idempotency_key_is_forgotten_when_it_is_old_and_nothing_is_written(
    kept_s: float, outcome: str, tmp_path: Path
) -> None:
    clock = StepClock(EPOCH_S)
    service = await open_service(tmp_path, clock, store={"keys_kept_s": kept_s})
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM))
    asked = memory("", payload=b'"once"', idempotency_key="key")
    await service.store(TESTER, "notes", asked)
    clock.now_s = EPOCH_S + 5_000.0
    service._upkeep.round()
    assert (await service.store(TESTER, "notes", asked)).outcome.value == "DUPLICATE", "too early: writes just happened"
    service._upkeep._commits, service._upkeep._idle_since_s = service.meters.commits, -math.inf
    service._upkeep.round()
    assert (await service.store(TESTER, "notes", asked)).outcome.value == outcome
    await service.close()
