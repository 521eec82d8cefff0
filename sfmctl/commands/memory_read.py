"""`sfmctl memory get`, `list` and `stats`: looking at what is stored."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Annotated

import typer

from sfmctl import asked, memory_views, quantities, render, stats_views
from sfmctl.link import Link, linked


def register(memory: typer.Typer) -> None:
    """Add the verbs."""
    memory.command("get")(get)
    memory.command("list")(list_)
    memory.command("stats")(stats)


IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The memory's id.")]


@linked()
def get(
    link: Link,
    id_: IdArgument,
    as_of: Annotated[int | None, typer.Option("--as-of", metavar="SEQ", min=0, help="As it was at that seq.")] = None,
    vector: Annotated[bool, typer.Option("--vector", help="With its vector (in json).")] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="Even when it is deleted.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The payload's bytes and nothing else.")] = False,
) -> None:
    """Show one memory."""
    with link.client() as client:
        found = client.get(link.namespace, id_, as_of_seq=as_of, include_vector=vector, include_deleted=deleted)
    if raw:
        sys.stdout.buffer.write(found.payload)
        sys.stdout.buffer.flush()
        return
    retention = f"{found.retention:.4f} ({found.access_count} accesses)"
    raw_importance = f"{found.importance:g}" if found.HasField("importance") else "none"
    rows = [
        ["id", found.id], ["version", f"{found.version} (seq {found.seq})"], ["kind", found.kind],
        ["event time", quantities.moment(found.event_time_s)], ["stored", quantities.moment(found.stored_at_s)],
        ["importance", f"{raw_importance}, normalised {found.importance_normalised:.4f}"],
        ["half-life class", found.half_life_class], ["retention", retention],
        *([f"feature {name}", f"{value:g}"] for name, value in sorted(found.features.items())),
        ["metadata", found.metadata_json or "{}"], ["content type", found.content_type],
        ["SHA-256", found.digest.hex()], ["payload", memory_views.snippet(found.payload, found.content_type, 2000)],
    ]  # fmt: skip
    rows += [["state", "deleted"]] if found.deleted else []
    render.result(
        link.output,
        "Memory",
        json_body=lambda: {"memory": memory_views.memory_fields(found)},
        short_rows=lambda: [[found.id, found.version, memory_views.snippet(found.payload, found.content_type)]],
        tables=lambda: [render.table([render.Column("what"), render.Column("value", fold=True)], rows)],
    )


@linked()
def list_(
    link: Link,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0 lists all.")] = 50,
    kind: asked.KindsOption = None,
    from_: asked.FromOption = "",
    to: asked.ToOption = "",
    where: asked.WhereOption = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted ones too.")] = False,
) -> None:
    """List memories by id."""
    wanted = asked.filter_of(kind, from_, to, where)
    with link.client() as client:
        walk = client.list(link.namespace, page_size=min(limit + 1, 1000) if limit else 1000, filter=wanted,
                           include_deleted=deleted)  # fmt: skip
        found = list(islice(walk, limit + 1 if limit else None))
    more = bool(limit) and len(found) > limit
    shown = found[:limit] if limit else found
    render.result(
        link.output,
        "Memories",
        json_body=lambda: {"memories": [memory_views.memory_fields(m) for m in shown], "more": more},
        short_rows=lambda: [[m.id, m.version, m.kind, memory_views.snippet(m.payload, m.content_type)] for m in shown],
        tables=lambda: [memory_views.memories_table(shown)],
    )
    if more:
        render.note(f"there are more than {limit}; --limit 0 lists all")


@linked()
def stats(link: Link) -> None:
    """Show counts, rates, latencies and gates: of -n's namespace, or of all that the token reaches."""
    with link.client() as client:
        reply = client.stats(
            link.connection.profile.namespace if link.connection.sources["namespace"] == "flag" else ""
        )
    render.result(
        link.output,
        "Stats",
        json_body=lambda: stats_views.fields(reply),
        short_rows=lambda: [[n.namespace, n.live, n.deleted, n.rows, n.segments] for n in reply.namespaces],
        tables=lambda: stats_views.tables(reply),
    )
