"""The first line of an export: a namespace's configuration, and the request that makes one like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb
    from sfmd.rpc.requests import Unary


def create_request(name: str, header: Mapping[str, Any]) -> Unary[pb.Namespace]:
    """CreateNamespace for the configuration in `header`. Raises KeyError, TypeError or ValueError when it is none."""
    from sfmd.rpc.requests import create_namespace

    found = header["namespace"]
    embedder = str(found["embedder"])
    return create_namespace(
        name,
        dim=int(found["dim"]),
        embedder=embedder.split("/", maxsplit=1)[0],
        half_lives={str(c["name"]): float(c["halfLifeS"]) for c in found["halfLifeClasses"]},
        default_half_life=str(found["defaultHalfLifeClass"]),
        features={str(f["name"]): float(f["weight"]) for f in found["features"]},
        alpha=float(found["alpha"]),
        beta=float(found["beta"]),
    )
