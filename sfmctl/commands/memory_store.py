"""`sfmctl memory store`: one memory from words, a file or standard input, or many from JSON lines."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfmctl import asked, memory_views, quantities, records, render
from sfmctl.codes import C
from sfmctl.exits import Exit
from sfmctl.link import Link, linked

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb


def register(memory: typer.Typer) -> None:
    """Add the verb."""
    memory.command("store")(store)


@linked()
def store(
    link: Link,
    text: Annotated[str, typer.Argument(help="The text to store and embed; - is stdin.")] = "",
    id_: Annotated[str, typer.Option("--id", help="Its id; the daemon makes one when not given.")] = "",
    payload: Annotated[
        str,
        typer.Option("--payload", metavar="FILE", help="Payload bytes, kept as they are; - is stdin."),
    ] = "",
    content_type: Annotated[
        str, typer.Option("--content-type", help="Of the payload; application/json must parse.")
    ] = "",
    vector: asked.VectorOption = "",
    kind: Annotated[str, typer.Option("--kind", help="A free word to filter by.")] = "",
    importance: Annotated[float | None, typer.Option("--importance", help="Raw importance, any finite number.")] = None,
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="Event time: 2026-05-01, Unix seconds or -3d; default now.")
    ] = "",
    half_life_class: Annotated[str, typer.Option("--half-life-class", help="One of the namespace's.")] = "",
    feature: Annotated[
        list[str] | None, typer.Option("--feature", metavar="NAME=VALUE", help="A channel's value in [0, 1].")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="JSON scalars or words.")
    ] = None,
    metadata_json: Annotated[str, typer.Option("--metadata-json", help="The whole object as JSON.")] = "",
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", min=0, help="Replace this version; 0: must not exist.")
    ] = None,
    idempotency_key: Annotated[str, typer.Option("--idempotency-key", help="Makes a retry safe.")] = "",
    jsonl: Annotated[
        str, typer.Option("--jsonl", metavar="FILE", help="Many memories, one JSON object a line; - is stdin.")
    ] = "",
) -> None:
    """Store a memory; the answer means that it is on disk.

    The same id with the same content again is DUPLICATE and changes nothing; with other content it is refused.
    """
    if jsonl:
        _store_lines(link, jsonl)
        return
    if sum(word == "-" for word in (text, payload, vector)) > 1:
        raise C.USAGE.fault("only one of TEXT, --payload and --vector can be standard input")
    record: dict[str, Any] = {
        "id": id_, "kind": kind, "content_type": content_type, "half_life_class": half_life_class,
        "idempotency_key": idempotency_key, "metadata_json": metadata_json,
    }  # fmt: skip
    record = {name: value for name, value in record.items() if value}
    optional = {
        "importance": importance,
        "expected_version": expected_version,
        "event_time_s": asked.moment("--at", at),
    }
    record |= {name: value for name, value in optional.items() if value is not None}
    if metadata:
        record["metadata"] = asked.option("--metadata", lambda: quantities.pairs(metadata, quantities.scalar))
    if feature:
        record["features"] = asked.option("--feature", lambda: quantities.pairs(feature, float))
    message = _message(record, asked.text(text), payload, vector)
    with link.client() as client:
        reply = client.store_input(link.namespace, message)
    _show(link, reply)


def _message(record: dict[str, Any], words: str, payload: str, vector: str) -> pb.MemoryInput:
    """The memory to send: the words are embedded unless a vector is given, and kept unless a payload is given."""
    if not words and not vector:
        raise C.USAGE.fault("nothing to store", why="give TEXT, --vector FILE or --jsonl FILE",
                            next_step="sfmctl memory store --help")  # fmt: skip
    if not words and not payload:
        raise C.USAGE.fault("a vector needs a payload", next_step="add TEXT or --payload FILE")
    given = dict(record)
    if not payload:
        given.setdefault("content_type", records.TEXT_TYPE)
    try:
        made = records.to_input({**given, "payload_text": "" if payload else words})
    except UnicodeEncodeError:
        raise
    except ValueError as error:
        raise C.USAGE.fault(str(error)) from error
    if payload:
        made.payload = asked.content(payload)
        made.content_type = record.get("content_type", "")
    if vector:
        made.vector.f32_le = asked.vector(vector)
    else:
        made.text = words
    return made


def _show(link: Link, reply: pb.StoreReply) -> None:
    fields = memory_views.change_fields(reply)
    row = [fields["outcome"], fields["id"], fields["version"], fields["seq"]]
    columns = [render.Column("outcome"), render.Column("id", fold=True), render.Column("version", right=True),
               render.Column("seq", right=True)]  # fmt: skip
    render.result(link.output, "Stored", json_body=lambda: {"stored": fields}, short_rows=lambda: [[fields["id"]]],
                  tables=lambda: [render.table(columns, [row])])  # fmt: skip


def _store_lines(link: Link, path: str) -> None:
    """StoreBatch: every item has its own outcome; a refused item never stops the good ones, and makes the exit 7."""
    source = io.BytesIO(asked.content(path))  # all lines are read before the first is sent: a bad one stores nothing
    try:
        items = list(records.read(source))
    except records.BadLine as error:
        raise C.INPUT.fault(f"{path}: {error}", why="nothing was stored") from error
    with link.client() as client:
        rows = [_item_fields(item) for item in client.store_many(link.namespace, items)]
    bad = [row for row in rows if "error" in row]
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["outcome"]] = counts.get(row["outcome"], 0) + 1

    def tables() -> Iterator[object]:
        yield render.table([render.Column("outcome"), render.Column("memories", right=True)], sorted(counts.items()))
        if bad:
            yield render.table(
                [render.Column("item", right=True), render.Column("code"), render.Column("why", fold=True)],
                [[row["index"], row["error"]["code"], row["error"]["message"]] for row in bad[:100]],
            )

    render.result(
        link.output, "StoredBatch", json_body=lambda: {"counts": counts, "items": rows},
        short_rows=lambda: [[row["outcome"], row.get("id", ""), row.get("error", {}).get("code", "")] for row in rows],
        tables=tables,
    )  # fmt: skip
    if bad:
        raise typer.Exit(Exit.REFUSED)


def _item_fields(item: pb.ItemOutcome) -> dict[str, Any]:
    fields: dict[str, Any] = {"index": item.index, **memory_views.change_fields(item.result)}
    if item.error.code:
        fields["error"] = {"code": item.error.code, "message": item.error.message, "status": item.error.grpc_status}
    return fields
