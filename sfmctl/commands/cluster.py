"""`sfmctl cluster create|delete|status`: the local kind cluster."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from sfmctl import playrun, render
from sfmctl.exits import worst


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="The local kind cluster.", no_args_is_help=True)
    group.command("create")(create)
    group.command("delete")(delete)
    group.command("status")(status)
    app.add_typer(group, name="cluster")


def create(
    cluster: playrun.Cluster = "soma",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    node_image: playrun.NodeImage = "",
    kind_config: playrun.KindConfig = None,
    archive: playrun.Archive = None,
    recreate: Annotated[bool, typer.Option("--recreate", help="Delete a cluster of that name first.")] = False,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Make the kind cluster and its context; says beforehand if it would make one anew."""
    aim = playrun.target(
        cluster=cluster, kubeconfig=kubeconfig, infra=infra, node_image=node_image, kind_config=kind_config,
        archive=archive, recreate=recreate,
    )  # fmt: skip
    return playrun.run_play(
        "cluster-create", aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code
    )


def delete(
    cluster: playrun.Cluster = "soma",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Delete the kind cluster with all that is in it; absent is success."""
    aim = playrun.target(cluster=cluster, kubeconfig=kubeconfig, infra=infra)
    return playrun.run_play(
        "cluster-delete", aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code
    )


def status(
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    output: render.OutputOption = render.Output.TABLE,
    timeout: playrun.Timeout = 30.0,
) -> int:
    """Say whether the cluster is there, answers, and has its nodes ready."""
    from playbook import check
    from playbook.actions import registry
    from sfmctl import checks

    started = time.monotonic()
    aim = playrun.target(cluster=cluster, context=context, kubeconfig=kubeconfig, infra=infra)
    with playrun.probing(aim) as probe:
        specs = [s for s in probe.book.checks.values() if s.category == "cluster"]
        results = check.run(probe, specs, registry.probe, timeout_s=timeout)
        code = worst(playrun.check_exits(results, probe.book))
    checks.show(results, output, "ClusterStatus", round((time.monotonic() - started) * 1000), code)
    return code
