"""Result files of the memory verbs: they hold other people's words, so they are 0600, and appear only when complete."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sfmctl.codes import C


@contextmanager
def target(file: str) -> Iterator[IO[bytes]]:
    """The file to write: standard output for `-`, or a draft beside `file` that replaces it once all is written.

    Raises an output fault where that cannot be done.
    """
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            with path.open("wb") as out:  # a pipe or device cannot be replaced
                yield out
            return
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise C.OUTPUT.fault(f"{file} cannot be written", why=error.strerror or str(error)) from error
    draft = Path(name)
    try:
        with os.fdopen(fd, "wb") as out:
            yield out
        draft.replace(path)
    except OSError as error:
        raise C.OUTPUT.fault(f"{file} cannot be written", why=error.strerror or str(error)) from error
    finally:
        draft.unlink(missing_ok=True)
