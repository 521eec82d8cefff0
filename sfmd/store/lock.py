"""One process per data directory: an flock on a file that names its holder.

The kernel drops the lock with the process, so a crash leaves nothing to clean up, and the pid inside is
information for people, never what decides.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sfmd.errors import E, Refused

LOCK_FILE = "lock"


class DirectoryLock:
    """Holds the exclusive lock from construction until `release`.

    Raises Refused(LOCKED), which names the other process, or Refused(STORE_DOWN) when the directory cannot be
    used.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Refused(E.STORE_DOWN, f"the data directory {folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise Refused(E.LOCKED, f"process {holder} has the data directory {folder} open") from error
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError as error:
            os.close(self._file)
            raise Refused(E.STORE_DOWN, f"the data directory {folder} cannot be written: {error.strerror}") from error

    def release(self) -> None:
        """Let the next process in. The pid stays behind: it says nothing once the lock is free."""
        os.close(self._file)
