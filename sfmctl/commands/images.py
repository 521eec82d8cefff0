"""`sfmctl images list|build|preload|verify|bundle`: what the charts run, and how it comes onto the nodes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sfmctl import playrun, render
from sfmctl.exits import worst


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="The images that the charts run.", no_args_is_help=True)
    group.command("list")(list_)
    group.command("build")(build)
    group.command("preload")(preload)
    group.command("verify")(verify)
    group.command("bundle")(bundle)
    app.add_typer(group, name="images")


def list_(
    mode: playrun.Mode = "dev",
    values: playrun.Values = None,
    infra: playrun.Infra = None,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """List the images that the charts run in a mode with the given values."""
    from playbook.actions import images
    from playbook.load import packaged
    from playbook.shell import ReadShell

    aim = playrun.target(mode=mode, values=values, infra=infra)
    found = images.wanted(aim, packaged(), ReadShell())
    rows = [(i.ref, i.source, i.why) for i in found]
    columns = [render.Column("image", no_wrap=True), render.Column("source"), render.Column("why", fold=True)]
    render.result(
        output, "Images", short_rows=lambda: rows, tables=lambda: [render.table(columns, rows)],
        json_body=lambda: {"mode": mode, "images": [{"ref": i.ref, "source": i.source, "why": i.why} for i in found]},
    )  # fmt: skip
    return 0


def build(
    mode: playrun.Mode = "dev",
    values: playrun.Values = None,
    everything: Annotated[bool, typer.Option("--all", help="Build anew what is there already.")] = False,
    cluster: playrun.Cluster = "soma",
    infra: playrun.Infra = None,
    build_arg: playrun.BuildArg = None,
    build_network: playrun.BuildNetwork = "",
    buildkit: playrun.BuildKit = True,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Build our own images that are not there yet: those that the charts run, and that of the Jobs inside."""
    aim = playrun.target(
        mode=mode, values=values, cluster=cluster, infra=infra, build_args=build_arg, build_network=build_network,
        buildkit=buildkit,
    )  # fmt: skip
    play = "images-rebuild" if everything else "images-build"
    return playrun.run_play(play, aim, output, timeout=timeout, yes=yes, dry_run=dry_run)


def preload(
    mode: playrun.Mode = "dev",
    values: playrun.Values = None,
    cluster: playrun.Cluster = "soma",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    kind_config: playrun.KindConfig = None,
    mirror: playrun.Mirror = "",
    archive: playrun.Archive = None,
    build_arg: playrun.BuildArg = None,
    build_network: playrun.BuildNetwork = "",
    buildkit: playrun.BuildKit = True,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Bring every image onto every node, from a registry, a mirror or an archive folder, and ask each node for it."""
    aim = playrun.target(
        mode=mode, values=values, cluster=cluster, kubeconfig=kubeconfig, infra=infra, kind_config=kind_config,
        mirror=mirror, archive=archive, build_args=build_arg, build_network=build_network, buildkit=buildkit,
    )  # fmt: skip
    return playrun.run_play(
        "images-preload", aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code
    )


def verify(
    mode: playrun.Mode = "dev",
    values: playrun.Values = None,
    cluster: playrun.Cluster = "soma",
    kubeconfig: playrun.Kubeconfig = None,
    infra: playrun.Infra = None,
    timeout: playrun.Timeout = 60.0,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Ask every node for every image that the charts run."""
    from sfmctl import checks
    from sfmctl.commands.verify import matrix

    started = time.monotonic()
    aim = playrun.target(mode=mode, values=values, cluster=cluster, kubeconfig=kubeconfig, infra=infra)
    with playrun.probing(aim) as probe:
        results = matrix(probe, only=["images.nodes"], timeout_s=timeout)
        code = worst(playrun.check_exits(results, probe.book))
    checks.show(results, output, "ImageVerification", round((time.monotonic() - started) * 1000), code)
    return code


def bundle(
    folder: Annotated[Path, typer.Argument(help="Folder to write the archives and their index to.", file_okay=False)],
    mode: playrun.Mode = "dev",
    values: playrun.Values = None,
    infra: playrun.Infra = None,
    cluster: playrun.Cluster = "soma",
    node_image: playrun.NodeImage = "",
    kind_config: playrun.KindConfig = None,
    charts_only: Annotated[
        bool, typer.Option("--charts-only", help="Without the images of the kind nodes and of the Jobs of `app wire`.")
    ] = False,
    mirror: playrun.Mirror = "",
    build_arg: playrun.BuildArg = None,
    build_network: playrun.BuildNetwork = "",
    buildkit: playrun.BuildKit = True,
    timeout: playrun.Timeout = 1800.0,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Write an archive folder with every image, the kind nodes' too, for a machine without a registry."""
    from playbook.actions import images
    from playbook.engine import Hands
    from playbook.facts import Observer
    from playbook.load import packaged
    from playbook.shell import Shell
    from playbook.wiring import image

    aim = playrun.target(
        mode=mode, values=values, infra=infra, cluster=cluster, node_image=node_image, kind_config=kind_config,
        mirror=mirror, build_args=build_arg, build_network=build_network, buildkit=buildkit,
    )  # fmt: skip
    book = packaged()
    with playrun.stopped_by_signals() as stopped:
        shell = Shell(cancelled=stopped)
        hands = Hands(aim, book, Observer(aim, book), shell, time.monotonic() + timeout, render.note)
        made = images.bundle(hands, folder, {} if charts_only else image.beside_the_charts(aim, shell))
    rows = [(m["ref"], m["file"]) for m in made]
    columns = [render.Column("image", no_wrap=True), render.Column("archive", fold=True)]
    render.result(output, "Bundle", json_body=lambda: {"folder": str(folder), "images": made}, short_rows=lambda: rows,
                  tables=lambda: [render.table(columns, rows)])  # fmt: skip
    return 0
