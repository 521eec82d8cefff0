"""A real `sfmd` process on free ports: start, wait until it serves, reach it, stop or kill it, start it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sfmd.rpc.profile import Profile

START_S = 60.0
STOP_S = 30.0


class DaemonProcess:
    """One data directory and at most one process on it. Its log is `daemon.log` beside the data."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None, wrap: Sequence[str] = ()) -> None:
        """`settings`: SOMA_… variables; `wrap`: a command to run the daemon under, e.g. strace."""
        self.data_dir = folder / "data"
        self.log = folder / "daemon.log"
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(("SOMA_", "SFM_"))}
        self._env |= {"SOMA_DATA_DIR": str(self.data_dir), "SOMA_GRPC__PORT": "0", "SOMA_HTTP__PORT": "0"}
        self._env |= dict(settings or {})
        self._wrap = tuple(wrap)
        self._process: subprocess.Popen[bytes] | None = None
        self._running: dict[str, str] = {}

    def start(self) -> DaemonProcess:
        """Start and return once /readyz says so. Raises RuntimeError with the log's end when it does not."""
        return self.spawn().until_ready()

    def until_ready(self) -> DaemonProcess:
        """Return once /readyz says so."""
        self._until(lambda: self.http("/readyz")[0] == 200)
        return self

    def spawn(self) -> DaemonProcess:
        """Start and return as soon as it takes calls over gRPC. Raises as `start` does."""
        said = self.data_dir / "daemon.json"
        said.unlink(missing_ok=True)
        with self.log.open("ab") as out:
            self._process = subprocess.Popen([*self._wrap, sys.executable, "-m", "sfmd.main", "serve"], stdout=out,
                                             stderr=out, env=self._env)  # fmt: skip
        self._until(said.exists)
        self._running = json.loads(said.read_text())
        return self

    def _until(self, so: Callable[[], bool]) -> None:
        end_s = time.monotonic() + START_S
        while not so():
            if not self.alive or time.monotonic() > end_s:
                raise RuntimeError(f"sfmd did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        """The daemon's own pid, also under a wrapper."""
        return int(self._running["pid"])

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def profile(self, token_file: str = "") -> Profile:
        """How to reach it, with the owner's token unless another is given."""
        return Profile(address=self._running["address"], ca_file=self._running["ca_file"],
                       token_file=token_file or self._running["token_file"])  # fmt: skip

    def http(self, path: str) -> tuple[int, bytes]:
        """Status and body of the auxiliary port; status 0 when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://{self._running['http']}{path}", timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def stop(self) -> int:
        """SIGTERM, wait, and return the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL, wait, and return the exit code."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self.alive:
            os.kill(self.pid, number)
        code = self._process.wait(STOP_S)
        self._process = None
        return code


@contextmanager
def daemon(folder: Path, **how: Mapping[str, str] | Sequence[str]) -> Iterator[DaemonProcess]:
    """A running daemon, stopped at the end of the block (killed when it does not stop)."""
    process = DaemonProcess(folder, **how)  # type: ignore[arg-type]
    try:
        yield process.start()
    finally:
        if process.alive:
            try:
                process.stop()
            except subprocess.TimeoutExpired:
                process.kill()
