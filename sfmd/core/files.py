"""Segments on disk: written once, memory-mapped, checksummed, with a format version.

Files are derived data. Whatever is missing, torn or of another version raises Unusable, and the caller rebuilds from
the store: a doubtful file never gives an answer. So nothing here is fsynced; a torn file fails its checksum.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfmd.core.columns import Column, Columns
from sfmd.core.model import I64, NEVER, NormaliserVersion, Scoring
from sfmd.core.segment import Block, Ids, Segment, seal

FORMAT = 1
MANIFEST = "manifest.json"
CHUNK_ROWS = 8192
_MAPPED = frozenset({"v", "blob"})


class Unusable(Exception):
    """The files cannot be trusted; the message says which and why."""


def crc(array: NDArray[Any]) -> int:
    """CRC-32 of an array's bytes, chunk by chunk."""
    flat = array.reshape(-1).view(np.uint8)
    value = 0
    for start in range(0, flat.shape[0], 1 << 22):
        value = zlib.crc32(flat[start : start + (1 << 22)].data, value)
    return value


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
    """  # fmt: skip
    temporary, final = folder / f".{name}.new", folder / name
    for old in (temporary, final):
        shutil.rmtree(old, ignore_errors=True)
    temporary.mkdir(parents=True)
    dim = sources[0][0].v.shape[1]
    v = np.lib.format.open_memmap(temporary / "v.npy", mode="w+", dtype=np.float32, shape=(len(data), dim))
    for block, rows, places in sources:
        for at in range(0, rows.size, CHUNK_ROWS):
            v[places[at : at + CHUNK_ROWS]] = block.v[rows[at : at + CHUNK_ROWS]]
    sums = {"v": crc(v.view(np.ndarray))}
    del v
    for key, array in _arrays(data).items():
        np.save(temporary / f"{key}.npy", np.ascontiguousarray(array))
        sums[key] = crc(np.ascontiguousarray(array))
    keys = sorted(data.columns.keys)
    for n, key in enumerate(keys):
        column = data.columns.keys[key]
        pair = np.stack([column.rows, column.codes])
        np.save(temporary / f"m{n}.npy", pair)
        sums[f"m{n}"] = crc(pair)
    body = {
        "format": FORMAT, "rows": len(data), "dim": dim, "crc32": sums, "scoring": scoring_json(scoring),
        "kinds": data.columns.kinds, "metadata": [[key, data.columns.keys[key].values] for key in keys],
    }  # fmt: skip
    text = json.dumps(body)
    (temporary / "segment.json").write_text(json.dumps({"crc32": zlib.crc32(text.encode()), "body": text}))
    temporary.rename(final)
    segment = read_segment(folder, name, dim, verify=False)
    segment.data.ended[:] = data.ended
    return seal(segment.data, scoring, name)


def read_segment(folder: Path, name: str, dim: int, *, verify: bool = True) -> Segment:
    """Map a segment, none of its rows ended. Raises Unusable when a checksum, the version or a shape is wrong."""
    path = folder / name
    try:
        outer = json.loads((path / "segment.json").read_text())
        if zlib.crc32(outer["body"].encode()) != outer["crc32"]:
            raise Unusable(f"{name}: segment.json fails its checksum")
        body = json.loads(outer["body"])
        if body["format"] != FORMAT or body["dim"] != dim:
            raise Unusable(f"{name}: format {body['format']} and dimension {body['dim']} are not this version's")
        a = {k: np.load(path / f"{k}.npy", mmap_mode="r" if k in _MAPPED else None) for k in body["crc32"]}
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise Unusable(f"{name}: {error}") from error
    arrays = {k: array.view(np.ndarray) for k, array in a.items()}
    if verify:
        for k, array in arrays.items():
            if crc(array) != body["crc32"][k]:
                raise Unusable(f"{name}: {k}.npy fails its checksum")
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
    return seal(data, scoring_from(body["scoring"]), name)


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
    ended_name = f"ended-{seq}-{crc(ended):08x}.npy"
    np.save(folder / ended_name, ended)
    text = json.dumps({
        "format": FORMAT, "dim": dim, "seq": seq, "segments": [s.name for s in segments],
        "ended": ended_name, "ended_crc32": crc(ended),
    })  # fmt: skip
    temporary = folder / f".{MANIFEST}.new"
    temporary.write_text(json.dumps({"crc32": zlib.crc32(text.encode()), "body": text}))
    temporary.rename(folder / MANIFEST)
    keep = {MANIFEST, ended_name, *in_use, *(s.name for s in segments)}
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def read_manifest(folder: Path, dim: int) -> tuple[int, list[Segment]]:
    """The seq that the files reach and their segments, ended rows marked. Raises Unusable."""
    try:
        outer = json.loads((folder / MANIFEST).read_text())
        if zlib.crc32(outer["body"].encode()) != outer["crc32"]:
            raise Unusable("manifest.json fails its checksum")
        body = json.loads(outer["body"])
        if body["format"] != FORMAT or body["dim"] != dim:
            raise Unusable(f"manifest.json is of format {body['format']}, dimension {body['dim']}")
        ended = np.load(folder / body["ended"])
        if crc(ended) != body["ended_crc32"]:
            raise Unusable(f"{body['ended']} fails its checksum")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise Unusable(f"manifest.json: {error}") from error
    segments = [read_segment(folder, name, dim) for name in body["segments"]]
    for n, segment in enumerate(segments):
        mine = ended[ended[:, 0] == n]
        segment.data.ended[mine[:, 1]] = mine[:, 2]
        segments[n] = seal(segment.data, segment.built_for, segment.name)
    return int(body["seq"]), segments
