"""The one loop that changes anything: look, run, check, journal, step by step, exactly as the agreed plan has it.

Before each step the cluster must still be the one that the plan was made for. After each step its facts are looked at
again and must hold: an action that ended well without its effect is a failure. On ^C the journal says where; a second
run looks at the world anew and goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from playbook import facts as observing
from playbook import mending
from playbook import plan as planning
from playbook.actions import registry
from playbook.facts import Observer
from playbook.journal import Journal
from playbook.kube import Writer
from playbook.model import Book, Fact, Outcome, Plan, Planned, Result, Step, Verdict
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble

REMAKES = frozenset({"kind.create", "kind.remove"})
"""Actions after which the cluster is rightly another one."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a person who waits wants to know; `kind` is step, progress or outcome."""

    kind: str
    step: str
    text: str
    outcome: Outcome | None = None


Tell = Callable[[Event], None]


@dataclass(slots=True)
class Hands:
    """What an action may use: hands that can write, made only for an agreed plan."""

    target: Target
    book: Book
    seen: Observer
    shell: Shell
    deadline: float
    tell: Callable[[str], None]
    _writer: Writer | None = None

    @property
    def api(self) -> Writer:
        """The writing client of the target's context."""
        if self._writer is None:
            self._writer = Writer(self.target.context, self.target.kubeconfig)
        return self._writer

    def forget(self) -> None:
        """Drop the clients: the cluster behind the context is another one now."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.seen.forget()

    def until(self, deadline: float) -> None:
        """Let the step that begins end by then, or when the whole command is over."""
        self.deadline = min(deadline, self.seen.deadline)

    @property
    def left_s(self) -> float:
        """Seconds until the step has to be through; never negative."""
        return max(0.0, self.deadline - time.monotonic())


def facts_of(steps: Sequence[Step]) -> set[str]:
    """The names of every fact that `steps` ask for."""
    return {n for s in steps for n in (*(c.fact for c in (*s.done_when, *s.only_when)), *s.leaves)}


def make_plan(seen: Observer, play: str) -> tuple[Plan, dict[str, Fact]]:
    """Observe what `play` asks for and plan it; changes nothing."""
    if play not in seen.book.plays:
        raise Trouble("SFM-BOOK-003", f"the book has no play {play!r}")
    steps = [seen.book.steps[name] for name in seen.book.plays[play]]
    facts = observing.observe(seen, facts_of(steps))
    facts |= planning.refusals(seen.target, facts, steps)
    return planning.plan(play, steps, facts, target=seen.target.name), facts


@dataclass(slots=True)
class Engine:
    """Applies one plan to one target."""

    hands: Hands
    journal: Journal
    tell: Tell
    outcomes: list[Outcome] = field(default_factory=list)

    def apply(self, plan: Plan) -> list[Outcome]:
        """Run the pending steps of `plan`; stops at the first that fails, and the rest say because of which."""
        self.journal.write("plan", play=plan.play, target=plan.target, cluster=plan.cluster_uid,
                           steps={i.step.id: i.verdict.value for i in plan.items})  # fmt: skip
        uid = plan.cluster_uid
        broken = ""
        for item in plan.items:
            if broken:
                self._note(item.step, Result.SKIPPED, f"because of {broken}", time.monotonic())
                continue
            outcome = self._step(item, uid)
            if outcome.result is Result.FAILED:
                broken = item.step.id
            elif outcome.result is Result.CHANGED and item.step.action in REMAKES:
                uid = ""
                self.hands.forget()
        self.journal.write("finished", failed=broken)
        return self.outcomes

    def _step(self, item: Planned, uid: str) -> Outcome:
        """One step of the plan to its outcome."""
        step, started = item.step, time.monotonic()
        if item.verdict is Verdict.DONE:
            return self._note(step, Result.UNCHANGED, item.why, started)
        if item.verdict is Verdict.SKIP:
            return self._note(step, Result.SKIPPED, item.why, started)
        try:
            self.hands.shell.check_cancelled()
            if started >= self.hands.seen.deadline:
                raise Trouble("SFM-CLI-025", "the time for the whole command is over", why=f"before: {step.title}")
            self.journal.write("started", step=step.id)
            self.tell(Event("step", step.id, step.title))
            if item.verdict is Verdict.LATER:
                again = self._looked_again(step)
                if again.verdict is Verdict.REFUSED:
                    raise Trouble(again.code or step.hint, f"{step.title}: {again.why}")
                if again.verdict is not Verdict.DO:
                    kind = Result.UNCHANGED if again.verdict is Verdict.DONE else Result.SKIPPED
                    return self._note(step, kind, again.why, started)
            self._same_cluster(uid)
            self.hands.until(started + step.timeout_s)
            self.hands.tell = lambda text: self.tell(Event("progress", step.id, text))
            detail = str(registry.action(step.action)(self.hands, step.params))
            self._proved(step)
            return self._note(step, Result.CHANGED, detail, started)
        except Trouble as trouble:
            detail = trouble.what + (f"\n{trouble.why}" if trouble.why else "")
            mend = mending.next_step(self.hands.book.codes[trouble.code], self.hands.target, trouble.next_step)
            return self._note(step, Result.FAILED, detail, started, trouble.code, mend)
        except CommandFailed as failed:
            code = "SFM-CLI-025" if failed.timed_out else step.hint
            return self._note(step, Result.FAILED, str(failed), started, code, f"try it by hand: {failed.line}")
        except KeyboardInterrupt:
            self._note(step, Result.INTERRUPTED, "interrupted; run the same command again to go on", started)
            raise

    def _looked_again(self, step: Step) -> Planned:
        """The verdict on a step whose facts could not be known when the plan was made."""
        self.hands.seen.forget()
        facts = observing.observe(self.hands.seen, facts_of([step]))
        facts |= planning.refusals(self.hands.target, facts, [step])
        return planning.plan("", [step], facts, target="").items[0]

    def _same_cluster(self, uid: str) -> None:
        """Refuse to go on when another cluster answers under the context than the plan was made for."""
        if not uid:
            return
        now = self.hands.api.cluster_uid()
        if now and now != uid:
            raise Trouble("SFM-K8S-005", f"the cluster behind {self.hands.target.context} has changed since the plan")

    def _proved(self, step: Step) -> None:
        """After a step its facts must hold; an action without its effect is a failure."""
        if not step.done_when:
            return
        if step.action in REMAKES:
            self.hands.forget()
        facts = observing.observe(self.hands.seen, facts_of([step]))
        done, why, code = planning.judged(step.done_when, facts)
        if not done:
            raise Trouble(code or step.hint, f"{step.title}: it ran, but still {why}")

    def _note(self, step: Step, result: Result, detail: str, started: float, code: str = "", mend: str = "") -> Outcome:
        """Keep, journal and tell one outcome."""
        outcome = Outcome(step.id, step.title, result, detail, round((time.monotonic() - started) * 1000), code, mend)
        self.outcomes.append(outcome)
        if result not in (Result.UNCHANGED, Result.SKIPPED):
            self.journal.write(result.value, step=step.id, detail=detail[:2000], code=code,
                               duration_ms=outcome.duration_ms)  # fmt: skip
        self.tell(Event("outcome", step.id, detail, outcome))
        return outcome


def outcome_codes(book: Book, outcomes: Sequence[Outcome]) -> list[int]:
    """The exit codes that the failed outcomes lead to."""
    return [book.codes[o.code].exit for o in outcomes if o.result is Result.FAILED and o.code]


def changed(outcomes: Sequence[Outcome]) -> int:
    """How many steps changed something."""
    return sum(o.result is Result.CHANGED for o in outcomes)


def as_dict(outcomes: Sequence[Outcome]) -> list[Mapping[str, Any]]:
    """The outcomes as JSON has them."""
    return [outcome.as_dict() for outcome in outcomes]
