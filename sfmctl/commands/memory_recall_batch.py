"""`sfmctl memory recall --batch FILE`: many questions, one a JSON line, asked in as few calls as the daemon takes.

A question that the daemon refuses does not stop the others: it has its error in its place, and the exit code says so.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from sfmctl import asked, memory_views, render, vectors
from sfmctl.codes import C
from sfmctl.exits import Exit
from sfmctl.link import Link

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb

QUESTIONS_A_CALL = 64
_KINDS: dict[str, type] = {"text": str, "vector": list, "vector_f32_base64": str, "k": int}


def run(link: Link, file: str, like: pb.RecallRequest) -> None:
    """Ask every question of a file as `like` says, show the answers in order, and leave with 7 when one was refused."""
    requests = list(questions(file, like))
    items = list(answers(link, requests))
    shown = list(zip(requests, items, strict=True))
    render.result(
        link.output,
        "RecallBatch",
        json_body=lambda: {"answers": [_fields(request, item) for request, item in shown]},
        short_rows=lambda: [row for number, (_, item) in enumerate(shown, 1) for row in _rows(number, item)],
        tables=lambda: [part for request, item in shown for part in _parts(request, item)],
    )
    if any(item.HasField("error") for item in items):
        raise typer.Exit(Exit.REFUSED)


def questions(file: str, like: pb.RecallRequest) -> Iterator[pb.RecallRequest]:
    """A request for each line of a file (- is stdin), empty lines left out. Raises a fault that names the line."""
    for number, raw in enumerate(asked.content(file).splitlines(), 1):
        if not raw.strip():
            continue
        try:
            yield _request(json.loads(raw), like)
        except (ValueError, RecursionError, OverflowError) as error:
            raise C.INPUT.fault(f"{file} line {number}: {error}") from error


def answers(link: Link, requests: Sequence[pb.RecallRequest]) -> Iterator[pb.RecallBatchItem]:
    """The daemon's answers, in order. Raises a Fault where no question of a call could be asked."""
    with link.client() as client:
        for start in range(0, len(requests), QUESTIONS_A_CALL):
            yield from client.recall_batch(requests[start : start + QUESTIONS_A_CALL]).items


def _request(record: Any, like: pb.RecallRequest) -> pb.RecallRequest:
    if not isinstance(record, dict):
        raise ValueError("a line is one JSON object")
    for name, value in record.items():
        if name not in _KINDS:
            raise ValueError(f"unknown key {name!r}; known are {', '.join(sorted(_KINDS))}")
        if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
            raise ValueError(f"{name!r} has a value of the wrong type, {type(value).__name__}")
    if len(record.keys() - {"k"}) != 1:
        raise ValueError("a question has one of text, vector and vector_f32_base64")
    made = type(like)()
    made.CopyFrom(like)
    if "text" in record:
        made.text = record["text"]
    elif "vector" in record:
        made.vector.f32_le = vectors.from_list(record["vector"])
    else:
        try:
            made.vector.f32_le = base64.b64decode(record["vector_f32_base64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"vector_f32_base64 is not base64: {error}") from error
    made.k = record.get("k", like.k)
    return made


def _asked(request: pb.RecallRequest) -> str:
    return request.text if request.HasField("text") else f"(a vector of {len(request.vector.f32_le) // 4})"


def _fields(request: pb.RecallRequest, item: pb.RecallBatchItem) -> dict[str, Any]:
    if item.HasField("error"):
        error = {"code": item.error.code, "message": item.error.message, "status": item.error.grpc_status}
        return {"question": _asked(request), "error": error}
    return {"question": _asked(request), "recall": memory_views.recall_fields(item.reply)}


def _rows(number: int, item: pb.RecallBatchItem) -> list[list[object]]:
    if item.HasField("error"):
        return [[number, item.error.code, "", item.error.message]]
    return [[number, f"{h.score:.6g}", h.id, memory_views.snippet(h.payload, h.content_type)] for h in item.reply.hits]


def _parts(request: pb.RecallRequest, item: pb.RecallBatchItem) -> list[object]:
    head = f"\n{_asked(request)}"
    if item.HasField("error"):
        return [head, f"{item.error.code} {item.error.message}"]
    return [head, memory_views.hits_table(item.reply.hits)]
