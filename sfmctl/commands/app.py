"""`sfmctl app`: an application's place in the shared infrastructure, from its name alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfmctl import playrun, render
from sfmctl.exits import Exit, worst

if TYPE_CHECKING:
    from playbook.model import Plan
    from playbook.target import Target

Name = Annotated[str, typer.Argument(help="The application's name.", metavar="APP", show_default=False)]
Env = Annotated[
    str, typer.Option("--env", "-e", envvar="SFM_ENV", help="Its environment: dev, test, staging, prod-lite or prod.")
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace; default: the application's name.")]
JobImage = Annotated[
    str,
    typer.Option("--sfmctl-image", envvar="SFM_SFMCTL_IMAGE", help="Image of the Job that administers Kafka inside."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write into; it may exist already.", file_okay=False)]
Force = Annotated[bool, typer.Option("--force", help="Write over files that differ.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Wire an application to the shared infrastructure.")
    for command in (wire, unwire, show):
        group.command()(command)
    group.command("render")(render_chart)
    app.add_typer(group, name="app")


def aim_at(
    name: str, env: str, namespace: str, cluster: str, context: str, kubeconfig: playrun.Kubeconfig, **flags: Any
) -> Target:
    """The target of a run that is about one application."""
    import os

    from playbook.target import check_mode, find_infra
    from playbook.trouble import Trouble
    from playbook.wiring.application import application

    try:  # the charts are not needed, but with a checkout the image of the Jobs can be built
        infra: Path | None = find_infra(None)
    except Trouble:
        infra = None
    with playrun.translated():
        app = application(name, check_mode(env), namespace)
        return playrun.target(
            mode=env, cluster=cluster, context=context, kubeconfig=kubeconfig, infra=infra,
            need_infra=infra is not None, build_network=os.environ.get("SFM_BUILD_NETWORK", ""),
            buildkit=os.environ.get("SFM_BUILDKIT", "1").lower() not in ("0", "false", "no"), app=app, **flags,
        )  # fmt: skip


def wire(
    name: Name,
    env: Env = "dev",
    namespace: Namespace = "",
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    sfmctl_image: JobImage = "",
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Give an application all that it needs: namespace, secrets, database, Redis user, Kafka user, topics, settings."""
    aim = aim_at(name, env, namespace, cluster, context, kubeconfig, sfmctl_image=sfmctl_image)
    return playrun.run_play("app-wire", aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code)


def unwire(
    name: Name,
    env: Env = "dev",
    namespace: Namespace = "",
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Erase its database, topics, Redis keys and secrets too.")
    ] = False,
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    allow: playrun.Allow = None,
    sfmctl_image: JobImage = "",
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    timeout: playrun.Timeout = playrun.WHOLE_S,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Take an application's access away; its data is kept, and wiring it again gives it back, unless --delete-data."""
    aim = aim_at(name, env, namespace, cluster, context, kubeconfig, allow=allow, sfmctl_image=sfmctl_image)
    play = "app-erase" if delete_data else "app-unwire"
    return playrun.run_play(play, aim, output, timeout=timeout, yes=yes, dry_run=dry_run, exit_code=exit_code)


def show(
    name: Name,
    env: Env = "dev",
    namespace: Namespace = "",
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    sfmctl_image: JobImage = "",
    timeout: playrun.Timeout = 120.0,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Show each part of an application's wire-up: as it should be, or what is wanting. Leaves with 3 when any is."""
    from playbook.engine import make_plan
    from playbook.facts import Observer
    from playbook.load import packaged

    aim = aim_at(name, env, namespace, cluster, context, kubeconfig, sfmctl_image=sfmctl_image)
    with playrun.translated(aim):
        seen = Observer(aim, packaged(), deadline=time.monotonic() + timeout)
        try:
            plan, _ = make_plan(seen, "app-wire")
        finally:
            seen.forget()
    render.result(
        output,
        "Application",
        json_body=lambda: {**names(aim), "parts": parts(plan)},
        short_rows=lambda: [(p["part"], p["state"], p["why"]) for p in parts(plan)],
        tables=lambda: [
            render.table(
                [render.Column("part", no_wrap=True), render.Column("state", no_wrap=True),
                 render.Column("because", fold=True)],
                [(p["part"], p["state"], p["why"]) for p in parts(plan)], title=f"application {aim.app}",
            )
        ],
    )  # fmt: skip
    return worst([Exit.UNDETERMINED] * bool(plan.refusals) + [Exit.CHECK_FAILED] * bool(plan.pending))


def parts(plan: Plan) -> list[dict[str, str]]:
    """The parts of a wire-up by what the plan says about them."""
    states = {"done": "ok", "do": "wanting", "later": "wanting", "refused": "unknown", "skip": "none"}
    return [
        {
            "part": i.step.id.removeprefix("app."),
            "state": "warning" if i.left and i.verdict.value == "done" else states[i.verdict.value],
            "why": i.left if i.verdict.value == "done" else i.why.partition(" is ")[2] or i.why,
        }
        for i in plan.items
    ]


def names(aim: Target) -> dict[str, Any]:
    """What everything of the application is called."""
    app = aim.app
    if app is None:
        return {}
    return {
        "application": app.name,
        "env": app.env,
        "namespace": app.namespace,
        "serviceAccount": app.account,
        "secret": app.runtime,
        "externalSecret": app.external_secret,
        "settings": app.settings,
        "vaultPath": f"secret/{app.secret_path}",
        "topics": list(app.topics),
    }


def render_chart(
    name: Name,
    namespace: Namespace = "",
    out: Out = Path("chart"),
    force: Force = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Write a chart for the application: a Deployment that reads what `app wire` made, ready to be changed."""
    from playbook.wiring.application import application
    from playbook.wiring.skeleton import chart
    from playbook.wiring.written import write

    with playrun.translated():
        files = write(out, chart(application(name, "dev", namespace)), force=force)
    return tell_written(out, files, output)


def tell_written(out: Path, files: list[tuple[str, str]], output: render.Output) -> int:
    """Print which files were written, kept or replaced."""
    render.result(
        output,
        "Rendered",
        json_body=lambda: {"folder": str(out), "files": [{"path": path, "result": what} for path, what in files]},
        short_rows=lambda: [(path, what) for path, what in files],
        tables=lambda: [
            render.table([render.Column("file"), render.Column("result")], [(p, w) for p, w in files], title=str(out))
        ],
    )
    return Exit.OK
