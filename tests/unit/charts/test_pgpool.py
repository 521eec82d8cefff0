"""Pgpool's scripts: a full Pgpool is not a dead one, and it keeps what it needs to say so."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from testing.charts import ROOT
from testing.postgres import PostgresServer, server_programs

IMAGE = ROOT / "infra" / "images" / "pgpool"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server in Pgpool's place: both refuse in the same words when they are full."""
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: Pgpool's probes were NOT tried")
    started = PostgresServer(programs)
    try:
        with psycopg.connect(started.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE pgpool SUPERUSER LOGIN")
        yield started
    finally:
        started.stop()


def probe(name: str, run: str, folder: Path) -> int:
    """The exit code of a probe that finds Pgpool's socket in `run`."""
    for script in ("soma-pgpool-ready", "soma-pgpool-alive"):
        text = (IMAGE / script).read_text().replace("/run/pgpool", run).replace("/usr/local/bin", str(folder))
        (folder / script).write_text(text)
        (folder / script).chmod(0o755)
    return subprocess.run([folder / name], capture_output=True, check=False).returncode


def test_a_full_pgpool_is_alive_and_not_ready(server, tmp_path):
    socket = server.url().split("host=")[1]
    assert (probe("soma-pgpool-ready", socket, tmp_path), probe("soma-pgpool-alive", socket, tmp_path)) == (0, 0)
    with ExitStack() as taken:
        with pytest.raises(psycopg.OperationalError, match="too many clients already"):
            for _ in range(1000):
                taken.enter_context(psycopg.connect(server.url()))
        assert probe("soma-pgpool-ready", socket, tmp_path) != 0
        assert probe("soma-pgpool-alive", socket, tmp_path) == 0


def test_a_pgpool_that_does_not_answer_is_dead(tmp_path):
    assert probe("soma-pgpool-alive", str(tmp_path), tmp_path) != 0


def test_two_children_more_than_clients_are_kept_to_refuse_with(tmp_path):
    script = (IMAGE / "soma-pgpool").read_text().split("# Pgpool marks a backend")[0]
    (tmp_path / "pgpool-password").write_text("secret")
    given = {"BACKENDS": "pg-0=host", "SECRETS_DIR": str(tmp_path), "TLS_DIR": "", "NUM_INIT_CHILDREN": "32"}
    text = script.replace("dir=/run/pgpool", f"dir={tmp_path}")
    subprocess.run(["bash", "-c", text], env={"PATH": "/usr/bin:/bin"} | given, check=True)
    written = dict(line.split(" = ") for line in (tmp_path / "pgpool.conf").read_text().splitlines())
    assert (written["num_init_children"], written["reserved_connections"]) == ("34", "2")
