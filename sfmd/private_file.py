"""Files that hold secrets or decide who gets in: replaced as a whole, mode 0600, on disk before they are visible."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_private(path: Path, body: bytes) -> None:
    """Replace a file as a whole, mode 0600, on disk before it is visible."""
    fd, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as out:
            os.fchmod(out.fileno(), 0o600)
            out.write(body)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
