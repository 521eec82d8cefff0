"""Images on a cluster of several nodes, pulled from a mirror: they arrive on every node, or the node is named.

The cluster is one of its own, made from a kind configuration that is given; nothing but images is brought onto it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from playbook.actions.image_names import canonical, held_as
from playbook.actions.images import listed
from testing.registry import Registry
from tests.kind.conftest import Sfmctl, only

pytestmark = pytest.mark.kind
CLUSTER = "soma-wide"
NODES = [f"{CLUSTER}-{name}" for name in ("control-plane", "worker", "worker2")]
IMAGE = "elsewhere/opa:1"


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], capture_output=True, text=True, check=True).stdout


def there(node: str) -> dict[str, str]:
    """Reference to image id of what crictl shows on one node."""
    return listed(json.loads(docker("exec", node, "crictl", "images", "-o", "json")))


@pytest.fixture(scope="module")
def wide(sfmctl: Sfmctl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The options that name a cluster of three nodes, which is there."""
    config = tmp_path_factory.mktemp("wide") / "kind.yaml"
    roles = [{"role": role} for role in ("control-plane", "worker", "worker")]
    config.write_text(yaml.safe_dump({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": roles}))
    options = ["--cluster", CLUSTER, "--kind-config", str(config)]
    stale = sfmctl.run("cluster", "delete", "--cluster", CLUSTER, "--yes")  # a run that was cut off may have left it
    assert stale.code == 0, stale.err
    try:
        made = sfmctl.run("cluster", "create", *options, "--yes")
        assert made.code == 0, made.err
        yield options
    finally:
        gone = sfmctl.run("cluster", "delete", "--cluster", CLUSTER, "--yes")
        assert gone.code == 0, gone.err


@pytest.fixture(scope="module")
def values(sfmctl: Sfmctl, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Values whose one image is on no node and, but for the mirror, nowhere else."""
    path = tmp_path_factory.mktemp("values") / "values.yaml"
    path.write_text(yaml.safe_dump(only("opa") | {"opa": {"image": {"repository": "elsewhere/opa", "tag": "1"}}}))
    return [*sfmctl.values, "-f", str(path)]


@pytest.fixture(scope="module")
def mirror(sfmctl: Sfmctl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that has OPA's image under another name; the local Docker does not have it under that name."""
    images = sfmctl.run("images", "list", *sfmctl.values, "-o", "json").document["images"]
    opa = next(image["ref"] for image in images if "opa" in image["ref"])
    folder = tmp_path_factory.mktemp("registry")
    docker("save", "--output", str(folder / "opa.tar"), opa)
    docker("rmi", "--force", IMAGE)  # a run that was cut off may have left it
    with Registry(folder) as registry:
        registry.add("somewhere/elsewhere/opa", "1", folder / "opa.tar")
        yield registry
        docker("rmi", "--force", IMAGE, f"{registry.address}/somewhere/{IMAGE}")


def test_an_image_comes_from_a_mirror_and_arrives_on_every_node(
    sfmctl: Sfmctl, wide: list[str], values: list[str], mirror: Registry
) -> None:
    wrong = sfmctl.run("images", "preload", *values, *wide, "--mirror", f"{mirror.address}/nowhere", "--yes")
    assert (wrong.code, "SFM-IMG-001" in wrong.err) == (3, True), wrong.err
    assert "nowhere/elsewhere/opa:1" in wrong.err

    ran = sfmctl.run("images", "preload", *values, *wide, "--mirror", f"{mirror.address}/somewhere", "--yes", "-o",
                     "json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert "/v2/somewhere/elsewhere/opa/manifests/1" in mirror.asked
    pulled = docker("image", "inspect", "--format", "{{.Id}}", IMAGE).strip()
    assert {node: there(node).get(canonical(IMAGE)) for node in NODES} == dict.fromkeys(NODES, pulled)


def test_the_one_node_that_lost_an_image_is_named_and_supplied_again(
    sfmctl: Sfmctl, wide: list[str], values: list[str]
) -> None:
    lost = NODES[2]
    docker("exec", lost, "ctr", "--namespace", "k8s.io", "images", "rm", canonical(IMAGE))
    ran = sfmctl.run("images", "verify", *values, "--cluster", CLUSTER, "-o", "json")
    assert ran.code == 3, ran.out
    found = next(c for c in ran.document["checks"] if c["id"] == "images.nodes")
    assert (found["status"], found["observed"]) == ("fail", f"{IMAGE} on {lost}")

    again = sfmctl.run("images", "preload", *values, *wide, "--yes", "-o", "json")
    assert again.code == 0, again.err
    why = next(step["why"] for step in again.document["plan"]["steps"] if step["id"] == "images.preload")
    assert why == f"images.absent is {IMAGE} on {lost}"
    assert sfmctl.run("images", "verify", *values, "--cluster", CLUSTER).code == 0


def test_an_image_that_is_named_by_its_digest_arrives_under_it(
    sfmctl: Sfmctl, wide: list[str], mirror: Registry, tmp_path: Path
) -> None:
    served = "somewhere/elsewhere/opa"
    digest = next(tag for name, tag in mirror.manifests if name == served and tag.startswith("sha256:"))
    path, ref = tmp_path / "values.yaml", f"elsewhere/opa@{digest}"
    image = {"repository": "elsewhere/opa", "tag": "1", "digest": digest}
    path.write_text(yaml.safe_dump(only("opa") | {"opa": {"image": image}}))
    asked = ["images", "preload", *sfmctl.values, "-f", str(path), *wide, "--mirror", f"{mirror.address}/somewhere"]
    try:
        ran = sfmctl.run(*asked, "--yes", "-o", "json")
        assert ran.code == 0, ran.err
        assert [node for node in NODES if canonical(ref) not in there(node)] == []
        again = sfmctl.run(*asked, "--yes", "-o", "json")
        assert (again.code, again.document["changed"]) == (0, 0), again.err
    finally:
        docker("rmi", "--force", held_as(ref), f"{mirror.address}/{served}@{digest}")
