"""The image of the Jobs inside the cluster: `sfmctl` itself. On a kind cluster it is built and loaded when needed.

The charts do not run it, so it is not among the images that come with the stack; an application's wire-up is the first
to need it. On any other cluster the nodes pull it, as told or by this version's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from playbook.actions import images
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
    """How it comes to be: built from the checkout, unless another one is named."""
    source = "pull" if target.sfmctl_image else "build"
    return Image(reference(target), "Jobs inside the cluster", source, (), ".", "infra/images/sfmctl/Dockerfile",
                 sources=SOURCES)  # fmt: skip


def has_checkout(target: Target) -> bool:
    """Whether the sources of the image are at hand."""
    return target.infra.is_absolute() and (target.infra / "images" / "sfmctl" / "Dockerfile").is_file()


def wanting(target: Target, shell: Shell) -> list[str]:
    """What has to be done before a Job can start: nothing where another cluster's nodes pull it themselves."""
    if not target.is_kind:
        return []
    image = described(target)
    if has_checkout(target) and images.unbuilt(target, shell, [image]):
        return [f"{image.ref} is not built from these sources"]
    ids = images.local_ids(shell, [image.ref])
    return [f"{ref} is not on {node}" for node, ref in images.absent(shell, target, [image.ref], ids)]


def supply(hands: Hands, params: Mapping[str, Any]) -> str:
    """Build the image when it can be and has to be, and load it onto the nodes that lack it."""
    target, shell, image = hands.target, hands.shell, described(hands.target)
    if has_checkout(target) and images.unbuilt(target, shell, [image]):
        images.build_one(target, shell, image, hands.left_s, hands.tell)
    ids = images.local_ids(shell, [image.ref])
    if not ids:
        raise Trouble(
            "SFM-IMG-001", f"{image.ref} is not in the local Docker", why="there is no checkout to build it from"
        )
    lacking = images.absent(shell, target, [image.ref], ids)
    images.load_all(hands, lacking)
    return f"{image.ref} is on every node"
