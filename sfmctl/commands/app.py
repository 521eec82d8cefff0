"""`sfmctl app`: an application's place in the shared infrastructure, from its name alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfmctl import playrun, render

if TYPE_CHECKING:
    from playbook.target import Target

Name = Annotated[str, typer.Argument(help="The application's name.", metavar="APP", show_default=False)]
Env = Annotated[
    str, typer.Option("--env", "-e", envvar="SFM_ENV", help="Its environment: dev, test, staging, prod-lite or prod.")
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace; default: the application's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Wire an application to the shared infrastructure.")
    group.command("wire")(wire)
    group.command("unwire")(unwire)
    app.add_typer(group, name="app")


def aim_at(
    name: str, env: str, namespace: str, cluster: str, context: str, kubeconfig: playrun.Kubeconfig, **flags: Any
) -> Target:
    """The target of a run that is about one application."""
    from playbook.target import check_mode
    from playbook.wiring.application import application

    with playrun.translated():
        app = application(name, check_mode(env), namespace)
        return playrun.target(
            mode=env, cluster=cluster, context=context, kubeconfig=kubeconfig, need_infra=False, app=app, **flags
        )


def wire(
    name: Name,
    env: Env = "dev",
    namespace: Namespace = "",
    cluster: playrun.Cluster = "soma",
    context: playrun.Context = "",
    kubeconfig: playrun.Kubeconfig = None,
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Give an application all that it needs: namespace, secrets, database, Redis user, Kafka user, topics, settings."""
    aim = aim_at(name, env, namespace, cluster, context, kubeconfig)
    return playrun.run_play("app-wire", aim, output, yes=yes, dry_run=dry_run, exit_code=exit_code)


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
    yes: playrun.Yes = False,
    dry_run: playrun.DryRun = False,
    exit_code: playrun.ExitCode = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Take an application's access away; its data is kept, and wiring it again gives it back, unless --delete-data."""
    aim = aim_at(name, env, namespace, cluster, context, kubeconfig, allow=allow)
    play = "app-erase" if delete_data else "app-unwire"
    return playrun.run_play(play, aim, output, yes=yes, dry_run=dry_run, exit_code=exit_code)
