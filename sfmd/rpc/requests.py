"""Every call of the service as a value: method, message, and whether repeating it is safe. Both clients share them.

A vector may be bytes (little-endian float32), any buffer of float32 or float64 (a numpy array, array.array), or a
sequence of numbers. A payload may be bytes, text (content type text/plain) or anything that JSON has.
"""

from __future__ import annotations

import functools
import json
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from sfmd.errors import E
from sfmd.rpc.failure import CallFailed
from sfmd.rpc.gen import memory_pb2 as pb

R = TypeVar("R")
P = ParamSpec("P")

VectorLike = bytes | bytearray | memoryview | Sequence[float] | Any
PayloadLike = bytes | str | Mapping[str, Any] | Sequence[Any] | float | bool | None


@dataclass(frozen=True, slots=True)
class Unary(Generic[R]):
    """One unary call. `retry`: sending it twice does what sending it once does."""

    method: str
    request: Any
    reply: type[R]
    retry: bool


def checked(build: Callable[P, R]) -> Callable[P, R]:
    """The same, with what protobuf, JSON or UTF-8 cannot carry as CallFailed(INVALID), like what the daemon refuses."""

    @functools.wraps(build)
    def build_checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return build(*args, **kwargs)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise CallFailed(E.INVALID, f"{build.__name__}: {error}") from error

    return build_checked


@checked
def made(message: Callable[..., R], **fields: Any) -> R:
    """A message with these fields."""
    return message(**fields)


def vector_of(value: VectorLike) -> pb.Vector:
    """A vector message. Raises CallFailed(INVALID) for what is no vector."""
    if isinstance(value, (bytes, bytearray)):
        return pb.Vector(f32_le=bytes(value))
    try:
        return pb.Vector(f32_le=_packed(value))
    except (TypeError, ValueError, struct.error, OverflowError) as error:
        raise CallFailed(E.INVALID, f"a vector is bytes, a float buffer or a sequence of numbers: {error}") from error


def _packed(value: Any) -> bytes:
    try:
        view = memoryview(value)
    except TypeError:
        return struct.pack(f"<{len(value)}f", *value)
    if view.format in ("B", "b", "c"):
        return view.tobytes()
    if view.format in ("f", "<f") and sys.byteorder == "little":
        return view.tobytes()
    order, count = view.format[:-1], view.nbytes // view.itemsize
    return struct.pack(f"<{count}f", *struct.unpack(f"{order}{count}{view.format[-1:]}", view.tobytes()))


def _payload(value: PayloadLike, content_type: str) -> tuple[bytes, str]:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), content_type
    if isinstance(value, str):
        return value.encode(), content_type or "text/plain; charset=utf-8"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), content_type


@checked
def memory_input(payload: PayloadLike, *, text: str | None = None, vector: VectorLike | None = None, id: str = "",
                 kind: str = "", content_type: str = "", importance: float | None = None,
                 event_time_s: float | None = None, half_life_class: str = "",
                 features: Mapping[str, float] | None = None, metadata: Mapping[str, Any] | str | None = None,
                 expected_version: int | None = None, idempotency_key: str = "") -> pb.MemoryInput:  # fmt: skip
    """One memory to store. Give `text` or `vector`; a text payload alone is its own text."""
    body, kind_of_body = _payload(payload, content_type)
    if text is None and vector is None and isinstance(payload, str):
        text = payload
    return pb.MemoryInput(
        payload=body, content_type=kind_of_body, text=text, vector=None if vector is None else vector_of(vector), id=id,
        kind=kind, importance=importance, event_time_s=event_time_s, half_life_class=half_life_class,
        features=features or {}, expected_version=expected_version, idempotency_key=idempotency_key,
        metadata_json=metadata if isinstance(metadata, str) else json.dumps(metadata) if metadata else "",
    )  # fmt: skip


@checked
def store(namespace: str, payload: PayloadLike, **fields: Any) -> Unary[pb.StoreReply]:
    """Store one memory; the fields are those of `memory_input`. Retried only with an idempotency_key."""
    return store_input(namespace, memory_input(payload, **fields))


