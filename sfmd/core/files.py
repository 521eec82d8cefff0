"""Segments on disk: written once, memory-mapped, checksummed, with a format version.

Files are derived data. Whatever is missing, torn or of another version raises Unusable, and the caller rebuilds from
the store: a doubtful file never gives an answer. So nothing here is fsynced; a torn file fails its checksum.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfmd.core.columns import Column, Columns
from sfmd.core.model import I64, NEVER, NormaliserVersion, Scoring
from sfmd.core.segment import Block, Ids, Segment, seal

FORMAT = 2
MANIFEST = "manifest.json"
CHUNK_ROWS = 8192
_OURS = ("seg-", "ended-", MANIFEST)
_MAPPED = frozenset({"v", "blob"})


class Unusable(Exception):
    """The files cannot be trusted; the message says which and why."""


def crc_of_file(path: Path) -> int:
    """CRC-32 of a whole file, its header included: a changed type or shape is as wrong as a changed number."""
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            value = zlib.crc32(chunk, value)
    return value


def _sealed(body: dict[str, Any]) -> str:
    """JSON text that carries the checksum of its own body."""
    text = json.dumps(body)
    return json.dumps({"crc32": zlib.crc32(text.encode()), "body": text})


def _unsealed(path: Path) -> tuple[dict[str, Any], int]:
    """The body and its checksum. Raises Unusable when they do not fit, OSError and the like when it cannot be read."""
    outer = json.loads(path.read_text())
    if zlib.crc32(outer["body"].encode()) != outer["crc32"]:
        raise Unusable(f"{path.name} fails its checksum")
    body: dict[str, Any] = json.loads(outer["body"])
    return body, outer["crc32"]


def scoring_json(scoring: Scoring) -> dict[str, Any]:
    """A scoring as JSON; an infinite half-life is null."""
    body = dataclasses.asdict(scoring)
    body["half_life_s"] = [None if math.isinf(t) else t for t in scoring.half_life_s]
    return body


def scoring_from(body: dict[str, Any]) -> Scoring:
    """The inverse of `scoring_json`."""
    return Scoring(
        half_life_s=tuple(math.inf if t is None else float(t) for t in body["half_life_s"]),
        channel_weights=tuple(body["channel_weights"]), alpha=body["alpha"], beta=body["beta"],
        normaliser=NormaliserVersion(**body["normaliser"]),
    )  # fmt: skip


def _arrays(data: Block) -> dict[str, NDArray[Any]]:
    ids = data.ids.packed()
    return {
        "seq": data.seq, "t": data.t_s, "r": data.r, "class": data.half_life, "f": data.features,
        "blob": ids.blob, "offsets": ids.offsets, "kind": data.columns.kind_codes,
    }  # fmt: skip


def write_segment(
    folder: Path, name: str, data: Block, sources: Sequence[tuple[Block, I64, I64]], scoring: Scoring
) -> Segment:
    """Write a segment and return it mapped. `data` is in its final order, with any V; the vectors come from `sources`:
    (block, its rows int64[m], their places int64[m] in the segment), copied chunk by chunk straight into the file.
    Raises OSError, and leaves nothing behind, where there is no room for it.
    """  # fmt: skip
    temporary, final = folder / f".{name}.new", folder / name
    for old in (temporary, final):
        shutil.rmtree(old, ignore_errors=True)
    dim = sources[0][0].v.shape[1]
    try:
        temporary.mkdir(parents=True)
        _write_files(temporary, dim, data, sources, scoring)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    segment = read_segment(folder, name, dim, verify=False)
    segment.data.ended[:] = data.ended
    made = seal(segment.data, scoring, name)
    made.seal_crc32 = segment.seal_crc32
    return made


def _write_files(
    temporary: Path, dim: int, data: Block, sources: Sequence[tuple[Block, I64, I64]], scoring: Scoring
) -> None:  # fmt: skip
    v = np.lib.format.open_memmap(temporary / "v.npy", mode="w+", dtype=np.float32, shape=(len(data), dim))
    _reserve(temporary / "v.npy")
    for block, rows, places in sources:
        for at in range(0, rows.size, CHUNK_ROWS):
            v[places[at : at + CHUNK_ROWS]] = block.v[rows[at : at + CHUNK_ROWS]]
    v.flush()
    del v
    for key, array in _arrays(data).items():
        np.save(temporary / f"{key}.npy", np.ascontiguousarray(array))
    keys = sorted(data.columns.keys)
    for n, key in enumerate(keys):
        column = data.columns.keys[key]
        np.save(temporary / f"m{n}.npy", np.stack([column.rows, column.codes]))
    sums = {path.stem: crc_of_file(path) for path in sorted(temporary.glob("*.npy"))}
    body = {
        "format": FORMAT, "rows": len(data), "dim": dim, "crc32": sums, "scoring": scoring_json(scoring),
        "kinds": data.columns.kinds, "metadata": [[key, data.columns.keys[key].values] for key in keys],
    }  # fmt: skip
    (temporary / "segment.json").write_text(_sealed(body))


def _reserve(path: Path) -> None:
    """Take the room of a sparse file now: a full disk met while writing to its map would kill the process (SIGBUS)."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def read_segment(folder: Path, name: str, dim: int, *, seal_crc32: int = 0, verify: bool = True) -> Segment:
    """Map a segment, none of its rows ended. seal_crc32: what the manifest says of its segment.json.
    Raises Unusable when a checksum, the version or the dimension is wrong."""
    path = folder / name
    try:
        body, seal_found = _unsealed(path / "segment.json")
        if verify and seal_found != seal_crc32:
            raise Unusable(f"{name}: not the segment that the manifest names")
        if body["format"] != FORMAT or body["dim"] != dim:
            raise Unusable(f"{name}: format {body['format']} and dimension {body['dim']} are not this version's")
        for k, expected in body["crc32"].items() if verify else ():
            if crc_of_file(path / f"{k}.npy") != expected:
                raise Unusable(f"{name}: {k}.npy fails its checksum")
        a = {k: np.load(path / f"{k}.npy", mmap_mode="r" if k in _MAPPED else None) for k in body["crc32"]}
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise Unusable(f"{name}: {error}") from error
    arrays = {k: array.view(np.ndarray) for k, array in a.items()}
    keys = {
        key: Column(tuple(values), arrays[f"m{n}"][0], arrays[f"m{n}"][1])
        for n, (key, values) in enumerate(body["metadata"])
    }
    data = Block(
        v=arrays["v"], seq=arrays["seq"], t_s=arrays["t"], r=arrays["r"], half_life=arrays["class"],
        features=arrays["f"], ids=Ids(arrays["blob"], arrays["offsets"]),
        columns=Columns(body["rows"], tuple(body["kinds"]), arrays["kind"], keys),
        ended=np.full(body["rows"], NEVER, dtype=np.int64),
    )  # fmt: skip
    segment = seal(data, scoring_from(body["scoring"]), name)
    segment.seal_crc32 = seal_found
    return segment


