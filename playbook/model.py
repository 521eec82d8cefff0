"""The playbook's nouns, all frozen: what is written in the book, what is observed, what will be done, what came out.

Nothing here touches the world, so plans and renderings are tested from recorded data. The field names of `Check` are a
contract: every renderer (table, short, JSON, JUnit) shows the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Facts = Mapping[str, "Fact"]


class Status(StrEnum):
    """How a check came out. `error` means that it could not be determined."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Code:
    """One stable code: what it means, why it happens, the command that mends it, and the exit code it leads to.

    `elsewhere` mends it on a cluster that is not a kind cluster of ours, where another command does.
    """

    code: str
    title: str
    why: str
    mend: str
    exit: int
    elsewhere: str = ""

    @property
    def doc(self) -> str:
        """The section of docs/troubleshooting.md, by the anchor that Markdown renderers make of its heading."""
        heading = f"{self.code} — {self.title}".lower()
        kept = "".join(c for c in heading if c.isalnum() or c in " -_")
        return "docs/troubleshooting.md#" + kept.replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one fact: `is`, `in`, `not` or `empty`."""

    fact: str
    op: str
    value: Any

    def holds(self, seen: Any) -> bool:
        """Whether the observed value `seen` satisfies it."""
        match self.op:
            case "is":
                return bool(seen == self.value)
            case "not":
                return bool(seen != self.value)
            case "in":
                return seen in self.value
            case "empty":
                return (not seen) is bool(self.value)
        raise ValueError(f"unknown condition operator {self.op!r}")

    def __str__(self) -> str:
        return f"{self.fact} {self.op} {self.value}"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: an action with its parameters, and the facts that say it need not be done (again).

    `leaves` names facts whose words are about what the step does not change and people should know.
    """

    id: str
    section: str
    title: str
    needs: tuple[str, ...]
    action: str
    params: Mapping[str, Any]
    done_when: tuple[Condition, ...]
    only_when: tuple[Condition, ...]
    timeout_s: float
    hint: str
    destructive: bool
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One check as the book has it; `needs` are the checks without which it cannot be asked."""

    id: str
    category: str
    title: str
    probe: str
    params: Mapping[str, Any]
    command: str
    criterion: str
    needs: tuple[str, ...]
    hint: str
    timeout_s: float
    attempts: int
    only_when: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One check's result: the only record that results are rendered from."""

    id: str
    category: str
    title: str
    command: str
    criterion: str
    status: Status
    observed: str
    hint: str
    doc: str
    duration_ms: int
    attempts: int

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON has it."""
        return {
            "id": self.id,
            "category": self.category,
            "title": self.title,
            "command": self.command,
            "criterion": self.criterion,
            "status": self.status.value,
            "observed": self.observed,
            "hint": self.hint,
            "doc": self.doc,
            "duration_ms": self.duration_ms,
            "attempts": self.attempts,
        }


@dataclass(frozen=True, slots=True)
class Fact:
    """One observation. `known` is false when it could not be made; then `code` and `why` say what stood in the way."""

    id: str
    value: Any = None
    known: bool = True
    code: str = ""
    why: str = ""


class Verdict(StrEnum):
    """What a plan says about a step."""

    DO = "do"
    DONE = "done"
    LATER = "later"  # the facts cannot be known before an earlier step is through; looked at again just before it
    SKIP = "skip"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of a plan, its verdict, and why; `left` is what is not as it should be and stays so."""

    step: Step
    verdict: Verdict
    why: str
    code: str = ""
    left: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered steps of one play against one target, as observed at one moment."""

    play: str
    target: str
    cluster_uid: str
    items: tuple[Planned, ...]

    @property
    def pending(self) -> tuple[Planned, ...]:
        """The steps that would run."""
        return tuple(item for item in self.items if item.verdict in (Verdict.DO, Verdict.LATER))

    @property
    def refusals(self) -> tuple[Planned, ...]:
        """The steps that must not run as things stand; a plan with any is not applied."""
        return tuple(item for item in self.items if item.verdict is Verdict.REFUSED)

    @property
    def destructive(self) -> bool:
        """Whether anything that would run takes something away."""
        return any(item.step.destructive for item in self.pending)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON has it; it names things, never secret values."""
        return {
            "play": self.play,
            "target": self.target,
            "clusterUid": self.cluster_uid,
            "changes": len(self.pending),
            "steps": [
                {
                    "id": item.step.id,
                    "section": item.step.section,
                    "title": item.step.title,
                    "verdict": item.verdict.value,
                    "why": item.why,
                    "destructive": item.step.destructive,
                    **({"code": item.code} if item.code else {}),
                }
                for item in self.items
            ],
        }


class Result(StrEnum):
    """How one step of an applied plan came out."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one step."""

    step: str
    title: str
    result: Result
    detail: str
    duration_ms: int
    code: str = ""
    next_step: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON and the journal have it."""
        return {
            "id": self.step,
            "title": self.title,
            "result": self.result.value,
            "detail": self.detail,
            "duration_ms": self.duration_ms,
            **({"code": self.code, "next": self.next_step} if self.code else {}),
        }


@dataclass(frozen=True, slots=True)
class Tool:
    """One program that has to be there: its smallest version, how to ask for it, how to install it."""

    name: str
    minimum: str
    required: bool
    argv: tuple[str, ...]
    pattern: str
    why: str
    install: str
    only_kind: bool = False  # without it a cluster that is no kind cluster of ours can be served


@dataclass(frozen=True, slots=True)
class Image:
    """One image that the charts run: where it comes from, why, and in which modes."""

    ref: str
    why: str
    source: str
    modes: tuple[str, ...]
    context: str = ""
    dockerfile: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    @property
    def repository(self) -> str:
        """The name without its tag, by which an own image is recognised under another tag."""
        name = self.ref.split("@", 1)[0]
        head, _, last = name.rpartition("/")
        return (head + "/" if head else "") + last.split(":", 1)[0]


@dataclass(frozen=True, slots=True)
class Book:
    """The whole playbook, validated."""

    steps: Mapping[str, Step]
    plays: Mapping[str, tuple[str, ...]]
    checks: Mapping[str, CheckSpec]
    codes: Mapping[str, Code]
    tools: tuple[Tool, ...]
    images: tuple[Image, ...]
    modes: tuple[str, ...]
