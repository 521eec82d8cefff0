"""The last of the cluster tests, by its name: back to nothing. What other tests built on the cluster goes with it."""

from __future__ import annotations

import subprocess

import pytest

from tests.kind.conftest import Sfmctl

pytestmark = pytest.mark.kind


def test_reset_to_nothing(sfmctl: Sfmctl) -> None:
    ran = sfmctl.run("down", "--yes", "-o", "json")
    assert ran.code == 0, ran.out + ran.err
    listed = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True)
    assert "soma" not in listed.stdout.split()
    again = sfmctl.run("down", "--yes", "-o", "json")
    assert again.code == 0, again.err
    assert again.document["changed"] == 0
