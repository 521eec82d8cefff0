"""The embedded daemon as a process: started detached, found again, stopped. Never a signal to a foreign process.

A pid alone may belong to somebody else by the time it is used, so the process's start time is kept beside it and
compared before every signal. The daemon itself says in `daemon.json` where it listens. Starts of one data directory
come one after the other, and each removes only what names its own process.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STARTED = "started.json"
ANNOUNCED = "daemon.json"
LOG = "sfmd.log"
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """A process that we started: pid and what the system says of its start (`""`: it cannot be told)."""

    pid: int
    birth: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon listens and what is needed to talk to it, as it announced itself."""

    pid: int
    address: str
    http: str
    ca_file: str
    token_file: str
    version: str


def birth_of(pid: int) -> str:
    """When a process began, in the system's own words; empty when there is no such process (a zombie is none)."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] == "Z" else fields[19]
    ps = shutil.which("ps") or "/bin/ps"
    found = subprocess.run([ps, "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip()


def _read(path: Path) -> dict[str, Any]:
    """A JSON object of a state file; empty when there is none, or it was cut off."""
    try:
        body = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _taken(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Embedded:
    """The daemon of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.log = data_dir / LOG

    def process(self) -> Process | None:
        """The process that we started, if it is still that one and alive."""
        body = _read(self.data_dir / STARTED)
        pid, birth = body.get("pid"), body.get("birth")
        if not isinstance(pid, int) or not birth or birth_of(pid) != birth:
            return None
        return Process(pid, str(birth))

    def announced(self) -> Place | None:
        """Where the last daemon said that it listens; it may be gone without having taken its word back."""
        body = _read(self.data_dir / ANNOUNCED)
        try:
            return Place(**{name: body[name] for name in Place.__slots__})
        except KeyError:
            return None

    def place(self) -> Place | None:
        """Where the daemon says it listens, if the process that said it is alive."""
        found = self.announced()
        return found if found is not None and birth_of(found.pid) else None

    @contextmanager
    def alone(self, timeout_s: float) -> Iterator[bool]:
        """Keep other starts out meanwhile; False when another one kept us out for longer than `timeout_s`."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.data_dir, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield wait(lambda: _taken(folder), timeout_s)
        finally:
            os.close(folder)

    def spawn(self, arguments: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start `sfmd serve` in a session of its own, its words appended to the log, and note who it is."""
        if self.place() is None:
            (self.data_dir / ANNOUNCED).unlink(missing_ok=True)
        command = [sys.executable, "-m", "sfmd.main", "serve", "--data-dir", str(self.data_dir), *arguments]
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(env), start_new_session=True,
                cwd="/",
            )  # fmt: skip
        body = json.dumps({"pid": child.pid, "birth": birth_of(child.pid)})
        with os.fdopen(os.open(self.data_dir / STARTED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(body)
        return child

    def signal(self, process: Process, number: signal.Signals) -> bool:
        """Send a signal to exactly that process; False when it is gone already."""
        if birth_of(process.pid) != process.birth:
            return False
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def forget(self, pid: int) -> None:
        """Remove what that process left behind, and nothing that names another."""
        for name in (STARTED, ANNOUNCED):
            if _read(self.data_dir / name).get("pid") == pid:
                (self.data_dir / name).unlink(missing_ok=True)

    def last_lines(self, count: int) -> list[str]:
        """The end of the log, which the daemon begins anew from time to time."""
        lines = _tail(self.log, count)
        return [*_tail(self.log.with_suffix(".log.1"), count - len(lines)), *lines]

    def following(self) -> Iterator[bytes]:
        """What is written to the log from now on, for ever; empty where there is nothing new."""
        log = self.log.open("rb")
        log.seek(0, os.SEEK_END)
        while True:
            moved = _begun_anew(log.fileno(), self.log)
            yield log.read()  # to its end, also of one that was just replaced
            if moved:
                log.close()
                log = self.log.open("rb")


def _begun_anew(number: int, log: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(number), log.stat())
    except FileNotFoundError:  # between the old one and the new
        return False


def _tail(path: Path, count: int) -> list[str]:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 512 * max(count, 1) - 4096))
            return log.read().decode(errors="replace").splitlines()[-count:] if count > 0 else []
    except FileNotFoundError:
        return []


def wait(until: Callable[[], bool], timeout_s: float) -> bool:
    """Poll `until` for at most `timeout_s`; whether it came true."""
    end_s = time.monotonic() + timeout_s
    while not until():
        if time.monotonic() >= end_s:
            return False
        time.sleep(POLL_S)
    return True


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nothing listens on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
