"""Recall, Replay and what bounds them, on a real store: receipts, the past, budgets, filters, waiting, cancelling."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path

import apsw
import numpy as np
import pytest

from sfmd.contract import NamespaceChange, NamespaceSpec
from sfmd.domain import Condition, ConditionOp, Filter, HalfLife, Query, RecallResult
from sfmd.errors import Code, E, Refused
from sfmd.store.sqlite import FILE
from testing.service import DIM, EPOCH_S, TESTER, StepClock, memory, open_service, service_in, vector


def ask(*components: float, **fields: object) -> Query:
    return Query("notes", vector=vector(*(components or (1.0,))), **fields)  # type: ignore[arg-type]


async def test_a_replay_gives_the_same_bytes_after_writes_a_new_normaliser_and_a_restart(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    clock = StepClock()
    half_lives = (HalfLife("month", 30 * 86_400.0), HalfLife("ever", math.inf))

    def items(first: int, count: int, scale: float) -> list:
        return [
            memory(f"m{n}", *rng.normal(size=4), payload=f'{{"n":{n}}}'.encode(), importance=rng.normal() * scale,
                   half_life_class=("month", "ever")[n % 2], event_time_s=EPOCH_S - 1e5 * n)
            for n in range(first, first + count)
        ]  # fmt: skip

    service = await open_service(tmp_path, clock)
    await service.create_namespace(TESTER, NamespaceSpec("notes", dim=DIM, half_lives=half_lives))
    await service.store_batch(TESTER, "notes", items(0, 200, 1.0))
    query = ask(1.0, 0.5, k=20, receipt=True, explain=True)
    first = await service.recall(TESTER, query)
    before = first.receipt.normaliser_version
    await service.store_batch(TESTER, "notes", items(200, 600, 1000.0))
    await service.delete(TESTER, "notes", first.hits[0].id)
    await service.reinforce(TESTER, "notes", first.hits[1].id, importance=1e6)
    await service.configure_namespace(TESTER, NamespaceChange("notes", alpha=0.5))
    clock.now_s += 1e6
    now = await service.recall(TESTER, query)
    assert now.receipt.normaliser_version > before
    assert now.hits != first.hits
    for _ in range(2):
        replayed = await service.replay(TESTER, first.receipt, query)
        assert replayed.identical
        assert [replace(h, explanation=None) for h in replayed.result.hits] == [
            replace(h, explanation=None) for h in first.hits
        ]
        assert replayed.result.receipt.answer_digest == first.receipt.answer_digest
        assert replayed.result.receipt.request_digest == first.receipt.request_digest
        await service.close()
        service = await open_service(tmp_path, clock)
    await service.close()


async def test_a_receipt_of_another_request_is_refused(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a"))
        receipt = (await service.recall(TESTER, ask(receipt=True))).receipt
        with pytest.raises(Refused) as refused:
            await service.replay(TESTER, receipt, ask(receipt=True, k=3))
        assert refused.value.code is E.RECEIPT
        with pytest.raises(Refused) as refused:
            await service.replay(TESTER, replace(receipt, seq=99), ask(receipt=True))
        assert refused.value.code is E.FUTURE_SEQ


async def test_a_changed_answer_is_not_called_identical(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a"))
        receipt = (await service.recall(TESTER, ask(receipt=True))).receipt
        await service.purge(TESTER, "notes", "a")
        replayed = await service.replay(TESTER, receipt, ask(receipt=True))
        assert not replayed.identical
        assert replayed.result.hits == ()


async def test_as_of_takes_the_time_of_its_commit(tmp_path: Path) -> None:
    clock = StepClock()
    async with service_in(tmp_path, clock) as service:
        stored = await service.store(TESTER, "notes", memory("a"))
        clock.now_s += 1000.0
        past = await service.recall(TESTER, ask(as_of_seq=stored.seq))
        assert (past.now_s, past.seq) == (EPOCH_S, stored.seq)
        assert (await service.recall(TESTER, ask())).now_s == EPOCH_S + 1000.0


@pytest.mark.parametrize(("seq", "code"), [(99, E.FUTURE_SEQ), (0, E.BEHIND_HORIZON), (2**63, E.INVALID)])
async def test_a_seq_that_cannot_be_read_is_refused(seq: int, code: Code, tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        with pytest.raises(Refused) as refused:
            await service.recall(TESTER, ask(as_of_seq=seq))
        assert refused.value.code is code


async def test_min_seq_waits_for_the_write(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        wanted = service.applied_seq + 1
        waiting = asyncio.create_task(service.recall(TESTER, ask(min_seq=wanted)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await service.store(TESTER, "notes", memory("a"))
        result = await waiting
        assert [h.id for h in result.hits] == ["a"]
        assert result.seq >= wanted


async def test_min_seq_that_never_comes_ends_with_a_deadline(tmp_path: Path) -> None:
    async with service_in(tmp_path, limits={"min_seq_wait_s": 0.02}) as service:
        with pytest.raises(Refused) as refused:
            await service.recall(TESTER, ask(min_seq=10_000))
        assert refused.value.code is E.DEADLINE


async def test_a_write_elsewhere_counts_for_min_seq(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a"))
        await service.create_namespace(TESTER, NamespaceSpec("other", dim=DIM))
        elsewhere = await service.store(TESTER, "other", memory("b"))
        assert (await service.recall(TESTER, ask(min_seq=elsewhere.seq))).seq >= elsewhere.seq


async def test_a_budget_of_bytes_takes_whole_hits_best_first(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        for n in range(4):
            payload = json.dumps("x" * 8).encode()
            await service.store(TESTER, "notes", memory(f"m{n}", 1.0, n / 10, payload=payload))
        whole = await service.recall(TESTER, ask())
        assert not whole.truncated
        cut = await service.recall(TESTER, ask(max_bytes=25))
        assert cut.truncated
        assert cut.hits == whole.hits[:2]
        exact = await service.recall(TESTER, ask(max_bytes=40))
        assert (exact.truncated, len(exact.hits)) == (False, 4)


async def test_min_score_is_inclusive_and_on_the_final_score(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a"))
        await service.store(TESTER, "notes", memory("b", 1.0, 1.0))
        scores = [h.score for h in (await service.recall(TESTER, ask())).hits]
        assert len((await service.recall(TESTER, ask(min_score=scores[1]))).hits) == 2
        assert len((await service.recall(TESTER, ask(min_score=math.nextafter(scores[1], 1)))).hits) == 1


async def test_filters_never_under_return(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        items = [
            memory(f"m{n}", 1.0, n / 1000, kind="odd" if n % 2 else "even", event_time_s=EPOCH_S + n,
                   metadata_json=json.dumps({"n": n, "tag": ["a", "b", None][n % 3]}))
            for n in range(300)
        ]  # fmt: skip
        await service.store_batch(TESTER, "notes", items)
        chosen = Filter(
            kinds=("odd",), from_s=EPOCH_S + 100, to_s=EPOCH_S + 200,
            metadata=(Condition("n", ConditionOp.LT, (150,)), Condition("tag", ConditionOp.EQ, ("a",))),
        )  # fmt: skip
        found = await service.recall(TESTER, ask(k=1000, filter=chosen))
        want = {f"m{n}" for n in range(100, 150) if n % 2 and n % 3 == 0}
        assert {h.id for h in found.hits} == want
        ids: set[str] = set()
        token = ""
        while True:
            page = await service.list_page(TESTER, "notes", page_size=3, page_token=token, filter_=chosen)
            ids |= {m.id for m in page.memories}
            token = page.next_page_token
            if not token:
                break
        assert ids == want
        parts = [part async for part in service.export(TESTER, "notes", filter_=chosen)]
        assert {m.id for part in parts[1:] for m in part} == want


async def test_a_cancelled_recall_stops_and_the_pool_goes_on(tmp_path: Path) -> None:
    async with service_in(tmp_path, recall={"workers": 1}) as service:
        rng = np.random.default_rng(1)
        items = [memory(f"m{n}", *rng.normal(size=DIM)) for n in range(20_000)]
        await service.store_batch(TESTER, "notes", items)
        tasks = [asyncio.create_task(service.recall(TESTER, ask(k=1000))) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(e, asyncio.CancelledError) for e in ended)
        assert len((await service.recall(TESTER, ask())).hits) == 10
        assert service.stats().recalls_waiting == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_recalls_that_wait_together_are_answered_as_each_would_be_alone(tmp_path: Path, workers: int) -> None:
    async with service_in(tmp_path, recall={"workers": workers}) as service:
        await service.create_namespace(TESTER, NamespaceSpec("others", dim=DIM, alpha=0.0))
        rng = np.random.default_rng(5)
        for name in ("notes", "others"):
            items = [memory(f"{name}{n}", *rng.normal(size=DIM), importance=float(rng.normal())) for n in range(4000)]
            await service.store_batch(TESTER, name, items)
        past = service.stats().seq - 1000
        asked = [
            replace(ask(*rng.normal(size=4)), namespace=("notes", "others")[n % 3 == 0], k=1 + n, receipt=True,
                    now_s=EPOCH_S + n, as_of_seq=past if n % 5 == 0 else None)
            for n in range(40)
        ]  # fmt: skip
        asked[7] = replace(asked[7], vector=b"1234")
        alone = [await service.recall(TESTER, one) for n, one in enumerate(asked) if n != 7]
        done = await asyncio.gather(*(service.recall(TESTER, one) for one in asked), return_exceptions=True)
        refused = done.pop(7)
        assert isinstance(refused, Refused) and refused.code is E.DIMENSION
        # How many rows were looked at depends on what upkeep had done by then; the answers do not.
        assert [r.hits for r in done] == [r.hits for r in alone]
        assert [r.receipt.answer_digest for r in done] == [r.receipt.answer_digest for r in alone]
        assert service.stats().recalls_waiting == 0


async def test_some_of_a_group_are_cancelled_and_the_others_answered(tmp_path: Path) -> None:
    async with service_in(tmp_path, recall={"workers": 1}) as service:
        rng = np.random.default_rng(1)
        await service.store_batch(TESTER, "notes", [memory(f"m{n}", *rng.normal(size=DIM)) for n in range(20_000)])
        tasks = [asyncio.create_task(service.recall(TESTER, ask(k=200))) for _ in range(30)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(e, asyncio.CancelledError) for e in ended[::3])
        kept = [e for n, e in enumerate(ended) if n % 3]
        assert all(len(e.hits) == 200 for e in kept)


async def test_more_recalls_than_may_wait_are_shed(tmp_path: Path) -> None:
    async with service_in(tmp_path, limits={"recall_queue": 2}) as service:
        await service.store(TESTER, "notes", memory("a"))
        done = await asyncio.gather(*(service.recall(TESTER, ask()) for _ in range(10)), return_exceptions=True)
        shed = [e for e in done if isinstance(e, Refused)]
        assert len(shed) == 8
        assert all(e.code is E.BUSY and e.retry_after_s for e in shed)


async def test_recall_batch_answers_each_on_its_own(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a"))
        good, bad, other = await service.recall_batch(
            TESTER, [ask(), replace(ask(), vector=b"1234"), replace(ask(), namespace="none")]
        )
        assert [h.id for h in good.hits] == ["a"]
        assert (bad.code, bad.status) == (E.DIMENSION.code, "INVALID_ARGUMENT")
        assert (other.code, other.status) == (E.NO_NAMESPACE.code, "NOT_FOUND")


async def test_text_is_embedded_and_asked_by_the_same_embedder(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("texts", embedder="hash-v1"))
    for id_, text in (("cat", "the cat sat on the mat"), ("tax", "income tax is due in April")):
        await service.store(TESTER, "texts", replace(memory(id_), vector=None, text=text))
    found = await service.recall(TESTER, Query("texts", text="where do cats sit?", k=1, explain=True))
    assert [h.id for h in found.hits] == ["cat"]
    terms = found.hits[0].explanation
    total = terms.log2_similarity_term + terms.log2_importance_term + terms.log2_decay_term
    assert total == found.hits[0].log2_score
    with pytest.raises(Refused) as refused:
        await service.recall(TESTER, Query("texts", text="?!"))
    assert refused.value.code is E.EMPTY_TEXT
    await service.close()


async def test_a_namespace_of_another_embedder_is_refused_not_guessed(tmp_path: Path) -> None:
    service = await open_service(tmp_path)
    await service.create_namespace(TESTER, NamespaceSpec("texts", embedder="hash-v1"))
    await service.close()
    service = await open_service(tmp_path, embedders=())
    for call in (
        service.recall(TESTER, Query("texts", text="cat")),
        service.store(TESTER, "texts", replace(memory("a"), vector=None, text="cat")),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.code is E.FINGERPRINT
    await service.close()


def overwrite_payloads(folder: Path, payload: bytes) -> None:
    """Change what is on disk behind the store's back."""
    link = apsw.Connection(str(folder / FILE))
    link.execute("UPDATE memory_changes SET payload = ? WHERE payload IS NOT NULL", (payload,))
    link.close()


