"""`sfmctl memory connection`: says which daemon the next command would talk to, and why."""

from __future__ import annotations

import typer

from sfmctl import connection, render
from sfmctl.link import Link, linked


def register(memory: typer.Typer) -> None:
    """Add the verb."""
    memory.command("connection")(show)


@linked()
def show(link: Link) -> None:
    """Show the address, certificate, token file and namespace in use, and where each comes from."""
    found = link.connection
    rows = [(name, getattr(found.profile, name), found.sources[name]) for name in connection.FIELDS]
    render.result(
        link.output,
        "Connection",
        json_body=lambda: {"connection": {name: {"value": value, "from": source} for name, value, source in rows}},
        short_rows=lambda: rows,
        tables=lambda: [
            render.table([render.Column("what"), render.Column("value", fold=True), render.Column("from")], rows)
        ],
    )
