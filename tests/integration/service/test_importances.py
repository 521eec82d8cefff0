"""What the normaliser learns from: every importance that was given, in the order of the log, also over a restart."""

from __future__ import annotations

from pathlib import Path

from sfmd.checking import check_all
from sfmd.config import load
from sfmd.contract import NamespaceChange, NamespaceSpec
from sfmd.service import MemoryService
from testing.service import DIM, TESTER, memory, open_service, service_in


async def test_a_first_importance_counts_a_half_and_a_new_version_is_a_row_of_the_log(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a", importance=7.0))
        assert (await service.get(TESTER, "notes", "a")).importance_normalised == 0.5
        await service.store_batch(TESTER, "notes", [memory(f"m{n}", importance=n) for n in range(200)])
        cuts = [c async for c in service.watch(TESTER, "notes", 0, to_seq=service.applied_seq) if c.op == "normaliser"]
        assert len(cuts) == 2
        (info,) = await service.list_namespaces(TESTER)
        assert info.normaliser_version == service.stats(["notes"]).namespaces[0].normaliser_version > 2


async def test_a_refused_normaliser_stays_also_over_a_restart(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM))
    await service.store(TESTER, "notes", memory("a", importance=1.0))
    await service.configure_namespace(TESTER, NamespaceChange("notes", refuse_normaliser_updates=True))
    for start in (0, 300):
        await service.store_batch(
            TESTER, "notes", [memory(f"m{n}", importance=float(n)) for n in range(start, start + 300)]
        )
        assert (await service.list_namespaces(TESTER))[0].normaliser_version == 1
        await service.close()
        service = await open_service(tmp_path)
    await service.configure_namespace(TESTER, NamespaceChange("notes", refuse_normaliser_updates=False))
    more = [memory(f"n{n}", importance=float(n)) for n in range(64)]
    await service.store_batch(TESTER, "notes", more)
    assert (await service.list_namespaces(TESTER))[0].normaliser_version == 2
    await service.close()


async def importances(service: MemoryService) -> tuple[int, dict[str, float]]:
    """The normaliser's version, and the normalised importance of each memory."""
    (info,) = await service.list_namespaces(TESTER)
    found = (await service.list_page(TESTER, "notes")).memories
    return info.normaliser_version, {m.id: m.importance_normalised for m in found}


async def test_the_importance_of_a_reinforcement_counts_like_one_that_was_stored(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM))
    for id_ in ("high", "low", "never"):
        await service.store(TESTER, "notes", memory(id_))
    await service.reinforce(TESTER, "notes", "high", importance=100.0)
    await service.reinforce(TESTER, "notes", "low", importance=1.0)
    version, normalised = await importances(service)
    assert (version, normalised) == (2, {"high": 0.95, "low": 0.05, "never": 0.5})
    await service.reinforce(TESTER, "notes", "low", importance=1.0)  # says nothing new
    await service.reinforce(TESTER, "notes", "never")
    await service.delete(TESTER, "notes", "low")
    await service.undo(TESTER, "notes", "low")
    assert (await importances(service))[0] == 2
    await service.close()
    assert check_all(load(data_dir=tmp_path)).problems == []
    service = await open_service(tmp_path)
    assert await importances(service) == (2, normalised)
    await service.store(TESTER, "notes", memory("third", importance=50.0))
    assert (await importances(service))[0] == 2  # the third value: versions are cut at 1, 2, 4, 8 …
    await service.store(TESTER, "notes", memory("fourth", importance=50.0))
    assert (await importances(service))[0] == 3
    await service.close()


async def test_many_reinforcements_move_the_quantiles(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store_batch(TESTER, "notes", [memory(f"m{n}") for n in range(70)])
        for number in range(70):
            await service.reinforce(TESTER, "notes", f"m{number}", importance=float(number))
        version, normalised = await importances(service)
        assert version == 7  # six of the bootstrap, then the first logistic one
        assert normalised["m5"] < 0.25
        assert normalised["m65"] > 0.75
