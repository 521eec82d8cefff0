"""`sfmctl memory recall` and `explain`: the best memories for a text or vector, with the terms of their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sfmctl import asked, memory_views, quantities, receipts, render
from sfmctl.codes import C
from sfmctl.commands import memory_recall_batch
from sfmctl.exits import Exit
from sfmctl.link import Link, linked

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb

MOST_HITS = 1000
QueryArgument = Annotated[str, typer.Argument(metavar="TEXT", help="The question; - is stdin.")]
AlphaOption = Annotated[float | None, typer.Option("--alpha", help="Exponent of importance, >= 0.")]
BetaOption = Annotated[float | None, typer.Option("--beta", help="Exponent of similarity, > 0.")]
NowOption = Annotated[str, typer.Option("--now", metavar="TIME", help="The moment that ages count to.")]
AsOfOption = Annotated[int | None, typer.Option("--as-of", metavar="SEQ", min=0, help="The state at that seq.")]


def register(memory: typer.Typer) -> None:
    """Add the verbs."""
    memory.command("recall")(recall)
    memory.command("explain")(explain)


def build(namespace: str, text: str, vector: str) -> pb.RecallRequest:
    """A request for one text or one vector file."""
    from sfmd.rpc.gen import memory_pb2 as pb

    if bool(text) == bool(vector):
        raise C.USAGE.fault("give a TEXT or --vector FILE, one of them", next_step="sfmctl memory recall --help")
    request = pb.RecallRequest(namespace=namespace, explain=True)
    if vector:
        request.vector.f32_le = asked.vector(vector)
    else:
        request.text = asked.text(text)
    return request


def _batch_template(namespace: str, text: str, vector: str, receipt: str) -> pb.RecallRequest:
    """What all questions of a batch share; each line adds its text or vector."""
    from sfmd.rpc.gen import memory_pb2 as pb

    if text or vector or receipt:
        words = "--batch brings its own questions and writes no receipt: leave TEXT, --vector and --receipt out"
        raise C.USAGE.fault(words, next_step="sfmctl memory recall --help")
    return pb.RecallRequest(namespace=namespace, explain=True)


def ask(link: Link, request: pb.RecallRequest) -> pb.RecallReply:
    """Send a recall; it is retried where that may help. Raises a Fault."""
    with link.client() as client:
        from sfmd.rpc.client import pb
        from sfmd.rpc.requests import Unary

        return client.call(Unary("Recall", request, pb.RecallReply, retry=True))


def _scoring(request: pb.RecallRequest, alpha: float | None, beta: float | None, now: str, as_of: int | None) -> None:
    now_s = asked.moment("--now", now)
    for name, value in (("alpha", alpha), ("beta", beta), ("now_s", now_s), ("as_of_seq", as_of)):
        if value is not None:
            setattr(request, name, value)


@linked()
def recall(
    link: Link,
    text: QueryArgument = "",
    vector: asked.VectorOption = "",
    k: Annotated[int, typer.Option("-k", min=1, max=MOST_HITS, help="How many.")] = 10,
    kind: asked.KindsOption = None,
    from_: asked.FromOption = "",
    to: asked.ToOption = "",
    where: asked.WhereOption = None,
    min_score: Annotated[float, typer.Option("--min-score", min=0.0, help="Least final score, inclusive.")] = 0.0,
    max_bytes: Annotated[int, typer.Option("--max-bytes", min=0, help="Budget of payload bytes; 0 is none.")] = 0,
    alpha: AlphaOption = None,
    beta: BetaOption = None,
    now: NowOption = "",
    as_of: AsOfOption = None,
    min_seq: Annotated[
        int | None, typer.Option("--min-seq", metavar="SEQ", min=0, help="Wait until this seq is visible.")
    ] = None,
    omit_payload: Annotated[bool, typer.Option("--omit-payload", help="Ids and scores only.")] = False,
    receipt: Annotated[
        str, typer.Option("--receipt", metavar="FILE", help="Write a receipt that `replay` can check.")
    ] = "",
    batch: Annotated[
        str, typer.Option("--batch", metavar="FILE", help="Questions, one JSON object a line; - is stdin.")
    ] = "",
) -> None:
    """Recall the best memories, ranked by similarity x importance x decay x features.

    Filters apply before the best are chosen, so fewer than -k come back only when fewer pass and
    are similar at all: a similarity of 0 or less is no hit. Reading never writes.
    With --batch, each line has one of text, vector and vector_f32_base64, and may have a k of its own.
    """
    request = _batch_template(link.namespace, text, vector, receipt) if batch else build(link.namespace, text, vector)
    if receipt == "-":
        raise C.USAGE.fault("--receipt needs a file: standard output is for the hits")
    _scoring(request, alpha, beta, now, as_of)
    request.k, request.min_score, request.max_bytes = k, min_score, max_bytes
    request.omit_payload, request.receipt = omit_payload, bool(receipt)
    if min_seq is not None:
        request.min_seq = min_seq
    request.filter.CopyFrom(asked.filter_of(kind, from_, to, where))
    if batch:
        memory_recall_batch.run(link, batch, request)
        return
    reply = ask(link, request)
    if receipt:
        receipts.write(receipt, request, reply.receipt)
    show(link, reply)


def show(link: Link, reply: pb.RecallReply) -> None:
    """Write a recall's reply in the form that was asked for."""
    render.result(
        link.output,
        "Recall",
        json_body=lambda: memory_views.recall_fields(reply),
        short_rows=lambda: [
            [f"{h.score:.6g}", h.id, memory_views.snippet(h.payload, h.content_type)] for h in reply.hits
        ],
        tables=lambda: [memory_views.hits_table(reply.hits), summary(reply)],
    )  # fmt: skip


