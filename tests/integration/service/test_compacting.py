"""Compaction: the horizon is stated, what lies behind it goes, and every state from it on stays what it was."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sfmd.checking import check_all
from sfmd.compacting import compact
from sfmd.config import load
from sfmd.contract import NamespaceSpec
from sfmd.domain import HalfLife, Hit, Query, RecallResult
from sfmd.errors import E, Refused
from sfmd.rpc.client import Client
from sfmd.service import MemoryService
from sfmd.store.sqlite import FILE
from testing.daemon import daemon
from testing.service import DIM, EPOCH_S, TESTER, StepClock, memory, open_service, vector

OLD = b'"a version that nothing stands on any more, and long enough to be found in a file"'
EVERYTHING = Query("notes", vector=vector(1.0, 0.3), k=20, now_s=EPOCH_S + 1e9)


async def filled(folder: Path, clock: StepClock) -> MemoryService:
    """A namespace whose memories were made, changed, reinforced, deleted and brought back, a day after another."""
    service = await open_service(folder, clock)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM, half_lives=(HalfLife("month", 2.6e6),)))
    for n in range(6):
        await service.store(TESTER, "notes", memory(f"m{n}", 1.0, n / 7, payload=OLD, importance=float(n)))
        clock.now_s += 86_400.0
    for n in range(4):
        changed = memory(f"m{n}", 0.5, n / 5, payload=b'"new"', importance=2.0 + n, expected_version=1)
        await service.store(TESTER, "notes", changed)
    await service.reinforce(TESTER, "notes", "m4", importance=9.0)
    await service.delete(TESTER, "notes", "m3")
    clock.now_s += 86_400.0
    await service.undo(TESTER, "notes", "m3")
    await service.delete(TESTER, "notes", "m2")
    await service.store(TESTER, "notes", memory("m0", 0.1, 0.9, payload=b'"third"', expected_version=2))
    return service


async def ask(service: MemoryService, seq: int) -> RecallResult:
    query = Query("notes", vector=vector(1.0, 0.3), k=10, as_of_seq=seq, receipt=True)
    return await service.recall(TESTER, query)


async def refused(service: MemoryService, seq: int) -> bool:
    try:
        await ask(service, seq)
    except Refused as error:
        assert error.code is E.BEHIND_HORIZON
        return True
    return False


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize("horizon", [3, 9, 13, 16, 19])
async def test_states_from_the_horizon_on_stay_what_they_were(horizon: int, rebuild: bool, tmp_path: Path) -> None:
    clock = StepClock(EPOCH_S)
    service = await filled(tmp_path, clock)
    last = service.applied_seq
    assert horizon <= last
    before = {seq: await ask(service, seq) for seq in range(horizon, last + 1)}
    await service.close()
    done = compact(load(data_dir=tmp_path), horizon_seq=horizon, clock=clock)
    assert (done.horizon_before, done.horizon_seq) == (1, horizon)
    again = compact(load(data_dir=tmp_path), horizon_seq=horizon, clock=clock)
    assert (again.versions, again.core_rows) == (0, 0)
    assert check_all(load(data_dir=tmp_path)).problems == []
    if rebuild:
        shutil.rmtree(load(data_dir=tmp_path).segments)
    service = await open_service(tmp_path, clock)
    try:
        assert service.stats().horizon_seq == horizon
        for seq, result in before.items():
            now = await ask(service, seq)
            assert now.hits == result.hits, seq
            assert now.receipt is not None
            assert result.receipt is not None
            assert now.receipt.answer_digest == result.receipt.answer_digest
            query = Query("notes", vector=vector(1.0, 0.3), k=10, as_of_seq=seq)
            assert (await service.replay(TESTER, result.receipt, query)).identical
        assert all([await refused(service, seq) for seq in range(1, horizon)])
    finally:
        await service.close()
    assert check_all(load(data_dir=tmp_path)).problems == []


async def test_what_nothing_stands_on_leaves_the_file_and_cannot_be_undone_to(tmp_path: Path) -> None:
    clock = StepClock(EPOCH_S)
    service = await filled(tmp_path, clock)
    last = service.applied_seq
    await service.close()
    assert (tmp_path / FILE).read_bytes().count(OLD) == 6
    done = compact(load(data_dir=tmp_path), horizon_seq=last, clock=clock, smaller=True)
    assert done.versions == 5, "the first versions of m0 to m3, and the second of m0"
    assert (tmp_path / FILE).read_bytes().count(OLD) == 2, "m4 and m5 still stand on theirs"
    service = await open_service(tmp_path, clock)
    with pytest.raises(Refused) as error:
        await service.undo(TESTER, "notes", "m0")
    assert error.value.code is E.NOTHING_TO_UNDO
    assert (await service.undo(TESTER, "notes", "m2")).outcome.value == "RESTORED"
    assert (await service.purge(TESTER, "notes", "m4")).versions_erased == 1
    await service.close()
    assert check_all(load(data_dir=tmp_path)).problems == []


async def test_a_horizon_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    clock = StepClock(EPOCH_S)
    service = await filled(tmp_path, clock)
    settings = load(data_dir=tmp_path)
    with pytest.raises(Refused) as error:
        compact(settings, horizon_seq=3)
    assert error.value.code is E.LOCKED
    await service.close()
    assert compact(settings, keep_s=1.5 * 86_400.0, clock=clock).horizon_seq == 11
    assert compact(settings, keep_s=30 * 86_400.0, clock=clock).horizon_seq == 11, "it never goes back by itself"
    for horizon, code in ((10, E.BEHIND_HORIZON), (10_000, E.FUTURE_SEQ)):
        with pytest.raises(Refused) as error:
            compact(settings, horizon_seq=horizon)
        assert error.value.code is code


@dataclass(frozen=True, slots=True)
class Killed:
    """A data directory as a kill left it, and each state from the last clean stop on, as the whole log tells it."""

    folder: Path
    saved_seq: int
    states: dict[int, tuple[Hit, ...]]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Ten memories saved by a clean stop; then every kind of change, and a SIGKILL before any of it was saved."""
    folder = tmp_path_factory.mktemp("killed")
    with daemon(folder) as process:
        with Client(process.profile()) as client:
            client.create_namespace("notes", dim=DIM)
            for n in range(10):
                client.store("notes", "{}", vector=[1.0, n / 7, *[0.0] * (DIM - 2)], id=f"m{n}")
        process.stop()
        with Client(process.start().profile()) as client:
            change(client)
            last = client.stats().seq
        process.kill()
    whole = copied(process.data_dir, folder / "whole", segments=False)
    return Killed(process.data_dir, 11, asyncio.run(states(whole, range(11, last + 1))))


