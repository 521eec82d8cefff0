"""The book: YAML files to the validated model. A key nobody reads is an error with its file and line, never ignored.

The files are packaged beside this module (`playbook/book/*.yaml`), so an installed `sfmctl` needs no checkout to
explain a code or to show the playbook.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from playbook.model import Book, CheckSpec, Code, Condition, Image, Step, Tool
from playbook.trouble import Trouble

BOOK = Path(__file__).parent / "book"
FILES = ("steps", "plays", "checks", "codes", "tools", "images", "modes")
OPERATORS = ("is", "not", "in", "empty")


class Entry:
    """One YAML node with its place, read field by field; what is missing, mistyped or unknown names file and line."""

    def __init__(self, file: Path, node: yaml.Node) -> None:
        self.file = file
        self.node = node

    def wrong(self, what: str, node: yaml.Node | None = None) -> Trouble:
        """The error for this place."""
        line = (node or self.node).start_mark.line + 1
        return Trouble("SFM-BOOK-001", f"{self.file.name}:{line}: {what}")

    def mapping(self, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Entry]:
        """The node as a mapping with exactly these keys."""
        found = dict(self.items())
        for key, entry in found.items():
            if key not in required + optional:
                raise entry.wrong(f"unknown key {key!r}; known here: {', '.join(sorted(required + optional))}")
        for key in required:
            if key not in found:
                raise self.wrong(f"the key {key!r} is missing")
        return found

    def items(self) -> Iterator[tuple[str, Entry]]:
        """The pairs of a mapping, in order; a key that is there twice is an error."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong("a mapping is wanted here")
        seen: set[str] = set()
        for key, value in self.node.value:
            name = str(key.value)
            if name in seen:
                raise self.wrong(f"the key {name!r} is there twice", key)
            seen.add(name)
            yield name, Entry(self.file, value)

    def entries(self) -> list[Entry]:
        """The items of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.wrong("a list is wanted here")
        return [Entry(self.file, item) for item in self.node.value]

    def value(self) -> Any:
        """The plain value of any node."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(self.node, deep=True)
        finally:
            loader.dispose()

    def text(self) -> str:
        """The node as text."""
        value = self.value()
        if not isinstance(value, str):
            raise self.wrong("a text is wanted here")
        return value.strip()

    def texts(self) -> tuple[str, ...]:
        """The node as a list of texts."""
        return tuple(entry.text() for entry in self.entries())

    def number(self) -> float:
        """The node as a positive number."""
        value = self.value()
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self.wrong("a positive number is wanted here")
        return float(value)

    def truth(self) -> bool:
        """The node as true or false."""
        value = self.value()
        if not isinstance(value, bool):
            raise self.wrong("true or false is wanted here")
        return value


def conditions(entry: Entry | None) -> tuple[Condition, ...]:
    """`[{fact: cluster.state, is: running}, …]` as conditions, all of which must hold."""
    found = []
    for item in entry.entries() if entry else []:
        fields = item.mapping(("fact",), OPERATORS)
        operators = [op for op in OPERATORS if op in fields]
        if len(operators) != 1:
            raise item.wrong(f"a condition has one of {', '.join(OPERATORS)}")
        found.append(Condition(fields["fact"].text(), operators[0], fields[operators[0]].value()))
    return tuple(found)


def step(section: str, entry: Entry) -> Step:
    """One step of `steps/*.yaml`."""
    optional = ("needs", "params", "done_when", "only_when", "timeout_s", "destructive", "leaves")
    f = entry.mapping(("id", "title", "action", "hint"), optional)
    return Step(
        id=f["id"].text(),
        section=section,
        title=f["title"].text(),
        needs=f["needs"].texts() if "needs" in f else (),
        action=f["action"].text(),
        params=f["params"].value() if "params" in f else {},
        done_when=conditions(f.get("done_when")),
        only_when=conditions(f.get("only_when")),
        timeout_s=f["timeout_s"].number() if "timeout_s" in f else 60.0,
        hint=f["hint"].text(),
        destructive=f["destructive"].truth() if "destructive" in f else False,
        leaves=f["leaves"].texts() if "leaves" in f else (),
    )


def check(category: str, entry: Entry) -> CheckSpec:
    """One check of `checks.yaml`."""
    optional = ("params", "needs", "timeout_s", "attempts", "only_when")
    f = entry.mapping(("id", "title", "probe", "command", "criterion", "hint"), optional)
    return CheckSpec(
        id=f["id"].text(),
        category=category,
        title=f["title"].text(),
        probe=f["probe"].text(),
        params=f["params"].value() if "params" in f else {},
        command=f["command"].text(),
        criterion=f["criterion"].text(),
        needs=f["needs"].texts() if "needs" in f else (),
        hint=f["hint"].text(),
        timeout_s=f["timeout_s"].number() if "timeout_s" in f else 10.0,
        attempts=int(f["attempts"].number()) if "attempts" in f else 1,
        only_when=conditions(f.get("only_when")),
    )


