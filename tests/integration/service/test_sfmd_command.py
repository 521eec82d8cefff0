"""The sfmd program as a user runs it: first start, drain, check, backup, restore, tokens, errors in words."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from sfmd import main
from sfmd.daemon import listen
from sfmd.rpc.client import Client, pb
from sfmd.rpc.failure import CallFailed
from sfmd.rpc.profile import Profile
from sfmd.store.sqlite import FILE
from testing.daemon import daemon


@dataclass(frozen=True)
class Done:
    """What a command printed and how it ended."""

    returncode: int
    stdout: str
    stderr: str


Sfmd = Callable[..., Done]


@pytest.fixture
def sfmd(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sfmd:
    """Runs a command of `sfmd` in this process, which saves a start of Python for each."""

    def run_command(*arguments: str | Path, data_dir: Path, **settings: str) -> Done:
        with monkeypatch.context() as patched:
            for name in [n for n in os.environ if n.startswith(("SOMA_", "SFM_"))]:
                patched.delenv(name)
            for name, value in settings.items():
                patched.setenv(name, value)
            capsys.readouterr()
            code = main.run([*map(str, arguments), "--data-dir", str(data_dir)])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run_command


def sfmd_process(*arguments: str | Path, data_dir: Path, **settings: str) -> Done:
    """Runs a command in a process of its own: `serve` sets up logging and signals."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SOMA_", "SFM_"))}
    done = subprocess.run(
        [sys.executable, "-m", "sfmd.main", *map(str, arguments), "--data-dir", str(data_dir)],
        capture_output=True, text=True, check=False, timeout=120, env=env | settings,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def fill(profile: Profile, count: int = 30) -> None:
    with Client(profile) as client:
        client.create_namespace("notes", embedder="hash-v1")
        items = [pb.MemoryInput(id=f"m{n}", payload=b"{}", text=f"note number {n}") for n in range(count)]
        assert client.import_many("notes", items).created == count


def test_the_first_start_makes_keys_tokens_and_store_for_the_owner_alone(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        fill(running.profile())
        private = ("token", "tokens.json", "daemon.json", FILE)
        assert {stat.S_IMODE((running.data_dir / name).stat().st_mode) for name in private} == {0o600}
        assert stat.S_IMODE(running.data_dir.stat().st_mode) == 0o700
        assert json.loads(running.http("/healthz")[1])["healthy"]
        second = sfmd_process("serve", "--port", "0", "--http-port", "0", data_dir=running.data_dir)
        assert second.returncode == 2
        assert "SFM-MEM-031" in second.stderr
        assert str(running.pid) in second.stderr
        assert "Traceback" not in second.stderr
        token = (running.data_dir / "token").read_text().strip()
        assert running.stop() == 0
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    (summary,) = [line for line in lines if line["event"] == "serving"]
    assert summary["data_dir"] == str(running.data_dir)
    assert lines[-1]["event"] == "stopped"
    assert token not in running.log.read_text()
    assert not (running.data_dir / "daemon.json").exists()


def test_sigterm_ends_a_watch_and_exits_0_and_a_restart_has_everything(tmp_path: Path) -> None:
    # Were the watch not ended by the daemon, it would hold the drain up for longer than `stop` waits.
    with daemon(tmp_path, settings={"SOMA_GRPC__DRAIN_S": "600"}) as process:
        fill(process.profile())
        with Client(process.profile()) as client:
            changes = client.watch("notes")
            assert [next(changes).op for _ in range(3)] == ["namespace", "created", "created"]
            assert process.stop() == 0
        process.start()
        with Client(process.profile()) as client:
            assert client.recall("notes", "note number 7", k=1).hits[0].id == "m7"
            assert client.stats("notes").namespaces[0].live == 30
        os.kill(process.pid, signal.SIGINT)  # as good as SIGTERM
        assert process.stop() == 0


def test_backup_while_serving_and_restore_elsewhere(tmp_path: Path, sfmd: Sfmd) -> None:
    copy, elsewhere = tmp_path / "copy", tmp_path / "elsewhere" / "data"
    (tmp_path / "one").mkdir()
    with daemon(tmp_path / "one") as running:
        fill(running.profile())
        made = sfmd("backup", copy, "-o", "json", data_dir=running.data_dir)
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["last_seq"] >= 31
        again = sfmd("backup", copy, data_dir=running.data_dir)
        assert (again.returncode, "exists" in again.stderr) == (2, True)
    restored = sfmd("restore", copy, data_dir=elsewhere)
    assert restored.returncode == 0, restored.stderr
    assert sfmd("check", data_dir=elsewhere).returncode == 0
    with daemon(tmp_path / "elsewhere") as running, Client(running.profile()) as client:
        assert client.recall("notes", "note number 3", k=1).hits[0].id == "m3"


def test_check_holds_digests_log_and_segments_together(tmp_path: Path, sfmd: Sfmd) -> None:
    with daemon(tmp_path) as running:
        fill(running.profile())
        beside = sfmd("check", data_dir=running.data_dir)
        assert (beside.returncode, "a daemon has them open" in beside.stdout) == (0, True)
    good = sfmd("check", "-o", "json", data_dir=running.data_dir)
    report = json.loads(good.stdout)
    assert (good.returncode, report["problems"], report["memories"]) == (0, [], 30)
    assert "30 rows" in report["segments"][0]
    link = apsw.Connection(str(running.data_dir / FILE))
    link.execute("UPDATE memory_changes SET payload = X'78' WHERE id = 'm5'")
    link.close()
    bad = sfmd("check", data_dir=running.data_dir)
    assert bad.returncode == 3
    assert "m5" in bad.stdout


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_compact_moves_the_horizon_that_stats_shows(tmp_path: Path, sfmd: Sfmd) -> None:
    with daemon(tmp_path) as running:
        fill(running.profile())
        with Client(running.profile()) as client:
            assert client.stats().horizon_seq == 1
    moved = sfmd("compact", "--horizon", "7", "-o", "json", data_dir=running.data_dir)
    assert (moved.returncode, json.loads(moved.stdout)["horizon_seq"]) == (0, 7)
    with daemon(tmp_path) as running, Client(running.profile()) as client:
        assert client.stats().horizon_seq == 7


def test_segments_that_were_damaged_are_rebuilt_not_believed(tmp_path: Path, sfmd: Sfmd) -> None:
    with daemon(tmp_path) as running:
        fill(running.profile())
    damaged = [p for p in (running.data_dir / "segments").rglob("*") if p.is_file() and p.stat().st_size > 64]
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-16])
    before = contents(running.data_dir / "segments")
    found = sfmd("check", data_dir=running.data_dir)
    assert found.returncode == 3
    assert "PROBLEM segments of notes are unusable: " in found.stdout
    assert contents(running.data_dir / "segments") == before, "a check changes nothing"
    with daemon(tmp_path) as running, Client(running.profile()) as client:
        assert client.recall("notes", "note number 9", k=1).hits[0].id == "m9"
        assert client.stats("notes").namespaces[0].live == 30
    assert '"event": "segments_not_used"' in running.log.read_text()
    assert sfmd("check", data_dir=running.data_dir).returncode == 0


