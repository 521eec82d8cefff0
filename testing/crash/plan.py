"""What the writers of a crash test do, and what may be true after the crash.

Each writer works on ids of its own, one operation at a time, all derived from a seed. It says what it begins and what
was acknowledged, so that after a crash every id has one state that must be there, or, for the one operation that was in
flight, either of two.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """What an operation does to its id."""

    STORE = "store"
    DELETE = "delete"
    UNDO = "undo"
    PURGE = "purge"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a writer; `payload` only with STORE. `number` counts from 1 within the writer."""

    writer: str
    number: int
    kind: Kind
    id: str
    payload: bytes = b""

    def after(self, before: str) -> str:
        """The id's state when this happened; see `live`. `before`: its state before it was deleted."""
        if self.kind is Kind.STORE:
            return live(self.payload)
        return {Kind.DELETE: "deleted", Kind.PURGE: "purged", Kind.UNDO: before}[self.kind]

    def line(self) -> str:
        """How the writer announces it; `parse` is the inverse, the payload being derived from the rest."""
        return f"{self.writer} {self.number} {self.kind.value} {self.id}"


def live(payload: bytes) -> str:
    """The state of an id that holds this payload. The others are "absent", "deleted" and "purged"."""
    return f"live {hashlib.sha256(payload).hexdigest()}"


def payload_of(writer: str, number: int) -> bytes:
    """20 bytes to about 20 KB that no other operation has."""
    rng = random.Random(f"{writer}/{number}")
    return f"{writer}/{number}/".encode() + rng.randbytes(rng.choice((10, 200, 1_000, 20_000)))


def operations(writer: str) -> Iterator[Operation]:
    """Endless: mostly new memories; now and then a new version, a delete, its undo, a purge of an own one."""
    rng, number, living, dead = random.Random(writer), 0, list[str](), list[str]()
    while True:
        number += 1
        roll = rng.random()
        if living and roll < 0.12:
            id_ = living.pop(rng.randrange(len(living)))
            dead.append(id_)
            yield Operation(writer, number, Kind.DELETE, id_)
        elif dead and roll < 0.16:
            id_ = dead.pop(rng.randrange(len(dead)))
            living.append(id_)
            yield Operation(writer, number, Kind.UNDO, id_)
        elif living and roll < 0.19:
            yield Operation(writer, number, Kind.PURGE, living.pop(rng.randrange(len(living))))
        elif living and roll < 0.35:
            yield Operation(writer, number, Kind.STORE, rng.choice(living), payload_of(writer, number))
        else:
            living.append(f"{writer}-{number}")
            yield Operation(writer, number, Kind.STORE, living[-1], payload_of(writer, number))


def parse(line: str) -> Operation:
    """An operation from its line."""
    writer, number, kind, id_ = line.split()
    payload = payload_of(writer, int(number)) if kind == Kind.STORE.value else b""
    return Operation(writer, int(number), Kind(kind), id_, payload)


@dataclass(slots=True)
class Expected:
    """What the writers said: fed with their lines, asked for the states that each id may have."""

    states: dict[str, str] = field(default_factory=dict)
    before_delete: dict[str, str] = field(default_factory=dict)
    in_flight: dict[str, Operation] = field(default_factory=dict)
    unknown: list[Operation] = field(default_factory=list)
    stores: dict[str, Operation] = field(default_factory=dict)
    """The last store of each id that began."""
    acknowledged: int = 0
    refused: list[str] = field(default_factory=list)
    too_late: list[str] = field(default_factory=list)
    """Writers with an operation that began after the first refusal: the store was down, none may be acknowledged."""
    acknowledged_too_late: int = 0

    def hear(self, line: str) -> None:
        """One line of a driver: `begin OPERATION`, `ack WRITER NUMBER` or `refused WRITER NUMBER CODE`."""
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "begin":
            operation = parse(rest)
            self.in_flight[operation.writer] = operation
            if operation.kind is Kind.STORE:
                self.stores[operation.id] = operation
            if self.refused:
                self.too_late.append(operation.writer)
        elif word == "ack":
            writer, number = rest.split()
            operation = self.in_flight.pop(writer)
            if operation.number != int(number):
                raise AssertionError(f"{writer} began {operation.number} and {number} was acknowledged")
            self.states[operation.id] = self._after(operation)
            self.acknowledged += 1
            self.acknowledged_too_late += writer in self.too_late
        elif word == "refused":
            writer, _, code = rest.split()
            self.unknown.append(self.in_flight.pop(writer))  # refused: it may or may not have happened
            self.refused.append(code)

    def _after(self, operation: Operation) -> str:
        before = self.states.get(operation.id, "absent")
        if operation.kind is Kind.DELETE:
            self.before_delete[operation.id] = before
        return operation.after(self.before_delete.get(operation.id, before))

    def allowed(self, id_: str) -> set[str]:
        """The states that the id may have now."""
        now = self.states.get(id_, "absent")
        may = {now}
        for operation in (*self.in_flight.values(), *self.unknown):
            if operation.id == id_:
                may.add(operation.after(self.before_delete.get(id_, now)))
        return may

    def ids(self) -> set[str]:
        """Every id that was ever named."""
        return set(self.states) | {o.id for o in (*self.in_flight.values(), *self.unknown)}

    def lost(self, found: dict[str, str]) -> list[str]:
        """What `found` (id -> state; absent ids left out) says against the writers, in words."""
        problems = []
        for id_ in sorted(self.ids() | set(found)):
            state = found.get(id_, "absent")
            if state not in self.allowed(id_):
                problems.append(f"{id_} is {state}; acknowledged: {' or '.join(sorted(self.allowed(id_)))}")
        return problems

    def settle(self, found: dict[str, str]) -> None:
        """After a crash and its check: what was in flight is now as it was found."""
        for operation in (*self.in_flight.values(), *self.unknown):
            self.states[operation.id] = found.get(operation.id, "absent")
        self.in_flight.clear()
        self.unknown.clear()
