"""`sfmctl deploy`, `sfmctl rollback`: the shared infrastructure's release."""

from __future__ import annotations

from typing import Annotated

import typer

from sfmctl import playrun, render
from sfmctl.codes import C


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("deploy")(deploy)
    app.command("rollback")(rollback)


def deploy(
    what: Annotated[str, typer.Argument(help="What to deploy: infra.", metavar="[infra]")] = "infra",
    mode: playrun.Mode = "dev",
    values: playrun.Values = None,
    recover: playrun.Recover = False,
    change_mode: playrun.ChangeMode = False,
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    allow: playrun.Allow = None,
    ready_timeout: playrun.ReadyTimeout = 600.0,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Install or upgrade the shared infrastructure, and wait until every workload is ready."""
    if what != "infra":
        raise C.USAGE.fault(f"sfmctl deploys infra, not {what!r}")
    aim = playrun.target(
        mode=mode, values=values, recover=recover, change_mode=change_mode, allow=allow, cluster=cluster,
        context=context, kubeconfig=kubeconfig, infra=infra, ready_timeout_s=ready_timeout,
    )  # fmt: skip
    return playrun.run_play("deploy", aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code)


def rollback(
    mode: playrun.Mode = "dev",
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    allow: playrun.Allow = None,
    ready_timeout: playrun.ReadyTimeout = 600.0,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Go back to the release's revision before, and wait until every workload is ready."""
    aim = playrun.target(
        mode=mode, cluster=cluster, context=context, kubeconfig=kubeconfig, infra=infra, allow=allow,
        ready_timeout_s=ready_timeout,
    )  # fmt: skip
    return playrun.run_play("rollback", aim, output, timeout=timeout, yes=yes, dry_run=dry_run)
