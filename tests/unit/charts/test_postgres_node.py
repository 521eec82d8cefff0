"""What a Postgres node becomes at its start, asked of the script's own functions with real servers as its peers.

Rule guarded: a node takes the role, or makes a new database system, only after every peer was seen to be no primary.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from testing.charts import ROOT
from testing.postgres import PostgresServer, server_programs

SCRIPT = ROOT / "infra" / "images" / "postgres-repmgr" / "soma-postgres"
NODES = "create table repmgr.nodes (node_id int, type text, active bool)"
REFUSED = "host=127.0.0.1 port=1"
NAMELESS = "host=postgres-0.invalid"
EMPTY, FIRST, SECOND = "00000000", "00000001", "00000002"
WAIT_S = 2  # PROMOTION_WAIT_S here
LONG_S = 2 * WAIT_S + 1
STILL_WAITING = 124  # what `timeout` ends with


@pytest.fixture(scope="module")
def programs() -> Path:
    found = server_programs()
    if found is None:
        pytest.skip("NOT PROVED HERE: a Postgres node's start needs a server (apt-get install postgresql)")
    return found


@pytest.fixture(scope="module")
def server(programs: Path) -> Iterator[PostgresServer]:
    """Out of recovery, on timeline 1: whom repmgr's table calls primary differs from database to database."""
    server = PostgresServer(programs)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def standby(programs: Path) -> Iterator[str]:
    """A peer in recovery."""
    server = PostgresServer(programs, standby_of=f"create schema repmgr\n{NODES}\n")
    yield server.url()
    server.stop()