@checked
def store_input(namespace: str, memory: pb.MemoryInput) -> Unary[pb.StoreReply]:
    """Store a memory that is already a message."""
    request = pb.StoreRequest(namespace=namespace, memory=memory)
    return Unary("Store", request, pb.StoreReply, bool(memory.idempotency_key))


@checked
def recall_request(namespace: str, text: str | None = None, *, vector: VectorLike | None = None, k: int = 10,
                   alpha: float | None = None, beta: float | None = None, now_s: float | None = None,
                   as_of_seq: int | None = None, min_seq: int | None = None, filter: pb.Filter | None = None,
                   min_score: float = 0.0, max_bytes: int = 0, explain: bool = False, receipt: bool = False,
                   omit_payload: bool = False) -> pb.RecallRequest:  # fmt: skip
    """A recall by text or by vector."""
    return pb.RecallRequest(
        namespace=namespace, text=text, vector=None if vector is None else vector_of(vector), k=k, alpha=alpha,
        beta=beta, now_s=now_s, as_of_seq=as_of_seq, min_seq=min_seq, filter=filter, min_score=min_score,
        max_bytes=max_bytes, explain=explain, receipt=receipt, omit_payload=omit_payload,
    )  # fmt: skip


@checked
def recall(namespace: str, text: str | None = None, **fields: Any) -> Unary[pb.RecallReply]:
    """The k best memories under the whole score; the fields are those of `recall_request`."""
    return Unary("Recall", recall_request(namespace, text, **fields), pb.RecallReply, True)


@checked
def recall_batch(requests: Sequence[pb.RecallRequest]) -> Unary[pb.RecallBatchReply]:
    """Several recalls in one call; each item of the reply has its own reply or error."""
    return Unary("RecallBatch", pb.RecallBatchRequest(requests=requests), pb.RecallBatchReply, True)


@checked
def replay(receipt: pb.Receipt, request: pb.RecallRequest) -> Unary[pb.ReplayReply]:
    """Recompute a recall as it was."""
    return Unary("Replay", pb.ReplayRequest(receipt=receipt, request=request), pb.ReplayReply, True)


@checked
def get(namespace: str, id: str, *, as_of_seq: int | None = None, include_vector: bool = False,
        include_deleted: bool = False) -> Unary[pb.Memory]:  # fmt: skip
    """One memory."""
    request = pb.GetRequest(namespace=namespace, id=id, as_of_seq=as_of_seq, include_vector=include_vector,
                            include_deleted=include_deleted)  # fmt: skip
    return Unary("Get", request, pb.Memory, True)


@checked
def list_page(namespace: str, *, page_size: int = 0, page_token: str = "", filter: pb.Filter | None = None,
              include_deleted: bool = False, omit_payload: bool = False) -> Unary[pb.ListReply]:  # fmt: skip
    """One page of memories in byte order of the id."""
    request = pb.ListRequest(namespace=namespace, page_size=page_size, page_token=page_token, filter=filter,
                             include_deleted=include_deleted, omit_payload=omit_payload)  # fmt: skip
    return Unary("List", request, pb.ListReply, True)


@checked
def export_request(namespace: str, *, as_of_seq: int | None = None, include_vectors: bool = False,
                   filter: pb.Filter | None = None) -> pb.ExportRequest:  # fmt: skip
    """Every live memory as of one seq."""
    return pb.ExportRequest(namespace=namespace, as_of_seq=as_of_seq, include_vectors=include_vectors, filter=filter)


@checked
def watch_request(namespace: str, from_seq: int = 0, *, to_seq: int | None = None,
                  include_payload: bool = False) -> pb.WatchRequest:  # fmt: skip
    """Changes from a seq on."""
    return pb.WatchRequest(namespace=namespace, from_seq=from_seq, to_seq=to_seq, include_payload=include_payload)


