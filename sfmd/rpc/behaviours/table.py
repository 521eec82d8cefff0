"""All behaviours by method name: what `Endpoints` serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfmd.rpc.behaviours.administration import Administration
from sfmd.rpc.behaviours.reading import Reading
from sfmd.rpc.behaviours.writing import Writing
from sfmd.rpc.endpoints import Behaviour

if TYPE_CHECKING:
    from sfmd.service import MemoryService


def behaviours_of(service: MemoryService, message_bytes: int) -> dict[str, Behaviour]:
    """Every method whose name begins with a capital is an RPC of that name."""
    parts = (Administration(service), Reading(service, message_bytes), Writing(service))
    return {name: getattr(part, name) for part in parts for name in vars(type(part)) if name[0].isupper()}
