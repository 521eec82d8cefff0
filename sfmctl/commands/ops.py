"""`sfmctl up`, `down`, `status`, `reset`: from nothing to a checked stack, and back to nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sfmctl import playrun, render
from sfmctl.commands.verify import after_play
from sfmctl.exits import Exit


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("reset")(reset)


def up(
    mode: playrun.Mode = "dev",
    values: playrun.Values = None,
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    node_image: playrun.NodeImage = "",
    kind_config: playrun.KindConfig = None,
    mirror: playrun.Mirror = "",
    archive: playrun.Archive = None,
    build_arg: playrun.BuildArg = None,
    build_network: playrun.BuildNetwork = "",
    buildkit: playrun.BuildKit = True,
    recover: playrun.Recover = False,
    change_mode: playrun.ChangeMode = False,
    recreate: Annotated[bool, typer.Option("--recreate", help="Delete a cluster of that name first.")] = False,
    allow: playrun.Allow = None,
    ready_timeout: playrun.ReadyTimeout = 600.0,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """All of it: programs, cluster, images, release, checks. Run again, it changes nothing and says so."""
    aim = playrun.target(
        mode=mode, values=values, cluster=cluster, context=context, kubeconfig=kubeconfig, infra=infra,
        node_image=node_image, kind_config=kind_config, mirror=mirror, archive=archive, build_args=build_arg,
        build_network=build_network, buildkit=buildkit, recover=recover, change_mode=change_mode,
        allow=allow, recreate=recreate, ready_timeout_s=ready_timeout,
    )  # fmt: skip
    return playrun.run_play(
        "up", aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code, checks=after_play
    )


def down(
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    allow: playrun.Allow = None,
    keep_cluster: Annotated[bool, typer.Option("--keep-cluster", help="Leave the kind cluster.")] = False,
    force_finalizers: Annotated[
        bool, typer.Option("--force-finalizers", help="Clear finalizers that keep the namespace.")
    ] = False,
    wait: playrun.GoneWait = 120.0,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Delete the kind cluster with all that is in it; on other clusters, or with --keep-cluster, what `reset` does."""
    aim = playrun.target(
        cluster=cluster, context=context, kubeconfig=kubeconfig, infra=infra, allow=allow,
        keep_cluster=keep_cluster, force_finalizers=force_finalizers, gone_wait_s=wait,
    )  # fmt: skip
    return playrun.run_play("down", aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code)


def reset(
    force_finalizers: Annotated[
        bool, typer.Option("--force-finalizers", help="Clear finalizers that keep the namespace.")
    ] = False,
    compose: Annotated[
        bool, typer.Option("--compose", help="Reset the compose stack instead of the cluster's.")
    ] = False,
    compose_file: Annotated[
        list[Path] | None,
        typer.Option("--compose-file", envvar="SFM_COMPOSE_FILE", help="Compose file laid over the stack's."),
    ] = None,
    build_arg: playrun.BuildArg = None,
    build_network: playrun.BuildNetwork = "",
    buildkit: playrun.BuildKit = True,
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    allow: playrun.Allow = None,
    wait: playrun.GoneWait = 120.0,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Remove the release and its namespace from the cluster, naming what blocks it; absent is success.

    With `--compose`: take that stack down with its volumes, build our own images that the local Docker lacks, and bring
    it up again.
    """
    aim = playrun.target(
        cluster=cluster, context=context, kubeconfig=kubeconfig, infra=infra, allow=allow,
        force_finalizers=force_finalizers, compose=compose, gone_wait_s=wait, keep_cluster=True,
        compose_files=tuple(path.resolve() for path in compose_file or []), build_args=build_arg,
        build_network=build_network, buildkit=buildkit,
    )  # fmt: skip
    play = "reset-compose" if compose else "reset"
    return playrun.run_play(play, aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code)


def status(
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    timeout: playrun.Timeout = 60.0,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Who is ready, who is not and why, with the release's state, the namespace's and the last warnings.

    Leaves with 0 only when the release is deployed, has workloads, and all of them are ready.
    """
    from playbook.actions import helm, workloads

    started = time.monotonic()
    aim = playrun.target(cluster=cluster, context=context, kubeconfig=kubeconfig, infra=infra)
    with playrun.probing(aim) as probe:
        namespace, release, seen = playrun.within(
            timeout,
            lambda: (
                probe.seen.reader.get(f"/api/v1/namespaces/{aim.namespace}"),
                helm.status(aim, probe.seen.shell),
                workloads.scene(probe.seen.reader, aim.namespace),
            ),
        )
    rows = workloads.overview(seen, time.time())
    warnings = workloads.last_warnings(seen)
    phase = namespace["status"]["phase"] if namespace else "absent"
    deployed = release is not None and release["info"]["status"] == "deployed" and phase == "Active"
    code = Exit.OK if deployed and rows and not any(r["why"] for r in rows) else Exit.CHECK_FAILED
    state = f"{release['info']['status']}, revision {release['version']}" if release else "absent"
    body = {"release": {"name": aim.release, "state": state}, "namespace": {"name": aim.namespace, "phase": phase},
            "workloads": rows, "warnings": warnings,
            "duration_ms": round((time.monotonic() - started) * 1000), "exitCode": int(code)}  # fmt: skip
    columns = [render.Column("kind", no_wrap=True), render.Column("workload", no_wrap=True),
               render.Column("ready", right=True), render.Column("why not", fold=True)]  # fmt: skip
    cells = [(r["kind"], r["name"], f"{r['ready']}/{r['wanted']}", r["why"]) for r in rows]
    render.result(
        output, "Status", json_body=lambda: body,
        short_rows=lambda: [("release", aim.release, state), ("namespace", aim.namespace, phase), *cells],
        tables=lambda: [f"release {aim.release} on {aim.context}: {state}", f"namespace {aim.namespace}: {phase}",
                        render.table(columns, cells), *(f"warning: {w}" for w in warnings)],
    )  # fmt: skip
    return code
