"""`sfmctl memory watch`: the changes of a namespace as they are committed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfmctl import connection, memory_views, quantities, records, render
from sfmctl.exits import Exit
from sfmctl.fault import Fault
from sfmctl.link import Link, linked

if TYPE_CHECKING:
    from sfmd.rpc.gen import memory_pb2 as pb


HEAD = f'{{"schemaVersion": {render.SCHEMA_VERSION}, "kind": "Changes", "changes": [\n'


def register(memory: typer.Typer) -> None:
    """Add the verb."""
    memory.command("watch")(watch)


@linked()
def watch(
    link: Link,
    from_seq: Annotated[int | None, typer.Option("--from-seq", min=0, help="Begin there; default: after now.")] = None,
    to_seq: Annotated[int | None, typer.Option("--to-seq", min=0, help="End after that seq.")] = None,
    payload: Annotated[bool, typer.Option("--payload", help="With payloads.")] = False,
) -> int:
    """Print changes in the order of the log, for ever or until --to-seq. Ends with ^C.

    -o json is still one document: it is closed when the watch ends, by ^C too, and names the error that ended it.
    """
    namespace = link.namespace
    with link.client() as client:
        begin = client.stats(namespace).seq + 1 if from_seq is None else from_seq
        changes = client.watch(namespace, begin, to_seq=to_seq, include_payload=payload)
        if link.output is render.Output.JSON:
            return _document(changes, link)
        for change in changes:
            _line(change, link.output)
    return Exit.OK


def _fields(change: pb.Change) -> dict[str, Any]:
    made: dict[str, Any] = {
        "seq": change.seq, "namespace": change.namespace, "id": change.id, "op": change.op, "version": change.version,
        "digest": change.digest.hex(), "atS": change.at_s, "principal": change.principal, "eventId": change.event_id,
    }  # fmt: skip
    if change.detail_json:
        made["detail"] = memory_views.metadata_field(change.detail_json)
    if change.payload:
        made |= records.payload_fields(change.payload)
    return made


def _document(changes: Iterable[pb.Change], link: Link) -> int:
    """One document, written as it grows: each change on a line of its own, flushed at once. What fails before the first
    change is left to the error boundary, whose document is then the only one."""
    from sfmd.rpc.client import CallFailed

    begun, fault, code = False, None, Exit.OK
    try:
        for change in changes:
            sys.stdout.write((",\n" if begun else HEAD) + render.json_text(_fields(change)))
            sys.stdout.flush()
            begun = True
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except CallFailed as failed:
        if not begun:
            raise
        fault = connection.fault_of(failed, link.connection)
    sys.stdout.write(("" if begun else HEAD) + _end(fault))
    sys.stdout.flush()
    if fault is not None:
        render.fault(fault)
        return fault.exit
    return code


def _end(fault: Fault | None) -> str:
    return "\n]}\n" if fault is None else f'\n], "error": {render.json_text(render.fault_fields(fault))}}}\n'


def _line(change: pb.Change, output: render.Output) -> None:
    if output is render.Output.SHORT:
        render.short([[change.seq, change.op, change.id, change.version]])
    else:
        said = memory_views.snippet(change.payload, "", 60) if change.payload else change.detail_json[:60]
        at = quantities.moment(change.at_s)
        line = f"{change.seq:>8}  {at}  {change.op:<10} {change.id} v{change.version}  {said}"
        sys.stdout.write(render.printable(line) + "\n")
    sys.stdout.flush()
