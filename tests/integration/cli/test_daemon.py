"""`sfmctl daemon`: a daemon of one's own comes up, is found again, and goes; a foreign process is never touched."""

import datetime as dt
import json
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfmctl.embedded import Embedded, birth_of, wait
from sfmd.daemon import reached_at
from sfmd.secrets import issue, make_ca
from tests.integration.cli.conftest import SFMCTL, clean_environment, run

EVERY = "0.0.0.0"  # noqa: S104 - what some people set
ANY_PORT = ["--port", "0", "--http-port", "0"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    run(["daemon", "stop", "--kill"], clean_environment(tmp_path, {}))


def daemon(home: Path, *words: str, **variables: str) -> tuple[int, dict[str, str], str]:
    """Exit code, the fields of the one document, and stderr."""
    done = run(["daemon", *words, "-o", "json"], clean_environment(home, variables))
    document = done.document
    return done.code, document.get("daemon") or document.get("error") or document, done.err


def test_the_first_start_makes_everything_and_the_rest_of_a_life(home: Path) -> None:
    assert daemon(home, "status")[:2] == (5, {"state": "STOPPED", "dataDir": str(home / ".local/share/sfm")})
    code, began, err = daemon(home, "start", *ANY_PORT)
    assert (code, began["state"], began["note"]) == (0, "SERVING", "started"), err
    profile = home / ".config/sfm/profiles/default.toml"
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600
    for name in ("token", "sfmd.log", "started.json"):
        assert stat.S_IMODE((home / ".local/share/sfm" / name).stat().st_mode) == 0o600
    env = clean_environment(home, {})
    assert run(["memory", "namespace", "create", "mine"], env).code == 0
    assert daemon(home, "start")[1] | {"note": "started"} == began  # was running: the same place
    assert daemon(home, "status")[1]["pid"] == began["pid"]
    assert "serving" in run(["daemon", "logs", "-n", "3"], env).text
    assert daemon(home, "stop")[1]["stopped"] is True
    assert birth_of(int(began["pid"])) == ""
    assert daemon(home, "stop")[1]["stopped"] is False
    assert "SFM-MEM-034" in run(["memory", "namespace", "list", "--timeout", "3"], env).err
    assert daemon(home, "restart", *ANY_PORT)[0] == 0
    assert run(["memory", "namespace", "list", "-o", "short"], env).text == "mine\n"


def test_a_killed_daemon_is_known_as_gone_and_starts_again(home: Path) -> None:
    began = daemon(home, "start", *ANY_PORT)[1]
    subprocess.run(["kill", "-9", str(began["pid"])], check=True)
    while birth_of(int(began["pid"])):
        pass
    code, fields, _ = daemon(home, "status")
    assert (code, fields["state"]) == (5, "STOPPED")
    assert daemon(home, "start", *ANY_PORT)[1]["note"] == "started"


def test_a_foreign_process_under_the_old_pid_is_never_signalled(home: Path) -> None:
    folder = home / ".local/share/sfm"
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as foreign:
        try:
            (folder / "started.json").write_text(json.dumps({"pid": foreign.pid, "birth": "1"}))
            assert daemon(home, "stop", "--kill")[1]["stopped"] is False
            assert foreign.poll() is None
        finally:
            foreign.kill()


def test_a_start_that_fails_says_why_and_leaves_nothing_behind(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, fault, _ = daemon(home, "start", "--port", port, "--http-port", "0")
    assert (code, fault["code"]) == (5, "SFM-CLI-008")
    assert "SFM-MEM-032" in fault["why"] and port in fault["why"]
    assert daemon(home, "status")[1]["state"] == "STOPPED"


def test_a_bad_setting_is_told_in_the_daemons_own_words(home: Path) -> None:
    code, fault, _ = daemon(home, "start", *ANY_PORT, SOMA_WRITER__ROWS="0")
    assert code == 5 and "SOMA_WRITER__ROWS" in fault["why"]


def test_another_daemons_profile_is_left_alone(home: Path) -> None:
    profile = home / ".config/sfm/profiles/default.toml"
    profile.parent.mkdir(parents=True)
    (home / "team-ca.pem").write_text("theirs")
    text = f'address = "memory.example.org:50053"\nca_file = "{home}/team-ca.pem"\n'
    profile.write_text(text)
    profile.chmod(0o600)
    code, fields, err = daemon(home, "start", *ANY_PORT)
    assert code == 0 and "profile" not in fields and "left as it is" in err
    assert profile.read_text() == text


def test_a_token_file_that_was_set_by_hand_is_kept(home: Path) -> None:
    assert daemon(home, "start", *ANY_PORT)[0] == 0
    profile = home / ".config/sfm/profiles/default.toml"
    own, theirs = home / "kept-elsewhere", home / ".local/share/sfm/token"
    theirs.rename(own)  # as docs/reference/data-directory.md allows
    profile.write_text(profile.read_text().replace(str(theirs), str(own)) + 'server_name = "localhost"\n')
    text = profile.read_text()
    code, _, err = daemon(home, "restart", *ANY_PORT)
    assert code == 0 and "warning" not in err
    kept = {line for line in text.splitlines() if not line.startswith("address")}
    assert kept <= set(profile.read_text().splitlines())
    assert run(["memory", "namespace", "list"], clean_environment(home, {})).code == 0


def test_a_token_made_before_the_first_start_leads_to_one_that_works(home: Path) -> None:
    env = clean_environment(home, {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})
    subprocess.run([sys.executable, "-m", "sfmd.main", "token", "create", "--principal", "me"], env=env, check=True,
                   capture_output=True)  # fmt: skip
    code, _, err = daemon(home, "start", *ANY_PORT)
    assert code == 0 and "token_file" not in (home / ".config/sfm/profiles/default.toml").read_text()
    mend = next(line for line in err.splitlines() if line.startswith("  (umask"))
    subprocess.run(["sh", "-c", mend], env=env, check=True, capture_output=True)
    assert run(["memory", "namespace", "create", "mine"], env).code == 0


def test_a_daemon_that_wants_client_certificates_is_started_with_one_and_not_without(home: Path) -> None:
    now, ca, key = dt.datetime.now(dt.UTC), home / "clients.pem", home / "clients.key"
    make_ca(ca, key, now)
    issue(ca, key, home / "me.pem", home / "me.key", names=("me",), now=now, client=True)
    wanted = {"SOMA_TLS__CLIENT_CA_FILE": str(ca)}
    shown = {"SFM_CERT_FILE": str(home / "me.pem"), "SFM_KEY_FILE": str(home / "me.key")}
    code, fault, _ = daemon(home, "start", *ANY_PORT, **wanted)
    assert (code, fault["code"]) == (5, "SFM-CLI-008") and "SFM_CERT_FILE" in fault["next"]
    assert daemon(home, "status")[1]["state"] == "STOPPED"
    assert daemon(home, "start", *ANY_PORT, **wanted, **shown)[1]["state"] == "SERVING"
    assert daemon(home, "status", **shown)[1]["state"] == "SERVING"
    assert run(["memory", "namespace", "list"], clean_environment(home, shown)).code == 0
    assert "SFM_CERT_FILE" in run(["memory", "namespace", "list", "--timeout", "3"], clean_environment(home, {})).err


def begin(home: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(words), env=clean_environment(home, {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_starts_at_once_are_one_daemon_that_can_be_stopped(home: Path) -> None:
    starts = [begin(home, str(SFMCTL), "daemon", "start", *ANY_PORT, "-o", "json") for _ in range(2)]
    ends = [start.communicate(timeout=60) for start in starts]
    assert [start.returncode for start in starts] == [0, 0], ends
    first, second = (json.loads(out)["daemon"] for out, _ in ends)
    assert {first["note"], second["note"]} == {"started", "was running"} and first["pid"] == second["pid"]
    assert daemon(home, "stop")[1]["stopped"] is True
    assert daemon(home, "status")[1]["state"] == "STOPPED"


def test_a_start_waits_for_a_daemon_that_is_coming_up_by_hand_and_leaves_it_its_files(home: Path) -> None:
    folder = home / ".local/share/sfm"
    by_hand = begin(home, str(SFMCTL.with_name("sfmd")), "serve", *ANY_PORT)
    with by_hand:
        try:
            code, fields, err = daemon(home, "start", *ANY_PORT)
            assert (code, fields.get("note"), fields.get("pid")) == (0, "was running", by_hand.pid), err
            assert not (folder / "started.json").exists() and (folder / "daemon.json").exists()
            code, fault, _ = daemon(home, "stop")
            assert (code, fault["code"]) == (6, "SFM-CLI-009") and f"kill {by_hand.pid}" in fault["next"]
        finally:
            by_hand.terminate()


def test_a_start_that_lost_leaves_what_names_another_process(tmp_path: Path) -> None:
    for name in ("started.json", "daemon.json"):
        (tmp_path / name).write_text('{"pid": 2}')
    (tmp_path / "started.json").write_text('{"pid": 1}')
    Embedded(tmp_path).forget(1)
    assert [path.name for path in tmp_path.iterdir()] == ["daemon.json"]


def test_a_restart_keeps_the_address_and_the_profile(home: Path) -> None:
    began = daemon(home, "start", *ANY_PORT, "--profile", "work")[1]
    _, again, err = daemon(home, "restart")
    kept = ("address", "http", "profile", "note")
    assert [again[name] for name in kept] == [began[name] for name in kept], err
    assert again["pid"] != began["pid"]
    assert [path.name for path in (home / ".config/sfm/profiles").iterdir()] == ["work.toml"]


def test_a_daemon_that_listens_on_every_address_is_reached_over_loopback(home: Path) -> None:
    code, fields, err = daemon(home, "start", *ANY_PORT, SOMA_GRPC__HOST=EVERY, SOMA_HTTP__HOST=EVERY)
    assert (code, fields["state"]) == (0, "SERVING"), err
    assert fields["address"].startswith("127.0.0.1:") and fields["http"].startswith("127.0.0.1:")
    assert run(["memory", "namespace", "list"], clean_environment(home, {})).code == 0


def test_the_log_stays_within_its_bound_while_the_daemon_runs(home: Path) -> None:
    log = home / ".local/share/sfm/sfmd.log"
    assert daemon(home, "start", *ANY_PORT)[0] == 0
    with (home / "followed").open("wb") as seen, subprocess.Popen(
        [str(SFMCTL), "daemon", "logs", "-n", "1", "-f"], env=clean_environment(home, {}), stdout=seen
    ) as follower:  # fmt: skip
        try:
            assert wait(lambda: b"serving" in (home / "followed").read_bytes(), 20)
            with log.open("ab") as out:
                out.write((b"x" * 1023 + b"\n") * 9 * 1024)
            assert wait(lambda: log.with_name("sfmd.log.1").exists() and log.stat().st_size < 2**20, 20)
            shown = run(["daemon", "logs", "-n", "3"], clean_environment(home, {})).text
            assert len(shown.splitlines()) == 3 and "xxx" in shown
            assert daemon(home, "stop")[1]["stopped"] is True
            assert "stopped" in log.read_text()
            assert wait(lambda: b"stopped" in (home / "followed").read_bytes(), 20)
        finally:
            follower.terminate()


@pytest.mark.parametrize(("host", "address"), [("::", "[::1]:5"), ("::1", "[::1]:5"), ("fd00::7", "[fd00::7]:5"),
                                               (EVERY, "127.0.0.1:5"), ("localhost", "localhost:5")])  # fmt: skip
def test_the_announced_address_can_be_dialled(host: str, address: str) -> None:
    assert reached_at(host, 5) == address
