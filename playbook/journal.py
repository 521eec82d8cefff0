"""What a run did, one JSON line each, written through to disk before the next step: the record that ^C leaves behind.

Resuming does not trust it: the next run looks at the world again, and a step whose facts hold is not repeated. The
journal says what was under way, so that a half-made cluster is known to be ours, and for people to read. It holds names
and durations, never a secret value.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from playbook.trouble import Trouble, writing

KEPT_RUNS = 50


@dataclass(slots=True)
class Journal:
    """One run's file."""

    path: Path
    _out: IO[str]

    def write(self, event: str, **fields: Any) -> None:
        """Append one record and sync it."""
        entry = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
        self._out.write(json.dumps(entry, sort_keys=True, default=str) + "\n")
        self._out.flush()
        os.fsync(self._out.fileno())


def folder(state: Path, context: str) -> Path:
    """The journals of one context."""
    return state / "runs" / "".join(c if c.isalnum() or c in "-_." else "_" for c in context)


@contextmanager
def opened(state: Path, context: str, play: str) -> Iterator[Journal]:
    """A new journal, under the lock that lets only one run change a target at a time."""
    directory = folder(state, context)
    with writing(directory, "XDG_STATE_HOME"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = (directory / "lock").open("a+")
    with held as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise Trouble("SFM-CLI-024", f"another run changes {context} right now ({lock.read().strip()})") from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, {play}")
        lock.flush()
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}-{play}.jsonl"
        fd = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as out:
            yield Journal(directory / name, out)
    for old in sorted(directory.glob("*.jsonl"))[:-KEPT_RUNS]:
        old.unlink(missing_ok=True)


def last(state: Path, context: str) -> list[dict[str, Any]]:
    """The records of the newest run on `context`; a line cut off by a crash is left out."""
    runs = sorted(folder(state, context).glob("*.jsonl"))
    found = []
    for line in runs[-1].read_text(encoding="utf-8").splitlines() if runs else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def unfinished(records: list[dict[str, Any]]) -> str:
    """The step at which a run stopped before its end; empty when it ended."""
    if not records or records[-1].get("event") == "finished":
        return ""
    steps = [r["step"] for r in records if r.get("event") in ("started", "interrupted", "failed") and "step" in r]
    return str(steps[-1]) if steps else ""
