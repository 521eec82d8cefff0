"""Runs checks: side by side where they are independent, under two deadlines, retrying only what is transient.

A check whose root failed is skipped and names that root, however far away; all others still run. A probe that raises
says why it could not be determined (`error`), which is never the same as a failure; so does one that has a bug of ours.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from playbook import background, mending
from playbook.facts import Observer
from playbook.kube import Writer
from playbook.model import Book, Check, CheckSpec, Status
from playbook.shell import CommandFailed, Shell
from playbook.target import Target
from playbook.trouble import Trouble, Unknown

Verdicts = (
    tuple[Status, str] | tuple[Status, str, str] | tuple[Status, str, str, str] | tuple[Status, str, str, str, int]
)
"""Status and what was observed; then, where the probe knows better than the book, the code and the mending command, and
where it was asked elsewhere, how many milliseconds that took."""

BAD = frozenset({Status.FAIL, Status.ERROR})
PAUSE_S = 1.0
BUG = "SFM-CLI-001"
"""The command line's code for a bug of ours."""
GRACE_S = 2.0
"""How long after the deadline a run still waits for what is about to end."""
WORKERS = 8


@dataclass(slots=True)
class Probe:
    """What a check may use to look: the observer's read-only hands, a shell, and a client that can exec and forward.

    `kept` is for what several checks of one run share and is dear to ask; take `lock` while asking. `deadline` is when
    the whole run is over (monotonic).
    """

    target: Target
    book: Book
    seen: Observer
    shell: Shell
    extra: Mapping[str, Callable[[Probe, Mapping[str, Any]], Verdicts]] = field(default_factory=dict)
    attempt_s: float = 10.0
    deadline: float = math.inf
    kept: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _writer: Writer | None = None

    @property
    def api(self) -> Writer:
        """The client for what a GET cannot ask (exec, port-forward); made on first use."""
        if self._writer is None:
            self._writer = Writer(self.target.context, self.target.kubeconfig)
        return self._writer

    def close(self) -> None:
        """Let the connections go."""
        if self._writer is not None:
            self._writer.close()
        self.seen.forget()


ProbeFunction = Callable[[Probe, Mapping[str, Any]], Verdicts]
Functions = Callable[[str], ProbeFunction]
"""A probe's function by its name."""


def hinted(book: Book, target: Target, code: str, mend: str = "") -> tuple[str, str]:
    """The hint (code and mending command, aimed at the target) and the document's section for `code`."""
    entry = book.codes.get(code)
    if entry is None:  # a code of the daemon or the command line: `sfmctl explain` knows it
        return f"{code}: {mend or f'sfmctl explain {code}'}", "docs/troubleshooting.md"
    return f"{code}: {mending.next_step(entry, target, mend)}", entry.doc


def record(
    probe: Probe, spec: CheckSpec, status: Status, observed: str, code: str, mend: str, started: float, attempts: int
) -> Check:
    """The one record that everything renders from."""
    hint, doc = ("", "") if status in (Status.PASS, Status.SKIP) else hinted(probe.book, probe.target, code, mend)
    return Check(
        spec.id, spec.category, spec.title, spec.command, spec.criterion, status, observed, hint, doc,
        round((time.monotonic() - started) * 1000), attempts,
    )  # fmt: skip


class Tried(NamedTuple):
    """One try: what it found, whether trying again may help, and how long it took where that is known better."""

    status: Status
    observed: str
    code: str
    mend: str
    again: bool
    took_ms: int | None = None


