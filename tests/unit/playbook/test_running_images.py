"""Which pods run an older build of an image than their node has, told from the kubelet's and crictl's own words."""

from typing import Any

import pytest

from playbook.actions.running_images import image_id, older, restarted_by

NODE = {
    "docker.io/soma/pgpool:0.1.0": "sha256:02",
    "docker.io/library/import-2026-01-01@sha256:aa": "sha256:01",
    "docker.io/library/import-2026-01-02@sha256:bb": "sha256:02",
}
"""What one node has: the tag has moved on from the first import to the second."""


def pod(said: str, *, node: str = "soma-worker", ref: str = "soma/pgpool:0.1.0") -> dict[str, Any]:
    return {
        "metadata": {"name": "pgpool-5d9-x"},
        "spec": {"nodeName": node, "containers": [{"name": "pgpool", "image": ref}]},
        "status": {"containerStatuses": [{"name": "pgpool", "imageID": said}]},
    }


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ("sha256:01", "sha256:01"),
        ("docker.io/library/import-2026-01-01@sha256:aa", "sha256:01"),
        ("docker.io/library/elsewhere@sha256:cc", ""),
        ("", ""),
    ],
)
def test_the_kubelets_words_are_an_id_or_a_digest_that_the_node_knows(said: str, known: str) -> None:
    assert image_id(said, NODE) == known


def test_a_pod_that_runs_the_build_before_is_found_out() -> None:
    stale = [pod("sha256:01"), pod("docker.io/library/import-2026-01-01@sha256:aa")]
    assert older(stale, {"soma-worker": NODE}) == [(one, "soma/pgpool:0.1.0") for one in stale]


def test_what_runs_the_same_build_or_cannot_be_told_is_not_named() -> None:
    fine = [
        pod("sha256:02"),
        pod("docker.io/library/import-2026-01-02@sha256:bb"),
        pod("docker.io/library/elsewhere@sha256:cc"),
        pod(""),
        pod("sha256:01", node="another"),
        pod("sha256:01", ref="not/there:1"),
        {"metadata": {"name": "waits"}, "spec": {"containers": []}, "status": {"phase": "Pending"}},
    ]
    assert older(fine, {"soma-worker": NODE}) == []


@pytest.mark.parametrize(
    ("owner", "maker"),
    [
        ({"kind": "ReplicaSet", "name": "sharedinfra-pgpool-5d9f"}, "deployment/sharedinfra-pgpool"),
        ({"kind": "StatefulSet", "name": "sharedinfra-postgres"}, "statefulset/sharedinfra-postgres"),
        ({"kind": "Job", "name": "setup"}, ""),
    ],
)
def test_who_makes_the_pod_anew_is_what_is_restarted(owner: dict[str, str], maker: str) -> None:
    assert restarted_by({"metadata": {"name": "x", "ownerReferences": [owner]}}) == maker
