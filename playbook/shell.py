"""The only module that starts a program. Its error keeps argv, exit code, output, and a line that can be pasted.

Secrets reach a program by its standard input, by its environment or by a file that only this user reads; `conceal`
takes known secret values out of everything that is kept. An argument is never a secret: argv is visible to every
process.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from playbook.trouble import Trouble

KEPT_CHARS = 20_000
GRACE_S = 8.0

READS: tuple[tuple[str, ...], ...] = (
    ("kind", "get"),
    ("kind", "version"),
    ("docker", "--version"),
    ("docker", "version"),
    ("docker", "info"),
    ("docker", "inspect"),
    ("docker", "image", "inspect"),
    ("docker", "image", "ls"),
    ("docker", "ps"),
    ("docker", "volume", "ls"),
    ("docker", "compose", "version"),
    ("docker-compose", "version"),
    ("helm", "version"),
    ("helm", "template"),
    ("helm", "dependency", "build"),  # writes only to the copy of the chart in our cache
    ("helm", "list"),
    ("helm", "status"),
    ("helm", "history"),
    ("helm", "get"),
    ("kubectl", "version", "--client"),
    ("jq", "--version"),
)
"""The commands that change nothing: all that a `ReadShell` runs. `docker exec … crictl` has a rule of its own."""
NODE_READS = (("crictl", "images"), ("crictl", "inspecti"))
"""What is asked inside a node of kind."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A program that ended well."""

    argv: tuple[str, ...]
    stdout: str
    stderr: str
    duration_ms: int


class CommandFailed(Exception):
    """A program that ended otherwise: everything that is needed to see why, and to try it by hand."""

    def __init__(
        self, argv: Sequence[str], exit_code: int, stdout: str, stderr: str, *, timed_out: bool = False
    ) -> None:
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.timed_out = timed_out
        super().__init__(f"{self.line} {'timed out' if timed_out else f'ended with {exit_code}'}: {self.gist}")

    @property
    def line(self) -> str:
        """The command as it can be pasted into a terminal."""
        return shlex.join(self.argv)

    @property
    def told(self) -> str:
        """The command and what it said, for an error's reason."""
        return f"{self.line}\n{self.gist}"

    @property
    def gist(self) -> str:
        """The last lines that the program wrote about it."""
        lines = [line for line in (self.stderr or self.stdout).splitlines() if line.strip()]
        return " / ".join(lines[-4:])


class Shell:
    """Starts programs, one process group each, and ends them when the run is cancelled or out of time."""

    def __init__(self, *, env: Mapping[str, str] | None = None, cancelled: threading.Event | None = None) -> None:
        self.env = dict(env or {})
        self.cancelled = cancelled or threading.Event()
        self._above: tuple[threading.Event, ...] = ()
        self._secrets: list[str] = []

    def child(self) -> Shell:
        """A shell that can be cancelled alone, and is cancelled with this one."""
        made = Shell(env=self.env)
        made._above = (*self._above, self.cancelled)
        made._secrets = self._secrets
        return made

    def check_cancelled(self) -> None:
        """Raise KeyboardInterrupt when the run was cancelled: ^C itself can be lost inside a library's finalizer."""
        if self.cancelled.is_set() or any(event.is_set() for event in self._above):
            raise KeyboardInterrupt

    def conceal(self, secret: str) -> None:
        """Take `secret` out of whatever is kept from now on."""
        if len(secret) >= 4 and secret not in self._secrets:
            self._secrets.append(secret)

    def clean(self, text: str) -> str:
        """`text` without the known secrets, cut to its end when it is long."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text if len(text) <= KEPT_CHARS else "…" + text[-KEPT_CHARS:]

    def check_argv(self, argv: Sequence[str]) -> None:
        """Refuse a secret among the arguments."""
        if any(secret in argument for secret in self._secrets for argument in argv):
            raise ValueError(f"a secret would be visible in the arguments of {argv[0]}")

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        cwd: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Ran:
        """Run a program to its end; CommandFailed when it does not end with 0 in time.

        `env` is added to this process's environment and may hold secrets. `on_line` gets each line of stderr as it
        comes, already cleaned.
        """
        self.check_argv(argv)
        started = time.monotonic()
        try:
            process = subprocess.Popen(  # noqa: S603 - the argument list is built by the actions, never by a shell
                list(argv), stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd, start_new_session=True,
                env={**os.environ, **self.env, **(env or {})},
            )  # fmt: skip
        except FileNotFoundError as error:
            raise Trouble("SFM-TOOL-001", f"the program {argv[0]} is not installed or not on the PATH") from error
        except OSError as error:
            what = f"the program {argv[0]} cannot be started: {error.strerror}"
            raise Trouble("SFM-TOOL-007", what, next_step=f"which -a {argv[0]}") from error
        with process:
            out, err, timed_out = self._drain(process, stdin, started + timeout_s, on_line)
        stdout, stderr = self.clean(out), self.clean(err)
        if timed_out or process.returncode != 0:
            raise CommandFailed(argv, process.returncode, stdout, stderr, timed_out=timed_out)
        return Ran(tuple(argv), out, stderr, round((time.monotonic() - started) * 1000))

    def _drain(
        self,
        process: subprocess.Popen[bytes],
        stdin: bytes | None,
        deadline: float,
        on_line: Callable[[str], None] | None,
    ) -> tuple[str, str, bool]:
        """Feed and read the program until it ends, is cancelled, or is out of time."""
        out: list[bytes] = []
        err: list[bytes] = []

        def feed() -> None:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # type: ignore[union-attr]
                pipe.write(stdin or b"")

        def keep(stream: object, into: list[bytes], tell: Callable[[str], None] | None) -> None:
            for line in stream:  # type: ignore[attr-defined]
                into.append(line)
                if tell:
                    tell(self.clean(line.decode(errors="replace").rstrip()))

        threads = [
            threading.Thread(target=keep, args=(process.stdout, out, None), daemon=True),
            threading.Thread(target=keep, args=(process.stderr, err, on_line), daemon=True),
        ]
        if stdin is not None:
            threads.append(threading.Thread(target=feed, daemon=True))
        for thread in threads:
            thread.start()
        timed_out = False
        try:
            while process.poll() is None:
                self.check_cancelled()
                if time.monotonic() > deadline:
                    timed_out = True
                    end(process)
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=min(0.2, max(0.01, deadline - time.monotonic())))
        except BaseException:
            end(process)
            raise
        finally:
            for thread in threads:
                thread.join(timeout=GRACE_S)
        return b"".join(out).decode(errors="replace"), b"".join(err).decode(errors="replace"), timed_out


class ReadShell(Shell):
    """A shell that cannot change anything: it runs the commands of `READS` and nothing else."""

    def check_argv(self, argv: Sequence[str]) -> None:
        """Refuse every command that is not a known read."""
        super().check_argv(argv)
        asks_node = tuple(argv[:2]) == ("docker", "exec") and tuple(argv[3:5]) in NODE_READS
        if not asks_node and not any(tuple(argv[: len(read)]) == read for read in READS):
            raise PermissionError(f"a read-only run does not start {shlex.join(argv[:3])}")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the program's whole group to stop, and kill it when it does not."""
    for how, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=wait_s)
            return
