"""A command line typed into a real terminal, with a person's answers to what it asks.

For tests of what only happens on a terminal: confirmations, hidden prompts, screens that are drawn over.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Typed:
    """How it ended and all that stood on the screen."""

    code: int
    screen: str
    took_s: float


def typed(
    line: str, *, env: Mapping[str, str], cwd: Path, answers: Sequence[tuple[str, str]] = (), timeout_s: float = 300
) -> Typed:
    """Run one line by a shell on a terminal of its own; each (prompt, answer) is given once, in their order.

    TimeoutError, with the screen so far, when it does not end in time; it is killed then.
    """
    started = time.monotonic()
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", "bash", "-c", line], stdin=slave, stdout=slave, stderr=slave, env=dict(env),
        cwd=cwd, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    waiting = list(answers)
    seen = unanswered = b""
    try:
        while chunk := read(master, started + timeout_s):
            seen += chunk
            unanswered += chunk
            asked = next((one for one in waiting if one[0].encode() in unanswered), None)
            if asked:
                os.write(master, asked[1].encode() + b"\n")
                waiting.remove(asked)
                unanswered = b""
        code = process.wait(timeout=10)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.kill()
        process.wait()
        raise TimeoutError(f"{line!r} did not end:\n{seen.decode(errors='replace')}") from error
    finally:
        os.close(master)
    return Typed(code, seen.decode(errors="replace"), time.monotonic() - started)


def read(master: int, deadline: float) -> bytes:
    """What comes next; empty when the other side has closed the terminal."""
    ready, _, _ = select.select([master], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        raise TimeoutError
    try:
        return os.read(master, 65536)
    except OSError:  # Linux' way to say that nobody has it open any more
        return b""