def write_manifest(
    folder: Path, dim: int, seq: int, segments: Sequence[Segment], *, in_use: Sequence[str] = ()
) -> None:  # fmt: skip
    """Name the segments that hold every row up to `seq`, and the rows that had ended by then; then drop other files."""
    folder.mkdir(parents=True, exist_ok=True)
    triples = [np.zeros((0, 3), dtype=np.int64)]
    for n, segment in enumerate(segments):
        rows = np.flatnonzero(segment.data.ended <= seq)
        triples.append(np.stack([np.full(rows.size, n), rows, segment.data.ended[rows]], axis=1))
    ended = np.ascontiguousarray(np.concatenate(triples))
    ended_name = f"ended-{seq}-{zlib.crc32(ended.tobytes()):08x}.npy"
    np.save(folder / ended_name, ended)
    body = {
        "format": FORMAT, "dim": dim, "seq": seq, "segments": [[s.name, s.seal_crc32] for s in segments],
        "ended": ended_name, "ended_crc32": crc_of_file(folder / ended_name),
    }  # fmt: skip
    temporary = folder / f".{MANIFEST}.new"
    temporary.write_text(_sealed(body))
    temporary.rename(folder / MANIFEST)
    sweep(folder, {MANIFEST, ended_name, *in_use, *(s.name for s in segments)})


def sweep(folder: Path, keep: Collection[str]) -> None:
    """Remove the index's own files but for those named: what was replaced, and what a kill left half-written."""
    for path in folder.glob("*") if folder.exists() else ():
        if path.name not in keep and path.name.lstrip(".").startswith(_OURS):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def read_manifest(folder: Path, dim: int) -> tuple[int, list[Segment]]:
    """The seq that the files reach and their segments, ended rows marked. Raises Unusable."""
    try:
        body, _ = _unsealed(folder / MANIFEST)
        if body["format"] != FORMAT or body["dim"] != dim:
            raise Unusable(f"manifest.json is of format {body['format']}, dimension {body['dim']}")
        if crc_of_file(folder / body["ended"]) != body["ended_crc32"]:
            raise Unusable(f"{body['ended']} fails its checksum")
        ended = np.load(folder / body["ended"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise Unusable(f"manifest.json: {error}") from error
    segments = [read_segment(folder, name, dim, seal_crc32=sealed) for name, sealed in body["segments"]]
    for n, segment in enumerate(segments):
        mine = ended[ended[:, 0] == n]
        segment.data.ended[mine[:, 1]] = mine[:, 2]
        segments[n] = seal(segment.data, segment.built_for, segment.name)
        segments[n].seal_crc32 = segment.seal_crc32
    return int(body["seq"]), segments
