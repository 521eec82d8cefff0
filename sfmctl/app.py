"""The Typer application: the command tree and the entry point.

Command modules import nothing heavy at module level (no grpc, numpy, yaml or kubernetes): `sfmctl --help` stays quick,
and a test holds it to that.
"""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from sfmctl import boundary, render

# One line per module of sfmctl.commands, in the order of the help; each has `register(app: typer.Typer) -> None`.
COMMAND_MODULES = (
    "memory",
    "daemon",
    "doctor",
    "ops",
    "cluster",
    "images",
    "infra",
    "app",
    "topics",
    "delivery",
    "verify",
    "playbook",
    "vault",
    "access",
    "explain",
)


def version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from importlib.metadata import version as installed

        sys.stdout.write(f"sfmctl {installed('soma-fractal-memory')}\n")
        raise typer.Exit


def build() -> typer.Typer:
    """The whole command tree."""
    app = typer.Typer(
        name="sfmctl",
        help="Run the Soma shared-infra playbook, and store and recall memories.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def top(
        _: bool = typer.Option(
            False, "--version", callback=version, is_eager=True, help="Print the version and leave."
        ),
    ) -> None:
        pass

    for name in COMMAND_MODULES:
        import_module(f"sfmctl.commands.{name}").register(app)
    return app


def run(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's) and return the exit code; no exception leaves here."""
    return boundary.outcome(
        lambda choice: build()(argv, prog_name="sfmctl", standalone_mode=False, obj=choice), render.Choice()
    )


def main() -> None:
    """Entry point of the `sfmctl` script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
