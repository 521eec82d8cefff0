"""`sfmctl memory …`: store and recall memories. Each verb's file adds itself here."""

from __future__ import annotations

from importlib import import_module

import typer

# One line per module of sfmctl.commands, in the order of the help; each has `register(memory: typer.Typer) -> None`.
VERB_MODULES = (
    "memory_store",
    "memory_recall",
    "memory_replay",
    "memory_read",
    "memory_change",
    "memory_transfer",
    "memory_watch",
    "memory_namespace",
    "memory_demo",
    "memory_connection",
)


def register(app: typer.Typer) -> None:
    """Add the group to the command tree."""
    memory = typer.Typer(help="Store memories durably and recall them exactly.", no_args_is_help=True)
    for name in VERB_MODULES:
        import_module(f"sfmctl.commands.{name}").register(memory)
    app.add_typer(memory, name="memory")
