"""The command line's own error codes. The daemon's are in `sfmd.errors`.

A code is stable for ever: numbers are never reused. docs/troubleshooting.md has a section for each.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfmctl.exits import Exit
from sfmctl.fault import Fault


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of the catalogue: what it means, what to type next, and the exit code it leaves with."""

    code: str
    title: str
    next_step: str
    exit: Exit
    late: Exit | None = None
    """The other exit code, where the same fault may also be that the time was over."""

    def fault(self, what: str = "", *, why: str = "", next_step: str = "") -> Fault:
        """The fault to raise: this entry's words unless the place that raises it knows better ones."""
        return Fault(self.code, what or self.title, why=why, next_step=next_step or self.next_step, exit_=self.exit)

    def late_fault(self, what: str = "", *, why: str = "", next_step: str = "") -> Fault:
        """The same fault where it is that the time was over."""
        made = self.fault(what, why=why, next_step=next_step)
        made.exit = self.late or self.exit
        return made


class C:
    """The catalogue."""

    BUG = Code("SFM-CLI-001", "a bug in sfmctl", "report it with the crash log", Exit.BUG)
    USAGE = Code("SFM-CLI-002", "the command line cannot be understood", "sfmctl --help", Exit.USAGE)
    INPUT = Code("SFM-CLI-003", "an input file or standard input cannot be read as what it should be",
                 "correct the line or file that the message names", Exit.USAGE)  # fmt: skip
    PROFILE = Code("SFM-CLI-004", "the profile file cannot be used", "sfmctl daemon start writes a good one",
                   Exit.USAGE)  # fmt: skip
    EXTRA = Code("SFM-CLI-005", "a part of the program is not installed",
                 "pip install 'soma-fractal-memory[client]'", Exit.USAGE)  # fmt: skip
    CONFIRM = Code("SFM-CLI-006", "the command needs a yes and there is no terminal to ask at", "add --yes",
                   Exit.USAGE)  # fmt: skip
    OUTPUT = Code("SFM-CLI-007", "a result cannot be written", "give a path that can be written", Exit.USAGE)
    NOT_UP = Code("SFM-CLI-008", "the daemon did not come up", "sfmctl daemon logs", Exit.UNDETERMINED,
                  late=Exit.TIMED_OUT)  # fmt: skip
    NOT_DOWN = Code("SFM-CLI-009", "the daemon did not stop in time",
                    "sfmctl daemon logs, then stop it again with --kill", Exit.TIMED_OUT)  # fmt: skip
    NOT_RUNNING = Code("SFM-CLI-010", "no daemon runs for this data directory", "sfmctl daemon start",
                       Exit.UNDETERMINED)  # fmt: skip
    OVERALL_TIMEOUT = Code("SFM-CLI-011", "the time for the whole command is over", "give a longer --timeout",
                           Exit.TIMED_OUT)  # fmt: skip
    NOT_THE_DEMOS = Code("SFM-CLI-012", "the namespace holds memories that the demo did not make",
                         "sfmctl memory demo -n NAME, where NAME is new", Exit.REFUSED)  # fmt: skip


CATALOGUE: dict[str, Code] = {c.code: c for c in vars(C).values() if isinstance(c, Code)}
