"""Real text embeddings without a download: lines of prose from Python's own library and the installed packages.

wordllama carries its weights in its wheel. Numbers that depend on how real embeddings lie (recall after rounding, how
early a scan may stop) must not be measured on random vectors, which have no neighbours.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sfmd.core.model import F32
from sfmd.core.vectors import normalise

DIM = 256
LONGEST_FILE_BYTES = 400_000
FEWEST_LETTERS, FEWEST_SPACES = 46, 6


def prose_lines() -> Iterator[str]:
    """Distinct lines that read like prose, in a fixed order: the standard library's files first, then packages'."""
    seen: set[str] = set()
    roots = [Path(sysconfig.get_paths()["stdlib"]), Path(sysconfig.get_paths()["purelib"])]
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            if path.stat().st_size > LONGEST_FILE_BYTES or (root == roots[0] and "site-packages" in path.parts):
                continue
            for raw in path.read_text(encoding="utf-8", errors="replace").splitlines():
                line = raw.strip().strip('"#* ')
                if len(line) >= FEWEST_LETTERS and line.count(" ") >= FEWEST_SPACES and line not in seen:
                    seen.add(line)
                    yield line


def cache_folder() -> Path:
    """SFM_EMBEDDINGS, or .local/embeddings of the checkout, or the system's temporary folder when that is read-only."""
    given = os.environ.get("SFM_EMBEDDINGS")
    folder = Path(given) if given else Path(__file__).parent.parent / ".local" / "embeddings"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / "sfm-embeddings"
        folder.mkdir(exist_ok=True)
    return folder


def embeddings(n: int) -> F32:
    """float32[n, 256] unit vectors of the first n lines, shuffled by a fixed seed; made once and kept by fingerprint.

    Raises ValueError when this installation has fewer lines.
    """
    lines = list(itertools.islice(prose_lines(), n))
    if len(lines) < n:
        raise ValueError(f"only {len(lines)} lines of prose are installed here, {n} were asked for")
    digest = hashlib.sha256("\n".join([version("wordllama"), sys.version, *lines]).encode())
    file = cache_folder() / f"wordllama-{DIM}-{n}-{digest.hexdigest()[:16]}.npy"
    if not file.exists():
        made = np.random.default_rng(0).permutation(_embed(lines))
        temporary = file.with_suffix(f".{os.getpid()}.npy")
        np.save(temporary, made)
        temporary.rename(file)
    found: F32 = np.load(file)
    return found


def _embed(lines: list[str]) -> F32:
    import wordllama  # noqa: PLC0415 - slow to import, and only needed when nothing is kept

    model = wordllama.WordLlama.load(dim=DIM, cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    parts = [model.embed(lines[at : at + 4096], norm=True) for at in range(0, len(lines), 4096)]
    unit, status = normalise(np.concatenate(parts).astype(np.float32), DIM)
    kept: F32 = unit[status == 0]
    if kept.shape[0] < len(lines):
        filler = np.random.default_rng(1).integers(0, kept.shape[0], len(lines) - kept.shape[0])
        kept = np.concatenate([kept, kept[filler]])
    return kept
