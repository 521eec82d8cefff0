"""`sfmctl memory demo`: fills a namespace with real text of this machine and shows a few ranked answers."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfmctl import asked, memory_views, render
from sfmctl.commands.memory_recall import summary
from sfmctl.exits import Exit
from sfmctl.fault import Fault
from sfmctl.link import Link, linked

if TYPE_CHECKING:
    from sfmctl.demo.corpus import Outcome
    from sfmd.rpc.gen import memory_pb2 as pb

QUESTIONS = (
    "match a regular expression at the beginning of a string",
    "wait until another thread has finished",
    "compare two sequences and show the differences",
)
HITS = 4


def register(memory: typer.Typer) -> None:
    """Add the verb."""
    memory.command("demo")(demo)


@linked("namespace")
def demo(
    link: Link,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where to put it.")] = "python-docs",
    limit: Annotated[int, typer.Option("--limit", min=100, help="About so many passages.")] = 12_000,
) -> None:
    """Import the docstrings of this machine's Python as memories, and recall a few questions.

    Importance is how often a module is imported by the sources found; event times are constructed, spread over a
    year, so that decay shows. A second run finds everything there and stores nothing twice. A namespace that holds
    other memories is refused.
    """
    from sfmctl.demo import corpus

    started_s = time.monotonic()
    try:
        with link.client(stream_s=3600.0) as client:
            outcome = corpus.refresh(client, namespace, limit, time.time(), render.note)
            took_s = time.monotonic() - started_s
            filter_ = asked.filter_of([corpus.KIND], "", "", None)
            answers = [
                (question, client.recall(namespace, question, k=HITS, explain=True, filter=filter_))
                for question in QUESTIONS
            ]
    except corpus.Refusal as refused:
        raise Fault("SFM-MEM-011", str(refused), next_step="sfmctl daemon logs", exit_=Exit.REFUSED) from refused
    _show(link, namespace, outcome, took_s, answers)


def _said(outcome: Outcome, namespace: str, took_s: float) -> str:
    if outcome.unchanged:
        return f"{namespace}: all {outcome.passages:,} passages are there already, nothing to store ({took_s:.1f} s)"
    removed = f", {outcome.removed:,} gone ones removed" if outcome.removed else ""
    return (
        f"{namespace}: {outcome.passages:,} passages of {outcome.files:,} Python sources; {outcome.stored:,} stored, "
        f"{outcome.kept:,} were there{removed} ({took_s:.1f} s)"
    )


def _show(
    link: Link, namespace: str, outcome: Outcome, took_s: float, answers: list[tuple[str, pb.RecallReply]]
) -> None:
    def tables() -> list[object]:
        parts: list[object] = [_said(outcome, namespace, took_s), "event times are constructed, for decay to show\n"]
        for question, reply in answers:
            parts += [memory_views.hits_table(reply.hits, title=f'recall "{question}"'), summary(reply), ""]
        return [*parts, *_next_steps(link, namespace)]

    fields: dict[str, Any] = {
        "namespace": namespace, "files": outcome.files, "passages": outcome.passages, "stored": outcome.stored,
        "kept": outcome.kept, "removed": outcome.removed, "unchanged": outcome.unchanged, "tookS": took_s,
    }  # fmt: skip
    render.result(
        link.output,
        "Demo",
        json_body=lambda: {
            **fields,
            "answers": [{"question": q, "recall": memory_views.recall_fields(r)} for q, r in answers],
        },
        short_rows=lambda: [[outcome.passages, outcome.stored, outcome.kept, outcome.removed]],
        tables=tables,
    )


def _next_steps(link: Link, namespace: str) -> list[str]:
    """What to type next, with the path of this program as a shell here would find it."""
    program = Path(sys.argv[0]).absolute()
    try:
        shown = str(program.relative_to(Path.cwd()))
    except ValueError:
        shown = str(program)
    where = "" if link.connection.profile.namespace == namespace else f" -n {namespace}"
    return [
        "score = similarity x importance x decay; ask your own:",
        render.Paste(f'  {shown} memory recall "run a command in a subprocess and capture its output"{where}'),
        render.Paste(f"  {shown} memory --help"),
    ]
