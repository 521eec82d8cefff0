"""Health over TLS: the first thing that a probe and a client ask."""

import asyncio

import pytest

from sfmd.rpc.aio_client import AioClient
from sfmd.rpc.client import CallFailed, Client
from sfmd.rpc.profile import Profile
from testing.rpc import serve


async def test_health_says_serving_over_tls_and_follows_the_drain(tmp_path):
    async with serve(tmp_path) as served, AioClient(served.profile()) as client:
        assert await client.health() == "SERVING"
        await served.server.serving(False)
        assert await client.health() == "NOT_SERVING"


async def test_the_blocking_client_reads_health_too(tmp_path):
    async with serve(tmp_path) as served:
        profile = served.profile()

        def ask() -> str:
            with Client(profile) as client:
                return client.health()

        assert await asyncio.to_thread(ask) == "SERVING"


async def test_nobody_there_is_not_reached():
    async with AioClient(Profile(address="127.0.0.1:1")) as client:
        with pytest.raises(CallFailed) as failed:
            await client.within(2.0).health()
    assert failed.value.code == "SFM-MEM-034"
    assert "daemon start" in failed.value.next_step


async def test_another_ca_is_refused_by_the_client(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        serve(tmp_path / "a") as a,
        serve(tmp_path / "b") as b,
    ):
        wrong = Profile(address=f"127.0.0.1:{a.port}", ca_file=str(b.tls.paths.ca))
        async with AioClient(wrong) as client:
            with pytest.raises(CallFailed) as failed:
                await client.health()
    assert failed.value.code == "SFM-MEM-035"