def change(client: Client) -> None:
    """Deletes, other content under the same id, undone and repeated updates, a new importance, two purges."""
    other = [0.3, 1.0, *[0.0] * (DIM - 2)]
    client.delete("notes", "m1")
    client.store("notes", '"other"', vector=other, id="m1")
    client.store("notes", '"second"', vector=other, id="m2", expected_version=1)
    client.store("notes", '"third"', vector=other, id="m2", expected_version=2)
    client.undo("notes", "m2")
    client.store("notes", '"second"', vector=other, id="m3", expected_version=1)
    client.undo("notes", "m3")
    client.reinforce("notes", "m4", importance=4.0)
    client.delete("notes", "m5")
    client.store("notes", '"second"', vector=other, id="m6", expected_version=1)
    client.purge("notes", "m6")
    client.purge("notes", "m7")
    client.store("notes", '"brief"', vector=other, id="new")
    client.delete("notes", "new")


def copied(data_dir: Path, to: Path, *, segments: bool = True) -> Path:
    """A copy to work on, with or without the core's files."""
    shutil.copytree(data_dir, to)
    if not segments:
        shutil.rmtree(load(data_dir=to).segments)
    return to


async def states(folder: Path, seqs: Iterable[int]) -> dict[int, tuple[Hit, ...]]:
    """What a query for everything finds as of each seq."""
    service = await open_service(folder)
    try:
        return {seq: (await service.recall(TESTER, replace(EVERYTHING, as_of_seq=seq))).hits for seq in seqs}
    finally:
        await service.close()


@pytest.mark.parametrize("broken_off", [False, True])
@pytest.mark.parametrize("behind", range(15))
def test_a_compaction_after_a_kill_leaves_the_core_as_the_store(
    killed: Killed, behind: int, broken_off: bool, tmp_path: Path
) -> None:
    horizon = killed.saved_seq + behind
    folder = copied(killed.folder, tmp_path / "data")
    settings = load(data_dir=folder)
    compact(settings, horizon_seq=horizon)
    if broken_off:  # after the content went, before the core's files were written
        shutil.rmtree(settings.segments)
        shutil.copytree(load(data_dir=killed.folder).segments, settings.segments)
    else:
        assert check_all(settings).problems == []
    wanted = {seq: hits for seq, hits in killed.states.items() if seq >= horizon}
    assert asyncio.run(states(folder, wanted)) == wanted
    assert check_all(settings).problems == []