def attempt(probe: Probe, functions: Functions, spec: CheckSpec) -> Tried:
    """One try."""
    try:
        verdict = functions(spec.probe)(probe, spec.params)
    except Unknown as unknown:
        observed = unknown.what + (f": {unknown.why}" if unknown.why else "")
        return Tried(Status.ERROR, observed, unknown.code, unknown.next_step, unknown.code != "SFM-K8S-003")
    except Trouble as trouble:
        observed = trouble.what + (f": {trouble.why}" if trouble.why else "")
        return Tried(Status.FAIL, observed, trouble.code, trouble.next_step, False)
    except CommandFailed as failed:
        return Tried(Status.ERROR, str(failed), "SFM-TOOL-003", f"run it by hand: {failed.line}", failed.timed_out)
    except Exception as error:  # noqa: BLE001 - a bug of ours in one check takes no other row and no report with it
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        observed = f"a bug in sfmctl: {type(error).__name__} at {where}: {error}"
        return Tried(Status.ERROR, probe.shell.clean(observed), BUG, "report it with what was observed", False)
    status, observed = verdict[0], verdict[1]
    code = verdict[2] if len(verdict) > 2 else spec.hint
    mend = verdict[3] if len(verdict) > 3 else ""
    took_ms = verdict[4] if len(verdict) > 4 else None
    return Tried(status, observed, code or spec.hint, mend, status is Status.FAIL, took_ms)


def run_one(probe: Probe, functions: Functions, spec: CheckSpec, deadline: float) -> Check:
    """Try until it passes, its attempts are used up, or the whole's deadline has come."""
    started = time.monotonic()
    attempts = 0
    while True:
        attempts += 1
        status, observed, code, mend, again, took_ms = attempt(probe, functions, spec)
        over = time.monotonic() + PAUSE_S >= min(deadline, started + spec.timeout_s * spec.attempts)
        if status in (Status.PASS, Status.WARN, Status.SKIP) or not again or attempts >= spec.attempts or over:
            found = record(probe, spec, status, observed, code, mend, started, attempts)
            return found if took_ms is None else replace(found, duration_ms=took_ms)
        time.sleep(PAUSE_S)


def blocked_by(spec: CheckSpec, results: Mapping[str, Check], roots: Mapping[str, str]) -> str | None:
    """The root of what keeps `spec` from running: the check that failed, or could not be determined, first of all.

    One that was asked and had nothing to judge (a component that runs elsewhere) stands in nobody's way.
    """
    blocking = next((n for n in spec.needs if n in roots or (n in results and results[n].status in BAD)), None)
    return None if blocking is None else roots.get(blocking, blocking)


def slotted(slots: threading.Semaphore, probe: Probe, functions: Functions, spec: CheckSpec) -> Check:
    """`run_one` as soon as there is a slot."""
    with slots:
        return run_one(probe, functions, spec, probe.deadline)


def run(
    probe: Probe,
    specs: Sequence[CheckSpec],
    functions: Functions,
    *,
    timeout_s: float,
    tell: Callable[[Check], None] = lambda check: None,
    excused: Callable[[Check], Check] = lambda check: check,
) -> list[Check]:
    """Run `specs` and return their records in their order; `tell` gets each as it is known.

    `excused` may make a failure less than one; what needs that check is asked then.
    """
    probe.deadline = time.monotonic() + timeout_s
    specs = [shown(spec, probe.target) for spec in specs]
    results: dict[str, Check] = {}
    roots: dict[str, str] = {}
    red: dict[str, Check] = {}
    waiting = list(specs)
    running: dict[Future[Check], CheckSpec] = {}
    slots = threading.Semaphore(WORKERS)
    while waiting or running:
        for spec in list(waiting):
            if any(n not in results for n in spec.needs if any(n == s.id for s in specs)):
                continue
            waiting.remove(spec)
            root = blocked_by(spec, results, roots)
            if root is not None:
                roots[spec.id] = root
                done = record(probe, spec, Status.SKIP, f"because of {root}", "", "", time.monotonic(), 0)
                results[spec.id] = done
                tell(done)
                continue
            running[background.started(slotted, slots, probe, functions, spec)] = spec
        if not running:
            continue
        finished, _ = wait(running, timeout=max(0.0, probe.deadline - time.monotonic()), return_when=FIRST_COMPLETED)
        for future in finished:
            name, found = running.pop(future).id, future.result()
            if found.status in BAD:
                red[name] = found
            results[name] = excused(found)
            tell(results[name])
        if not finished and time.monotonic() >= probe.deadline:
            late(probe, [*running.values(), *waiting], results, timeout_s)
            wait(running, timeout=GRACE_S)  # what looks at the deadline itself can still tidy up
            break
    explain(probe, specs, results, red)
    return [results[spec.id] for spec in specs]