def peer(server: PostgresServer, name: str, registered: int | None) -> str:
    """A database in which `registered` (a node id) is repmgr's active primary."""
    url = server.make(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create schema repmgr; {NODES}")
        if registered:
            connection.execute("insert into repmgr.nodes values (%s, 'primary', true)", [registered])
    return url


@pytest.fixture(scope="module")
def primary(server: PostgresServer) -> str:
    """Node 0 as primary by both signs."""
    return peer(server, "registered", 1)


@pytest.fixture(scope="module")
def promoting(server: PostgresServer) -> str:
    """Out of recovery, but the table still names another."""
    return peer(server, "promoting", None)


def run(command: str, folder: Path, peers: dict[int, str], *, count: int = 2, wait_s: int = 20) -> tuple[int, str, str]:
    """Exit code, standard output and log of one function of the script."""
    places = " ".join(f"{n}) printf %s '{url}';;" for n, url in peers.items())
    own = next(n for n in range(count) if n not in peers)
    environment = {
        "NODE_NAME": f"postgres-{own}",
        "NODE_HOST_SUFFIX": "",
        "NODE_COUNT": str(count),
        "SECRETS_DIR": "/none",
        "PGDATA": str(folder / "data"),
        "PROMOTION_WAIT_S": str(WAIT_S),
        "PATH": f"{server_programs()}:{os.environ['PATH']}",
    }
    program = f"source {SCRIPT}; conninfo_of() {{ case $1 in {places} esac; }}; {command}"
    ran = subprocess.run(
        ["timeout", str(wait_s), "bash", "-c", program],
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize("timeline", [EMPTY, FIRST])
def test_a_peer_that_is_primary_by_both_signs_is_followed_at_once(tmp_path: Path, primary: str, timeline: str) -> None:
    assert run(f"await_primary {timeline}", tmp_path, {0: primary})[:2] == (0, "0")


@pytest.mark.parametrize("timeline", [EMPTY, FIRST])
def test_a_peer_out_of_recovery_is_never_passed_over(tmp_path: Path, promoting: str, timeline: str) -> None:
    code, out, err = run(f"await_primary {timeline}", tmp_path, {0: promoting}, wait_s=LONG_S)
    assert (code, out) == (STILL_WAITING, ""), err
    assert "postgres-0 is out of recovery" in err


def test_a_promotion_that_the_table_tells_late_is_waited_for(tmp_path: Path, server: PostgresServer) -> None:
    url = peer(server, "late", None)

    def promote() -> None:
        time.sleep(2 * WAIT_S)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("insert into repmgr.nodes values (1, 'primary', true)")

    late = threading.Thread(target=promote)
    late.start()
    assert run(f"await_primary {FIRST}", tmp_path, {0: url})[:2] == (0, "0")
    late.join()


@pytest.mark.parametrize("timeline", [EMPTY, FIRST])
@pytest.mark.parametrize("gone", [REFUSED, NAMELESS])
def test_a_peer_that_is_not_there_is_passed_over_after_the_whole_wait(tmp_path: Path, gone: str, timeline: str) -> None:
    began = time.monotonic()
    assert run(f"await_primary {timeline}", tmp_path, {0: gone})[:2] == (0, "")
    assert time.monotonic() - began > WAIT_S - 1  # bash counts whole seconds


@pytest.mark.parametrize("timeline", [EMPTY, FIRST])
def test_a_question_that_fails_does_not_mean_that_nobody_is_there(
    tmp_path: Path, server: PostgresServer, timeline: str
) -> None:
    stranger = server.url().replace("postgres@", "stranger@")  # the login is refused
    code, out, err = run(f"await_primary {timeline}", tmp_path, {0: stranger}, wait_s=LONG_S)
    assert (code, out) == (STILL_WAITING, ""), err
    assert "postgres-0 cannot be seen, so it may be the primary" in err and 'role "stranger" does not exist' in err


def test_data_takes_the_role_from_a_standby_that_nobody_promotes_and_an_empty_disk_does_not(
    tmp_path: Path, standby: str
) -> None:
    began = time.monotonic()
    assert run(f"await_primary {FIRST}", tmp_path, {0: standby})[:2] == (0, "")
    assert time.monotonic() - began > WAIT_S - 1  # bash counts whole seconds
    code, out, err = run(f"await_primary {EMPTY}", tmp_path, {0: standby}, wait_s=LONG_S)
    assert (code, out) == (STILL_WAITING, ""), err


def test_of_three_nodes_a_majority_must_be_there(tmp_path: Path) -> None:
    alone, one_there = {0: NAMELESS, 1: NAMELESS}, {0: NAMELESS, 1: REFUSED}
    code, out, err = run(f"await_primary {FIRST}", tmp_path, alone, count=3, wait_s=LONG_S)
    assert (code, out) == (STILL_WAITING, "") and "no majority" in err, err
    assert run(f"await_primary {FIRST}", tmp_path, one_there, count=3)[:2] == (0, "")


def test_a_single_node_asks_nobody_and_waits_for_nothing(tmp_path: Path) -> None:
    assert run(f"await_primary {FIRST}", tmp_path, {}, count=1, wait_s=20) == (0, "", "")


def test_a_primary_behind_the_timeline_here_is_not_followed(tmp_path: Path, primary: str) -> None:
    assert run(f"find_primary {FIRST}", tmp_path, {0: primary})[:2] == (0, "0")
    assert run(f"find_primary {SECOND}", tmp_path, {0: primary})[:2] == (0, "")


def test_a_primary_stops_for_one_with_a_higher_timeline_only(tmp_path: Path, primary: str) -> None:
    code, _, err = run(f"stop_if_overruled {EMPTY}", tmp_path, {0: primary})
    assert code == 1 and "postgres-0 was promoted while this node was away" in err
    assert run(f"stop_if_overruled {FIRST}", tmp_path, {0: primary}) == (0, "", "")


def test_the_timeline_here_is_the_highest_that_control_file_or_history_names(tmp_path: Path, programs: Path) -> None:
    assert run("timeline_here", tmp_path, {0: REFUSED})[1] == EMPTY
    data = tmp_path / "data"
    made = PostgresServer(programs)
    try:
        folder = made.url().partition("host=")[2]
        data.symlink_to(f"{folder}/data")
        assert run("timeline_here", tmp_path, {0: REFUSED})[1].strip() == FIRST
        (data / "pg_wal" / "0000000A.history").touch()  # killed between its promotion and the next checkpoint
        assert run("timeline_here", tmp_path, {0: REFUSED})[1].strip() == "0000000A"
        (data / "standby.signal").touch()  # a standby has it from elsewhere
        assert run("timeline_here", tmp_path, {0: REFUSED})[1].strip() == FIRST
    finally:
        made.stop()
