"""A program on a real pseudo-terminal, and the screen that a person would see of it, kept by a terminal emulator.

^C is the key, not a signal that we send: the terminal turns it into SIGINT for whoever is in the foreground.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import pyte

INTERRUPT = "\x03"
LOOK_S = 0.05


class Terminal(AbstractContextManager["Terminal"]):
    """Runs `argv` in the foreground of a terminal of its own while the block runs."""

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], columns: int = 110, lines: int = 50
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self.raw = bytearray()
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.settings_before = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            list(argv), cwd=cwd, env={**env, "TERM": "xterm-256color"}, stdin=self._slave, stdout=self._slave,
            stderr=self._slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no other thread runs yet
        )  # fmt: skip
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            ready, _, _ = select.select([self._master], [], [], 0.2)
            if ready:
                with contextlib.suppress(OSError), self._lock:
                    data = os.read(self._master, 65536)
                    self.raw += data
                    self._stream.feed(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._ended.set()
        self._reader.join(timeout=5)
        os.close(self._master)
        os.close(self._slave)

    @property
    def shown(self) -> list[str]:
        """The lines on the screen now, without the blanks at their ends."""
        with self._lock:
            return [line.rstrip() for line in self.screen.display]

    @property
    def scrolled(self) -> int:
        """How many lines have gone off the top."""
        with self._lock:
            return len(self.screen.history.top)

    @property
    def cursor_is_shown(self) -> bool:
        """Whether the cursor is there for whoever types next."""
        with self._lock:
            return not self.screen.cursor.hidden

    @property
    def settings(self) -> list[object]:
        """How the terminal treats keys (echo, lines, ^C)."""
        return list(termios.tcgetattr(self._slave))

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def until(self, there: Callable[[list[str]], bool], timeout_s: float = 60) -> list[str]:
        """The first screen on which `there` holds; an error with the last screen when it does not come."""
        deadline = time.monotonic() + timeout_s
        while not there(seen := self.shown):
            if time.monotonic() > deadline:
                raise TimeoutError("\n".join(seen))
            time.sleep(LOOK_S)
        return seen

    def end(self, timeout_s: float = 60) -> int:
        """Wait until the program has ended and its last words are on the screen; its exit code."""
        code = self.process.wait(timeout=timeout_s)
        before = -1
        while before != len(self.raw):
            before = len(self.raw)
            time.sleep(4 * LOOK_S)
        return code

    def __enter__(self) -> Self:
        return self
