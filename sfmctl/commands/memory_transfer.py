"""`sfmctl memory export` and `import`: a namespace as JSON lines, every payload and vector back byte for byte."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from sfmctl import asked, connection, memory_views, outfile, progress, records, render
from sfmctl.codes import C
from sfmctl.exits import Exit
from sfmctl.link import Link, linked

if TYPE_CHECKING:
    from sfmd.rpc.client import Client
    from sfmd.rpc.gen import memory_pb2 as pb

DAY_S = 86_400.0


def register(memory: typer.Typer) -> None:
    """Add the verbs."""
    memory.command("export")(export)
    memory.command("import")(import_)


@linked()
def export(
    link: Link,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - is stdout.")] = "-",
    vectors: Annotated[bool, typer.Option("--vectors/--no-vectors", help="With vectors, which import needs.")] = True,
    as_of: Annotated[int | None, typer.Option("--as-of", metavar="SEQ", min=0, help="As it was at that seq.")] = None,
    kind: asked.KindsOption = None,
    from_: asked.FromOption = "",
    to: asked.ToOption = "",
    where: asked.WhereOption = None,
) -> None:
    """Write every live memory as a JSON line, as of one moment, in the order of ids.

    The first line describes the namespace. A file appears only when it is complete.
    """
    wanted = asked.filter_of(kind, from_, to, where)
    with link.client(stream_s=DAY_S) as client, outfile.target(file) as out:
        stream = client.export(link.namespace, as_of_seq=as_of, include_vectors=vectors, filter=wanted)
        head = next(stream)
        header = {records.HEADER_KEY: 1, "namespace": memory_views.namespace_fields(head.namespace), "seq": head.seq}
        out.write((records.line(header) + "\n").encode())
        count = 0
        with progress.counting("export", head.total) as advance:
            for message in chain((head,), stream):
                for memory in message.memories:
                    out.write((records.line(records.of_memory(memory)) + "\n").encode())
                count += len(message.memories)
                advance(len(message.memories))
    if file != "-":
        fields = {"file": file, "memories": count, "seq": head.seq}
        render.result(link.output, "Exported", json_body=lambda: {"exported": fields},
                      short_rows=lambda: [[count, head.seq, file]],
                      tables=lambda: [f"{count:,} memories as of seq {head.seq} in {file}"])  # fmt: skip


@linked()
def import_(
    link: Link,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - is stdin.")],
    create: Annotated[
        bool, typer.Option("--create", help="Make the namespace as the export's first line describes it.")
    ] = False,
    import_id: Annotated[
        str, typer.Option("--import-id", metavar="NAME", help="Knows lines without an id again; default: FILE's path.")
    ] = "",
) -> None:
    """Store JSON lines, as `export` writes them or with `text` alone.

    A memory that is there already with the same content is a duplicate and changes nothing, so an import that broke
    off can simply be run again. Lines without an id are known again by --import-id, their number and their content,
    for a week unless the daemon is set otherwise; those of stdin only with --import-id. An id that is there with
    other content is refused (an export has the vector that was made of a text, which is other content than the text).
    Leaves with 7 when the daemon refused a line.
    """
    name = import_id or _name_of(file)
    with link.client(stream_s=DAY_S) as client, _source(file) as lines:
        reply, sent = _send(link, client, lines, file, name, create)
    counts = {"received": reply.received, "created": reply.created, "updated": reply.updated,
              "duplicate": reply.duplicate, "conflict": reply.conflict, "rejected": reply.rejected}  # fmt: skip
    errors = [{"item": e.index, "id": e.result.id, "code": e.error.code, "message": e.error.message}
              for e in reply.first_errors]  # fmt: skip

    def tables() -> Iterator[object]:
        yield render.table([render.Column(name, right=True) for name in counts], [[f"{v:,}" for v in counts.values()]])
        if errors:
            yield ""
            yield render.table(
                [render.Column("item", right=True), render.Column("id"), render.Column("code"),
                 render.Column("why", fold=True)],
                [[e["item"], e["id"], e["code"], e["message"]] for e in errors],
            )  # fmt: skip

    render.result(
        link.output, "Imported",
        json_body=lambda: {"imported": counts, "sent": sent, "lastSeq": reply.last_seq, "firstErrors": errors},
        short_rows=lambda: [[name, count] for name, count in counts.items()], tables=tables,
    )  # fmt: skip
    if reply.conflict or reply.rejected:
        raise typer.Exit(Exit.REFUSED)


def _name_of(file: str) -> str:
    """What an import is called when nobody named it: the file's path; nothing for what can be read only once."""
    return str(Path(file).resolve()) if file != "-" and Path(file).is_file() else ""