def test_a_check_of_a_namespace_whose_core_was_never_saved_finds_nothing(tmp_path: Path, sfmd: Sfmd) -> None:
    with daemon(tmp_path) as running:
        fill(running.profile())
        running.kill()
    found = sfmd("check", data_dir=running.data_dir)
    assert (found.returncode, "segments: notes: none" in found.stdout) == (0, True)


def test_tokens_are_made_listed_and_revoked(tmp_path: Path, sfmd: Sfmd) -> None:
    with daemon(tmp_path) as running:
        fill(running.profile(), 1)
        made = sfmd("token", "create", "--principal", "reader", "--verb", "read", "--namespace", "notes",
                    data_dir=running.data_dir)  # fmt: skip
        assert made.returncode == 0
        token = made.stdout.strip()
        file = tmp_path / "reader-token"
        file.write_text(token)
        with Client(running.profile(str(file))) as client:
            assert client.recall("notes", "note", k=1).hits
            with pytest.raises(CallFailed) as denied:
                client.delete("notes", "m0")
            assert denied.value.code == "SFM-MEM-022"
            listed = sfmd("token", "list", "-o", "json", data_dir=running.data_dir)
            (record,) = [t for t in json.loads(listed.stdout)["tokens"] if t["principal"] == "reader"]
            assert token not in listed.stdout
            assert sfmd("token", "revoke", record["key"], data_dir=running.data_dir).returncode == 0
            assert refused_soon(lambda: client.recall("notes", "note", k=1)) == "SFM-MEM-021"
        assert "revoked" in sfmd("token", "list", data_dir=running.data_dir).stdout


