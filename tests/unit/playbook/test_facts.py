"""Facts as they are looked at: real programs and a real HTTP server stand where the world would be."""

from __future__ import annotations

from pathlib import Path

import pytest

from playbook.facts import Observer, observe_group
from playbook.load import packaged
from playbook.target import Target


@pytest.fixture
def only_helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with helm and kubectl, and neither kind nor docker."""
    for name, says in (("helm", "v3.16.2+g13654a5"), ("kubectl", "Client Version: v1.31.0")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def tools(context: str) -> tuple[object, object]:
    found = observe_group(Observer(Target(context=context), packaged()), "tools")
    return found["tools.wanting"].value, found["tools.release"].value


@pytest.mark.usefixtures("only_helm")
def test_kind_and_docker_are_wanted_only_where_a_kind_cluster_of_ours_is_meant() -> None:
    assert tools("gke_prod") == ([], [])
    wanting, release = tools("kind-soma")
    assert (wanting, release) == (["kind missing (needs 0.22)", "docker missing (needs 24.0)"], [])
