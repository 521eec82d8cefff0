"""Backups of the embedded store: taken while the daemon serves, verified before they count, restored only
whole.

A backup is a directory: the database and a manifest with its digest. It appears under its name only when it
is complete and verified; a restore likewise. Only copies are read as files here: opening and closing a live
database's file would drop the locks that SQLite holds on it in this process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw

from sfmd.errors import E, Refused
from sfmd.store.check import check_file
from sfmd.store.database import Link
from sfmd.store.lock import LOCK_FILE, DirectoryLock
from sfmd.store.schema import REVISION
from sfmd.store.sqlite import FILE, SqliteDatabase, SqliteLink, store_file, sync_directory

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds: its format, the digest and size of the database, its schema, and the log's end."""

    format: int
    sha256: str
    size_bytes: int
    revision: str
    last_seq: int
    made_at_s: float


def backup(folder: str | Path, target: str | Path, link: Link | None = None) -> Manifest:
    """Copy the store in the data directory `folder` into the new directory `target`, also while a daemon
    serves it.

    The copy is one snapshot, taken by SQLite's backup API over a reading connection, then checked whole: page
    structure, every payload's digest, log against state. `link` is a connection to read from instead of a new
    one. Raises Refused(CONFIG) when `target` exists, Refused(CORRUPT) when the copy does not verify,
    Refused(STORE_DOWN) when it cannot be made.
    """
    source, wanted = store_file(folder), Path(target)
    if wanted.exists():
        raise Refused(E.CONFIG, f"{wanted} exists; a backup goes into a new directory",
                      next_step="sfmd backup DIR with a DIR that is not there yet")  # fmt: skip
    with _arriving(wanted) as partial:
        _copy(source, partial / FILE, link)
        last_seq = _verified(partial / FILE)
        manifest = Manifest(
            format=FORMAT,
            sha256=_digest(partial / FILE),
            size_bytes=(partial / FILE).stat().st_size,
            revision=REVISION,
            last_seq=last_seq,
            made_at_s=time.time(),
        )
        _write_synced(partial / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
    return manifest


def restore(target: str | Path, folder: str | Path) -> Manifest:
    """Put the backup in the directory `target` into the empty (or absent) data directory `folder`.

    Verified before anything appears under its final name. Raises Refused(CONFIG) when `folder` is not empty
    or `target` is no backup, Refused(LOCKED) while a daemon has the directory, Refused(CORRUPT) when the
    backup does not verify.
    """
    source, wanted = Path(target), Path(folder)
    manifest = _manifest(source)
    lock = DirectoryLock(wanted)
    try:
        held = sorted(p.name for p in wanted.iterdir() if p.name != LOCK_FILE)
        if held:
            raise Refused(E.CONFIG, f"{wanted} is not empty ({', '.join(held[:3])}); restore into a new directory",
                          next_step="sfmd restore SOURCE --data-dir NEW, then start the daemon on NEW")  # fmt: skip
        partial = wanted / f"{FILE}.partial"
        try:
            _copy_file(source / FILE, partial)
            if _digest(partial) != manifest.sha256:
                raise Refused(E.CORRUPT, f"{source / FILE} is not what its manifest describes")
            _verified(partial)
            partial.replace(wanted / FILE)
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(wanted)
    except OSError as error:
        raise Refused(E.STORE_DOWN, f"restoring into {wanted} failed: {error.strerror}") from error
    finally:
        lock.release()
    return manifest


def _manifest(source: Path) -> Manifest:
    try:
        manifest = Manifest(**json.loads((source / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise Refused(E.CONFIG, f"{source} is no backup: its {MANIFEST} cannot be read",
                      next_step="name a directory that sfmd backup made") from error  # fmt: skip
    if manifest.format != FORMAT or manifest.revision > REVISION:
        raise Refused(E.SCHEMA, f"{source} was made by a newer sfmd (schema {manifest.revision})")
    return manifest


@contextmanager
def _arriving(wanted: Path) -> Iterator[Path]:
    """A directory that gets its name only when all in it is on disk; otherwise it is gone."""
    partial = wanted.with_name(wanted.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        yield partial
        sync_directory(partial)
        partial.rename(wanted)
        sync_directory(wanted.parent)
    except OSError as error:
        raise Refused(E.STORE_DOWN, f"writing {wanted} failed: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy(source: Path, copy: Path, link: Link | None) -> None:
    database = SqliteDatabase(source.parent)
    try:
        given = link.raw if isinstance(link, SqliteLink) else None
        reader = given or apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
        writer = apsw.Connection(str(copy))
        try:
            reader.set_busy_timeout(10_000)
            with writer.backup("main", reader, "main") as copying:
                while not copying.done:
                    copying.step(-1)  # all of it in one step: one snapshot, which later writes cannot restart
            writer.execute("PRAGMA journal_mode=DELETE")  # one file; a restore turns the WAL on again
        finally:
            writer.close()
            if given is None:
                reader.close()
    except apsw.Error as error:
        raise database.failure(error).refusal from error
    copy.chmod(0o600)
    descriptor = os.open(copy, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _verified(path: Path) -> int:
    """The last seq of a copy without problems."""
    report = check_file(path)
    if report.problems:
        raise Refused(E.CORRUPT, f"the copy does not verify: {report.problems[0]}")
    return report.last_seq


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("xb") as write:
        target.chmod(0o600)
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
