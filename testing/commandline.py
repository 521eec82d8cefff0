"""Command lines of ours as text: whether each names a command that exists, with options that it takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from sfmctl.app import build


def parsed(line: str) -> tuple[list[str], Mapping[str, Any]]:
    """The command of a line as its path of names, and its parameters; nothing is run.

    AssertionError for a command that is not there, and for an option or argument that it does not take.
    """
    node: Any = typer.main.get_command(build())
    program, *words = shlex.split(line)
    assert program == "sfmctl", line
    path: list[str] = []
    while hasattr(node, "commands"):
        assert words and words[0] in node.commands, f"{line!r}: there is no command {' '.join([*path, *words[:1]])}"
        path.append(words.pop(0))
        node = node.commands[path[-1]]
    try:
        with node.make_context(path[-1], words) as context:
            return path, dict(context.params)
    except Exception as error:
        if not hasattr(error, "format_message"):  # the parser's own kind of error
            raise
        raise AssertionError(f"{line!r}: {error.format_message()}") from error


def every_command() -> Iterator[tuple[str, set[str]]]:
    """Every command of ours as a person types it, with the names of its parameters."""
    yield from below(typer.main.get_command(build()), ())


def below(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, set[str]]]:
    """The commands of a group, or the one command that `node` is."""
    if not hasattr(node, "commands"):
        yield " ".join(path), {p.name for p in node.params}
        return
    for name, one in node.commands.items():
        yield from below(one, (*path, name))
