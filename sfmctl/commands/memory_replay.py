"""`sfmctl memory replay`: checks that a recall of the past still gives the same answer, byte for byte."""

from __future__ import annotations

from typing import Annotated

import typer

from sfmctl import memory_views, receipts, render
from sfmctl.exits import Exit
from sfmctl.link import Link, linked


def register(memory: typer.Typer) -> None:
    """Add the verb."""
    memory.command("replay")(replay)


@linked("namespace")
def replay(
    link: Link,
    receipt: Annotated[str, typer.Argument(metavar="FILE", help="A file of `recall --receipt`; - is stdin.")],
) -> None:
    """Recompute a recall as it was. Leaves with 3 when the answer is not identical."""
    asked_for = receipts.read(receipt)
    with link.client() as client:
        reply = client.replay(asked_for.receipt, asked_for.request)
    verdict = "identical" if reply.identical else "NOT identical"
    render.result(
        link.output,
        "Replay",
        json_body=lambda: {
            "identical": reply.identical, "engine": reply.engine, "receipt": receipts.fields(asked_for.receipt),
            "recall": memory_views.recall_fields(reply.reply),
        },
        short_rows=lambda: [["identical" if reply.identical else "different", reply.reply.seq, reply.engine]],
        tables=lambda: [
            memory_views.hits_table(reply.reply.hits),
            f"{verdict} to the answer of the receipt, at seq {reply.reply.seq}, engine {reply.engine}",
        ],
    )  # fmt: skip
    if not reply.identical:
        raise typer.Exit(Exit.CHECK_FAILED)
