"""Spoils requests: extreme values in any field of a message, and damage to its bytes. Repeatable from a seed."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

WHOLE = (0, 1, 7, 2**31 - 1, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
REAL = (0.0, -0.0, 0.5, -1.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf, 1e12, 3e9)
TEXT = ("", " ", "a", "A", "a" * 300, "\x00", "é\u0301", "\U0001d54f" * 80, "../../etc/passwd", "%s%n", "'; drop x",
        "{", "[]", "nan", "-0", "fuzz", "texts", "one", '{"a": 1e999}', '{"a": {"a": {}}}', "[" * 3000, "\ufeff{}",
        "sfm_")  # fmt: skip
DATA = (b"", b"\x00", b"{}", b"\xff" * 33, struct.pack("<8f", *[math.nan] * 8), struct.pack("<8f", *[1e38] * 8),
        bytes(32), struct.pack("<8f", *[1e-45] * 8), b"[" * 5000, b"\xed\xa0\x80")  # fmt: skip
_REALS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


def _value(field: FieldDescriptor, rng: random.Random) -> Any:
    if field.cpp_type in _REALS:
        return rng.choice(REAL)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return rng.choice(DATA if field.type == FieldDescriptor.TYPE_BYTES else TEXT)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice((0, 1, 3, 99, -1, 2**31 - 1))
    bits = 32 if field.cpp_type == FieldDescriptor.CPPTYPE_UINT32 else 64
    return rng.choice([v for v in WHOLE if v < 2**bits])


def spoil_field(message: Any, rng: random.Random) -> None:
    """Set, clear, fill or descend into one field."""
    if not message.DESCRIPTOR.fields:
        return
    field = rng.choice(message.DESCRIPTOR.fields)
    name = field.name
    if rng.random() < 0.15:
        message.ClearField(name)
    elif field.message_type and field.message_type.GetOptions().map_entry:
        getattr(message, name)[rng.choice(TEXT)] = rng.choice(REAL)
    elif field.is_repeated:
        held = getattr(message, name)
        for _ in range(rng.choice((1, 1, 2, 70))):
            if field.message_type:
                spoil_field(held.add(), rng)
            else:
                held.append(_value(field, rng))
    elif field.message_type:
        inner = getattr(message, name)
        inner.SetInParent()
        spoil_field(inner, rng)
    else:
        setattr(message, name, _value(field, rng))


def _flip(raw: bytearray, rng: random.Random) -> None:
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def _cut(raw: bytearray, rng: random.Random) -> None:
    del raw[rng.randrange(len(raw)) :]


def _insert(raw: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(raw) + 1)
    raw[at:at] = rng.randbytes(rng.choice((1, 2, 9)))


def _repeat(raw: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(raw))
    raw += raw[start : start + 40]


_DAMAGE: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _cut, _insert, _repeat)


def spoiled(message: Any, seed: int) -> bytes:
    """The bytes of a copy of `message` after one to four mutations."""
    rng = random.Random(seed)
    copy = type(message)()
    copy.CopyFrom(message)
    if rng.random() < 0.75:
        for _ in range(rng.choice((1, 1, 2, 3))):
            spoil_field(copy, rng)
    raw = bytearray(copy.SerializeToString())
    if rng.random() < 0.4:
        for _ in range(rng.choice((1, 1, 3))):
            if raw:
                rng.choice(_DAMAGE)(raw, rng)
    return bytes(raw)
