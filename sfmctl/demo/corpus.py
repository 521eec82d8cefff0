"""Brings the demo's namespace up to date with the Python sources of this machine, storing nothing twice.

A manifest is a memory of the same namespace, so it lives and dies with the data: it keeps the fingerprint of the
sources (an unchanged machine is known by it without parsing) and the anchor of the constructed times (so that a later
run gives every passage the time that it had). Memories of anybody else are never changed: a namespace that has some
and no manifest is refused, and only passages that the demo stored are removed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfmctl import progress
from sfmctl.codes import C
from sfmctl.demo import passages, sources
from sfmctl.fault import Fault

if TYPE_CHECKING:
    from sfmd.rpc.client import Client
    from sfmd.rpc.gen import memory_pb2 as pb

NAMESPACE = "python-docs"
HALF_LIFE_S = 180 * 86_400.0
"""A year then spans a quarter to the whole: decay shows, and what was asked for still leads."""
BETA = 2.0
"""Lexical similarities lie close together; squared, what was asked for leads over what is merely new."""
MANIFEST = "manifest"
KIND = "passage"
METADATA_NOTE = "constructed: spread over a year from the passage's id"
OUR_ID = re.compile(r"[0-9a-f]{20}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an earlier run noted. `version` is the memory's, 0 where there is none."""

    version: int = 0
    anchor_s: float | None = None
    fingerprint: str = ""
    passages: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found and did. `files` is how many sources there are; `kept` passages were there before."""

    files: int
    passages: int
    stored: int
    kept: int
    removed: int
    unchanged: bool


def prepare(client: Client, namespace: str) -> None:
    """Make the namespace unless it is there; one that is there keeps its embedder and half-life.

    A daemon that has `wordllama` embeds meaning; any other has the built-in lexical `hash-v1`.
    """
    from sfmd.errors import E
    from sfmd.rpc.client import CallFailed

    if namespace in {n.name for n in client.list_namespaces().namespaces}:
        return
    half_lives = {"default": HALF_LIFE_S}
    try:
        client.create_namespace(namespace, embedder="wordllama", half_lives=half_lives, beta=BETA)
    except CallFailed as failed:
        if failed.code != E.INVALID.code:
            raise
        client.create_namespace(namespace, embedder="hash-v1", half_lives=half_lives, beta=BETA)


def refresh(client: Client, namespace: str, limit: int, now_s: float, say: Callable[[str], None]) -> Outcome:
    """Store what is new, remove what is gone, and note the fingerprint.

    Raises CallFailed, Refusal of an item, or a Fault for a namespace that holds what the demo did not make.
    """
    prepare(client, namespace)
    known = _manifest(client, namespace)
    found = sources.find()
    fingerprint = sources.fingerprint(found, f"{passages.RECIPE} {limit}")
    if known.fingerprint == fingerprint:
        return Outcome(len(found), known.passages, 0, known.passages, 0, unchanged=True)
    anchor_s = known.anchor_s if known.anchor_s is not None else 60 * (now_s // 60)
    version = _note(client, namespace, {"anchorS": anchor_s}, known.version, now_s)
    say(f"reading the docstrings of {len(found):,} Python sources of this machine …")
    wanted = passages.build(found, limit)
    present = {m.id for m in client.list(namespace, page_size=1000, filter=_of_kind(), omit_payload=True) if _ours(m)}
    new = [p for p in wanted if p.id not in present]
    _store(client, namespace, new, anchor_s)
    gone = sorted(present - {p.id for p in wanted})
    for id_ in gone:
        client.delete(namespace, id_)
    _note(client, namespace, {"anchorS": anchor_s, "fingerprint": fingerprint, "passages": len(wanted),
                              "sources": len(found)}, version, now_s)  # fmt: skip
    return Outcome(len(found), len(wanted), len(new), len(wanted) - len(new), len(gone), unchanged=False)


def message(passage: passages.Passage, anchor_s: float) -> pb.MemoryInput:
    """A passage as a memory: its title is embedded with it, since a docstring seldom repeats its function's name."""
    from sfmd.rpc.requests import memory_input

    return memory_input(
        {"title": passage.title, "text": passage.text}, text=f"{passage.title.replace('.', ' ')}\n{passage.text}",
        id=passage.id, kind=KIND, importance=passage.importance, event_time_s=passage.event_time_s(anchor_s),
        content_type="application/json",
        metadata={"module": passage.module, "part": passage.part, "imported_by": passage.imported_by,
                  "event_time": METADATA_NOTE},
    )  # fmt: skip


