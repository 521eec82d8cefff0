"""What the wire itself refuses: plaintext, strangers, oversized and half-finished calls."""

import asyncio
import datetime as dt
import socket
import ssl
import time

import grpc
import grpc.aio
import pytest
from cryptography import x509

from sfmd.limits import CallLimits
from sfmd.rpc.aio_client import AioClient
from sfmd.rpc.client import CallFailed
from sfmd.rpc.connection import channel_credentials
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.profile import Profile
from sfmd.secrets import LEAF_LIFETIME, ensure_development, issue, local_names
from testing.calls import METHODS, REQUESTS, RawChannel
from testing.rpc import serve

SMALL = CallLimits(message_bytes=64 * 1024, stream_idle_s=0.3)


async def failed(raw: RawChannel, method: str, messages: list[bytes], **how) -> CallFailed:
    outcome = await raw.outcome(method, messages, **how)
    assert isinstance(outcome, CallFailed), f"{method} answered {outcome}"
    return outcome


@pytest.fixture
async def served(tmp_path):
    async with serve(tmp_path, limits=SMALL) as running:
        yield running


async def test_plaintext_is_refused(served):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary("/grpc.health.v1.Health/Check", None, None)(b"", timeout=10)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_oldest_protocol_spoken_is_tls_1_2(served):
    context = ssl.create_default_context(cafile=str(served.tls.paths.ca))
    context.set_alpn_protocols(["h2"])

    def spoken() -> str | None:
        with (
            socket.create_connection(("127.0.0.1", served.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as encrypted,
        ):
            return encrypted.version()

    assert await asyncio.to_thread(spoken) in ("TLSv1.2", "TLSv1.3")


async def test_a_name_that_the_certificate_lacks_is_refused_by_the_client(served):
    profile = Profile(f"127.0.0.1:{served.port}", str(served.tls.paths.ca), server_name="elsewhere.example")
    async with AioClient(profile) as client:
        with pytest.raises(CallFailed) as error:
            await client.health()
    assert error.value.code == "SFM-MEM-035" and "--server-name" in error.value.next_step


async def test_mutual_tls_wants_a_certificate_of_the_clients_ca(tmp_path):
    clients = ensure_development(tmp_path / "clients", local_names(), dt.datetime.now(dt.UTC))
    issue(clients.ca, tmp_path / "clients" / "ca.key", tmp_path / "me.pem", tmp_path / "me.key", names=("me",),
          now=dt.datetime.now(dt.UTC), client=True)  # fmt: skip
    async with serve(tmp_path, client_ca=clients.ca) as served:
        bare = served.profile()
        shown = Profile(bare.address, bare.ca_file, bare.token_file, str(tmp_path / "me.pem"), str(tmp_path / "me.key"))
        async with AioClient(shown) as client:
            assert await client.health() == "SERVING"
        async with AioClient(bare) as client:
            with pytest.raises(CallFailed) as error:
                await client.health()
        assert error.value.status == "UNAVAILABLE" and "SFM_CERT_FILE" in error.value.next_step, error.value.message


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path):
    offset_s = 0.0

    def clock() -> float:
        return time.time() + offset_s

    async def serial(port: int) -> int:
        pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=10)
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    async with serve(tmp_path, clock=clock) as served:
        first = await serial(served.port)
        assert await serial(served.port) == first
        offset_s = LEAF_LIFETIME.total_seconds() - 86_400
        assert await serial(served.port) != first


async def test_bytes_that_are_no_message_are_malformed_for_every_method(served):
    async with RawChannel(served.profile()) as raw:
        for method in METHODS:
            error = await failed(raw, method, [b"\xff\xff\xff"])
            assert (error.code, error.status) == ("SFM-MEM-029", "INVALID_ARGUMENT"), method


async def test_a_call_that_ends_without_a_message_is_refused_at_once_by_every_method(served):
    async with RawChannel(served.profile()) as raw:
        for method in METHODS:
            error = await failed(raw, method, [])
            assert error.status == "INVALID_ARGUMENT", method
            assert error.code in ("SFM-MEM-029", "SFM-MEM-011"), method


async def test_a_message_over_the_bound_is_refused_and_the_daemon_lives(served):
    async with RawChannel(served.profile()) as raw:
        for method in ("Store", "StoreBatch", "Export"):
            error = await failed(raw, method, [b"\x0a" + bytes(SMALL.message_bytes)])
            assert (error.code, error.status) == ("SFM-MEM-005", "RESOURCE_EXHAUSTED")
        assert await raw.send("/grpc.health.v1.Health/Check", [b""]) == [b"\x08\x01"]


async def test_metadata_over_the_bound_is_refused(served):
    async with RawChannel(served.profile()) as raw:
        error = await failed(raw, "Get", [b""], metadata=(("x-big", "a" * 40_000),))
    assert error.status == "RESOURCE_EXHAUSTED"
    assert not error.transient


async def test_a_silent_upload_ends_by_itself(served):
    profile = served.profile()
    channel = grpc.aio.secure_channel(profile.address, channel_credentials(profile))
    call = channel.stream_unary("/soma.memory.v1.MemoryService/Import", None, None)(
        metadata=(("authorization", f"Bearer {profile.token({})}"),), timeout=30
    )
    await call.wait_for_connection()
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ("sfm-code", "SFM-MEM-026") in tuple(await call.trailing_metadata())
    await channel.close(None)


async def test_a_later_message_may_not_name_another_namespace(served):
    first, second = pb.StoreBatchRequest(namespace="mine"), pb.StoreBatchRequest(namespace="theirs")
    profile = served.profile(namespaces=("mine",))
    async with RawChannel(profile) as raw:
        denied = await failed(raw, "StoreBatch", [second.SerializeToString()])
    assert denied.code == "SFM-MEM-022"
    assert first.namespace != second.namespace


async def test_the_callers_request_id_comes_back_and_a_bad_one_does_not(served):
    async with RawChannel(served.profile()) as raw:
        good = await failed(raw, "Get", [b"\xff"], metadata=(("x-request-id", "trace-42"),))
        bad = await failed(raw, "Get", [b"\xff"], metadata=(("x-request-id", "a b"),))
    assert good.request_id == "trace-42"
    assert bad.request_id not in ("", "a b")


async def test_every_refusal_carries_code_next_step_and_request_id(served):
    async with RawChannel(served.profile(), "") as raw:
        error = await failed(raw, "Store", [REQUESTS["Store"]("notes").SerializeToString()])
    assert (error.code, error.status) == ("SFM-MEM-021", "UNAUTHENTICATED")
    assert error.next_step == "sfmd token create --principal NAME, then SFM_TOKEN_FILE=…"
    assert error.request_id


async def test_refusals_are_counted_by_method_and_status(served):
    async with RawChannel(served.profile(), "") as raw:
        await failed(raw, "Store", [b""])
        await failed(raw, "/soma.memory.v1.MemoryService/Invented", [b""])
    text = served.metrics.text().decode()
    assert 'sfmd_grpc_requests_total{code="UNAUTHENTICATED",method="Store"} 1.0' in text
    assert 'sfmd_grpc_requests_total{code="UNAUTHENTICATED",method="other"} 1.0' in text
    assert "Invented" not in text
