"""The image of the Jobs inside the cluster: `sfmctl` itself. On a kind cluster it is built and loaded when needed.

The charts do not run it, so it does not come onto the nodes with the stack; an application's wire-up is the first to
need it. On any other cluster the nodes pull it, as told or by this version's name; `sfmctl images build` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from playbook.actions import archive, docker, images, kind
from playbook.model import Image
from playbook.shell import Shell
from playbook.target import Target
from playbook.trouble import Trouble

if TYPE_CHECKING:
    from playbook.engine import Hands

REPOSITORY = "soma/sfmctl"
SOURCES = ("requirements/image-sfmctl.lock", "pyproject.toml", "proto", "infra/build", "playbook", "sfmctl",
           "sfmd/rpc", "sfmd/errors.py")  # fmt: skip


def reference(target: Target) -> str:
    """The image that a Job runs: as told, else the one of this version."""
    return target.sfmctl_image or f"{REPOSITORY}:{version('soma-fractal-memory')}"


def described(target: Target) -> Image:
    """How it comes to be: built from the checkout where there is one, unless another image is named."""
    source = "build" if has_checkout(target) and not target.sfmctl_image else "pull"
    return Image(reference(target), "Jobs inside the cluster", source, (), ".", "infra/images/sfmctl/Dockerfile",
                 sources=SOURCES)  # fmt: skip


def beside_the_charts(target: Target, shell: Shell) -> dict[str, Image]:
    """What a machine without a registry needs and no chart names: the nodes of a kind cluster and the Jobs inside."""
    node = Image(kind.node_image(target, shell), "nodes of the kind cluster", "pull", ())
    return {archive.NODE: node, archive.JOBS: described(target)}


def has_checkout(target: Target) -> bool:
    """Whether the sources of the image are at hand."""
    return target.infra.is_absolute() and (target.infra / "images" / "sfmctl" / "Dockerfile").is_file()


def wanting(target: Target, shell: Shell) -> list[str]:
    """What has to be done before a Job can start: nothing where another cluster's nodes pull it themselves."""
    if not target.is_kind:
        return []
    image = described(target)
    if unbuilt(target, shell):
        return [f"{image.ref} is not built from these sources"]
    return [f"{ref} is not on {node}" for node, ref in images.absent(target, shell, [image.ref])]


def unbuilt(target: Target, shell: Shell) -> list[str]:
    """The image, where it is built from the checkout and the local Docker lacks it or has an older source's."""
    return [image.ref for image in images.unbuilt(target, shell, [described(target)])]


def build(hands: Hands, params: Mapping[str, Any]) -> str:
    """Build the image when it can be and has to be (also when it does not, with `all`)."""
    target, shell, image = hands.target, hands.shell, described(hands.target)
    if image.source != "build" or not (params.get("all") or unbuilt(target, shell)):
        return "built nothing"
    images.build_one(target, shell, image, hands.left_s, hands.tell)
    return f"built {image.ref}"


def supply(hands: Hands, params: Mapping[str, Any]) -> str:
    """Build the image when it can be and has to be, and load it onto the nodes that lack it."""
    target, shell, image = hands.target, hands.shell, described(hands.target)
    build(hands, {})
    if not docker.inspected(shell, [image.ref]):
        raise Trouble(
            "SFM-IMG-001", f"{image.ref} is not in the local Docker", why="there is no checkout to build it from"
        )
    images.load_all(hands, images.absent(target, shell, [image.ref]))
    return f"{image.ref} is on every node"
