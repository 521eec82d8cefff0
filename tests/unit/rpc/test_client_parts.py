"""The clients' shared parts: profiles, retry, vectors, how uploads are cut, and what importing a client loads."""

import array
import datetime as dt
import random
import socket
import stat
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

from sfmd.errors import E
from sfmd.rpc import requests
from sfmd.rpc.aio_client import AioClient
from sfmd.rpc.client import Client
from sfmd.rpc.connection import UPLOAD_BYTES, UPLOAD_ITEMS, Reopening, Retry, batches, cut
from sfmd.rpc.failure import CallFailed
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.health import check_request, status_of
from sfmd.rpc.profile import Profile, load_profile, profile_path, save_profile
from sfmd.secrets import make_ca


@pytest.mark.parametrize("module", ["sfmd.rpc.client", "sfmd.rpc.aio_client"])
def test_a_client_loads_neither_numpy_nor_the_daemon(module):
    heavy = ("numpy", "sqlalchemy", "apsw", "aiohttp", "structlog", "pydantic", "cryptography", "prometheus_client",
             "sfmd.service", "sfmd.rpc.server", "sfmd.core.model")  # fmt: skip
    code = f"import {module}, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_profile_is_written_privately_and_read_back(tmp_path):
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    profile = Profile(address="127.0.0.1:1234", ca_file='/a/"b"\\c.pem', token_file="/t", namespace="notes")
    path = save_profile(profile, "work", env)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_profile("work", env) == profile


def test_arguments_beat_environment_beats_profile(tmp_path):
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    save_profile(Profile(address="a:1", ca_file="/ca", namespace="n1"), "default", env)
    env |= {"SFM_ADDRESS": "b:2", "SFM_NAMESPACE": "n2"}
    assert load_profile("", env, address="c:3", namespace="") == Profile("c:3", "/ca", namespace="n2")


@pytest.mark.parametrize("text", ["address = 3\n", 'adress = "a"\n', "address = \n", "\udcff"])
def test_a_profile_that_cannot_be_read_is_refused_with_its_name(tmp_path, text):
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    path = profile_path("default", env)
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CallFailed) as failed:
        load_profile("", env)
    assert failed.value.code == E.CONFIG.code
    assert str(path) in failed.value.message


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a b"])
def test_a_profile_name_is_no_path(name, tmp_path):
    with pytest.raises(CallFailed):
        profile_path(name, {"XDG_CONFIG_HOME": str(tmp_path)})


def test_a_missing_named_profile_and_a_missing_token_are_refused(tmp_path):
    with pytest.raises(CallFailed, match="no profile"):
        load_profile("work", {"XDG_CONFIG_HOME": str(tmp_path)})
    with pytest.raises(CallFailed) as failed:
        Profile().token({})
    assert failed.value.code == E.NO_TOKEN.code
    assert failed.value.next_step.startswith("sfmctl daemon start")
    with pytest.raises(CallFailed) as missing:
        Profile(token_file=str(tmp_path / "none")).token({})
    assert missing.value.next_step.startswith("name a file that is there")
    (tmp_path / "t").write_text("two words\n")
    with pytest.raises(CallFailed):
        Profile(token_file=str(tmp_path / "t")).token({})
    assert Profile().token({"SFM_TOKEN": "x "}) == "x"


def test_a_vector_is_bytes_floats_or_a_buffer():
    raw = struct.pack("<4f", 1, 2, 3, 4.5)
    forms = [raw, bytearray(raw), memoryview(raw), [1, 2, 3, 4.5], (1.0, 2.0, 3.0, 4.5), array.array("f", raw),
             array.array("d", [1, 2, 3, 4.5]), np.array([1, 2, 3, 4.5]),
             *(np.array([1, 2, 3, 4.5], kind) for kind in ("f4", "f2", ">f4"))]  # fmt: skip
    assert [requests.vector_of(form).f32_le for form in forms] == [raw] * len(forms)
    assert requests.vector_of(np.array([1, -2])).f32_le == struct.pack("<2f", 1, -2)


@pytest.mark.parametrize("bad", [3, "abc", [1, "x"], object(), [1e300], np.array([1j])])
def test_what_is_no_vector_is_refused(bad):
    with pytest.raises(CallFailed) as failed:
        requests.vector_of(bad)
    assert failed.value.code == E.INVALID.code


