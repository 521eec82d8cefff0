"""References of images: spelt out, so that two spellings of one image are the same, and as Docker can hold them."""

from __future__ import annotations


def canonical(ref: str) -> str:
    """A reference with its registry and tag said: `redis:7` is `docker.io/library/redis:7`."""
    name, at, digest = ref.partition("@")
    head, slash, last = name.rpartition("/")
    if not at and ":" not in last:
        last += ":latest"
    first = head.split("/")[0]
    if not slash:
        head = "docker.io/library"
    elif not ("." in first or ":" in first or first == "localhost"):
        head = f"docker.io/{head}"
    return f"{head}/{last}" + (f"@{digest}" if at else "")


def mirrored(ref: str, mirror: str) -> str:
    """A reference on a mirror: the path that it has in its own registry, below the mirror's prefix."""
    return f"{mirror.rstrip('/')}/{canonical(ref).partition('/')[2]}"


def held_as(ref: str) -> str:
    """The name under which an image is saved and loaded: a digest as a tag, since neither keeps a digest."""
    name, at, digest = ref.partition("@")
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}:{digest.replace(':', '-')}" if at else ref
