"""Large payloads through a real daemon: every read answers or refuses, and none takes memory in proportion to them."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfmd.rpc.aio_client import AioClient
from sfmd.rpc.client import CallFailed, Client, memory_input
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.requests import recall_request
from testing.daemon import DaemonProcess, daemon

DIM = 8
COUNT = 120
PAYLOAD_BYTES = 1_000_000
QUESTION = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
MIB = 2**20


class Watched:
    """How much more memory the daemon held at its peak than before a call."""

    def __init__(self, process: DaemonProcess) -> None:
        self._proc = Path(f"/proc/{process.pid}")
        self._before = 0

    def start(self) -> None:
        (self._proc / "clear_refs").write_text("5")
        self._before = self._of("VmRSS")

    def grown_mib(self) -> int:
        return (self._of("VmHWM") - self._before) // MIB

    def _of(self, name: str) -> int:
        lines = (self._proc / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("NOT PROVED HERE: how much memory large payloads take is read from /proc")
    settings = {"SOMA_CALLS__WAITING_REPLY_BYTES": str(32 * MIB)}
    with daemon(tmp_path_factory.mktemp("large"), settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def client(process: DaemonProcess) -> Iterator[Client]:
    with Client(process.profile()) as client:
        client.create_namespace("notes", dim=DIM)
        yield client


@pytest.fixture(scope="module")
def imported_mib(process: DaemonProcess, client: Client) -> int:
    """What the import of all memories took."""
    watched = Watched(process)
    items = (
        memory_input(os.urandom(PAYLOAD_BYTES), content_type="application/octet-stream", id=f"m{n:04}",
                     vector=[1.0, n / 100, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], metadata={"even": n % 2 == 0})
        for n in range(COUNT)
    )  # fmt: skip
    watched.start()
    assert client.import_many("notes", items).created == COUNT
    return watched.grown_mib()


@pytest.fixture
def watched(process: DaemonProcess, imported_mib: int) -> Watched:
    watched = Watched(process)
    watched.start()
    return watched


def test_a_recall_reads_no_more_than_its_budget(client: Client, watched: Watched) -> None:
    found = client.recall("notes", vector=QUESTION, k=COUNT, max_bytes=3 * PAYLOAD_BYTES)
    assert ([hit.id for hit in found.hits], found.truncated) == (["m0000", "m0001", "m0002"], True)
    assert watched.grown_mib() < 64


def test_a_recall_that_one_reply_cannot_hold_is_refused_early(client: Client, watched: Watched) -> None:
    with pytest.raises(CallFailed, match="max_bytes") as failed:
        client.recall("notes", vector=QUESTION, k=COUNT)
    assert failed.value.code == "SFM-MEM-005"
    assert watched.grown_mib() < 96
    assert len(client.recall("notes", vector=QUESTION, k=COUNT, omit_payload=True).hits) == COUNT


def test_a_batch_of_recalls_is_refused_before_it_is_all_read(client: Client, watched: Watched) -> None:
    asked = [recall_request("notes", vector=QUESTION, k=10) for _ in range(64)]
    with pytest.raises(CallFailed) as failed:
        client.recall_batch(asked)
    assert failed.value.code == "SFM-MEM-005"
    assert watched.grown_mib() < 256
    assert len(client.recall_batch(asked[:1]).items[0].reply.hits) == 10


@pytest.mark.slow
async def test_many_large_recalls_at_once_wait_or_are_shed(process: DaemonProcess, watched: Watched) -> None:
    async with AioClient(process.profile()) as client:
        asked = (client.within(20.0).recall("notes", vector=QUESTION, k=15) for _ in range(40))
        answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = {answer.code for answer in answers if isinstance(answer, CallFailed)}
    assert refused <= {"SFM-MEM-023", "SFM-MEM-026"}
    assert sum(isinstance(answer, pb.RecallReply) for answer in answers) > 5
    assert watched.grown_mib() < 256


def test_an_export_and_a_watch_read_a_little_ahead(client: Client, watched: Watched) -> None:
    exported = 0
    for part in client.export("notes"):
        exported += len(part.memories)
        time.sleep(0.002)
    assert exported == COUNT
    seen = [change.id for change in client.watch("notes", 2, to_seq=COUNT + 1, include_payload=True)]
    assert seen == [f"m{n:04}" for n in range(COUNT)]
    assert watched.grown_mib() < 96


@pytest.mark.parametrize("page_size", [0, 1, 10, 1000])
def test_every_memory_is_listed_whatever_the_payloads(client: Client, watched: Watched, page_size: int) -> None:
    want = [f"m{n:04}" for n in range(COUNT)]
    got = [(m.id, len(m.payload)) for m in client.list("notes", page_size=page_size)]
    assert got == [(id_, PAYLOAD_BYTES) for id_ in want]
    assert [m.id for m in client.list("notes", page_size=page_size, omit_payload=True)] == want
    assert watched.grown_mib() < 128


def test_an_import_holds_little_of_what_comes(imported_mib: int) -> None:
    assert imported_mib < 128