class Refusal(Exception):
    """The daemon refused passages: counts, and the first one's code and words."""

    def __init__(self, counts: str, code: str, message: str) -> None:
        super().__init__(f"{counts}; first: {message}")
        self.code = code


def _store(client: Client, namespace: str, new: list[passages.Passage], anchor_s: float) -> None:
    if not new:
        return
    with progress.counting("import", len(new)) as advance:

        def counted() -> Iterator[pb.MemoryInput]:
            for passage in new:
                yield message(passage, anchor_s)
                advance(1)

        reply = client.import_many(namespace, counted())
    if reply.rejected or reply.conflict:
        first = reply.first_errors[0].error
        raise Refusal(f"{reply.rejected} rejected, {reply.conflict} in conflict", first.code, first.message)


def _of_kind() -> pb.Filter:
    from sfmd.rpc.gen import memory_pb2 as pb

    return pb.Filter(kinds=[KIND])


def _ours(memory: pb.Memory) -> bool:
    """Whether the demo stored this passage: its id is a digest, and its metadata say that the time is constructed."""
    if not OUR_ID.fullmatch(memory.id):
        return False
    return bool(json.loads(memory.metadata_json or "{}").get("event_time") == METADATA_NOTE)


def _manifest(client: Client, namespace: str) -> Manifest:
    """The manifest; an empty one for an empty namespace. Raises a Fault when there are memories and no manifest."""
    from sfmd.errors import E
    from sfmd.rpc.client import CallFailed

    try:
        memory = client.get(namespace, MANIFEST)
    except CallFailed as failed:
        if failed.code != E.NO_MEMORY.code:
            raise
        if next(iter(client.list(namespace, page_size=1, omit_payload=True)), None) is None:
            return Manifest()
        raise _foreign(namespace, "it has memories and no manifest of the demo") from failed
    found = _parsed(memory)
    if found is None:
        raise _foreign(namespace, f"its memory {MANIFEST!r} is not the demo's")
    return found


def _parsed(memory: pb.Memory) -> Manifest | None:
    """A memory as a manifest; None where it is none that the demo wrote."""
    try:
        body = json.loads(memory.payload)
    except (ValueError, RecursionError):
        return None
    if memory.kind != MANIFEST or not isinstance(body, dict):
        return None
    anchor_s, fingerprint, count = body.get("anchorS"), body.get("fingerprint", ""), body.get("passages", 0)
    if not isinstance(anchor_s, (int, float)) or not math.isfinite(anchor_s):
        return None
    if not isinstance(fingerprint, str) or not isinstance(count, int):
        return None
    return Manifest(memory.version, float(anchor_s), fingerprint, count)


def _foreign(namespace: str, why: str) -> Fault:
    return C.NOT_THE_DEMOS.fault(f"the demo did not make the namespace {namespace!r}, and leaves it as it is", why=why)


def _note(client: Client, namespace: str, body: dict[str, Any], version: int, now_s: float) -> int:
    """Write the manifest in place of that version of it, 0 for none; its version now."""
    reply = client.store(namespace, body, id=MANIFEST, kind=MANIFEST, text="manifest of the demo corpus",
                         importance=0.0, event_time_s=now_s, expected_version=version)  # fmt: skip
    return int(reply.version)
