"""Daemons that are killed: a process with everything loaded forks one per start, so that a hundred restarts fit a test.

Each child runs `sfmd.daemon.run`, what `sfmd serve` runs, on a data directory and free ports.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType

from sfmd.rpc.profile import Profile

START_S = 60.0


def nurse() -> None:
    """Fork a daemon for each data directory read from stdin, and tell its end."""
    from sfmd.config import load  # noqa: PLC0415 - loaded in the nursery, not in the test
    from sfmd.daemon import run  # noqa: PLC0415

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(load(data_dir=Path(line.strip()), grpc={"port": 0}, http={"port": 0}, log={"level": "warning"}))
            os._exit(0)
        os.write(1, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


class DaemonNursery:
    """At most one daemon at a time on one data directory."""

    def __init__(self, data_dir: Path, log: Path) -> None:
        self._data_dir, self._log = data_dir, log
        command = [sys.executable, "-c", "from testing.crash.daemon_nursery import nurse; nurse()"]
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._pid = 0

    def start(self) -> Profile:
        """Start a daemon and return how to reach it once it is ready."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = self._data_dir / "daemon.json"
        said.unlink(missing_ok=True)
        self._process.stdin.write(f"{self._data_dir}\n")
        self._process.stdin.flush()
        self._pid = int(self._process.stdout.readline())
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s:
            if said.exists():
                running = json.loads(said.read_text())
                if running["pid"] == self._pid and _ready(running["http"]):
                    return Profile(running["address"], running["ca_file"], running["token_file"])
            time.sleep(0.005)
        raise RuntimeError(f"the daemon did not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> int:
        """SIGKILL the daemon and return its exit code."""
        return self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM the daemon and return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self._process.stdout is not None
        os.kill(self._pid, number)
        self._pid = 0
        return int(self._process.stdout.readline().removeprefix("ended "))

    def __enter__(self) -> DaemonNursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._pid:
            self.kill()
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=10) as answer:
            return int(answer.status) == 200
    except OSError:
        return False
