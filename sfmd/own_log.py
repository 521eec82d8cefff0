"""Bounds the log of a daemon whose stderr is a file of its data directory, as `sfmctl daemon start` has it.

Any other stderr (a terminal, a container's pipe, a supervisor's file) is somebody else's to keep small.
"""

from __future__ import annotations

import os
from pathlib import Path

LOG = "sfmd.log"
LOG_BYTES = 8 * 2**20


def bound(data_dir: Path, most_bytes: int = LOG_BYTES) -> bool:
    """Begin a new log when this one is over the bound, the old one kept as `sfmd.log.1`; whether that was done.

    No line is lost: what is written meanwhile, by C code too, goes to the one file or the other. Raises OSError.
    """
    path = data_dir / LOG
    if not _same(2, path) or os.fstat(2).st_size <= most_bytes:
        return False
    outputs = [number for number in (1, 2) if _same(number, path)]
    draft = path.with_suffix(".log.new")
    fresh = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        path.replace(path.with_suffix(".log.1"))
        draft.replace(path)
        for number in outputs:
            os.dup2(fresh, number)
    finally:
        os.close(fresh)
    return True


def _same(number: int, path: Path) -> bool:
    """Whether a descriptor is that file."""
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except OSError:
        return False
