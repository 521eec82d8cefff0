"""A real daemon whose disk lets it down: what it answers, and what its health says meanwhile."""

import json
import os
import shutil
import time

import pytest

from sfmd.rpc.client import CallFailed, Client
from sfmd.rpc.profile import Profile
from testing.daemon import DaemonProcess, daemon
from testing.disk import small_disk

DIM = 8
PAYLOAD_BYTES = 200_000
STORE_DOWN = "SFM-MEM-024"


def store(client: Client, number: int) -> None:
    client.store("notes", os.urandom(PAYLOAD_BYTES), vector=[1.0, number] + [0.0] * (DIM - 2), id=f"m{number}",
                 content_type="application/octet-stream")  # fmt: skip


def store_until_refused(client: Client, first: int = 0) -> tuple[int, CallFailed]:
    """The number of the first that was refused, and the refusal."""
    for number in range(first, first + 200):
        try:
            store(client, number)
        except CallFailed as failed:
            return number, failed
    raise AssertionError("the disk took everything")


def health(profile: Profile) -> str:
    with Client(profile) as client:
        return client.health()


def pages(process: DaemonProcess) -> tuple[int, int, int]:
    return process.http("/livez")[0], process.http("/readyz")[0], process.http("/healthz")[0]


def test_after_a_failed_commit_every_health_says_so_and_recalls_go_on(tmp_path):
    need = shutil.which("prlimit")
    if need is None:
        pytest.skip("NOT PROVED HERE: what health says after a failed commit needs prlimit (util-linux)")
    with daemon(tmp_path, wrap=[need, f"--fsize={2**20}"]) as process, Client(process.profile()) as client:
        assert pages(process) == (200, 200, 200)
        assert health(process.profile()) == "SERVING"
        client.create_namespace("notes", dim=DIM)
        stored, failed = store_until_refused(client)
        assert (failed.code, stored > 0) == (STORE_DOWN, True)
        assert "until the daemon is started again" in failed.message
        assert pages(process) == (200, 503, 503)
        said = json.loads(process.http("/healthz")[1])
        assert (said["healthy"], said["ready"], said["store_ok"]) == (False, False, False)
        assert said["problem_writer"].startswith("the commit failed")
        assert b"\nsfmd_store_ok 0.0\n" in process.http("/metrics")[1]
        end_s = time.monotonic() + 10
        while health(process.profile()) == "SERVING":
            assert time.monotonic() < end_s, "gRPC health still says SERVING"
            time.sleep(0.1)
        assert health(process.profile()) == "NOT_SERVING"
        hits = client.recall("notes", vector=[1.0] + [0.0] * (DIM - 1), k=3).hits
        assert {hit.id for hit in hits} <= {f"m{n}" for n in range(stored)}
        assert len(hits) == min(3, stored)


def test_a_full_disk_refuses_and_takes_writes_again_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "data", mib=4) as disk, daemon(tmp_path) as process:
        with Client(process.profile()) as client:
            client.create_namespace("notes", dim=DIM)
            full_at, failed = store_until_refused(client)
            for number in range(full_at, full_at + 3):
                with pytest.raises(CallFailed, match="is full"):
                    store(client, number)
            assert (failed.code, full_at > 0) == (STORE_DOWN, True)
            assert "until the daemon is started again" not in failed.message
            assert len(client.recall("notes", vector=[1.0] + [0.0] * (DIM - 1), k=3, omit_payload=True).hits) == 3
            assert process.http("/readyz")[0] == 200
            disk.resize(mib=5)
            store(client, full_at)
            full_again_at, _ = store_until_refused(client, full_at + 1)
        process.kill()
        with pytest.raises(RuntimeError, match=r"SFM-MEM-024 the disk that holds .* is full"):
            process.start()
        disk.resize(mib=12)
        process.start()
        with Client(process.profile()) as client:
            kept = [m.id for m in client.list("notes", omit_payload=True)]
            assert sorted(kept) == sorted(f"m{n}" for n in range(full_again_at))
            assert all(client.get("notes", id_).payload for id_ in kept)  # checked against its digest
            store(client, full_again_at)
            store_until_refused(client, full_again_at + 1)
        assert process.stop() == 0, "segments that find no room are no reason to fail: the log makes them anew"
        assert '"event": "segments_not_saved"' in process.log.read_text()
