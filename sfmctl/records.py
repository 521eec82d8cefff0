"""Memories as JSON lines: what `import` and `store --jsonl` read and what `export` writes, byte for byte.

A payload that is UTF-8 text is written as `payload_text`, any other as `payload_base64`; both give the same bytes
back. People may write `payload` (any JSON value) or `text` alone. Unknown keys are refused, so that a misspelt one is
noticed.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from sfmctl import vectors

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb

HEADER_KEY = "sfm_export"
"""Only the first line of an export has it; that line describes the namespace."""
TEXT_TYPE = "text/plain; charset=utf-8"

_WORDS: dict[str, type | tuple[type, ...]] = {
    "id": str, "kind": str, "content_type": str, "text": str, "half_life_class": str, "metadata_json": str,
    "idempotency_key": str, "payload_text": str, "payload_base64": str, "vector_f32_base64": str,
    "importance": (int, float), "event_time_s": (int, float), "expected_version": int, "features": dict,
    "metadata": dict, "vector": list, "payload": (str, int, float, bool, dict, list, type(None)),
}  # fmt: skip
_COPIED = ("id", "kind", "content_type", "text", "half_life_class", "metadata_json", "idempotency_key", "importance",
           "event_time_s", "expected_version")  # fmt: skip
_ONE_OF = (("payload", "payload_text", "payload_base64"), ("vector", "vector_f32_base64", "text"),
           ("metadata", "metadata_json"))  # fmt: skip


def to_input(record: Mapping[str, Any]) -> pb.MemoryInput:
    """A record as the daemon's message. Raises ValueError with a sentence; ranges are the daemon's to judge."""
    from sfmd.rpc.gen import memory_pb2 as pb

    for name, value in record.items():
        kinds = _WORDS.get(name)
        if kinds is None:
            raise ValueError(f"unknown key {name!r}; known are {', '.join(sorted(_WORDS))}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and name != "payload"):
            raise ValueError(f"{name!r} has a value of the wrong type, {type(value).__name__}")
    for names in _ONE_OF:
        given = [name for name in names if name in record]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
    made = pb.MemoryInput(**{name: record[name] for name in _COPIED if name in record})
    made.payload, kind = _payload(record)
    made.content_type = made.content_type or kind
    if "metadata" in record:
        made.metadata_json = json.dumps(record["metadata"], ensure_ascii=False, separators=(",", ":"))
    for name, value in record.get("features", {}).items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ValueError(f"feature {name!r} is no number")
        made.features[name] = value
    if "vector" in record:
        made.vector.f32_le = vectors.from_list(record["vector"])
    elif "vector_f32_base64" in record:
        made.vector.f32_le = _bytes(record["vector_f32_base64"], "vector_f32_base64")
    return made


def _payload(record: Mapping[str, Any]) -> tuple[bytes, str]:
    """The payload's bytes, and the content type that they have when the record names none."""
    if "payload_base64" in record:
        return _bytes(record["payload_base64"], "payload_base64"), ""
    if "payload_text" in record:
        return record["payload_text"].encode(), ""
    if "payload" in record:
        return json.dumps(record["payload"], ensure_ascii=False, separators=(",", ":")).encode(), ""
    if "text" in record:
        return record["text"].encode(), TEXT_TYPE
    raise ValueError("a record needs payload, payload_text, payload_base64 or text")


def _bytes(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name} is not base64: {error}") from error


def of_memory(memory: pb.Memory) -> dict[str, Any]:
    """One line of an export: everything that storing the memory again needs, and nothing that would differ then."""
    made: dict[str, Any] = {"id": memory.id, "kind": memory.kind, "content_type": memory.content_type}
    made |= payload_fields(memory.payload)
    if memory.vector_f32_le:
        made["vector_f32_base64"] = base64.b64encode(memory.vector_f32_le).decode()
    if memory.HasField("importance"):
        made["importance"] = memory.importance
    made |= {"event_time_s": memory.event_time_s, "half_life_class": memory.half_life_class}
    features = {name: value for name, value in sorted(memory.features.items()) if not math.isnan(value)}
    if features:
        made["features"] = features
    if memory.metadata_json not in {"", "{}"}:
        made["metadata_json"] = memory.metadata_json
    return made


def payload_fields(payload: bytes) -> dict[str, str]:
    """A payload as `payload_text` where it is UTF-8, else as `payload_base64`."""
    try:
        return {"payload_text": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}


def line(record: Mapping[str, Any]) -> str:
    """One JSON line, without its newline."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class BadLine(ValueError):
    """A line that is no record; `number` counts from 1."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number


def read(lines: IO[bytes], *, header: Callable[[dict[str, Any]], None] | None = None) -> Iterator[pb.MemoryInput]:
    """The memories of a JSONL stream, one at a time; empty lines are skipped. Raises BadLine."""
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        try:
            record = json.loads(raw)
            if not isinstance(record, dict):
                raise ValueError("a line is one JSON object")
            if HEADER_KEY in record and number == 1:
                if header is not None:
                    header(record)
                continue
            yield to_input(record)
        except (ValueError, RecursionError, OverflowError) as error:
            raise BadLine(number, str(error)) from error