def test_a_text_payload_is_its_own_text_and_json_stays_json():
    text = requests.memory_input("hello")
    assert (text.payload, text.text, text.content_type) == (b"hello", "hello", "text/plain; charset=utf-8")
    document = requests.memory_input({"é": 1}, vector=[1.0], metadata={"a": 1})
    assert (document.payload, document.content_type) == ('{"é":1}'.encode(), "")
    assert document.metadata_json == '{"a": 1}'
    assert not document.HasField("text")


def test_only_what_is_safe_to_repeat_is_retried():
    assert requests.recall("n", "t").retry
    assert requests.get("n", "i").retry
    assert not requests.store("n", "t").retry
    assert requests.store("n", "t", idempotency_key="k").retry
    assert not requests.undo("n", "i").retry
    assert not requests.purge("n", "i").retry
    assert [requests.delete("n", "i", idempotency_key=k).retry for k in ("", "k")] == [False, True]


def test_pauses_are_jittered_bounded_and_never_shorter_than_asked():
    retry = Retry(attempts=4, first_s=0.1, most_s=0.3, rng=random.Random(1))
    busy = CallFailed(E.BUSY, "busy", retry_after_s=0.25)
    pauses = [retry.pause_s(n, busy, 10) for n in (1, 2, 3)]
    assert all(0.25 <= p <= 0.25 + most for p, most in zip(pauses, (0.1, 0.2, 0.3), strict=True))
    assert retry.pause_s(4, busy, 10) is None
    assert retry.pause_s(1, busy, 0.2) is None
    assert retry.pause_s(1, CallFailed(E.DENIED, "no"), 10) is None
    assert retry.pause_s(1, CallFailed(E.UNTRUSTED, "no"), 10) is None


def test_a_connection_that_is_reset_in_the_handshake_is_no_untrusted_certificate(tmp_path):
    make_ca(tmp_path / "ca.pem", tmp_path / "ca.key", dt.datetime.now(dt.UTC))

    def reset_all(listener):
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            peer.recv(1)  # the rest of the hello is unread: the close is a reset
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=reset_all, args=(listener,), daemon=True)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        profile = Profile(address=address, ca_file=str(tmp_path / "ca.pem"))
        with Client(profile) as client, pytest.raises(CallFailed) as failed:
            client.health()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert failed.value.code == E.NOT_REACHED.code, failed.value.message
    assert failed.value.transient


@pytest.mark.parametrize("host", ["no-such-host.invalid", "ssl-certificate.invalid"])
def test_a_host_that_nobody_knows_is_no_untrusted_certificate(host):
    with Client(Profile(address=f"{host}:50053")) as client, pytest.raises(CallFailed) as failed:
        client.health()
    assert failed.value.code == E.NOT_REACHED.code, failed.value.message
    assert "host's name" in failed.value.next_step


def test_a_watch_that_was_open_is_opened_again_for_longer_than_one_that_never_was():
    lost = CallFailed(E.NOT_REACHED, "gone")

    def tries(legs, now_s=0.0):
        """How often, and for how many seconds, it is tried when nobody answers."""
        count, began_s = 0, now_s
        legs.begin(now_s)
        while (pause_s := legs.pause_s(lost, now_s)) is not None:
            count, now_s = count + 1, now_s + pause_s
            legs.begin(now_s)
        return count, now_s - began_s

    assert tries(Reopening(Retry(), 60.0))[0] == Retry().attempts - 1
    heard = Reopening(Retry(rng=random.Random(1)), 60.0)
    for now_s in (0.0, 500.0):
        heard.heard()
        count, seconds = tries(heard, now_s)
        assert 55 < seconds <= 60
        assert 30 < count < 200
    silent = Reopening(Retry(), 60.0)
    silent.begin(-5.0)
    assert silent.pause_s(lost, 0.0) is not None
    assert tries(silent)[1] > 50
    assert Reopening(Retry(), 60.0).pause_s(CallFailed(E.DENIED, "no"), 0.0) is None


