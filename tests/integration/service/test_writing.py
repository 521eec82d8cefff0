"""What a write answers, and that nothing is answered OK that is not on disk and visible."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sfmd.checking import check_all
from sfmd.config import load
from sfmd.contract import Batch, NamespaceChange, NamespaceSpec
from sfmd.domain import Channel, HalfLife, MemoryInput, Op, Outcome, Query
from sfmd.errors import Code, E, Refused
from testing.service import DIM, EPOCH_S, TESTER, StepClock, memory, open_service, service_in, vector


async def test_equal_payloads_under_different_ids_are_two_memories(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        for id_ in ("a", "b", ""):
            assert (await service.store(TESTER, "notes", memory(id_))).outcome is Outcome.CREATED
        assert service.stats(["notes"]).namespaces[0].live == 3


async def test_a_key_answers_as_the_first_time_and_refuses_another_request(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        keyed = memory("", idempotency_key="k")
        first = await service.store(TESTER, "notes", keyed)
        again = await service.store(TESTER, "notes", keyed)
        assert again == replace(first, outcome=Outcome.DUPLICATE)
        for other in (replace(keyed, payload=b"[]"), replace(keyed, id="named")):
            with pytest.raises(Refused) as refused:
                await service.store(TESTER, "notes", other)
            assert refused.value.code is E.EXISTS
        await service.delete(TESTER, "notes", first.id)
        assert (await service.store(TESTER, "notes", keyed)).outcome is Outcome.DUPLICATE


async def test_a_key_is_taken_by_the_first_request_also_when_that_found_its_content_there(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        first = await service.store(TESTER, "notes", memory("a"))
        keyed = memory("a", idempotency_key="k")
        assert await service.store(TESTER, "notes", keyed) == replace(first, outcome=Outcome.DUPLICATE)
        with pytest.raises(Refused) as refused:
            await service.store(TESTER, "notes", memory("b", payload=b"[]", idempotency_key="k"))
        assert refused.value.code is E.EXISTS
        await service.delete(TESTER, "notes", "a")
        assert await service.store(TESTER, "notes", keyed) == replace(first, outcome=Outcome.DUPLICATE)
    assert check_all(load(data_dir=tmp_path)).problems == []


async def test_keys_of_delete_and_reinforce(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a"))
        for _ in range(3):
            done = await service.reinforce(TESTER, "notes", "a", idempotency_key="r")
        assert done.outcome is Outcome.DUPLICATE
        assert (await service.get(TESTER, "notes", "a")).access_count == 1
        first = await service.delete(TESTER, "notes", "a", idempotency_key="d")
        again = await service.delete(TESTER, "notes", "a", idempotency_key="d")
        assert again == replace(first, outcome=Outcome.DUPLICATE)
        with pytest.raises(Refused) as refused:
            await service.delete(TESTER, "notes", "a", idempotency_key="r")
        assert refused.value.code is E.EXISTS


async def test_a_duplicate_answers_as_the_first_time_also_after_reinforcement(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        first = await service.store(TESTER, "notes", memory("a", importance=1.0))
        await service.reinforce(TESTER, "notes", "a", importance=2.0)
        again = await service.store(TESTER, "notes", memory("a", importance=1.0))
        assert again == replace(first, outcome=Outcome.DUPLICATE)


async def test_callers_who_compare_and_set_lose_no_update(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("counter", payload=b"0"))

        async def increment() -> int:
            """Tries until it is told that it was this caller who counted; returns how often it was refused."""
            for refusals in range(1000):
                seen = await service.get(TESTER, "notes", "counter")
                counted = memory("counter", payload=b"%d" % (int(seen.payload) + 1), expected_version=seen.version)
                try:
                    done = await service.store(TESTER, "notes", counted)
                except Refused as refused:
                    assert refused.code is E.VERSION
                    continue
                assert done.outcome is Outcome.UPDATED
                return refusals
            raise AssertionError("never got through")

        async def ten() -> int:
            return sum([await increment() for _ in range(10)])

        refusals = await asyncio.gather(*(ten() for _ in range(6)))
        assert (await service.get(TESTER, "notes", "counter")).payload == b"60"
        assert sum(refusals) > 0


async def test_a_keyed_retry_of_an_update_that_arrived_is_a_duplicate(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a"))
        update = memory("a", payload=b"[1]", expected_version=1, idempotency_key="k")
        first = await service.store(TESTER, "notes", update)
        assert await service.store(TESTER, "notes", update) == replace(first, outcome=Outcome.DUPLICATE)
        with pytest.raises(Refused) as refused:
            await service.store(TESTER, "notes", replace(update, idempotency_key=""))
        assert refused.value.code is E.VERSION


async def test_a_batch_has_an_outcome_per_item_in_order(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        items = [
            memory("a"),
            memory("a"),
            memory("a", payload=b"[]"),
            memory("bad", payload=b"{"),
            memory("zero", 0.0),
            memory("nan", math.nan),
            replace(memory("short"), vector=b"1234"),
            replace(memory("none"), vector=None),
            memory("a", payload=b"[1]", expected_version=1),
            memory("last"),
        ]
        results = await service.store_batch(TESTER, "notes", items, first_index=5)
        assert [r.index for r in results] == list(range(5, 15))
        outcomes = [r.result.outcome.name for r in results]
        assert outcomes == ["CREATED", "DUPLICATE", "CONFLICT", *["REJECTED"] * 5, "UPDATED", "CREATED"]
        codes = [r.error.code if r.error else None for r in results[2:8]]
        wanted = (E.EXISTS, E.PAYLOAD_NOT_JSON, E.ZERO_VECTOR, E.NOT_FINITE, E.DIMENSION, E.INVALID)
        assert codes == [code.code for code in wanted]
        assert {m.id for m in (await service.list_page(TESTER, "notes")).memories} == {"a", "last"}


REFUSED: list[tuple[str, MemoryInput, Code]] = [
    ("importance", memory("a", importance=math.inf), E.INVALID),
    ("clock", memory("a", event_time_s=1e12), E.CLOCK),
    ("clock nan", memory("a", event_time_s=math.nan), E.CLOCK),
    ("half-life class", memory("a", half_life_class="none"), E.INVALID),
    ("channel", memory("a", features={"none": 1.0}), E.INVALID),
    ("feature", memory("a", features={"trust": 1.5}), E.INVALID),
    ("metadata", memory("a", metadata_json="[1]"), E.INVALID),
    ("metadata nan", memory("a", metadata_json='{"x": NaN}'), E.INVALID),
    ("deep payload", memory("a", payload=b"[" * 50_000), E.PAYLOAD_NOT_JSON),
    ("long id", memory("a" * 257), E.TOO_LARGE),
    ("long key", memory("a", idempotency_key="é" * 129), E.TOO_LARGE),
    ("nul", memory("a\x00b"), E.INVALID),
    ("surrogate", memory("a\ud800"), E.INVALID),
    ("large payload", memory("a", payload=b'"' + b"x" * 2**20 + b'"'), E.TOO_LARGE),
    ("both", replace(memory("a"), text="cat"), E.INVALID),
    ("no embedder", replace(memory("a"), vector=None, text="cat"), E.NO_EMBEDDER),
    ("empty text", replace(memory("a"), vector=None, text=" "), E.EMPTY_TEXT),
]


@pytest.mark.parametrize(("case", "given", "code"), REFUSED, ids=[r[0] for r in REFUSED])
async def test_a_bad_field_is_refused_and_nothing_is_stored(case: str, given: MemoryInput, code: Code,
                                                            tmp_path: Path) -> None:  # fmt: skip
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM, channels=(Channel("trust", 0.5),)))
    before = service.applied_seq
    with pytest.raises(Refused) as refused:
        await service.store(TESTER, "notes", given)
    (item,) = await service.store_batch(TESTER, "notes", [given])
    await service.close()
    assert refused.value.code is code
    assert item.error is not None
    assert (item.result.outcome, item.error.code) == (Outcome.REJECTED, code.code)
    assert service.applied_seq == before


async def test_an_import_counts_and_takes_any_number(tmp_path: Path) -> None:
    async with service_in(tmp_path, limits={"chunk_items": 10, "batch_items": 20}) as service:

        async def batches() -> AsyncIterator[Batch]:
            for start in range(0, 95, 7):
                yield Batch([memory(f"m{n}") for n in range(start, start + 7)], 700)
            yield Batch([memory("m0", payload=b"[]"), memory("bad", 0.0), memory("m1")], 300)

        done = await service.import_(TESTER, "notes", batches())
        assert (done.received, done.created, done.duplicate, done.conflict, done.rejected) == (101, 98, 1, 1, 1)
        assert [item.index for item in done.first_errors] == [98, 99]
        assert done.last_seq == service.applied_seq
        with pytest.raises(Refused) as refused:
            await service.store_stream(TESTER, "notes", batches())
        assert refused.value.code is E.TOO_LARGE


async def test_a_broken_stream_keeps_what_was_taken_and_nothing_else(tmp_path: Path) -> None:
    async with service_in(tmp_path, limits={"chunk_items": 10}) as service:

        async def batches() -> AsyncIterator[Batch]:
            yield Batch([memory(f"m{n}") for n in range(25)], 2_500)
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await service.import_(TESTER, "notes", batches())
        assert service.stats(["notes"]).namespaces[0].live == 20


async def test_a_stream_of_large_items_is_cut_by_bytes(tmp_path: Path) -> None:
    limits = {"chunk_bytes": 100_000, "queue_bytes": 150_000}
    async with service_in(tmp_path, limits=limits, writer={"rows": 1}) as service:
        groups: list[int] = []
        service.meters.on_group = groups.append

        async def batches() -> AsyncIterator[Batch]:
            for size_bytes, count in ((30_000, 30), (300, 100), (250_000, 2), (1, 0)):
                payload = json.dumps("p" * size_bytes).encode()
                items = [memory(f"{size_bytes}-{n}", payload=payload) for n in range(count)]
                yield Batch(items, size_bytes * count)

        results = await service.store_stream(TESTER, "notes", batches())
        assert [item.index for item in results] == list(range(132))
        assert {item.result.outcome for item in results} == {Outcome.CREATED}
        assert max(groups[:10]) == 3, "three of 30,000 bytes each in a chunk of 100,000"
        assert sum(groups) == 132


@pytest.mark.parametrize("limits", [{"queue_items": 4}, {"queue_bytes": 40}])
async def test_a_full_queue_sheds_with_a_hint(tmp_path: Path, limits: dict[str, int]) -> None:
    async with service_in(tmp_path, limits=limits) as service:
        calls = (service.store(TESTER, "notes", memory(f"m{n}", payload=b'"12345678"')) for n in range(50))
        done = await asyncio.gather(*calls, return_exceptions=True)
        shed = [e for e in done if isinstance(e, Refused)]
        kept = [d for d in done if not isinstance(d, BaseException)]
        assert shed
        assert all(e.code is E.BUSY and e.retry_after_s for e in shed)
        assert len(kept) == service.stats(["notes"]).namespaces[0].live == 50 - len(shed)


async def test_writers_share_commits(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        before = service.stats().commits
        await asyncio.gather(*(service.store(TESTER, "notes", memory(f"m{n}")) for n in range(200)))
        assert service.stats().commits - before <= 20


async def test_what_was_taken_is_finished_and_what_comes_later_refused(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM))
    calls = [asyncio.create_task(service.store(TESTER, "notes", memory(f"m{n}"))) for n in range(100)]
    await asyncio.sleep(0)
    await service.close()
    assert all(call.result().outcome is Outcome.CREATED for call in calls)
    with pytest.raises(Refused) as refused:
        await service.store(TESTER, "notes", memory("late"))
    assert refused.value.code is E.STOPPING
    service = await open_service(tmp_path)
    assert service.stats(["notes"]).namespaces[0].live == 100
    await service.close()


async def test_a_commit_that_fails_is_never_answered_ok(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM))
    await service.store(TESTER, "notes", memory("a"))
    await asyncio.to_thread(service._store.close)
    with pytest.raises(Refused):
        await service.store(TESTER, "notes", memory("b"))
    await service.close()
    service = await open_service(tmp_path)
    assert {m.id for m in (await service.list_page(TESTER, "notes")).memories} == {"a"}
    await service.close()


async def test_a_cancelled_store_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        calls = [asyncio.create_task(service.store(TESTER, "notes", memory(f"m{n}"))) for n in range(20)]
        await asyncio.sleep(0)
        calls[3].cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(done[3], asyncio.CancelledError)
        assert sum(not isinstance(d, BaseException) for d in done) == 19


async def test_watch_follows_commits_and_ends_where_it_is_told(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.create_namespace(TESTER, NamespaceSpec("other", dim=DIM))
        seen: list[tuple[int, str, bytes]] = []

        async def follow() -> None:
            async for change in service.watch(TESTER, "notes", 0, to_seq=7, include_payload=True):
                seen.append((change.seq, change.op, change.payload))

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.02)
        await service.store(TESTER, "notes", memory("a", payload=b'"x"'))
        await service.store(TESTER, "other", memory("a"))
        await service.delete(TESTER, "notes", "a")
        await service.undo(TESTER, "notes", "a")
        assert not following.done()
        await service.store(TESTER, "other", memory("b"))
        await following
        assert [(s, op) for s, op, _ in seen] == [(1, "namespace"), (3, "created"), (5, "deleted"), (6, "restored")]
        assert seen[1][2] == b'"x"'


async def test_undoing_the_undo_brings_it_back(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a", payload=b"1"))
        await service.store(TESTER, "notes", memory("a", payload=b"2", expected_version=1))
        for payload in (b"1", b"2", b"1"):
            await service.undo(TESTER, "notes", "a")
            assert (await service.get(TESTER, "notes", "a")).payload == payload
        with pytest.raises(Refused) as refused:
            await service.undo(TESTER, "notes", "a", expected_seq=1)
        assert refused.value.code is E.VERSION


async def test_a_purge_holds_after_a_restart_and_leaves_no_bytes(tmp_path: Path) -> None:
    secret = b'"a most peculiar phrase"'
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM))
    await service.store_batch(TESTER, "notes", [memory(f"m{n}", 1.0, n / 10) for n in range(50)])
    words = {"kind": "a-peculiar-kind", "metadata_json": '{"of":"peculiar-origin"}'}
    await service.store(TESTER, "notes", memory("a", 1.0, 0.5, 0.125, payload=secret, **words))
    await service.close()
    service = await open_service(tmp_path)
    purged = await service.purge(TESTER, "notes", "a")
    assert purged.versions_erased == 1
    assert (await service.purge(TESTER, "notes", "a")).versions_erased == 0
    await service.close()
    left = [p for p in await asyncio.to_thread(lambda: [*tmp_path.rglob("*")]) if p.is_file()]
    assert not [p for p in left if b"peculiar" in p.read_bytes()]
    service = await open_service(tmp_path)
    found = await service.recall(TESTER, Query("notes", vector=vector(1.0, 0.5, 0.125), k=100))
    assert "a" not in {h.id for h in found.hits}
    assert len(found.hits) == 50
    await service.close()


async def test_a_purged_memory_is_shown_by_nothing_now_or_in_the_past(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        for id_ in ("a", "b", "c"):
            stored = await service.store(TESTER, "notes", memory(id_))
        await service.delete(TESTER, "notes", "b")
        await service.purge(TESTER, "notes", "a")
        for how in ({}, {"as_of_seq": stored.seq}, {"include_deleted": True}):
            with pytest.raises(Refused) as refused:
                await service.get(TESTER, "notes", "a", **how)
            assert refused.value.code is E.PURGED
        assert (await service.get(TESTER, "notes", "b", as_of_seq=stored.seq)).payload == b"{}"
        page = await service.list_page(TESTER, "notes", include_deleted=True)
        assert [m.id for m in page.memories] == ["b", "c"]
        parts = [part async for part in service.export(TESTER, "notes", as_of_seq=stored.seq)]
        assert [m.id for part in parts if isinstance(part, list) for m in part] == ["b", "c"]


async def test_namespaces_are_made_once_and_only_grow(tmp_path: Path) -> None:
    clock = StepClock()
    spec = NamespaceSpec("notes", dim=DIM, half_lives=(HalfLife("week", 604_800.0),))
    service = await open_service(tmp_path, clock)
    made = await service.create_namespace(TESTER, spec)
    assert await service.create_namespace(TESTER, spec) == made
    with pytest.raises(Refused) as refused:
        await service.create_namespace(TESTER, replace(spec, alpha=2.0))
    assert refused.value.code is E.NAMESPACE_EXISTS
    change = NamespaceChange(
        "notes", half_lives=(HalfLife("ever", math.inf), HalfLife("week", 1e6)), channels=(Channel("trust", 0.25),)
    )
    changed = await service.configure_namespace(TESTER, change)
    assert changed.namespace.half_lives == (HalfLife("week", 1e6), HalfLife("ever", math.inf))
    assert changed.config_digest != made.config_digest
    assert (await service.configure_namespace(TESTER, change)).namespace.config_version == 2
    with pytest.raises(Refused) as refused:
        await service.configure_namespace(TESTER, NamespaceChange("notes", alpha=3.0, expected_config_version=1))
    assert refused.value.code is E.VERSION
    await service.store(TESTER, "notes", memory("a", features={"trust": 0.5}, event_time_s=EPOCH_S))
    hit = (await service.recall(TESTER, Query("notes", vector=vector(1.0), explain=True))).hits[0]
    assert hit.explanation.features[0].log2_term == 0.25 * math.log2(0.5)
    assert await service.create_namespace(TESTER, spec) == changed
    await service.close()
    service = await open_service(tmp_path, clock)
    assert await service.list_namespaces(TESTER) == [changed]
    await service.close()


async def test_every_operation_has_its_name_in_watch(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a", importance=1.0))
        await service.store(TESTER, "notes", memory("a", 2.0, 1.0, importance=2.0, expected_version=1))
        await service.reinforce(TESTER, "notes", "a")
        await service.delete(TESTER, "notes", "a")
        await service.undo(TESTER, "notes", "a")
        await service.configure_namespace(TESTER, NamespaceChange("notes", beta=2.0))
        await service.purge(TESTER, "notes", "a")
        ops = {c.op async for c in service.watch(TESTER, "notes", 0, to_seq=service.applied_seq)}
        of_the_log = {Op.COMPACTED}  # belongs to no namespace
        assert ops == {op.name.lower() for op in set(Op) - of_the_log}
