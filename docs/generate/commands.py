"""Writes docs/reference/commands.md from the Typer tree: every command, argument and option.

`python docs/generate/commands.py` writes it; `--check` says whether it is as it should be and leaves with 3 when not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from sfmctl.app import build
from sfmctl.link import SHARED

TARGET = Path(__file__).resolve().parents[2] / "docs" / "reference" / "commands.md"
MADE = "<!-- Made by docs/generate/commands.py from the command tree; do not edit. -->\n\n"


def cell(text: object) -> str:
    """A table cell: one line, bars escaped."""
    return " ".join(str(text).split()).replace("|", "\\|")


def option_row(param: Any) -> str:
    """One option or argument as a table row."""
    argument = type(param).__name__ == "TyperArgument"
    names = f"`{param.metavar or param.name.upper()}`" if argument else ", ".join(f"`{o}`" for o in param.opts)
    if param.secondary_opts:
        names += " / " + ", ".join(f"`{o}`" for o in param.secondary_opts)
    notes = []
    if param.required:
        notes.append("required")
    elif param.default not in (None, "", False, ()) and not callable(param.default):
        notes.append(f"default `{getattr(param.default, 'value', param.default)}`")
    if param.envvar:
        notes.append(f"`{param.envvar}`")
    return f"| {names} | {cell(param.help or '')} | {'; '.join(notes)} |"


def shared_options(command: Any, common: dict[str, Any]) -> set[str]:
    """Names of the command's options that stand at the top: `-o` only where it does not talk to the daemon."""
    names = {p.name for p in command.params}
    if "address" not in names:
        return names & {"output"}
    # One of the same name that means something else is the command's own.
    return {p.name for p in command.params if p.name in common and p.help == common[p.name].help}


def command_section(path: str, command: Any, common: dict[str, Any]) -> Iterator[str]:
    """One command: usage, what it does, its options; the shared connection options are named once, at the top."""
    shared = shared_options(command, common)
    own = [p for p in command.params if p.name not in {*shared, "help"}]
    arguments = [p for p in own if type(p).__name__ == "TyperArgument"]
    usage = " ".join([path, *(f"{p.metavar or p.name.upper()}" if p.required else f"[{p.metavar or p.name.upper()}]"
                              for p in arguments), "[OPTIONS]"])  # fmt: skip
    yield f"\n## {path}\n\n```\n{usage}\n```\n\n{(command.help or '').strip()}\n"
    rows = [option_row(p) for p in own if p.name not in {"install_completion", "show_completion"}]
    if rows:
        yield "\n| option | meaning | notes |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    if "address" in shared:
        lacking = [f"`{common[n].opts[0]}`" for n in common if n not in {p.name for p in command.params}]
        but = f", but for {', '.join(lacking)}" if lacking else ""
        yield f"\nAlso the [connection options](#connection-options){but}.\n"
    elif "output" in shared:
        yield "\nAlso `-o`, `--output`.\n"


def walk(path: str, command: Any, common: dict[str, Any]) -> Iterator[str]:
    """A command and all below it, in the order of the help."""
    children = getattr(command, "commands", {})
    if not children or path == "sfmctl":
        yield from command_section(path, command, common)
    for name, child in children.items():
        yield from walk(f"{path} {name}", child, common)


def document() -> str:
    """docs/reference/commands.md: every command and option of the Typer tree."""
    tree: Any = typer.main.get_command(build())
    common = {p.name: p for p in tree.commands["memory"].commands["recall"].params if p.name in SHARED}
    head = "# Commands\n\nResults go to stdout, progress and errors to stderr; see [exit codes](exit-codes.md).\n"
    options = "\n".join(option_row(p) for p in common.values())
    return (
        MADE
        + head
        + "\n## Connection options\n\nEvery command that talks to the daemon has these, but for those it names; "
        "[profiles and environment](profiles.md) says how they combine.\n\n"
        f"| option | meaning | notes |\n|---|---|---|\n{options}\n" + "".join(walk("sfmctl", tree, common))
    )


def main() -> int:
    """Write the page, or with --check compare it."""
    made = document()
    if "--check" in sys.argv[1:]:
        same = TARGET.exists() and TARGET.read_text() == made
        print("docs/reference/commands.md is", "up to date" if same else "stale: make docs")
        return 0 if same else 3
    TARGET.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
