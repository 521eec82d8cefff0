"""`sfmctl explain CODE`: any code of any part, offline: what it means, why it happens, what mends it."""

from __future__ import annotations

from typing import Annotated

import typer

from sfmctl import render
from sfmctl.connection import exit_of
from sfmctl.fault import Fault


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def catalogue() -> dict[str, dict[str, object]]:
    """Every code: of the infrastructure's book, of the command line, of the daemon."""
    from playbook.load import packaged
    from playbook.model import Code
    from sfmctl import codes
    from sfmd import errors

    found: dict[str, dict[str, object]] = {}

    def add(code: str, title: str, why: str, mend: str, exit_code: int) -> None:
        doc = Code(code, title, why, mend, exit_code).doc
        found[code] = {"code": code, "title": title, "why": why, "mend": mend, "exitCode": exit_code, "doc": doc}

    for own in codes.CATALOGUE.values():
        add(own.code, own.title, "", own.next_step, int(own.exit))
    for entry in packaged().codes.values():
        elsewhere = f"; on a cluster that is not kind's: {entry.elsewhere}" if entry.elsewhere else ""
        add(entry.code, entry.title, entry.why, entry.mend + elsewhere, entry.exit)
    for refused in errors.CATALOGUE.values():
        status = f"The daemon answers with the gRPC status {refused.status.value}."
        add(refused.code, refused.title, status, refused.next_step, int(exit_of(refused.code)))
    return dict(sorted(found.items()))


def explain(
    code: Annotated[str, typer.Argument(help="Such as SFM-K8S-006.", metavar="CODE")] = "",
    everything: Annotated[bool, typer.Option("--list", help="List every code.")] = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """Say what a code means and which command mends it, without a network."""
    known = catalogue()
    if everything or not code:
        columns = [render.Column("code", no_wrap=True), render.Column("title", fold=True)]
        rows = [(entry["code"], entry["title"]) for entry in known.values()]
        render.result(output, "Codes", json_body=lambda: {"codes": list(known.values())}, short_rows=lambda: rows,
                      tables=lambda: [render.table(columns, rows)])  # fmt: skip
        return 0
    entry = known.get(code.strip().upper())
    if entry is None:
        near = [name for name in known if name.startswith(code.strip().upper()[:7])]
        raise Fault("SFM-CLI-027", f"there is no code {code!r}", why=f"near it: {', '.join(near)}" if near else "",
                    next_step="sfmctl explain --list")  # fmt: skip
    render.result(
        output, "Code", json_body=lambda: entry, short_rows=lambda: [(entry["code"], entry["title"], entry["mend"])],
        tables=lambda: [
            f"{entry['code']} — {entry['title']}",
            *([f"why:  {entry['why']}"] if entry["why"] else []),
            f"mend: {entry['mend']}",
            f"exit code {entry['exitCode']} · {entry['doc']}",
        ],
    )  # fmt: skip
    return 0