def refused_soon(call: Callable[[], object], deadline_s: float = 30.0) -> str:
    """The code with which the call is refused; the daemon looks at the token file between calls, not on each."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        try:
            call()
        except CallFailed as refused:
            return refused.code
        time.sleep(0.05)
    return "never refused"


BAD: list[tuple[tuple[str, ...], dict[str, str], int, str]] = [
    (("serve", "--port", "70000"), {}, 2, "SFM-MEM-032"),
    (("serve",), {"SOMA_GRPC__PORT": "x"}, 2, "SOMA_GRPC__PORT"),
    (("serve", "--config", "/none.toml"), {}, 2, "cannot be read"),
    (("check",), {}, 2, "holds no store"),
    (("backup", "copy"), {}, 2, "holds no store"),
    (("compact", "--horizon", "1"), {}, 2, "holds no store"),
    (("check",), {"SOMA_DATADIR": "/srv"}, 2, "SOMA_DATADIR is no setting"),
    (("restore", "/none"), {}, 2, "is no backup"),
    (("restore", "/none"), {}, 2, "next: name a directory that sfmd backup made"),
    (("token", "revoke", "nobody"), {}, 2, "SFM-MEM-011"),
    (("token", "create", "--principal", "a b"), {}, 2, "SFM-MEM-011"),
    (("token", "create", "--principal", "a", "--verb", "fly"), {}, 2, "SFM-MEM-011"),
    (("nonsense",), {}, 2, "invalid choice"),
]


@pytest.mark.parametrize(("arguments", "settings", "code", "words"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_input_is_a_line_with_a_code(arguments: tuple[str, ...], settings: dict[str, str], code: int, words: str,
                                         tmp_path: Path, sfmd: Sfmd) -> None:  # fmt: skip
    done = sfmd(*arguments, data_dir=tmp_path / "data", **settings)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "data").exists() or "token" in arguments


COMMANDS = [
    ("migrate",), ("check",), ("compact", "--horizon", "1"), ("backup", "copy"),
    ("token", "create", "--principal", "a"), ("token", "list"), ("token", "revoke", "a"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("below", ["", "data"])
def test_a_data_directory_that_is_a_file_is_a_line_with_a_code(
    arguments: tuple[str, ...], below: str, tmp_path: Path, sfmd: Sfmd
) -> None:
    file = tmp_path / "file"
    file.write_text("no directory")
    done = sfmd(*arguments, data_dir=file / below)
    assert done.returncode in (2, 5), done.stderr
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
    assert file.read_text() == "no directory"


@pytest.mark.parametrize("place", ["file", "file/data", "/proc/data"])
def test_a_daemon_whose_data_directory_cannot_be_made_says_so(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = sfmd_process("serve", "--port", "0", data_dir=tmp_path / place, SOMA_HTTP__PORT="0")
    assert (done.returncode, "Traceback" in done.stderr) == (5, False)
    assert f"sfmd: SFM-MEM-024 {tmp_path / place} cannot be used: " in done.stderr


@pytest.mark.parametrize("arguments", [("migrate",), ("compact", "--horizon", "1"), ("backup", "copy")], ids=" ".join)
def test_a_file_that_is_no_database_is_called_damaged(arguments: tuple[str, ...], tmp_path: Path, sfmd: Sfmd) -> None:
    (tmp_path / FILE).write_bytes(b"this is not a database " * 50)
    done = sfmd(*arguments, data_dir=tmp_path)
    assert (done.returncode, "SFM-MEM-025" in done.stderr) == (3, True)
    assert "Traceback" not in done.stderr


def test_a_daemon_that_cannot_be_set_up_says_why_and_lets_go(tmp_path: Path, sfmd: Sfmd) -> None:
    data = tmp_path / "data"
    half = sfmd_process("serve", "--port", "0", data_dir=data, SOMA_TLS__CERT_FILE="/none.pem", SOMA_HTTP__PORT="0")
    assert half.returncode == 2
    assert "SOMA_TLS__KEY_FILE" in half.stderr
    assert "Traceback" not in half.stderr
    none = sfmd_process(
        "serve", "--port", "0", data_dir=data, SOMA_TLS__CLIENT_CA_FILE="/none.pem", SOMA_HTTP__PORT="0"
    )
    assert "SOMA_TLS__CLIENT_CA_FILE: /none.pem cannot be read: No such file" in none.stderr
    assert sfmd("migrate", data_dir=data).returncode == 0


def test_an_auxiliary_port_that_is_taken_is_a_line_with_a_code(tmp_path: Path) -> None:
    host = "127.0.0.1"
    with listen(host, 0) as taken:
        port = str(taken.getsockname()[1])
        data, http = tmp_path / "data", {"SOMA_HTTP__HOST": host, "SOMA_HTTP__PORT": port}
        done = sfmd_process("serve", "--port", "0", data_dir=data, **http)
    assert (done.returncode, "SFM-MEM-032" in done.stderr) == (2, True), done.stderr
    assert f"cannot listen on {host}:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_daemon_on_an_ipv6_address_is_reached_there(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("NOT PROVED HERE: this machine has no IPv6 loopback")
    with daemon(tmp_path, settings={"SOMA_GRPC__HOST": "::1", "SOMA_HTTP__HOST": "::1"}) as running:
        address = running.profile().address
        assert address.startswith("[::1]:")
        assert running.http("/livez")[0] == 200
        with Client(running.profile()) as client:
            assert client.health() == "SERVING"
        port = address.rpartition(":")[2]
        taken = sfmd_process("serve", "--host", "::1", "--port", port, data_dir=tmp_path / "b", SOMA_HTTP__PORT="0")
    assert (taken.returncode, f"cannot listen on {address}:" in taken.stderr) == (2, True), taken.stderr


def test_migrate_says_what_it_did(tmp_path: Path, sfmd: Sfmd) -> None:
    first = sfmd("migrate", "-o", "json", data_dir=tmp_path / "data")
    assert first.returncode == 0, first.stderr
    again = sfmd("migrate", data_dir=tmp_path / "data")
    assert "already" in again.stdout
