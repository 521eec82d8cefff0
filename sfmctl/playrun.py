"""From a command's options to an applied play: plan, show, agree, run that same plan, check, report.

Every infrastructure command goes through `run_play`, so confirmation, dry runs, the journal, ^C and exit codes are the
same in all of them.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfmctl import render
from sfmctl.codes import C
from sfmctl.exits import Exit, worst
from sfmctl.fault import Fault

if TYPE_CHECKING:
    from playbook.check import Probe
    from playbook.model import Book, Check, Outcome, Plan
    from playbook.shell import CommandFailed
    from playbook.target import Target
    from playbook.trouble import Trouble


class FailLevel(StrEnum):
    """From which result on a check command leaves with an error code."""

    FAIL = "fail"
    WARNING = "warning"


Mode = Annotated[str, typer.Option("--mode", "-m", envvar="SFM_MODE", help="dev, test, staging, prod-lite or prod.")]
Cluster = Annotated[str, typer.Option("--cluster", envvar="SFM_CLUSTER", help="Name of the kind cluster.")]
Context = Annotated[
    str, typer.Option("--context", envvar="SFM_CONTEXT", help="Context of the kubeconfig; default kind-<cluster>.")
]
Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Kubeconfig file; default as kubectl finds it.", dir_okay=False)
]
Infra = Annotated[
    Path | None, typer.Option("--infra", envvar="SFM_INFRA", help="Folder with helm/, kind/, images/ and compose/.")
]
Values = Annotated[
    list[Path] | None, typer.Option("--values", "-f", help="Values laid over the mode's; may be given several times.")
]
NodeImage = Annotated[str, typer.Option("--node-image", envvar="SFM_NODE_IMAGE", help="Image of the kind nodes.")]
KindConfig = Annotated[
    Path | None,
    typer.Option("--kind-config", envvar="SFM_KIND_CONFIG", help="kind's configuration: nodes, ports.", dir_okay=False),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow-context", help="A context (or pattern) that may be destroyed too, besides kind-*."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Agree to the plan beforehand.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")]
ExitCode = Annotated[bool, typer.Option("--exit-code", help="With --dry-run: leave with 10 when there are changes.")]
Mirror = Annotated[str, typer.Option("--mirror", envvar="SFM_MIRROR", help="Registry prefix to pull images from.")]
Archive = Annotated[
    Path | None,
    typer.Option("--archive", envvar="SFM_ARCHIVE", help="Archive folder to load images from, offline."),
]
BuildArg = Annotated[
    list[str] | None, typer.Option("--build-arg", help="KEY=VALUE for the builds of our images; SFM_BUILD_ARGS too.")
]
BuildNetwork = Annotated[
    str, typer.Option("--build-network", envvar="SFM_BUILD_NETWORK", help="Network of the builds, such as host.")
]
BuildKit = Annotated[bool, typer.Option("--buildkit/--no-buildkit", envvar="SFM_BUILDKIT", help="Build with BuildKit.")]
Recover = Annotated[bool, typer.Option("--recover", help="Free a release that is stuck half-way.")]
ChangeMode = Annotated[bool, typer.Option("--change-mode", help="Deploy in another mode than the release has.")]
ReadyTimeout = Annotated[
    float, typer.Option("--ready-timeout", help="Seconds to wait until all workloads are ready.", min=1)
]
GoneWait = Annotated[float, typer.Option("--wait", help="Seconds until the namespace counts as stuck.", min=1)]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds for the whole command.", min=1)]
FailOn = Annotated[FailLevel, typer.Option("--fail-on", help="From which result on to leave with an error code.")]


def target(
    *,
    mode: str = "dev",
    cluster: str = "soma",
    context: str = "",
    kubeconfig: Path | None = None,
    infra: Path | None = None,
    values: Sequence[Path] | None = None,
    kind_config: Path | None = None,
    allow: Sequence[str] | None = None,
    mirror: str = "",
    archive: Path | None = None,
    build_args: Sequence[str] | None = None,
    build_network: str = "",
    buildkit: bool = True,
    need_infra: bool = True,
    **flags: Any,
) -> Target:
    """The target of a run, resolved once from the options; `flags` are fields of `Target` as they are."""
    import os

    from playbook.target import BuildSettings, ImageSource, Target, check_mode, find_infra, home

    if mirror and archive:
        raise C.USAGE.fault("--mirror and --archive exclude each other")
    source = (
        ImageSource("archive", str(archive)) if archive else ImageSource("mirror", mirror) if mirror else ImageSource()
    )
    pairs = [*os.environ.get("SFM_BUILD_ARGS", "").split(), *(build_args or [])]
    if any("=" not in pair for pair in pairs):
        raise C.USAGE.fault(
            "a build argument is KEY=VALUE", why=f"given: {', '.join(p for p in pairs if '=' not in p)}"
        )
    return Target(
        mode=check_mode(mode),
        cluster=cluster,
        context=context or f"kind-{cluster}",
        kubeconfig=kubeconfig,
        infra=find_infra(infra) if need_infra else Path(),
        values=tuple(path.resolve() for path in values or []),
        kind_file=kind_config.resolve() if kind_config else None,
        allowed=("kind-*", *(allow or [])),
        images=source,
        build=BuildSettings(dict(pair.split("=", 1) for pair in pairs), build_network, buildkit),
        state=home("XDG_STATE_HOME", "~/.local/state"),
        cache=home("XDG_CACHE_HOME", "~/.cache"),
        **flags,
    )


def as_fault(error: Trouble | CommandFailed, aim: Target | None = None) -> Fault:
    """The playbook's trouble as the command line's fault, with the exit code and mending command of the book.

    The command is aimed at `aim`, the target that was looked at, where there is one yet.
    """
    from playbook.load import packaged
    from playbook.mending import next_step
    from playbook.trouble import Trouble

    if isinstance(error, Trouble):
        trouble = error
    else:
        trouble = Trouble("SFM-TOOL-003", str(error), next_step=f"try it by hand: {error.line}")
    try:
        code = packaged().codes[trouble.code]
    except (Trouble, KeyError) as broken:  # the book itself may be what is wrong
        return Fault(trouble.code, trouble.what, why=trouble.why or str(broken), next_step=trouble.next_step)
    todo = trouble.next_step or code.mend
    if aim is not None and trouble is error:  # a command that failed is shown as it was run
        todo = next_step(code, aim, trouble.next_step)
    return Fault(trouble.code, trouble.what, why=trouble.why, next_step=todo, exit_=Exit(code.exit))


@contextmanager
def translated(aim: Target | None = None) -> Iterator[None]:
    """Whatever the playbook raises, as the fault that the command line prints, with its command aimed at `aim`."""
    from playbook.shell import CommandFailed
    from playbook.trouble import Trouble

    try:
        yield
    except (Trouble, CommandFailed) as error:
        raise as_fault(error, aim) from error


def refusal(plan: Plan, book: Book, aim: Target) -> Fault | None:
    """The fault for the first step that must not run as things stand."""
    from playbook.mending import next_step

    for item in plan.refusals:
        code = book.codes.get(item.code) or book.codes[item.step.hint]
        return Fault(code.code, code.title, why=item.why, next_step=next_step(code, aim), exit_=Exit(code.exit))
    return None


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


def confirm(plan: Plan, aim: Target, *, yes: bool) -> None:
    """Ask for the plan's agreement: a yes, or the typed name of the target when something is taken away."""
    if yes:
        return
    if not (render.is_terminal(sys.stdin) and render.is_terminal(sys.stderr)):
        raise C.CONFIRM.fault(f"{plan.play} on {plan.target} changes {len(plan.pending)} things and was not agreed to")
    name = aim.cluster if aim.is_kind else aim.context
    if plan.destructive:
        agreed = render.ask(f"This takes things away. Type {name} to go on: ") == name
    else:
        agreed = render.ask("Go on? [y/N] ").lower() in ("y", "yes")
    if not agreed:
        raise Fault(
            "SFM-CLI-022", "not confirmed, nothing was changed", next_step="run it again and agree, or add --yes"
        )


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """^C and SIGTERM end a run: journalled, with what was begun taken away.

    They raise KeyboardInterrupt and set the event, which running work looks at too: an exception that is raised while a
    library's finalizer runs is printed and lost.
    """
    stopped = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopped.set()
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_play(
    play: str,
    aim: Target,
    output: render.Output,
    *,
    yes: bool = False,
    dry_run: bool = False,
    exit_code: bool = False,
    checks: Callable[[Target], list[Check]] | None = None,
) -> int:
    """Plan `play`, show it, agree, apply it, then run `checks`; prints the result and returns the exit code."""
    from playbook import engine, journal
    from playbook.facts import Observer
    from playbook.load import packaged
    from playbook.shell import Shell
    from sfmctl.playscreen import Progress

    started = time.monotonic()
    book = packaged()
    seen = Observer(aim, book)
    with translated(aim), stopped_by_signals() as stopped:
        left = journal.unfinished(journal.last(aim.state, aim.context))
        if left:
            render.note(f"the run before stopped at {left}; going on from what is there now")
        plan, _ = engine.make_plan(seen, play)
        refused = refusal(plan, book, aim)
        if refused:
            seen.forget()
            if dry_run:
                show_plan(plan, render.Output.TABLE, to_stderr=True)
            raise refused
        if dry_run:
            show_plan(plan, output, to_stderr=False)
            seen.forget()
            return Exit.CHANGES if exit_code and plan.pending else Exit.OK
        outcomes: list[Outcome] = []
        if plan.pending:
            show_plan(plan, render.Output.TABLE, to_stderr=True)
            confirm(plan, aim, yes=yes)
            hands = engine.Hands(aim, book, seen, Shell(cancelled=stopped), 0.0, lambda text: None)
            with journal.opened(aim.state, aim.context, play) as record, Progress(plan) as progress:
                try:
                    outcomes = engine.Engine(hands, record, progress.tell).apply(plan)
                except KeyboardInterrupt:
                    progress.stop()
                    render.note(f"stopped at {progress.current or 'the start'}; run the same command again to go on")
                    raise
                finally:
                    hands.forget()
        seen.forget()
        failed = [Exit(code) for code in engine.outcome_codes(book, outcomes)]
        results = checks(aim) if checks and not failed else []
    took_ms = round((time.monotonic() - started) * 1000)
    code = worst([*failed, *check_exits(results, book)])
    report(plan, outcomes, results, output, took_ms, code)
    return code


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
    parts += check_tables(checks) if checks else []
    done = f"{changes} steps changed something" if changes else "nothing to change, everything is as it should be"
    if any(o.code for o in outcomes):
        done = f"stopped; {changes} steps changed something"
    parts.append(f"{plan.play} on {plan.target}: {done} ({took_ms / 1000:.1f} s)")
    return parts


def check_exits(checks: Sequence[Check], book: Book, fail_on: str = FailLevel.FAIL) -> list[Exit]:
    """The exit codes that check results lead to: 3 failed, 6 out of time, 5 not known, 4 warnings when asked for."""
    from playbook.model import Status

    found: list[Exit] = []
    for one in checks:
        if one.status is Status.FAIL:
            found.append(Exit.CHECK_FAILED)
        elif one.status is Status.ERROR:
            code = book.codes.get(one.hint.partition(":")[0])
            found.append(Exit.TIMED_OUT if code and code.exit == Exit.TIMED_OUT else Exit.UNDETERMINED)
        elif one.status is Status.WARN and fail_on == "warning":
            found.append(Exit.WARNINGS)
    return found


@contextmanager
def probing(aim: Target, extra: Mapping[str, Any] | None = None) -> Iterator[Probe]:
    """What checks look with, closed afterwards; trouble comes out as a fault whose command is aimed at `aim`."""
    from playbook.check import Probe
    from playbook.facts import Observer
    from playbook.load import packaged
    from playbook.shell import Shell

    book = packaged()
    probe = Probe(aim, book, Observer(aim, book), Shell(), extra or {})
    try:
        with translated(aim):
            yield probe
    finally:
        probe.close()
