"""`sfmctl playbook show`: the book as it will be followed: plays, steps, checks, programs, images."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sfmctl import render
from sfmctl.codes import C


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="The playbook: what is done to a cluster, as data.", no_args_is_help=True)
    group.command("show")(show)
    app.add_typer(group, name="playbook")


def show(
    play: Annotated[str, typer.Argument(help="Only this play, such as up.", metavar="[PLAY]")] = "",
    checks: Annotated[bool, typer.Option("--checks", help="List the checks instead of the steps.")] = False,
    output: render.OutputOption = render.Output.TABLE,
) -> int:
    """List the plays with their steps, or the checks with their criteria."""
    from playbook.load import packaged

    book = packaged()
    if play and play not in book.plays:
        there = f"there are {', '.join(book.plays)}"
        raise C.USAGE.fault(f"the book has no play {play!r}", why=there, next_step="sfmctl playbook show")
    plays = {name: steps for name, steps in book.plays.items() if not play or name == play}

    def body() -> dict[str, Any]:
        return {
            "plays": [
                {"play": name, "steps": [{"id": s, "section": book.steps[s].section, "title": book.steps[s].title,
                                          "destructive": book.steps[s].destructive,
                                          "done_when": [str(c) for c in book.steps[s].done_when],
                                          "hint": book.steps[s].hint} for s in steps]}
                for name, steps in plays.items()
            ],
            "checks": [{"id": c.id, "category": c.category, "title": c.title, "command": c.command,
                        "criterion": c.criterion, "needs": list(c.needs), "hint": c.hint}
                       for c in book.checks.values()],
            "tools": [{"name": t.name, "minimum": t.minimum, "required": t.required} for t in book.tools],
            "images": [{"ref": i.ref, "source": i.source, "modes": list(i.modes), "why": i.why} for i in book.images],
            "modes": list(book.modes),
        }  # fmt: skip

    step_rows = [
        (name, s, book.steps[s].section, book.steps[s].title, ", ".join(map(str, book.steps[s].done_when)))
        for name, steps in plays.items()
        for s in steps
    ]
    check_rows = [(c.category, c.id, c.criterion, c.hint) for c in book.checks.values()]
    step_columns = [render.Column("play", no_wrap=True), render.Column("step", no_wrap=True), render.Column("§"),
                    render.Column("what", fold=True), render.Column("done when", fold=True)]  # fmt: skip
    check_columns = [render.Column("category", no_wrap=True), render.Column("check", no_wrap=True),
                     render.Column("criterion", fold=True), render.Column("code", no_wrap=True)]  # fmt: skip
    rows, columns = (check_rows, check_columns) if checks else (step_rows, step_columns)
    render.result(output, "Playbook", json_body=body, short_rows=lambda: rows,
                  tables=lambda: [render.table(columns, rows)])  # fmt: skip
    return 0
