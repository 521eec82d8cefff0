"""`sfmctl verify`: the verification matrix. Without an application, the infrastructure's rows alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfmctl import playrun, render
from sfmctl.exits import worst
from sfmctl.fault import Fault

if TYPE_CHECKING:
    from playbook.check import Probe
    from playbook.model import Check
    from playbook.target import Target

INFRA_CATEGORIES = ("cluster", "namespace", "release", "images", "pods", "database", "kafka", "redis", "vault", "opa",
                    "etcd", "prometheus")  # fmt: skip
"""The rows of the matrix that need no application, by category."""

Only = Annotated[list[str] | None, typer.Option("--only", help="Only these checks: an id, a category, or vault.*")]
Skip = Annotated[list[str] | None, typer.Option("--skip", help="Leave these checks out.")]
Junit = Annotated[Path | None, typer.Option("--junit", help="Write a JUnit report to this file too.", dir_okay=False)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def infra_checks(
    probe: Probe, *, only: list[str] | None = None, skip: list[str] | None = None, timeout_s: float = 120.0
) -> list[Check]:
    """Run the infrastructure's rows and return their records."""
    from playbook import check
    from playbook.actions import registry

    specs = [s for s in probe.book.checks.values() if s.category in INFRA_CATEGORIES]
    chosen = check.selected(specs, only or [], skip or [])
    return check.run(probe, chosen, registry.probe, timeout_s=timeout_s)


def after_play(aim: Target) -> list[Check]:
    """The checks at the end of `up`."""
    with playrun.probing(aim) as probe:
        return infra_checks(probe)


def verify(
    mode: playrun.Mode = "dev",
    values: playrun.Values = None,
    only: Only = None,
    skip: Skip = None,
    junit: Junit = None,
    fail_on: playrun.FailOn = playrun.FailLevel.FAIL,
    timeout: playrun.Timeout = 120.0,
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Check the shared infrastructure: cluster, release, images, workloads, and a real query to each server."""
    from sfmctl import checks

    started = time.monotonic()

    def took_ms() -> int:
        return round((time.monotonic() - started) * 1000)

    try:
        aim = playrun.target(
            mode=mode, values=values, cluster=cluster, context=context, kubeconfig=kubeconfig, infra=infra
        )
        with playrun.translated(), playrun.probing(aim) as probe:
            results = infra_checks(probe, only=only, skip=skip, timeout_s=timeout)
            code = worst(playrun.check_exits(results, probe.book, fail_on))
    except Fault as fault:
        if junit is not None:
            checks.write_junit(junit, [], took_ms(), fault)
        raise
    if junit is not None:
        checks.write_junit(junit, results, took_ms())
    checks.show(results, output, "Verification", took_ms(), code)
    return code
