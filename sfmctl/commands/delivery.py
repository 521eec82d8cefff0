"""`sfmctl cd`: an application's way from a commit to its clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfmctl import playrun, render
from sfmctl.commands.app import Force, Name, Namespace, Out, tell_written

DEFAULT = ("dev", "staging", "prod")
Environments = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", help="An environment to deliver to, in turn; default: dev, staging and prod."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    group = typer.Typer(no_args_is_help=True, help="Continuous delivery of an application.")
    group.command("render")(render_workflow)
    app.add_typer(group, name="cd")


def render_workflow(
    name: Name,
    env: Environments = None,
    namespace: Namespace = "",
    out: Out = Path(),
    force: Force = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Write a GitHub Actions workflow: build, push, helm upgrade and the same readiness gate in each environment."""
    from playbook.target import check_mode
    from playbook.wiring.application import application
    from playbook.wiring.delivery import workflow
    from playbook.wiring.written import write

    with playrun.translated():
        environments = list(dict.fromkeys(map(check_mode, env or DEFAULT)))
        files = write(out, workflow(application(name, "dev", namespace), environments), force=force)
    return tell_written(out, files, output)
