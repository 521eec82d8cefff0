"""Steps and facts to a plan: pure, so that every decision is tested from recorded facts, without a cluster.

A step whose facts cannot be known yet, because an earlier step of the same plan makes them knowable, is planned for
later and looked at again just before it would run. A fact that stays unknown with nothing before it to change that is a
refusal: to guess is worse than to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from playbook.model import Condition, Fact, Facts, Plan, Planned, Step, Verdict
from playbook.target import Target

GATE = "gate"
"""The action of a step that only lets pass: its facts hold, or the plan stops there."""

ABSENT = Fact("", known=False, why="not observed")


def judged(wanted: Sequence[Condition], facts: Facts) -> tuple[bool | None, str, str]:
    """Whether all of `wanted` hold (None: not known), with the deciding reasons and the code."""
    broken: list[str] = []
    for condition in wanted:
        fact = facts.get(condition.fact, ABSENT)
        if not fact.known and not broken:
            return None, fact.why, fact.code
        if fact.known and not condition.holds(fact.value):
            broken.append(f"{condition.fact} is {shown(fact.value)}")
    if broken:
        return False, "; ".join(broken), ""
    return True, ", ".join(f"{c.fact} is {shown(facts[c.fact].value)}" for c in wanted), ""


def shown(value: object) -> str:
    """A fact's value in a line for people."""
    if isinstance(value, list | tuple | set):
        items = [str(v) for v in value]
        return ("none" if not items else ", ".join(items[:6])) + (
            f" and {len(items) - 6} more" if len(items) > 6 else ""
        )
    return "absent" if value is None else str(value)


def as_list(value: object) -> list[object]:
    """A fact's value as a list; nothing when it is none."""
    return list(value) if isinstance(value, list | tuple) else []


def verdict(step: Step, facts: Facts, earlier_change: bool) -> Planned:
    """What the facts say about one step; `earlier_change` is whether a step before it will run."""
    wanted, why, code = judged(step.only_when, facts)
    if wanted is False:
        return Planned(step, Verdict.SKIP, why)
    if wanted is None:
        return Planned(step, Verdict.LATER if earlier_change else Verdict.REFUSED, why, code)
    if not step.done_when:
        return Planned(step, Verdict.DO, "done each time")
    done, why, code = judged(step.done_when, facts)
    if earlier_change and done is not False:
        return Planned(step, Verdict.LATER, "looked at again after the steps before it")
    if done:
        return Planned(step, Verdict.DONE, why)
    if done is None:
        return Planned(step, Verdict.REFUSED, why, code)
    if step.action == GATE:
        return Planned(step, Verdict.LATER if earlier_change else Verdict.REFUSED, why, step.hint)
    return Planned(step, Verdict.DO, why)


def with_what_is_left(item: Planned, facts: Facts) -> Planned:
    """The item, telling what its step leaves as it is although it is not as it should be."""
    found = [facts.get(name, ABSENT) for name in item.step.leaves]
    left = "; ".join(shown(fact.value) for fact in found if fact.known and fact.value)
    if not left or item.verdict not in (Verdict.DO, Verdict.DONE):
        return item
    return replace(item, why=f"{item.why}; left as it is: {left}", left=left)


def refusals(target: Target, facts: Facts, steps: Sequence[Step]) -> dict[str, Fact]:
    """What must not be done to this target as it stands, as facts `refuse.<step>` of (code, why)."""
    found: dict[str, Fact] = {}

    def value(name: str) -> object:
        fact = facts.get(name, ABSENT)
        return fact.value if fact.known else None

    def refuse(step: Step, code: str, why: str) -> None:
        found.setdefault(f"refuse.{step.id}", Fact(f"refuse.{step.id}", (code, why)))

    for step in steps:
        for lacking in (value(c.fact) for c in step.done_when if c.fact.startswith("tools.")):
            if any("missing" in str(tool) for tool in as_list(lacking)):
                refuse(step, "SFM-TOOL-001", shown(lacking))
        if step.destructive and not target.may_destroy:
            refuse(step, "SFM-CLI-023", f"{target.context} is not among {', '.join(target.allowed)}")
        if step.action == "kind.create" and value("cluster.state") == "other" and not target.recreate:
            refuse(step, "SFM-KIND-003", f"a cluster {target.cluster!r} exists that was made with other settings")
        if step.action == "kind.create" and value("cluster.state") == "dead" and not target.recreate:
            refuse(step, "SFM-KIND-006", f"the nodes of {target.cluster!r} run, but its API server does not answer")
        if step.action == "helm.upgrade":
            if value("release.stuck") in ("rollback", "uninstall") and not target.recover:
                since = f"{value('release.state')} since {value('release.since')}"
                refuse(step, "SFM-HELM-004", f"the release is {since}; when no helm is at work on it, it was cut off")
            mode = value("release.mode")
            if mode and mode != target.mode and not target.change_mode:
                refuse(step, "SFM-HELM-010", f"it was deployed in mode {mode}, and mode {target.mode} is asked for")
        if step.action == "kube.namespace" and value("namespace.state") == "Terminating":
            refuse(step, "SFM-K8S-006", f"the namespace {target.namespace} is being deleted")
    return found


def plan(play: str, steps: Sequence[Step], facts: Facts, *, target: str) -> Plan:
    """The plan for `steps` in their order. Refusal codes stand in the facts `refuse.*`, whose value is (code, why)."""
    items: list[Planned] = []
    changing: set[str] = set()
    for step in steps:
        inherited = any(need in changing for need in step.needs)
        item = with_what_is_left(verdict(step, facts, inherited), facts)
        refusal = facts.get(f"refuse.{step.id}")
        if refusal is not None and refusal.value and item.verdict not in (Verdict.SKIP, Verdict.DONE):
            code, why = refusal.value
            item = Planned(step, Verdict.REFUSED, why, code)
        if item.verdict in (Verdict.DO, Verdict.LATER):
            changing.add(step.id)
        items.append(item)
    uid = facts.get("cluster.uid", ABSENT)
    return Plan(play, target, str(uid.value or "") if uid.known else "", tuple(items))
