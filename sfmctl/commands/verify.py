"""`sfmctl verify`: the verification matrix. Without an application, the infrastructure's rows alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfmctl import playrun, render
from sfmctl.exits import Exit, worst
from sfmctl.fault import Fault

if TYPE_CHECKING:
    from playbook.check import Probe
    from playbook.model import Book, Check
    from playbook.target import Target

INFRA_CATEGORIES = ("cluster", "namespace", "release", "images", "pods", "database", "kafka", "redis", "vault", "opa",
                    "etcd", "prometheus")  # fmt: skip
"""The rows of the matrix that need no application, by category."""

SETTLING_ATTEMPTS = 20
SETTLING_S = 120.0

Only = Annotated[list[str] | None, typer.Option("--only", help="Only these checks: an id, a category, or vault.*")]
Skip = Annotated[list[str] | None, typer.Option("--skip", help="Leave these checks out.")]
Junit = Annotated[Path | None, typer.Option("--junit", help="Write a JUnit report to this file too.", dir_okay=False)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def matrix(
    probe: Probe,
    *,
    only: list[str] | None = None,
    skip: list[str] | None = None,
    timeout_s: float = 120.0,
    attempts: int = 1,
    excused: Callable[[Check], Check] = lambda check: check,
) -> list[Check]:
    """Run the infrastructure's rows and, when the target is about an application, its rows; return their records.

    attempts: how often at least a row that fails is asked, one second apart. excused: what waives a row's failure.
    """
    from playbook import check
    from playbook.actions import registry
    from sfmctl import sfmd_row

    wanted: tuple[str, ...] = INFRA_CATEGORIES
    if probe.target.app is not None:  # which images the nodes hold is the platform's affair, not an application's
        wanted = (*(c for c in INFRA_CATEGORIES if c != "images"), "app")
    specs = [*(s for s in probe.book.checks.values() if s.category in wanted), sfmd_row.SPEC]
    chosen = check.selected(specs, only or [], skip or [])
    chosen = [replace(spec, attempts=max(spec.attempts, attempts)) for spec in chosen]
    functions = {sfmd_row.SPEC.probe: sfmd_row.probe}
    return check.run(
        probe, chosen, lambda name: functions.get(name) or registry.probe(name), timeout_s=timeout_s, excused=excused
    )


def after_play(aim: Target, left_s: float) -> list[Check]:
    """The checks at the end of `up`: servers that became ready a moment ago may need another to answer well."""
    with playrun.probing(aim) as probe:
        return matrix(probe, attempts=SETTLING_ATTEMPTS, timeout_s=min(SETTLING_S, left_s))


def bundled(probe: Probe, results: list[Check], folder: Path | None) -> None:
    """Write a bundle when something failed and a folder was given, and say where it is, or why it could not be."""
    from playbook import bundle
    from playbook.trouble import Trouble

    if folder is None or not any(c.status.value in ("fail", "error") for c in results):
        return
    app = probe.target.app
    namespaces = [probe.target.namespace, *([app.namespace] if app is not None else [])]
    try:
        files = bundle.write(folder, lambda: probe.seen.reader, namespaces, results)
    except Trouble as trouble:
        render.fault(playrun.as_fault(trouble, probe.target))
        return
    render.note(f"wrote {len(files)} files to {folder}")


def reported(junit: Path | None, results: list[Check], took_ms: int, setup: Fault | None = None) -> Exit:
    """Write the JUnit report where one was asked for; what could not be written is told, and its exit code returned."""
    from sfmctl import checks

    try:
        if junit is not None:
            checks.write_junit(junit, results, took_ms, setup)
    except Fault as unwritten:
        render.fault(unwritten)
        return unwritten.exit
    return Exit.OK


def verify(
    name: Annotated[
        str, typer.Argument(help="An application; without one, the infrastructure alone.", metavar="[APP]")
    ] = "",
    env: Annotated[
        str, typer.Option("--env", "-e", envvar="SFM_ENV", help="The application's environment; default: the mode.")
    ] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace; default: its name.")] = "",
    mode: playrun.Mode = "dev",
    values: playrun.Values = None,
    only: Only = None,
    skip: Skip = None,
    waivers: Annotated[
        Path | None, typer.Option("--waivers", help="YAML list of {check, reason, until}: failures that only warn.")
    ] = None,
    junit: Junit = None,
    bundle_on_failure: Annotated[
        Path | None, typer.Option("--bundle-on-failure", help="Folder for pods, events and logs when a check fails.")
    ] = None,
    fail_on: playrun.FailOn = playrun.FailLevel.FAIL,
    timeout: playrun.Timeout = 120.0,
    sfmctl_image: Annotated[
        str, typer.Option("--sfmctl-image", envvar="SFM_SFMCTL_IMAGE", help="Image of the Job that asks from inside.")
    ] = "",
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Check the shared infrastructure, and an application's place in it: a real question to each server."""
    from sfmctl import checks

    started = time.monotonic()

    def took_ms() -> int:
        return round((time.monotonic() - started) * 1000)

    try:
        aim = aimed(name, env or mode, namespace, mode=env or mode, values=values, cluster=cluster, context=context,
                    kubeconfig=kubeconfig, infra=infra, sfmctl_image=sfmctl_image)  # fmt: skip
        with playrun.probing(aim) as probe:
            excused = excuses(waivers, probe.book)
            results = matrix(probe, only=only, skip=skip, timeout_s=timeout, excused=excused)
            found = worst(playrun.check_exits(results, probe.book, fail_on))
            unwritten = reported(junit, results, took_ms())
            code = unwritten if found in (Exit.OK, Exit.WARNINGS) and unwritten else found  # the gate's verdict stands
            checks.show(results, output, "Verification", took_ms(), code)
            bundled(probe, results, bundle_on_failure)
    except Fault as fault:
        reported(junit, [], took_ms(), fault)
        raise
    return code


def aimed(name: str, env: str, namespace: str, **flags: Any) -> Target:
    """The target, about an application when one is named."""
    if not name:
        return playrun.target(**flags)
    from playbook.target import check_mode, find_infra
    from playbook.trouble import Trouble
    from playbook.wiring.application import application

    with playrun.translated():
        app = application(name, check_mode(env), namespace)
        try:
            find_infra(flags["infra"])
            charts = True
        except Trouble:
            if flags["infra"] is not None:
                raise
            charts = False  # an application's own pipeline has no charts beside it; what compares with them is skipped
    return playrun.target(**flags, app=app, need_infra=charts)


def excuses(path: Path | None, book: Book) -> Callable[[Check], Check]:
    """What demotes a waived failure, read before anything is asked so that a bad file is told at once."""
    from datetime import UTC, datetime

    from playbook import waivers
    from sfmctl import sfmd_row

    if path is None:
        return lambda check: check
    today = datetime.now(UTC).date()
    asked = [s.id for s in book.checks.values() if s.category in (*INFRA_CATEGORIES, "app")]
    listed = waivers.load(path, [*asked, sfmd_row.SPEC.id])  # a row of the other matrix too: one file serves both
    return lambda check: waivers.excused(check, listed, today)
