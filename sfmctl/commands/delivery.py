"""`sfmctl cd`: an application's way from a commit to its clusters."""

from __future__ import annotations

from pathlib import Path

import typer

from sfmctl import playrun, render
from sfmctl.commands.app import Force, Name, Namespace, Out, tell_written


def register(app: typer.Typer) -> None:
    """Add the command."""
    group = typer.Typer(no_args_is_help=True, help="Continuous delivery of an application.")
    group.command("render")(render_workflow)
    app.add_typer(group, name="cd")


def render_workflow(
    name: Name,
    namespace: Namespace = "",
    out: Out = Path(),
    force: Force = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Write a GitHub Actions workflow: build, push, helm upgrade and the same readiness gate in each environment."""
    from playbook.wiring.application import application
    from playbook.wiring.delivery import workflow
    from playbook.wiring.written import write

    with playrun.translated():
        files = write(out, workflow(application(name, "dev", namespace)), force=force)
    return tell_written(out, files, output)
