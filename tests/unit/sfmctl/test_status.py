"""`sfmctl status` is good only for a release that is deployed, with workloads that are ready.

A real HTTP server has the objects, and a real program stands where helm would run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sfmctl import app
from sfmctl.exits import Exit
from testing.api import Api, serving
from testing.workloads import workload

READY = workload("sharedinfra-opa", ready=1)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path / "kubeconfig", "kind-soma") as server:
        yield server


@pytest.fixture
def status(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run it with a release in a state, a namespace in a phase, and workloads; the exit code and what was printed."""

    def run(state: str, phase: str, *workloads: dict[str, Any]) -> tuple[int, Any]:
        api.put("/api/v1/namespaces", {"metadata": {"name": "soma-infra"}, "status": {"phase": phase}})
        api.put("/apis/apps/v1/namespaces/soma-infra/deployments", *workloads)
        found = {"info": {"status": state}, "version": 3}
        (tmp_path / "helm").write_text(f"#!/bin/sh\necho '{json.dumps(found)}'\n")
        (tmp_path / "helm").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        code = app.run(["status", "--kubeconfig", str(tmp_path / "kubeconfig"), "-o", "json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_a_deployed_release_whose_workloads_are_ready_is_good(status: Any) -> None:
    code, shown = status("deployed", "Active", READY)
    assert (code, shown["exitCode"]) == (Exit.OK, Exit.OK)
    assert shown["namespace"] == {"name": "soma-infra", "phase": "Active"}


@pytest.mark.parametrize("state", ["failed", "pending-upgrade", "uninstalling", "superseded"])
def test_a_release_in_another_state_is_not(status: Any, state: str) -> None:
    code, shown = status(state, "Active", READY)
    assert (code, shown["release"]["state"]) == (Exit.CHECK_FAILED, f"{state}, revision 3")


def test_a_release_without_a_workload_is_not(status: Any) -> None:
    assert status("deployed", "Active")[0] == Exit.CHECK_FAILED


def test_a_namespace_that_is_going_is_not_and_is_shown(status: Any) -> None:
    code, shown = status("deployed", "Terminating", READY)
    assert (code, shown["namespace"]["phase"]) == (Exit.CHECK_FAILED, "Terminating")
