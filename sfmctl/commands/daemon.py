"""`sfmctl daemon …`: the embedded daemon of this machine and user."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the group to the command tree."""
    app.add_typer(typer.Typer(help="Run the memory daemon on this machine.", no_args_is_help=True), name="daemon")