@checked
def delete(namespace: str, id: str, *, expected_version: int | None = None,
           idempotency_key: str = "") -> Unary[pb.ChangeReply]:  # fmt: skip
    """Mark a memory deleted."""
    request = pb.DeleteRequest(namespace=namespace, id=id, expected_version=expected_version,
                               idempotency_key=idempotency_key)  # fmt: skip
    return Unary("Delete", request, pb.ChangeReply, bool(idempotency_key))


@checked
def purge(namespace: str, id: str) -> Unary[pb.PurgeReply]:
    """Erase every version of a memory for good."""
    return Unary("Purge", pb.PurgeRequest(namespace=namespace, id=id), pb.PurgeReply, False)


@checked
def undo(namespace: str, id: str, *, expected_seq: int | None = None) -> Unary[pb.ChangeReply]:
    """Revert the latest change of a memory."""
    request = pb.UndoRequest(namespace=namespace, id=id, expected_seq=expected_seq)
    return Unary("Undo", request, pb.ChangeReply, False)


@checked
def reinforce(namespace: str, id: str, *, importance: float | None = None, access_time_s: float | None = None,
              idempotency_key: str = "") -> Unary[pb.ChangeReply]:  # fmt: skip
    """Note an access; with an importance, change retrieval too."""
    request = pb.ReinforceRequest(namespace=namespace, id=id, importance=importance, access_time_s=access_time_s,
                                  idempotency_key=idempotency_key)  # fmt: skip
    return Unary("Reinforce", request, pb.ChangeReply, bool(idempotency_key))


def _classes(half_lives: Mapping[str, float] | None) -> list[pb.HalfLifeClass]:
    return [pb.HalfLifeClass(name=n, half_life_s=s) for n, s in (half_lives or {}).items()]


def _channels(features: Mapping[str, float] | None) -> list[pb.FeatureChannel]:
    return [pb.FeatureChannel(name=n, weight=w) for n, w in (features or {}).items()]


@checked
def create_namespace(name: str, *, dim: int = 0, embedder: str = "", half_lives: Mapping[str, float] | None = None,
                     default_half_life: str = "", features: Mapping[str, float] | None = None,
                     alpha: float | None = None, beta: float | None = None) -> Unary[pb.Namespace]:  # fmt: skip
    """Make a namespace. `half_lives`: class name to seconds (math.inf never ages); `features`: channel to weight."""
    request = pb.CreateNamespaceRequest(
        name=name, dim=dim, embedder=embedder, half_life_classes=_classes(half_lives),
        default_half_life_class=default_half_life, features=_channels(features), alpha=alpha, beta=beta,
    )  # fmt: skip
    return Unary("CreateNamespace", request, pb.Namespace, True)


@checked
def configure_namespace(name: str, *, half_lives: Mapping[str, float] | None = None,
                        default_half_life: str | None = None, features: Mapping[str, float] | None = None,
                        alpha: float | None = None, beta: float | None = None,
                        refuse_normaliser_updates: bool | None = None,
                        expected_config_version: int | None = None) -> Unary[pb.Namespace]:  # fmt: skip
    """Change what ranks; only what is given changes."""
    request = pb.ConfigureNamespaceRequest(
        name=name, half_life_classes=_classes(half_lives), default_half_life_class=default_half_life,
        features=_channels(features), alpha=alpha, beta=beta, refuse_normaliser_updates=refuse_normaliser_updates,
        expected_config_version=expected_config_version,
    )  # fmt: skip
    return Unary("ConfigureNamespace", request, pb.Namespace, False)


def list_namespaces() -> Unary[pb.ListNamespacesReply]:
    """Every namespace that the token reaches."""
    return Unary("ListNamespaces", pb.ListNamespacesRequest(), pb.ListNamespacesReply, True)


@checked
def stats(namespace: str = "") -> Unary[pb.StatsReply]:
    """Measured state, of one namespace or of all that the token reaches."""
    return Unary("Stats", pb.StatsRequest(namespace=namespace), pb.StatsReply, True)
