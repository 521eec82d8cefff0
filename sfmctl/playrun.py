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
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from sfmctl import render
from sfmctl.codes import C
from sfmctl.exits import Exit, worst
from sfmctl.fault import Fault
from sfmctl.playviews import report, show_plan

if TYPE_CHECKING:
    from playbook.check import Probe
    from playbook.model import Book, Check, Outcome, Plan
    from playbook.shell import CommandFailed
    from playbook.target import Target
    from playbook.trouble import Trouble


Found = TypeVar("Found")
WHOLE_S = 3600.0
"""How long a command that changes something may take in all, unless it is told."""


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

    from playbook.target import KIND, BuildSettings, ImageSource, Target, check_cluster, check_mode, find_infra, home

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
        cluster=check_cluster(cluster),
        context=context or f"kind-{cluster}",
        kubeconfig=kubeconfig,
        infra=find_infra(infra) if need_infra else Path(),
        values=tuple(path.resolve() for path in values or []),
        kind_file=kind_config.resolve() if kind_config else None,
        allowed=(KIND, *(allow or [])),
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
    timeout: float,
    yes: bool = False,
    dry_run: bool = False,
    exit_code: bool = False,
    checks: Callable[[Target, float], list[Check]] | None = None,
) -> int:
    """Plan `play`, show it, agree, apply it, then run `checks`; prints the result and returns the exit code.

    All of it has `timeout` seconds, apart from the time that a person takes to agree; `checks` gets what is left.
    """
    from playbook import engine, journal
    from playbook.facts import Observer
    from playbook.load import packaged
    from playbook.shell import ReadShell, Shell
    from sfmctl.playscreen import Progress

    started = time.monotonic()
    book = packaged()
    with translated(aim), stopped_by_signals() as stopped:
        seen = Observer(aim, book, ReadShell(cancelled=stopped), started + timeout)
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
            asked = time.monotonic()
            confirm(plan, aim, yes=yes)
            seen.deadline += time.monotonic() - asked
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
        results = checks(aim, seen.deadline - time.monotonic()) if checks and not failed else []
    took_ms = round((time.monotonic() - started) * 1000)
    code = worst([*failed, *check_exits(results, book)])
    report(plan, outcomes, results, output, took_ms, code)
    return code


def within(timeout: float, look: Callable[[], Found]) -> Found:
    """What `look` finds, when it ends within `timeout` seconds; OVERALL_TIMEOUT when it does not."""
    from playbook.background import started

    future = started(look)
    try:
        return future.result(timeout)
    except TimeoutError as error:
        if future.done():
            raise
        raise C.OVERALL_TIMEOUT.fault(why=f"nothing was found out within {timeout:g} s") from error


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
