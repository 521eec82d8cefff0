"""Give the space that a store no longer uses back to the file system, while no daemon runs."""

from __future__ import annotations

from pathlib import Path

import apsw

from sfmd.store.lock import DirectoryLock
from sfmd.store.sqlite import SqliteDatabase


def shrink(folder: Path) -> int:
    """Rewrite the database file without its free pages; returns by how many bytes it shrank. Needs as much free space
    as the file has bytes in use. Raises Refused: LOCKED, STORE_DOWN."""
    lock = DirectoryLock(folder)
    try:
        database = SqliteDatabase(folder)
        before = database.path.stat().st_size
        link = database.writer()
        try:
            link.raw.execute("VACUUM")
            link.raw.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except database.errors as error:
            raise database.failure(error).refusal from error
        finally:
            link.close()
        return max(0, before - database.path.stat().st_size)
    finally:
        lock.release()
