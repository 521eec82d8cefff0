"""The clients against a real daemon: retries, idempotency, resumed streams, shedding, round trips."""

import asyncio
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sfmd.auth import LOOK_EVERY_S, VERBS
from sfmd.errors import E
from sfmd.limits import CallLimits
from sfmd.rpc.aio_client import AioClient
from sfmd.rpc.client import CallFailed, Client, Retry, Timeouts, memory_input, pb, requests
from testing.daemon import DaemonProcess, daemon
from testing.rpc import Served, serve

PATIENT = Retry(attempts=200, first_s=0.05, most_s=0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def process(tmp_path):
    with daemon(tmp_path, settings={"SOMA_GRPC__PORT": str(free_port())}) as running:
        yield running


async def shown(served: Served, line: str) -> None:
    """Wait until the metrics hold a line."""
    for _ in range(2000):
        if line in served.metrics.text().decode():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{line} was never shown")


def restart_beside(process: DaemonProcess) -> threading.Thread:
    """Kill the daemon now and start it again a little later, in a thread."""
    process.kill()

    def again() -> None:
        time.sleep(0.3)
        process.start()

    thread = threading.Thread(target=again)
    thread.start()
    return thread


def test_reads_and_keyed_stores_outlive_a_killed_daemon_and_other_writes_are_not_repeated(process):
    with Client(process.profile(), retry=PATIENT, timeouts=Timeouts(call_s=60)) as client:
        client.create_namespace("notes", embedder="hash-v1")
        seq = client.store("notes", "the build is green", id="a").seq
        thread = restart_beside(process)
        with pytest.raises(CallFailed) as failed:
            client.store("notes", "without a key")
        assert failed.value.code == E.NOT_REACHED.code
        assert client.get("notes", "a").seq == seq
        assert client.store("notes", "with a key", idempotency_key="k").outcome == pb.CREATED
        thread.join()
        assert client.store("notes", "with a key", idempotency_key="k").outcome == pb.DUPLICATE
        assert {m.payload for m in client.list("notes")} == {b"the build is green", b"with a key"}


def test_a_watch_goes_on_after_a_restart_without_a_gap_or_a_repeat(process):
    with (
        Client(process.profile(), retry=PATIENT, timeouts=Timeouts(call_s=60)) as client,
        Client(process.profile()) as watcher,
    ):
        client.create_namespace("notes", embedder="hash-v1")
        last = [client.store("notes", f"note {n}", idempotency_key=str(n)) for n in range(5)][-1].seq
        watching = watcher.watch("notes", 1, to_seq=last + 5)
        before = []
        while not before or before[-1].seq < last:
            before.append(next(watching))
        thread = restart_beside(process)
        after = []
        writer = threading.Thread(
            target=lambda: [client.store("notes", f"late {n}", idempotency_key=f"l{n}") for n in range(10)]
        )
        writer.start()
        after.extend(watching)
        for each in (thread, writer):
            each.join()
    seqs = [c.seq for c in before + after]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == last + 5


async def test_an_asyncio_watch_goes_on_after_a_restart(process):
    async with AioClient(process.profile()) as client:
        await client.create_namespace("notes", embedder="hash-v1")
        last = (await client.store("notes", "before")).seq
        watching = client.watch("notes", 1, to_seq=last + 1)
        seqs = [(await anext(watching)).seq for _ in range(last)]
        assert await asyncio.to_thread(process.stop) == 0
        restarting = asyncio.create_task(asyncio.to_thread(process.start))
        late = asyncio.create_task(anext(watching))
        await restarting
        async with AioClient(process.profile()) as writer:
            await writer.store("notes", "after")
        assert [*seqs, (await late).seq] == list(range(1, last + 2))


def write(file: Path, text: str) -> None:
    file.write_text(text)


async def test_a_client_takes_up_a_new_token(tmp_path):
    async with serve(tmp_path) as served:
        profile = served.profile()
        file = Path(profile.token_file)
        async with AioClient(profile) as client:
            await client.create_namespace("notes", embedder="hash-v1")
            with Client(profile) as other:
                assert (await asyncio.to_thread(other.stats)).namespaces
                served.tokens.revoke("tester")
                await asyncio.sleep(LOOK_EVERY_S)
                with pytest.raises(CallFailed) as failed:
                    await client.stats()
                assert failed.value.code == E.NO_TOKEN.code
                write(file, "")  # as it is while it is written
                with pytest.raises(CallFailed) as failed:
                    await client.stats()
                assert failed.value.code == E.NO_TOKEN.code
                write(file, served.tokens.create("tester", ("*",), VERBS)[0])
                assert (await client.store("notes", "words")).outcome == pb.CREATED
                assert (await asyncio.to_thread(other.stats)).namespaces


def test_an_expired_deadline_is_a_deadline(process):
    with Client(process.profile(), timeouts=Timeouts(call_s=0.3)) as client:
        client.within(30).create_namespace("notes", embedder="hash-v1")
        with pytest.raises(CallFailed) as failed:
            client.recall("notes", "anything", min_seq=10_000)
    assert failed.value.code == E.DEADLINE.code


async def test_unary_calls_over_the_bound_are_shed_at_once_with_a_hint(tmp_path):
    async with (
        serve(tmp_path, limits=CallLimits(handlers=2, retry_after_s=0.25)) as served,
        AioClient(served.profile(), retry=Retry(attempts=1)) as client,
    ):
        await client.create_namespace("notes", embedder="hash-v1")
        waiting = [asyncio.ensure_future(client.recall("notes", "x", min_seq=10_000)) for _ in range(2)]
        await shown(served, 'sfmd_grpc_in_flight{kind="unary calls"} 2.0')
        with pytest.raises(CallFailed) as failed:
            await client.list_namespaces()
        assert (failed.value.status, failed.value.code) == ("RESOURCE_EXHAUSTED", E.BUSY.code)
        assert failed.value.retry_after_s == 0.25
        assert failed.value.transient
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        patient = AioClient(served.profile(), retry=PATIENT)
        assert [n.name for n in (await patient.list_namespaces()).namespaces] == ["notes"]
        await patient.close()
        assert 'sfmd_grpc_shed_total{kind="unary calls"} 1.0' in served.metrics.text().decode()


async def test_streams_have_a_bound_of_their_own_and_give_their_places_back(tmp_path):
    async with (
        serve(tmp_path, limits=CallLimits(streams=1)) as served,
        AioClient(served.profile(), retry=Retry(attempts=1)) as client,
    ):
        await client.create_namespace("notes", embedder="hash-v1")
        watching = client.watch("notes", 1)
        await anext(watching)
        with pytest.raises(CallFailed) as failed:
            await anext(client.export("notes"))
        assert failed.value.code == E.BUSY.code
        assert (await client.store("notes", "unary calls go on")).outcome == pb.CREATED
        await watching.aclose()
        await shown(served, 'sfmd_grpc_in_flight{kind="streams"} 0.0')
        assert (await anext(client.export("notes"))).namespace.name == "notes"


async def test_an_export_imported_elsewhere_is_the_same_memories(tmp_path):
    async with serve(tmp_path) as served, AioClient(served.profile()) as client:
        for name in ("here", "there"):
            await client.create_namespace(name, embedder="hash-v1", features={"trust": 0.5})
        inputs = [memory_input(f"note {n}", id=f"m{n:03}", importance=float(n), features={"trust": 0.5},
                               metadata={"n": n}, event_time_s=1.7e9 + n) for n in range(300)]  # fmt: skip
        outcomes = [o async for o in client.store_many("here", inputs, batch_items=128)]
        assert [o.index for o in outcomes] == list(range(300))
        replies = [r async for r in client.export("here", include_vectors=True)]
        assert replies[0].total == 300
        copies = [memory_input(m.payload, id=m.id, content_type=m.content_type, vector=m.vector_f32_le, kind=m.kind,
                               importance=m.importance, features=dict(m.features), metadata=m.metadata_json,
                               event_time_s=m.event_time_s) for r in replies for m in r.memories]  # fmt: skip
        counts = await client.import_many("there", copies)
        assert (counts.received, counts.created) == (300, 300)
        again = await client.import_many("there", copies)
        assert (again.created, again.duplicate, again.conflict) == (0, 300, 0)
        there = [m async for m in client.list("there", page_size=64)]
        here = [m async for m in client.list("here", page_size=100)]
        assert [content(m) for m in here] == [content(m) for m in there]


def content(m: pb.Memory) -> tuple[object, ...]:
    """What an import has to bring over."""
    return m.id, m.payload, m.digest, m.importance, m.metadata_json, m.event_time_s, dict(m.features)


async def test_a_token_sees_only_its_namespaces_in_lists_and_statistics(tmp_path):
    async with serve(tmp_path) as served:
        async with AioClient(served.profile()) as owner:
            for name in ("mine", "theirs"):
                await owner.create_namespace(name, embedder="hash-v1")
        async with AioClient(served.profile(namespaces=("mine",), verbs=("read",))) as reader:
            assert [n.name for n in (await reader.list_namespaces()).namespaces] == ["mine"]
            assert [n.namespace for n in (await reader.stats()).namespaces] == ["mine"]


async def test_the_log_names_the_tokens_principal(tmp_path):
    async with serve(tmp_path) as served, AioClient(served.profile()) as client:
        await client.create_namespace("notes", embedder="hash-v1")
        seq = (await client.store("notes", "words")).seq
        changes = [c async for c in client.watch("notes", 1, to_seq=seq)]
        assert {c.principal for c in changes if c.op == "created"} == {"tester"}


async def test_raw_requests_go_through_the_same_call(tmp_path):
    async with serve(tmp_path) as served, AioClient(served.profile()) as client:
        reply = await client.call(requests.create_namespace("notes", dim=8))
        assert reply.dim == 8


async def test_a_refused_upload_of_many_messages_says_why(tmp_path):
    items = [memory_input({}, vector=[1.0] * 8) for _ in range(5000)]
    async with serve(tmp_path) as served:
        stranger = tmp_path / "stranger"
        stranger.write_text(f"sfm_000000000000_{'A' * 43}")
        refusals = {
            E.NO_TOKEN.code: replace(served.profile(), token_file=str(stranger)),
            E.DENIED.code: served.profile(verbs=("read",)),
            E.NO_NAMESPACE.code: served.profile(),
        }
        for code, profile in refusals.items():
            async with AioClient(profile) as client:
                for _ in range(10):
                    with pytest.raises(CallFailed) as failed:
                        await client.import_many("nowhere", items)
                    assert failed.value.code == code
