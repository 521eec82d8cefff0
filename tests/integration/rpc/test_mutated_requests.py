"""Ten thousand mutated requests against a real daemon process: no INTERNAL, no UNKNOWN, no line of the log says bug."""

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sfmd.rpc.aio_client import AioClient
from sfmd.rpc.client import CallFailed
from testing.calls import DIM, METHODS, REQUESTS, RawChannel
from testing.daemon import daemon
from testing.mutation import spoiled

TOGETHER = 40
EXAMPLES = 250
WAITING = {"Watch": 0.5, "Recall": 2.0, "RecallBatch": 2.0, "Replay": 2.0}
"""Seconds for what may rightly wait: for changes to come, or for a `min_seq` that nobody has written."""


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with daemon(tmp_path_factory.mktemp("mutated"), settings={"SOMA_LIMITS__NAMESPACES": "5000"}) as running:
        yield running


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as loop:
        yield loop


@pytest.fixture(scope="module")
def raw(process, runner):
    async def prepare() -> RawChannel:
        async with AioClient(process.profile()) as client:
            await client.create_namespace("fuzz", dim=DIM, half_lives={"week": 604_800.0}, features={"trust": 0.5})
            await client.create_namespace("texts", embedder="hash-v1")
        return RawChannel(process.profile())

    channel = runner.run(prepare())
    yield channel
    runner.run(channel.__aexit__())


@pytest.mark.slow
def test_mutated_requests_are_refused_in_kind(process, runner, raw):
    statuses: Counter[str] = Counter()

    async def send(asked: list[tuple[str, int]]) -> list[tuple[str, int, CallFailed]]:
        sent = [raw.outcome(method, [spoiled(REQUESTS[method]("fuzz"), seed)], timeout_s=WAITING.get(method, 30.0))
                for method, seed in asked]  # fmt: skip
        outcomes = await asyncio.gather(*sent)
        statuses.update(o.status if isinstance(o, CallFailed) else "OK" for o in outcomes)
        return [(m, s, o) for (m, s), o in zip(asked, outcomes, strict=True) if isinstance(o, CallFailed)]

    @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=(Phase.generate,),
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.lists(st.tuples(st.sampled_from(sorted(METHODS)), st.integers(0, 2**62)), min_size=TOGETHER,
                    max_size=TOGETHER))  # fmt: skip
    def mutated(asked: list[tuple[str, int]]) -> None:
        for method, seed, failed in runner.run(send(asked)):
            assert failed.status not in ("INTERNAL", "UNKNOWN"), f"spoiled({method}, {seed}): {failed}"
            assert failed.code != "SFM-MEM-030", f"spoiled({method}, {seed}): {failed}"

    mutated()
    assert sum(statuses.values()) >= 10_000
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= set(statuses)
    assert process.alive
    assert process.http("/readyz")[0] == 200
    assert '"event": "bug"' not in process.log.read_text()


def test_afterwards_the_daemon_still_stores_recalls_and_checks_out(process, runner):
    async def ask() -> tuple[int, list[str]]:
        async with AioClient(process.profile()) as client:
            await client.create_namespace("after", embedder="hash-v1")
            stored = await client.store("after", "the build is green")
            return stored.seq, [h.id for h in (await client.recall("after", "green build", min_seq=stored.seq)).hits]

    seq, hits = runner.run(ask())
    assert seq > 0
    assert len(hits) == 1
    assert process.stop() == 0
