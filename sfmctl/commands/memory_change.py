"""`sfmctl memory delete`, `undo`, `reinforce` and `purge`: changes of one memory, each a row of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sfmctl import asked, memory_views, render
from sfmctl.link import Link, confirmed, linked

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The memory's id.")]
KeyOption = Annotated[str, typer.Option("--idempotency-key", help="Makes a retry safe.")]


def register(memory: typer.Typer) -> None:
    """Add the verbs."""
    memory.command("delete")(delete)
    memory.command("undo")(undo)
    memory.command("reinforce")(reinforce)
    memory.command("purge")(purge)


def _show(link: Link, reply: pb.ChangeReply) -> None:
    fields = memory_views.change_fields(reply)
    columns = [render.Column("outcome"), render.Column("id", fold=True), render.Column("version", right=True),
               render.Column("seq", right=True)]  # fmt: skip
    row = [fields["outcome"], fields["id"], fields["version"], fields["seq"]]
    render.result(link.output, "Changed", json_body=lambda: {"changed": fields}, short_rows=lambda: [row],
                  tables=lambda: [render.table(columns, [row])])  # fmt: skip


@linked()
def delete(
    link: Link,
    id_: IdArgument,
    expected_version: Annotated[int | None, typer.Option("--expected-version", min=1, help="Only at this one.")] = None,
    idempotency_key: KeyOption = "",
) -> None:
    """Mark a memory deleted; `undo` brings it back."""
    with link.client() as client:
        reply = client.delete(link.namespace, id_, expected_version=expected_version, idempotency_key=idempotency_key)
    _show(link, reply)


@linked()
def undo(
    link: Link,
    id_: IdArgument,
    expected_seq: Annotated[
        int | None, typer.Option("--expected-seq", min=1, help="The seq of the change that is meant.")
    ] = None,
) -> None:
    """Revert the latest change of a memory by a new change; once more brings it back."""
    with link.client() as client:
        reply = client.undo(link.namespace, id_, expected_seq=expected_seq)
    _show(link, reply)


@linked()
def reinforce(
    link: Link,
    id_: IdArgument,
    importance: Annotated[
        float | None, typer.Option("--importance", help="A new raw importance; without one only retention changes.")
    ] = None,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="When it was accessed; default now.")] = "",
    idempotency_key: KeyOption = "",
) -> None:
    """Note that a memory was of use, and give it a new importance if wanted."""
    accessed_s = asked.moment("--at", at)
    with link.client() as client:
        reply = client.reinforce(link.namespace, id_, importance=importance, access_time_s=accessed_s,
                                 idempotency_key=idempotency_key)  # fmt: skip
    _show(link, reply)


@linked()
def purge(
    link: Link,
    id_: IdArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Erase every version of a memory for good: payload, vector, text and metadata. Digests stay."""
    namespace = link.namespace
    confirmed(f"Erase every version of {id_} in {namespace} for good?", yes)
    with link.client() as client:
        reply = client.purge(namespace, id_)
    row = [reply.id, reply.seq, reply.versions_erased]
    render.result(
        link.output,
        "Purged",
        json_body=lambda: {"purged": {"id": row[0], "seq": row[1], "versionsErased": row[2]}},
        short_rows=lambda: [row],
        tables=lambda: [
            render.table([render.Column("purged", fold=True), render.Column("seq", right=True),
                          render.Column("versions erased", right=True)], [row])
        ],
    )  # fmt: skip