UNREADY = "workloads that are not ready"
"""Where the row on workloads keeps the names of those that are not ready or crash; none when one is worse than that."""


def explain(probe: Probe, specs: Sequence[CheckSpec], results: dict[str, Check], red: Mapping[str, Check]) -> None:
    """Let the row on workloads step back when the rows of just those servers failed: one fault, one red row.

    `red` has what failed, also where that is excused.
    """
    servers = {f"{probe.target.release}-{s.params['component']}": red[s.id] for s in specs
               if "component" in s.params and s.id in red}  # fmt: skip
    names: Sequence[str] = probe.kept.get(UNREADY, ())
    for spec in specs:
        row = results[spec.id]
        if spec.probe == "pods" and row.status is Status.FAIL and names and all(name in servers for name in names):
            cause = servers[names[0]]
            results[spec.id] = replace(row, status=Status.SKIP, hint="", doc="",
                                       observed=f"because of {cause.id}: {row.observed}")  # fmt: skip


def shown(spec: CheckSpec, target: Target) -> CheckSpec:
    """The check with the command as a person would type it against this target."""
    names = {"context": target.context, "namespace": target.namespace}
    if target.app is not None:
        names |= {"app": target.app.name, "env": target.app.env, "app_namespace": target.app.namespace}
    command = spec.command
    for name, value in names.items():
        command = command.replace("{" + name + "}", value)
    return replace(spec, command=mending.filled(command, target))


def late(probe: Probe, specs: Iterable[CheckSpec], results: dict[str, Check], timeout_s: float) -> None:
    """Record every check that the whole's deadline overtook."""
    for spec in specs:
        observed = f"not finished within the {timeout_s:g} s of --timeout"
        results[spec.id] = record(probe, spec, Status.ERROR, observed, "SFM-CLI-025", "", time.monotonic(), 0)


def fits(spec: CheckSpec, patterns: Sequence[str]) -> bool:
    """Whether a pattern means the check: its id or category, or the server that an application's row asks."""
    groups = {spec.category, str(spec.params.get("ask", spec.category))}
    names = {spec.id, *(f"{group}.{spec.id}" for group in groups)}
    return any(p in groups or any(fnmatch(name, p) for name in names) for p in patterns)


def selected(specs: Iterable[CheckSpec], only: Sequence[str], skip: Sequence[str]) -> list[CheckSpec]:
    """The checks that fit `only` and not `skip`, as an id, a category or `category.*`; with the roots that they need.

    Trouble for a pattern that fits no check and for a choice that leaves none: a gate that asks nothing would pass.
    """
    by_id = {spec.id: spec for spec in specs}
    there = f"there are {', '.join(by_id)}"
    idle = [p for p in (*only, *skip) if not any(fits(s, [p]) for s in by_id.values())]
    if idle:
        raise Trouble("SFM-CLI-026", f"no check fits {', '.join(idle)}", why=there)
    chosen = {s.id for s in by_id.values() if (not only or fits(s, only)) and not fits(s, skip)}
    if not chosen:
        raise Trouble("SFM-CLI-026", f"no check is left to ask: --skip {', '.join(skip)} takes all away", why=there)
    frontier = list(chosen)
    while frontier:
        for need in by_id[frontier.pop()].needs:
            if need in by_id and need not in chosen and not fits(by_id[need], skip):
                chosen.add(need)
                frontier.append(need)
    return [spec for spec in by_id.values() if spec.id in chosen]
