"""Vectors from files, without numpy: `.npy`, raw little-endian float32, or a JSON list. All become float32 bytes.

Components are not judged here (NaN, length zero, dimension): the daemon does, with its own codes.
"""

from __future__ import annotations

import ast
import json
import struct
import sys
from array import array
from pathlib import Path

_NPY = b"\x93NUMPY"
_FORMATS = {"<f4": "f", ">f4": "f", "<f8": "d", ">f8": "d", "=f4": "f", "=f8": "d"}


def read(path: str) -> bytes:
    """The vector in `path` (`-` is standard input) as little-endian float32. Raises ValueError or OSError."""
    return decode(sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes())


def decode(content: bytes) -> bytes:
    """float32 bytes of what a vector file holds; the form is told by the content, never by the name."""
    if content.startswith(_NPY):
        return _npy(content)
    if content.lstrip()[:1] == b"[" and content.isascii():
        try:
            return from_list(json.loads(content))
        except json.JSONDecodeError as error:
            raise ValueError(f"not a JSON list of numbers: {error}") from error
    if not content or len(content) % 4:
        raise ValueError(f"{len(content)} bytes are no whole float32 components; give .npy, raw float32 or a JSON list")
    return content


def from_list(values: object) -> bytes:
    """float32 bytes of a list of numbers. A number beyond float32's range becomes infinite, which the daemon names."""
    if not isinstance(values, list) or not values:
        raise ValueError("a vector is a list of numbers")
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        raise ValueError("a vector holds numbers only")
    try:
        return _floats32(array("d", values))
    except OverflowError:
        raise ValueError("a component is beyond what a float can hold") from None


def _floats32(values: array[float]) -> bytes:
    packed = array("f", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _npy(content: bytes) -> bytes:
    """One-dimensional float32 or float64 `.npy` of format 1 to 3 (NumPy's documented layout)."""
    try:
        wide = content[6] >= 2
        (length,) = struct.unpack_from("<I" if wide else "<H", content, 8)
        start = (12 if wide else 10) + length
        header = ast.literal_eval(content[12 if wide else 10 : start].decode("utf-8" if content[6] >= 3 else "latin-1"))
        kind, shape = header["descr"], tuple(header["shape"])
    except (struct.error, IndexError, ValueError, SyntaxError, KeyError, TypeError) as error:
        raise ValueError("the .npy header cannot be read") from error
    if kind not in _FORMATS:
        raise ValueError(f"an .npy of {kind!r}; float32 or float64 is needed")
    count = 1
    for extent in shape:
        count *= extent
    if max(shape, default=1) != count:
        raise ValueError(f"an .npy of shape {shape}; one vector is needed")
    values: array[float] = array(_FORMATS[kind])
    body = content[start:]
    if len(body) != count * values.itemsize:
        raise ValueError(f"an .npy with {len(body)} bytes of data where {count * values.itemsize} belong")
    values.frombytes(body)
    if (kind[0] == ">") == (sys.byteorder == "little") and kind[0] != "=":
        values.byteswap()
    return _floats32(values)