def tool(entry: Entry) -> Tool:
    """One program of `tools.yaml`."""
    f = entry.mapping(("name", "minimum", "required", "argv", "pattern", "why", "install"), ("only_kind",))
    return Tool(
        f["name"].text(), f["minimum"].text(), f["required"].truth(), f["argv"].texts(), f["pattern"].text(),
        f["why"].text(), f["install"].text(), f["only_kind"].truth() if "only_kind" in f else False,
    )  # fmt: skip


def image(entry: Entry) -> Image:
    """One image of `images.yaml`."""
    f = entry.mapping(("ref", "why", "source", "modes"), ("context", "dockerfile", "build_args"))
    source = f["source"].text()
    if source not in ("pull", "build"):
        raise f["source"].wrong("source is pull or build")
    if source == "build" and "dockerfile" not in f:
        raise entry.wrong("an image that is built names its dockerfile")
    return Image(
        ref=f["ref"].text(),
        why=f["why"].text(),
        source=source,
        modes=f["modes"].texts(),
        context=f["context"].text() if "context" in f else "",
        dockerfile=f["dockerfile"].text() if "dockerfile" in f else "",
        build_args=f["build_args"].value() if "build_args" in f else {},
    )


def code(name: str, entry: Entry) -> Code:
    """One entry of `codes.yaml`."""
    f = entry.mapping(("title", "why", "mend", "exit"), ("elsewhere",))
    elsewhere = f["elsewhere"].text() if "elsewhere" in f else ""
    return Code(name, f["title"].text(), f["why"].text(), f["mend"].text(), int(f["exit"].number()), elsewhere)


def root(directory: Path, name: str) -> Entry:
    """The top node of one file of the book."""
    path = directory / f"{name}.yaml"
    try:
        with path.open(encoding="utf-8") as stream:
            node = yaml.compose(stream, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise Trouble("SFM-BOOK-001", f"{path.name} is no YAML", why=str(error)) from error
    except OSError as error:
        raise Trouble("SFM-BOOK-002", f"the book's file {path.name} cannot be read", why=str(error)) from error
    if node is None:
        raise Trouble("SFM-BOOK-001", f"{path.name}:1: the file is empty")
    return Entry(path, node)


def unique(kind: str, found: list[tuple[Any, Entry]]) -> dict[str, Any]:
    """The entries by id; the same id twice is an error."""
    made: dict[str, Any] = {}
    for item, entry in found:
        if item.id in made:
            raise entry.wrong(f"the {kind} {item.id!r} is there twice")
        made[item.id] = item
    return made


def load(directory: Path = BOOK) -> Book:
    """Read and cross-check the whole book in `directory`."""
    top = {name: root(directory, name) for name in FILES}
    sections = [s.mapping(("section", "title", "steps")) for s in top["steps"].entries()]
    steps = unique("step", [(step(s["section"].text(), e), e) for s in sections for e in s["steps"].entries()])
    categories = [c.mapping(("category", "checks")) for c in top["checks"].entries()]
    checks = unique("check", [(check(c["category"].text(), e), e) for c in categories for e in c["checks"].entries()])
    book = Book(
        steps=steps,
        plays={name: entry.texts() for name, entry in top["plays"].items()},
        checks=checks,
        codes={name: code(name, entry) for name, entry in top["codes"].items()},
        tools=tuple(tool(entry) for entry in top["tools"].entries()),
        images=tuple(image(entry) for entry in top["images"].entries()),
        modes=top["modes"].texts(),
    )
    cross_check(book, top)
    return book


def cross_check(book: Book, top: Mapping[str, Entry]) -> None:
    """Every name that one part uses is one that another part has, and nothing needs what comes after it."""
    for play, names in book.plays.items():
        for name in names:
            if name not in book.steps:
                raise top["plays"].wrong(f"the play {play!r} names the step {name!r}, which no section has")
        for position, name in enumerate(names):
            late = [n for n in book.steps[name].needs if n in names[position:]]
            if late:
                raise top["plays"].wrong(f"in the play {play!r}, {name!r} comes before {late[0]!r}, which it needs")
    for owner, needs, known, place in (
        *((s.id, s.needs, set(book.steps), "steps") for s in book.steps.values()),
        *((c.id, c.needs, set(book.checks), "checks") for c in book.checks.values()),
    ):
        for name in needs:
            if name not in known:
                raise top[place].wrong(f"{owner!r} needs {name!r}, which is not there")
    for owner, hint, place in (
        *((s.id, s.hint, "steps") for s in book.steps.values()),
        *((c.id, c.hint, "checks") for c in book.checks.values()),
    ):
        if hint not in book.codes:
            raise top[place].wrong(f"{owner!r} has the hint {hint!r}, which codes.yaml does not have")
    for one in book.images:
        unknown = set(one.modes) - set(book.modes)
        if unknown:
            raise top["images"].wrong(f"the image {one.ref!r} names unknown modes: {', '.join(sorted(unknown))}")


@cache
def packaged() -> Book:
    """The book that this program came with."""
    return load()
