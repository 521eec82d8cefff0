"""What each method demands: a verb, and where in the request the namespaces stand. A method without a rule is denied.

Guards the rule "deny by default". The names a request carries are only ever checked against the token's grant; they
never grant anything. `ANY` scopes filter their answer by the grant instead, in the servicer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

SERVICE = "soma.memory.v1.MemoryService"

Names = Callable[[Any], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """`verb` that the principal needs; `names` the namespaces that a request message touches, () for none named.

    Of an upload the first message counts: later ones may not name another namespace.
    """

    verb: str
    names: Names


def _namespace(request: Any) -> Iterable[str]:
    return (request.namespace,)


def _name(request: Any) -> Iterable[str]:
    return (request.name,)


def _each(request: Any) -> Iterable[str]:
    return {r.namespace for r in request.requests}


def _replay(request: Any) -> Iterable[str]:
    return {request.request.namespace, request.receipt.namespace or request.request.namespace}


def _filtered(request: Any) -> Iterable[str]:
    """Empty means: all that the caller may read; the servicer filters."""
    return (request.namespace,) if request.namespace else ()


def _none(_: Any) -> Iterable[str]:
    return ()


RULES: dict[str, Rule] = {
    "CreateNamespace": Rule("admin", _name),
    "ConfigureNamespace": Rule("admin", _name),
    "ListNamespaces": Rule("read", _none),
    "Store": Rule("write", _namespace),
    "StoreBatch": Rule("write", _namespace),
    "Recall": Rule("read", _namespace),
    "RecallBatch": Rule("read", _each),
    "Get": Rule("read", _namespace),
    "List": Rule("read", _namespace),
    "Delete": Rule("write", _namespace),
    "Purge": Rule("purge", _namespace),
    "Undo": Rule("write", _namespace),
    "Reinforce": Rule("write", _namespace),
    "Replay": Rule("read", _replay),
    "Stats": Rule("read", _filtered),
    "Export": Rule("read", _namespace),
    "Import": Rule("write", _namespace),
    "Watch": Rule("read", _namespace),
}

STREAMING = frozenset({"StoreBatch", "Import", "Export", "Watch"})
"""Counted against the bound of streams, all others against that of unary calls."""

UPLOADS = frozenset({"StoreBatch", "Import"})

PUBLIC = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})
"""Answer without a token: they say SERVING or NOT_SERVING and nothing else, and probes have no token."""

AUTHENTICATED = frozenset(
    {
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    }
)
"""Any valid token will do: the schema is public, and the methods exist only with the reflection flag."""
