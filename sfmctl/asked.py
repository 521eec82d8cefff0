"""Options of the memory verbs as the daemon's messages: what was typed becomes a request, or a usage fault.

Reading happens here and nowhere else, so that a wrong file, number or word is told in the same manner by every verb.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sfmctl import quantities, vectors
from sfmctl.codes import C

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb

T = TypeVar("T")

KindsOption = Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; may be repeated.")]
FromOption = Annotated[
    str, typer.Option("--from", metavar="TIME", help="Event time at or after: 2026-05-01, Unix seconds or -30d.")
]
ToOption = Annotated[str, typer.Option("--to", metavar="TIME", help="Event time before.")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="CONDITION",
                 help="On metadata, may be repeated: key=value, key=a|b, key!=v, key<9, key>=9, key? (has), !key."),
]  # fmt: skip
VectorOption = Annotated[
    str, typer.Option("--vector", metavar="FILE", help="A vector: .npy, raw float32, or a JSON list; - is stdin.")
]


def option(name: str, parse: Callable[[], T]) -> T:
    """`parse()`, its ValueError told as a usage fault of option `name`."""
    try:
        return parse()
    except ValueError as error:
        raise C.USAGE.fault(f"{name}: {error}") from error


def moment(name: str, text: str) -> float | None:
    """A time option in Unix seconds, None when it was not given."""
    return option(name, lambda: quantities.time_s(text, time.time())) if text else None


def content(path: str) -> bytes:
    """The bytes of a file; `-` is standard input. Raises an input fault that names it."""
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise C.INPUT.fault(f"{path} cannot be read", why=error.strerror or str(error)) from error


def text(words: str) -> str:
    """A text argument; `-` reads standard input, which must be UTF-8."""
    if words != "-":
        return words
    try:
        return content("-").decode()
    except UnicodeDecodeError as error:
        raise C.INPUT.fault("standard input is not UTF-8 text", why=str(error)) from error


def vector(path: str) -> bytes:
    """float32 bytes of a vector file."""
    raw = content(path)
    try:
        return vectors.decode(raw)
    except ValueError as error:
        raise C.INPUT.fault(f"{path} holds no vector", why=str(error)) from error


def filter_of(kinds: Sequence[str] | None, from_: str, to: str, where: Sequence[str] | None) -> pb.Filter:
    """The filter options as one message."""
    import json

    from sfmd.rpc.gen import memory_pb2 as pb

    made = pb.Filter(kinds=kinds or [])
    from_s, to_s = moment("--from", from_), moment("--to", to)
    if from_s is not None:
        made.from_s = from_s
    if to_s is not None:
        made.to_s = to_s
    for word in where or []:
        key, op, values = option("--where", lambda word=word: quantities.condition(word))  # type: ignore[misc]
        made.metadata.add(key=key, op=pb.Op.Value(op), values_json=[json.dumps(v) for v in values])
    return made