async def test_damaged_payload_bytes_are_refused_never_returned(tmp_path: Path) -> None:
    async with service_in(tmp_path) as service:
        await service.store(TESTER, "notes", memory("a", payload=b'"one"'))
    overwrite_payloads(tmp_path, b'"two"')
    async with service_in(tmp_path) as service:
        for call in (service.recall(TESTER, ask()), service.get(TESTER, "notes", "a")):
            with pytest.raises(Refused) as refused:
                await call
            assert refused.value.code is E.CORRUPT


async def test_a_page_ends_at_half_a_message_and_goes_on_behind_a_filter_too(tmp_path: Path) -> None:
    async with service_in(tmp_path, calls={"message_bytes": 2**16}) as service:
        items = [
            memory(f"m{n:02}", kind=("even", "odd")[n % 2], payload=json.dumps("p" * 10_000).encode(),
                   metadata_json=json.dumps({"ä": "ä" * 2_000}, ensure_ascii=False))
            for n in range(40)
        ]  # fmt: skip
        items[7] = memory("m07", kind="odd", payload=json.dumps("p" * 50_000).encode())
        await service.store_batch(TESTER, "notes", items)
        for chosen, want in ((Filter(), range(40)), (Filter(kinds=("odd",)), range(1, 40, 2))):
            ids, token, sizes = [], "", []
            while True:
                page = await service.list_page(TESTER, "notes", page_token=token, filter_=chosen)
                ids += [m.id for m in page.memories]
                sizes.append(sum(len(m.payload) + len(m.metadata_json.encode()) for m in page.memories))
                assert all(len(m.payload) > 10_000 for m in page.memories)
                token = page.next_page_token
                if not token:
                    break
            assert ids == [f"m{n:02}" for n in want]
            assert len(sizes) > len(ids) // 3
            assert all(size < 2**15 or size == 50_004 for size in sizes[:-1])


async def test_no_query_of_a_batch_is_shed_and_single_recalls_find_room(tmp_path: Path) -> None:
    async with service_in(tmp_path, limits={"recall_queue": 8}) as service:
        await service.store(TESTER, "notes", memory("a"))
        batches = [asyncio.create_task(service.recall_batch(TESTER, [ask()] * 64)) for _ in range(12)]
        await asyncio.sleep(0)
        singles = await asyncio.gather(*(service.recall(TESTER, ask()) for _ in range(4)))
        assert not all(batch.done() for batch in batches)
        items = [item for batch in batches for item in await batch]
        assert len(items) == 12 * 64
        assert {type(item) for item in [*singles, *items]} == {RecallResult}
