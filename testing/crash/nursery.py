"""Runs drivers that are killed: starts them quickly, hears them out, and ends everything it started."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType


class Nursery:
    """Forks store drivers from one loaded process. `lines` has what the current child said; None is the end."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "testing.crash.store_driver", "--serve"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._heard: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(line)
        self._heard.put("dead\n")

    def run(self, folder: Path, round_: int, writers: int, *, acks: int) -> list[str]:
        """Start a child, SIGKILL it once it told so many acknowledgements, and return all that it said."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{folder} {round_} {writers}\n")
        self._process.stdin.flush()
        said: list[str] = []
        pid, heard_acks, killed = 0, 0, False
        while True:
            line = self._heard.get(timeout=60)
            if line.startswith("pid"):
                pid = int(line.split()[1])
            elif line.startswith("dead"):
                return said
            else:
                said.append(line)
                heard_acks += line.startswith("ack")
            if pid and heard_acks >= acks and not killed:
                os.kill(pid, signal.SIGKILL)
                killed = True

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