def summary(reply: pb.RecallReply) -> str:
    """One line below the hits: what was looked at."""
    cut = ", cut by --max-bytes" if reply.truncated else ""
    return f"{len(reply.hits)} of {reply.rows_total:,} memories, {reply.rows_scored:,} scored, at seq {reply.seq}{cut}"


@linked()
def explain(
    link: Link,
    text: QueryArgument,
    id_: Annotated[str, typer.Argument(metavar="ID", help="The memory to explain.")],
    vector: asked.VectorOption = "",
    alpha: AlphaOption = None,
    beta: BetaOption = None,
    now: NowOption = "",
    as_of: AsOfOption = None,
) -> None:
    """Take the score of one memory for a question apart, term by term.

    Leaves with 3 when the memory is not among the 1,000 best. With --vector, TEXT is not used: write -.
    """
    request = build(link.namespace, "" if vector else text, vector)
    _scoring(request, alpha, beta, now, as_of)
    request.k, request.omit_payload = MOST_HITS, True
    reply = ask(link, request)
    hit = next((h for h in reply.hits if h.id == id_), None)
    if hit is None:
        render.note(
            f"{id_} is not among the {len(reply.hits):,} best of {reply.rows_total:,} memories for this question"
        )
        render.result(link.output, "Explanation", json_body=lambda: {"id": id_, "hit": None}, short_rows=lambda: [],
                      tables=lambda: [])  # fmt: skip
        raise typer.Exit(Exit.CHECK_FAILED)
    found = hit
    render.result(
        link.output,
        "Explanation",
        json_body=lambda: {"id": id_, "hit": memory_views.hit_fields(found)},
        short_rows=lambda: [[found.rank, f"{found.score:.6g}", f"{found.log2_score:.6f}"]],
        tables=lambda: [terms_table(found)],
    )


def terms_table(hit: pb.Hit) -> object:
    """The factors of a score, one a row, with the log2 terms whose sum ranks."""
    t = hit.explanation
    log2_decay = t.log2_decay_term + 0.0  # a memory that never ages has -0.0 there
    rows = [
        ["similarity", f"{t.similarity:.6f}", f"^ {t.beta:g} (beta)", f"{t.log2_similarity_term:+.6f}"],
        ["importance", f"{t.importance:.6f}", f"^ {t.alpha:g} (alpha)", f"{t.log2_importance_term:+.6f}"],
        ["decay", f"{memory_views.decay(t):.6f}",
         f"age {quantities.age(t.age_s)}, half-life {quantities.age(t.half_life_s)}", f"{log2_decay:+.6f}"],
    ]  # fmt: skip
    rows += [[f"feature {f.name}", f"{f.value:.6f}", f"^ {f.weight:g}", f"{f.log2_term:+.6f}"] for f in t.features]
    rows.append(["score", f"{hit.score:.6f}", f"rank {hit.rank}", f"{hit.log2_score:+.6f}"])
    columns = [render.Column("factor"), render.Column("value", right=True), render.Column("how", fold=True),
               render.Column("log2", right=True)]  # fmt: skip
    return render.table(columns, rows, title=hit.id)
