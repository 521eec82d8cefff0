"""`sfmctl memory connection`: says which daemon the next command would talk to, and why."""

from __future__ import annotations

import os
from collections.abc import Iterable

import typer

from sfmctl import connection, render


def register(memory: typer.Typer) -> None:
    """Add the verb."""
    memory.command("connection")(show)


def show(
    profile: str = typer.Option("", "--profile", help="The profile to use."),
    output: render.OutputOption = render.Output.TABLE,
) -> None:
    """Show the address, certificate and token file in use, and where each comes from."""
    found = connection.resolve({}, os.environ, profile=profile)
    rows: list[tuple[str, str, str]] = []
    for name in connection.ENVIRONMENT:
        value = getattr(found, name) or ("(from SFM_TOKEN)" if name == "token_file" and found.token else "")
        rows.append((name, value, found.sources.get(name, "not set")))

    def tables() -> Iterable[object]:
        yield render.table([render.Column("what"), render.Column("value", fold=True), render.Column("from")], rows)

    render.result(
        output,
        "Connection",
        json_body=lambda: {"connection": {name: {"value": value, "from": source} for name, value, source in rows}},
        short_rows=lambda: rows,
        tables=tables,
    )