NOT_TO_BE_SENT = {
    "an id that is no text": lambda c: c.get("notes", "\udc80"),
    "a namespace that is no text": lambda c: c.recall("\udc80", "x"),
    "a payload that is no text": lambda c: c.store("notes", "\udc80"),
    "a payload that JSON lacks": lambda c: c.store("notes", {"a": object()}, vector=[1.0]),
    "metadata that JSON lacks": lambda c: c.store("notes", "x", metadata={"a": object()}),
    "an importance in words": lambda c: c.store("notes", "x", importance="much"),
    "a version below 0": lambda c: c.delete("notes", "a", expected_version=-1),
    "k below 0": lambda c: c.recall("notes", "x", k=-1),
    "a past before the log": lambda c: c.get("notes", "a", as_of_seq=-1),
    "a misspelt field": lambda c: c.store("notes", "x", importnace=1.0),
    "a half-life in words": lambda c: c.create_namespace("notes", half_lives={"week": "7 d"}),
    "an upload to no text": lambda c: c.import_many("\udc80", []),
    "an upload of something else": lambda c: c.import_many("notes", ["x"]),
    "a watch from before the log": lambda c: next(c.watch("notes", -1)),
    "an export of the future": lambda c: next(c.export("notes", as_of_seq=2**70)),
    "a page of words": lambda c: next(c.list("notes", page_size="x")),
}


@pytest.mark.parametrize("case", NOT_TO_BE_SENT)
def test_what_cannot_be_sent_is_refused_like_what_the_daemon_refuses(case, tmp_path, monkeypatch):
    monkeypatch.setenv("SFM_TOKEN", "sfm_x")
    with Client(Profile(address="127.0.0.1:1")) as client, pytest.raises(CallFailed) as failed:
        NOT_TO_BE_SENT[case](client)
    assert failed.value.code == E.INVALID.code


def test_a_closed_client_says_so(monkeypatch):
    monkeypatch.setenv("SFM_TOKEN", "sfm_x")
    client = Client(Profile(address="127.0.0.1:1"))
    client.close()
    for call in (client.health, client.list_namespaces, client.within(1).list_namespaces,
                 lambda: next(client.watch("notes")), lambda: client.import_many("notes", [])):  # fmt: skip
        with pytest.raises(CallFailed, match="client is closed"):
            call()


async def test_a_closed_asyncio_client_says_so(monkeypatch):
    monkeypatch.setenv("SFM_TOKEN", "sfm_x")
    client = AioClient(Profile(address="127.0.0.1:1"))
    await client.close()
    for call in (client.health(), client.list_namespaces(), anext(client.watch("notes")),
                 client.import_many("notes", [])):  # fmt: skip
        with pytest.raises(CallFailed, match="client is closed"):
            await call


def test_an_upload_is_cut_by_items_and_bytes_and_names_its_namespace_once():
    small = [pb.MemoryInput(id=str(n)) for n in range(UPLOAD_ITEMS * 2 + 1)]
    made = list(cut("notes", small, pb.StoreBatchRequest))
    assert [len(m.memories) for m in made] == [UPLOAD_ITEMS, UPLOAD_ITEMS, 1]
    assert [m.namespace for m in made] == ["notes", "", ""]
    big = [pb.MemoryInput(payload=bytes(UPLOAD_BYTES // 2 + 1)) for _ in range(3)]
    assert [len(m.memories) for m in cut("notes", big, pb.ImportRequest)] == [1, 1, 1]
    assert [m.id for message in made for m in message.memories] == [m.id for m in small]
    assert [len(m.memories) for m in cut("notes", [], pb.ImportRequest)] == [0]


def test_batches_use_everything_once():
    items = [pb.MemoryInput(id=str(n)) for n in range(7)]
    assert [[i.id for i in batch] for batch in batches(items, 3)] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert list(batches([], 3)) == []


def test_health_messages_equal_the_published_ones():
    from grpc_health.v1 import health_pb2

    assert check_request("sfm") == health_pb2.HealthCheckRequest(service="sfm").SerializeToString()
    assert check_request() == b""
    for status, name in ((0, "UNKNOWN"), (1, "SERVING"), (2, "NOT_SERVING"), (3, "SERVICE_UNKNOWN")):
        assert status_of(health_pb2.HealthCheckResponse(status=status).SerializeToString()) == name
