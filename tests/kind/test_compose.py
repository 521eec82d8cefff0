"""The compose stack on a real Docker engine: reset makes it anew, all of it healthy, and it can go without a trace.

SFM_COMPOSE_FILE names what is laid over the stack's file where no registry can be reached.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from playbook.actions.compose import PROJECT, program
from playbook.shell import Shell
from tests.kind.conftest import ROOT, Sfmctl

pytestmark = pytest.mark.kind
VOLUME = f"{PROJECT}_redis-data"


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], capture_output=True, text=True, check=True).stdout


def left() -> list[str]:
    """Containers, volumes and networks of the stack."""
    label = f"label=com.docker.compose.project={PROJECT}"
    return [f"{kind} {found}" for kind, all_ in (("container", ["--all"]), ("volume", []), ("network", []))
            for found in docker(kind, "ls", *all_, "--quiet", "--filter", label).split()]  # fmt: skip


@pytest.fixture
def taken_down() -> Iterator[None]:
    """Takes the stack down after the test, whatever became of it."""
    yield
    files = [ROOT / "infra" / "compose" / "compose.yaml", *os.environ.get("SFM_COMPOSE_FILE", "").split()]
    argv = [*program(Shell()), "--project-name", PROJECT, *(word for f in files for word in ("--file", str(f)))]
    subprocess.run([*argv, "down", "--volumes", "--remove-orphans"], cwd=ROOT, check=True, capture_output=True)
    assert left() == []


@pytest.mark.usefixtures("taken_down")
def test_reset_makes_the_stack_anew_and_it_answers(sfmctl: Sfmctl) -> None:
    labels = {"com.docker.compose.project": PROJECT, "com.docker.compose.volume": "redis-data"}
    docker("volume", "create", *(word for pair in labels.items() for word in ("--label", "=".join(pair))), VOLUME)
    old = json.loads(docker("volume", "inspect", VOLUME))[0]["CreatedAt"]

    planned = sfmctl.run("reset", "--compose", "--dry-run", "-o", "json")
    assert (planned.code, planned.document["changes"]) == (0, 1), planned.err
    assert left() == [f"volume {VOLUME}"]

    ran = sfmctl.run("reset", "--compose", "--yes", "-o", "json")
    assert ran.code == 0, ran.out + ran.err
    detail = next(one["detail"] for one in ran.document["outcomes"] if one["id"] == "compose.reset")
    label = f"label=com.docker.compose.project={PROJECT}"
    running = docker("ps", "--format", "{{.Names}} {{.Status}}", "--filter", label).splitlines()
    assert detail.startswith(f"{len(running)} services are up, healthy, and answer")
    assert running and all("(healthy)" in line for line in running), running
    assert json.loads(docker("volume", "inspect", VOLUME))[0]["CreatedAt"] != old


def test_a_file_that_is_not_there_is_said_before_anything_is_taken_away(sfmctl: Sfmctl) -> None:
    ran = sfmctl.run("reset", "--compose", "--compose-file", "nowhere.yaml", "--yes")
    assert (ran.code, "SFM-CLI-028" in ran.err) == (2, True), ran.err
