"""The programs on this machine: their versions, compared as numbers. Looked at only; installing is for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playbook.check import Probe, Verdicts
from playbook.model import Status, Tool
from playbook.shell import CommandFailed, Shell
from playbook.trouble import Trouble


def number(version: str) -> tuple[int, ...]:
    """`v1.28.3-rc.1` as (1, 28, 3): versions compare as numbers, never as text."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def at_least(version: str, minimum: str) -> bool:
    """Whether `version` is not older than `minimum`; a missing part counts as 0."""
    have, want = number(version), number(minimum)
    width = max(len(have), len(want))
    return bool(have) and have + (0,) * (width - len(have)) >= want + (0,) * (width - len(want))


@dataclass(frozen=True, slots=True)
class Measured:
    """One program and the version that answered; empty when it is not there."""

    tool: Tool
    found: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is there and new enough."""
        return bool(self.found) and at_least(self.found, self.tool.minimum)


def measured(shell: Shell, tool: Tool) -> Measured:
    """Ask one program for its version."""
    try:
        ran = shell.run(tool.argv, timeout_s=10)
    except Trouble as trouble:
        return Measured(tool, "", trouble.what)
    except CommandFailed as failed:
        return Measured(tool, "", failed.gist or str(failed))
    match = re.search(tool.pattern, ran.stdout + ran.stderr)
    return Measured(tool, match[1] if match else "", "" if match else "it does not say its version")


def probe(probe: Probe, params: Mapping[str, Any]) -> Verdicts:
    """The check of one program."""
    tool = next(t for t in probe.book.tools if t.name == params["tool"])
    seen = measured(probe.shell, tool)
    if seen.ok:
        return Status.PASS, seen.found
    status = Status.FAIL if tool.required else Status.WARN
    observed = f"{seen.found} is older than {tool.minimum}" if seen.found else seen.problem
    return status, observed, "SFM-TOOL-002" if seen.found else "SFM-TOOL-001", tool.install
