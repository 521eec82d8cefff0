"""The auxiliary port of a real daemon process: liveness, readiness, health, statistics and every metric."""

import json
import os
import re
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sfmd.rpc.client import CallFailed, Client, memory_input
from sfmd.rpc.connection import SERVICE_PATH, call_metadata, channel_credentials
from sfmd.rpc.gen import memory_pb2 as pb
from sfmd.rpc.refusals import AT_ONCE
from testing.daemon import daemon

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with daemon(tmp_path_factory.mktemp("http")) as running:
        with Client(running.profile()) as client:
            client.create_namespace("notes", embedder="hash-v1", half_lives={"week": 604_800.0, "ever": float("inf")})
            for n in range(70):
                client.store("notes", f"note {n} about the build", importance=float(n))
            client.recall("notes", "the build", k=5)
        yield running


def families(process):
    return {f.name: f for f in text_string_to_metric_families(process.http("/metrics")[1].decode())}


def value(process, name, **labels):
    found = families(process)
    return next(s.value for f in found.values() for s in f.samples if s.name == name and s.labels == labels)


def test_live_ready_and_healthy(process):
    assert process.http("/livez") == (200, b"ok\n")
    assert process.http("/readyz") == (200, b"ready\n")
    status, body = process.http("/healthz")
    assert (status, json.loads(body)["healthy"]) == (200, True)


def test_only_get_and_only_known_paths(process):
    assert process.http("/")[0] == 404
    assert process.http("/metrics/../../etc/passwd")[0] == 404


def test_stats_show_what_was_stored(process):
    notes = next(n for n in json.loads(process.http("/stats")[1])["namespaces"] if n["namespace"] == "notes")
    assert notes["live"] == 70
    assert notes["decay_active_ratio"] == 1.0
    assert notes["importance_raw"]["q50"] == pytest.approx(34.5, abs=2)
    assert {g["name"] for g in notes["gates"]} == {"G1", "G2", "G3", "G4", "G5", "G6"}


def test_every_documented_metric_is_served_and_every_served_one_is_documented(process):
    page = (ROOT / "docs/reference/metrics.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    suffix = {"counter": "_total", "info": "_info"}
    served = {f.name + suffix.get(f.type, "") for f in families(process).values()}
    served -= {name for name in served if name.endswith("_created")}
    assert served == documented


def test_the_metrics_of_the_roadmap_have_the_values_of_the_store(process):
    assert value(process, "sfmd_total_vectors", namespace="notes") == 70
    assert value(process, "sfmd_decay_active_ratio", namespace="notes") == 1.0
    assert value(process, "sfmd_norm_error_max", namespace="notes") < 1e-4
    assert value(process, "sfmd_importance_raw", namespace="notes", quantile="0.5") == pytest.approx(34.5, abs=2)
    assert value(process, "sfmd_rows_committed_total") >= 71
    assert value(process, "sfmd_commits_total") >= 1
    assert value(process, "sfmd_normaliser_recomputes_total") >= 6
    assert value(process, "sfmd_grpc_requests_total", method="Store", code="OK") == 70
    assert value(process, "sfmd_grpc_request_seconds_count", method="Recall") == 1
    assert value(process, "sfmd_insert_qps") > 0
    assert value(process, "sfmd_query_qps") > 0
    assert 0 < value(process, "sfmd_recall_p50_seconds") <= value(process, "sfmd_recall_p95_seconds")
    assert value(process, "sfmd_group_commit_rows_sum") >= 70


def test_gates_are_looked_at_in_the_background(process):
    end_s = time.monotonic() + 30
    while not value(process, "sfmd_gate_tripped", namespace="notes", gate="G6") and time.monotonic() < end_s:
        time.sleep(0.1)
    assert value(process, "sfmd_gate_tripped", namespace="notes", gate="G6") == 1


def test_refused_calls_are_counted(process):
    with Client(process.profile()) as client:
        for _ in range(3):
            with pytest.raises(Exception, match="SFM-MEM-008"):
                client.get("notes", "nobody")
    assert value(process, "sfmd_grpc_requests_total", method="Get", code="NOT_FOUND") == 3


def test_the_log_says_of_many_refusals_how_many_they_were(process, tmp_path):
    stranger = tmp_path / "stranger"
    stranger.write_text(f"sfm_000000000000_{'A' * 43}")
    with Client(process.profile(str(stranger))) as client:
        for _ in range(300):
            with pytest.raises(CallFailed, match="SFM-MEM-021"):
                client.get("notes", "a")
        assert value(process, "sfmd_grpc_requests_total", method="Get", code="UNAUTHENTICATED") == 300
        time.sleep(1.1)
        with pytest.raises(CallFailed, match="SFM-MEM-021"):
            client.get("notes", "a")
    end_s = time.monotonic() + 10
    while "left_out" not in process.log.read_text().splitlines()[-1] and time.monotonic() < end_s:
        time.sleep(0.02)
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if "SFM-MEM-021" in line]
    assert AT_ONCE < len(lines) < 100
    assert len(lines) + sum(line.get("left_out", 0) for line in lines) == 301


