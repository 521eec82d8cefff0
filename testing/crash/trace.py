"""What a process did to its files, by strace: for injecting failing syncs and for simulating a power cut.

A power cut keeps what was synced and may keep or drop, sector by sector, what was written since. `Disk` replays a trace
up to any point and gives the files as such a cut would leave them. Deletions and directory entries count as durable at
once, which is why traces are taken over files that exist beforehand.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SECTOR = 4096
SYNCS = "fsync,fdatasync"
_CALL = re.compile(r"^(\d+)\s+(\w+)\((\d+)<([^>]*)>(?:, (.*?))?(?:\)\s+= (-?\d+).*| <unfinished \.\.\.>)$")
_RESUMED = re.compile(r"^(\d+)\s+<\.\.\. (\w+) resumed>.*\)\s+= (-?\d+).*$")


def strace() -> str:
    """The program. Skips the test, with the mending command, where it is missing."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip(
            "NOT PROVED HERE: what an acknowledgement is worth in a power cut needs strace (apt-get install strace)"
        )
    return found


@dataclass(frozen=True, slots=True)
class Event:
    """One finished call in order: a write of `data` at `offset`, a truncation to `offset`, a sync, or a line said."""

    kind: str  # "write", "truncate", "sync", "said"
    path: str
    offset: int = 0
    data: bytes = b""


def traced(folder: Path, log: Path, *arguments: str) -> None:
    """Run a store driver over `folder` to its end under strace, every write and sync recorded in `log`."""
    calls = f"trace=write,pwrite64,ftruncate,{SYNCS}"
    command = [strace(), "-f", "-y", "-xx", "-s", "1000000", "-e", calls, "-o", str(log)]
    driver = [sys.executable, "-m", "testing.crash.store_driver", str(folder), *arguments]
    subprocess.run([*command, *driver], check=True, stdout=subprocess.DEVNULL, timeout=240)


def events(log: Path) -> Iterator[Event]:
    """The calls of a trace that succeeded. A write counts from its start, a sync from its end: the careful reading."""
    waiting: dict[str, Event] = {}
    with log.open() as lines:
        for line in lines:
            if resumed := _RESUMED.match(line):
                event = waiting.pop(resumed[1], None)
                if event is not None and resumed[3] != "-1":
                    yield event
            elif call := _CALL.match(line):
                event = _event(call[2], call[3], call[4], call[5] or "")
                if call[6] is None and event.kind == "sync":
                    waiting[call[1]] = event
                elif call[6] != "-1":
                    yield event


def _event(name: str, descriptor: str, path: str, arguments: str) -> Event:
    path = bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path
    if name in ("fsync", "fdatasync"):
        return Event("sync", path)
    if name == "ftruncate":
        return Event("truncate", path, int(arguments, 0))
    quoted, _, rest = arguments.rpartition('"')
    data = bytes.fromhex(quoted.lstrip('"').replace("\\x", ""))
    if name == "write":
        return Event("said" if descriptor == "1" else "other", path, 0, data)
    return Event("write", path, int(rest.split(",")[2], 0), data)


@dataclass(slots=True)
class _File:
    now: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)

    def write(self, offset: int, data: bytes) -> None:
        if len(self.now) < offset:
            self.now.extend(bytes(offset - len(self.now)))
        self.now[offset : offset + len(data)] = data

    def cut(self, rng: random.Random | None) -> bytes:
        """What is left after a power cut: what was synced and, with `rng`, about half of the sectors written since."""
        if rng is None:
            return bytes(self.synced)
        size = len(self.now) if rng.random() < 0.5 else len(self.synced)
        left = self.synced[:size].ljust(size, b"\0")
        for start in range(0, min(size, len(self.now)), SECTOR):
            if rng.random() < 0.5:
                part = self.now[start : start + SECTOR][: size - start]
                left[start : start + len(part)] = part
        return bytes(left)


class Disk:
    """The files of a folder, from a copy of how they were before the trace."""

    def __init__(self, before: Path) -> None:
        self._files: dict[str, _File] = {}
        for path in before.iterdir():
            content = path.read_bytes()
            self._files[path.name] = _File(bytearray(content), bytearray(content))

    def see(self, event: Event) -> None:
        """Take one event of the trace."""
        file = self._files.setdefault(Path(event.path).name, _File())
        if event.kind == "write":
            file.write(event.offset, event.data)
        elif event.kind == "truncate":
            del file.now[event.offset :]
        elif event.kind == "sync":
            file.synced = bytearray(file.now)

    def cut(self, folder: Path, names: tuple[str, ...], rng: random.Random | None) -> None:
        """Write these files as a power cut now would leave them into the new directory `folder`."""
        folder.mkdir()
        for name in names:
            if name in self._files:
                (folder / name).write_bytes(self._files[name].cut(rng))
