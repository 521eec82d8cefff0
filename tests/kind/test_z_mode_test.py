"""Mode test on the cluster that mode dev was on: nothing of it outlives its pods."""

from __future__ import annotations

import pytest

from playbook.kube import Writer
from tests.kind.conftest import NAMESPACE, Sfmctl

pytestmark = pytest.mark.kind


def test_mode_test_comes_up_after_dev_and_keeps_nothing(sfmctl: Sfmctl, stack: None, api: Writer) -> None:
    gone = sfmctl.run("reset", "--yes", "-o", "json")
    assert gone.code == 0, gone.out + gone.err
    up = ["up", "--mode", "test", *sfmctl.values, "--yes", "-o", "json"]
    ran = sfmctl.run(*up)
    assert ran.code == 0, ran.out + ran.err
    assert {row["status"] for row in ran.document["checks"]} <= {"pass", "skip"}, ran.out
    assert api.items(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims") == []
    pods = api.items(f"/api/v1/namespaces/{NAMESPACE}/pods")
    assert not [pod["metadata"]["name"] for pod in pods if "prometheus" in pod["metadata"]["name"]]
    again = sfmctl.run(*up)
    assert (again.code, again.document["changed"]) == (0, 0), again.out + again.err
