"""How a plan and what came out of it are shown: to a person who is asked, or as a command's result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sfmctl import render
from sfmctl.exits import Exit
from sfmctl.fault import Fault

if TYPE_CHECKING:
    from playbook.model import Check, Outcome, Plan


def plan_tables(plan: Plan) -> list[object]:
    """The plan for people."""
    sign = {"do": "~ do", "done": "= done", "later": "? see then", "skip": "- skip", "refused": "! refused"}
    rows = [
        (sign[i.verdict.value] + (" (takes away)" if i.step.destructive and i.verdict.value in ("do", "later") else ""),
         i.step.id, i.step.title, i.why)
        for i in plan.items
    ]  # fmt: skip
    columns = [render.Column("", no_wrap=True), render.Column("step", no_wrap=True), render.Column("what", fold=True),
               render.Column("because", fold=True)]  # fmt: skip
    return [render.table(columns, rows, title=f"{plan.play} on {plan.target}")]


def show_plan(plan: Plan, output: render.Output, *, to_stderr: bool) -> None:
    """Print the plan: the result of a dry run, or what a person is asked to agree to."""
    if to_stderr:
        console = render.stderr()
        for part in plan_tables(plan):
            console.print(part)
        return
    render.result(
        output,
        "Plan",
        json_body=plan.as_dict,
        short_rows=lambda: [(i.step.id, i.verdict.value, i.why) for i in plan.items],
        tables=lambda: plan_tables(plan),
    )


def report(
    plan: Plan, outcomes: Sequence[Outcome], checks: Sequence[Check], output: render.Output, took_ms: int, code: Exit
) -> None:
    """Print what came out of a run; the first failure is told in full on stderr."""
    from playbook.model import Result

    changes = sum(o.result is Result.CHANGED for o in outcomes)
    render.result(
        output,
        "Run",
        json_body=lambda: {
            "plan": plan.as_dict(),
            "changed": changes,
            "outcomes": [o.as_dict() for o in outcomes],
            "checks": [c.as_dict() for c in checks],
            "duration_ms": took_ms,
            "exitCode": int(code),
        },
        short_rows=lambda: [
            *((o.step, o.result.value, o.detail) for o in outcomes),
            *((c.id, c.status.value, c.observed) for c in checks),
            ("changed", changes, f"{took_ms / 1000:.1f} s"),
        ],
        tables=lambda: run_tables(plan, outcomes, checks, changes, took_ms),
    )
    for one in outcomes:
        if one.result is Result.FAILED:
            render.fault(
                Fault(one.code, one.title, why=one.detail.replace("\n", "\n        "), next_step=one.next_step)
            )


def run_tables(
    plan: Plan, outcomes: Sequence[Outcome], checks: Sequence[Check], changes: int, took_ms: int
) -> list[object]:
    """What came out, for people."""
    from sfmctl.checks import check_tables

    parts: list[object] = []
    if outcomes:
        columns = [render.Column("result", no_wrap=True), render.Column("step", no_wrap=True),
                   render.Column("seconds", right=True), render.Column("detail", fold=True)]  # fmt: skip
        rows = [(o.result.value, o.step, f"{o.duration_ms / 1000:.1f}", o.detail.splitlines()[0] if o.detail else "")
                for o in outcomes]  # fmt: skip
        parts.append(render.table(columns, rows))
    else:
        parts += [f"{i.step.id} is skipped: {i.why}" for i in plan.items if i.verdict.value == "skip"]
    parts += [f"{i.step.id} leaves as it is: {i.left}" for i in plan.items if i.left]
    parts += check_tables(checks) if checks else []
    well = "" if any(i.left for i in plan.items) else ", everything is as it should be"
    done = f"{changes} steps changed something" if changes else f"nothing to change{well}"
    if any(o.code for o in outcomes):
        done = f"stopped; {changes} steps changed something"
    parts.append(f"{plan.play} on {plan.target}: {done} ({took_ms / 1000:.1f} s)")
    return parts