def _send(
    link: Link, client: Client, lines: IO[bytes], file: str, name: str, create: bool
) -> tuple[pb.ImportReply, int]:
    from sfmd.rpc.failure import CallFailed

    sent = unknown = 0
    header: dict[str, Any] = {}
    items = records.read(lines, header=header.update)
    try:
        first = next(items, None)
        namespace = link.namespace
        if create:
            _create(client, namespace, header)
        with progress.counting("import", _lines_of(file)) as advance:

            def counted() -> Iterator[pb.MemoryInput]:
                nonlocal sent, unknown
                for item in chain(() if first is None else (first,), items):
                    unknown += not (name or item.id or item.idempotency_key)
                    yield item
                    sent += 1
                    advance(1)

            reply = client.import_many(namespace, keyed(counted(), name))
        if unknown:
            render.note(
                f"{unknown:,} lines without an id: a second run stores them again; --import-id NAME prevents it"
            )
        return reply, sent
    except records.BadLine as error:
        raise C.INPUT.fault(
            f"{file}: {error}", why=f"the {sent:,} memories before it may be stored",
            next_step=f"correct the line and run the same command again: {_again(unknown)}",
        ) from error  # fmt: skip
    except CallFailed as failed:
        broken = connection.fault_of(failed, link.connection)
        if sent and failed.status == "UNAVAILABLE":
            broken.why = f"up to {sent:,} memories were sent and the first of them may be stored; {broken.why}"
            broken.next_step += f"; then run the same command again: {_again(unknown)}"
        raise broken from failed


def _again(unknown: int) -> str:
    if not unknown:
        return "what is there already stays as it is"
    return f"what has an id stays as it is, and up to {unknown:,} lines without one are stored again"


def keyed(items: Iterable[pb.MemoryInput], name: str) -> Iterator[pb.MemoryInput]:
    """The same memories; in an import that has a name, those without id and idempotency key get a key of its lines."""
    for number, item in enumerate(items, 1):
        if name and not item.id and not item.idempotency_key:
            digest = hashlib.sha256(os.fsencode(f"{name}\0{number}\0") + item.SerializeToString(deterministic=True))
            item.idempotency_key = f"import-{digest.hexdigest()}"
        yield item


def _create(client: Client, namespace: str, header: dict[str, Any]) -> None:
    """Make the namespace of an export's first line; the same again is no change."""
    from sfmctl import exports

    if not header:
        raise C.INPUT.fault("--create needs the first line of an export, which describes the namespace")
    try:
        client.call(exports.create_request(namespace, header))
    except (KeyError, TypeError, ValueError) as error:
        raise C.INPUT.fault("the first line does not describe a namespace", why=repr(error)) from error


@contextmanager
def _source(file: str) -> Iterator[IO[bytes]]:
    # Not sys.stdin: gRPC's thread may still wait for a line when we leave, and Python aborts over its own reader then.
    stdin = file == "-"
    try:
        lines = open(0 if stdin else file, "rb", closefd=not stdin)  # noqa: SIM115 - closed below
    except OSError as error:
        raise C.INPUT.fault(f"{file} cannot be read", why=error.strerror or str(error)) from error
    if stdin:
        yield lines  # and never closed, since that would wait for the line too
        return
    with lines:
        yield lines


def _lines_of(file: str) -> int | None:
    """How many lines a file has; None for what can be read only once."""
    path = Path(file)
    if file == "-" or not path.is_file():
        return None
    count = 0
    with path.open("rb", buffering=0) as raw:
        while block := raw.read(io.DEFAULT_BUFFER_SIZE * 128):
            count += block.count(b"\n")
    return count