def test_failed_handshakes_write_no_lines(process):
    host, port = process.profile().address.rsplit(":", 1)
    before = process.log.stat().st_size
    for _ in range(20):
        with socket.create_connection((host, int(port))) as plain, suppress(ConnectionError):
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.recv(100)
    with Client(process.profile()) as client, pytest.raises(CallFailed, match="SFM-MEM-008"):
        client.undo("notes", "a line of our own")
    while process.log.stat().st_size == before:
        time.sleep(0.02)
    assert all(line.startswith("{") for line in process.log.read_text().splitlines())


def watches_counted(process):
    """Watches by how they ended, once four are counted: the daemon counts a call after its caller has gone."""
    end_s = time.monotonic() + 10
    while True:
        requests = families(process)["sfmd_grpc_requests"].samples
        found = {s.labels["code"]: s.value for s in requests if s.labels["method"] == "Watch" and "_total" in s.name}
        if sum(found.values()) >= 4 or time.monotonic() > end_s:
            return found
        time.sleep(0.02)


def test_calls_that_run_out_of_time_are_told_from_those_that_are_cancelled(process):
    nothing_comes = pb.WatchRequest(namespace="notes", from_seq=10**6)
    with grpc.secure_channel(process.profile().address, channel_credentials(process.profile())) as channel:
        watch = channel.unary_stream(SERVICE_PATH + "Watch", pb.WatchRequest.SerializeToString, pb.Change.FromString)
        proof = call_metadata(process.profile().token())
        for timeout_s in (0.2, 1.23):
            with pytest.raises(grpc.RpcError) as error:
                next(watch(nothing_comes, timeout=timeout_s, metadata=proof))
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        for timeout_s in (None, 30.0):
            call = watch(nothing_comes, timeout=timeout_s, metadata=proof)
            time.sleep(0.3)
            call.cancel()
    assert watches_counted(process) == {"DEADLINE_EXCEEDED": 2, "CANCELLED": 2}


def test_a_token_never_enters_the_log_or_a_page(process):
    secret = Path(process.profile().token_file).read_text().strip()
    pages = b"".join(process.http(p)[1] for p in ("/healthz", "/stats", "/metrics"))
    assert secret.encode() not in pages
    assert secret not in process.log.read_text()


def test_pages_answer_while_the_store_is_busy(tmp_path):
    vector = bytes(range(1, 33)) * 8
    with daemon(tmp_path) as process, Client(process.profile()) as client:
        client.create_namespace("vectors", dim=64)
        items = [memory_input({}, id=f"m{n}", vector=vector) for n in range(30_000)]
        writing = threading.Thread(target=client.import_many, args=("vectors", items))
        writing.start()
        answered = []
        while writing.is_alive():
            pages = {path: process.http(path)[0] for path in ("/livez", "/stats", "/metrics", "/healthz")}
            answered += [pages] if writing.is_alive() else []
        writing.join()
        assert answered, "the import was over before a page was asked for"
        assert all(page == 200 for pages in answered for page in pages.values())
        assert client.stats("vectors").namespaces[0].live == 30_000


def test_readiness_ends_with_the_drain_and_liveness_does_not(tmp_path):
    with daemon(tmp_path) as process:
        with Client(process.profile()) as client:
            client.create_namespace("notes", embedder="hash-v1")
            watching = client.watch("notes", 1)
            next(watching)
            os.kill(process.pid, signal.SIGTERM)
            end_s = time.monotonic() + 30
            while process.alive and time.monotonic() < end_s:
                time.sleep(0.05)
            watching.close()
        assert not process.alive
        assert '"event": "stopped"' in process.log.read_text()
