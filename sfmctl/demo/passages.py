"""Docstrings cut into passages, and how often each module is imported: the demo's text and its importance.

Everything is a function of the sources: the same files give the same ids, texts and times on every run.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sfmctl.demo.sources import Source

RECIPE = "docstring passages 1"
"""Changes whenever the text, ids, importance or times of passages would: older data are renewed."""
LEAST_CHARS, AIM_CHARS, MOST_CHARS = 60, 500, 1200
YEAR_S = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of one docstring. `imported_by` counts the files that import its module."""

    id: str
    title: str
    module: str
    part: int
    text: str
    imported_by: int

    @property
    def importance(self) -> float:
        """Raw r: log2(1 + importing files), since use of modules spans four orders of magnitude."""
        return math.log2(1 + self.imported_by)

    def event_time_s(self, anchor_s: float) -> float:
        """A constructed time in the year before `anchor_s`, from the id alone: whole minutes, evenly spread."""
        share = int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:8], "big") / 2**64
        return anchor_s - 60 * math.floor(share * YEAR_S / 60)


def docstrings(source: Source) -> list[tuple[str, str]]:
    """(qualified name, docstring) pairs of one file; none when it is not Python of this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes are no concern of ours
            tree = ast.parse(source.path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return []
    return list(_docstrings(tree, source.module))


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        text = ast.get_docstring(node, clean=True)
        if text:
            yield name, text
        for child in node.body:
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _docstrings(child, f"{name}.{child.name}")


_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n;#]+)|import[ \t]+([^\n;#]+))", re.MULTILINE
)


def imports(text: str, module: str, *, package: bool) -> set[str]:
    """The modules that a source imports, relative names resolved; `from a import b` counts a and a.b.

    Reads lines instead of a syntax tree, since it looks at every file of the machine: a line in a docstring that
    looks like an import counts too, which for "how much is it used" is fair enough.
    """
    found: set[str] = set()
    parts = module.split(".")
    for dots, stem, names, plain in _IMPORT.findall(text):
        if plain:
            found.update(name.split()[0] for name in plain.split(",") if name.split())
            continue
        base = parts[: max(0, len(parts) - len(dots) + package)] if dots else []
        origin = ".".join([*base, *([stem] if stem else [])])
        if origin:
            found.add(origin)
            found.update(f"{origin}.{name.split()[0]}" for name in names.strip("() ").split(",") if name.split())
    return found


def count_imports(sources: Iterable[Source]) -> Counter[str]:
    """In how many of the files each module is imported."""
    counted: Counter[str] = Counter()
    for source in sources:
        try:
            text = source.path.read_text(errors="replace")
        except OSError:
            continue  # a file that went away since it was listed
        counted.update(imports(text, source.module, package=source.path.name == "__init__.py"))
    return counted


def cut(docstring: str) -> list[str]:
    """Paragraphs joined to passages of about AIM_CHARS characters, none above MOST_CHARS."""
    passages: list[str] = []
    held = ""
    plain = "".join(c for c in docstring if c.isprintable() or c in "\n\t")  # some show NUL and escape codes raw
    for block in inspect.cleandoc(plain).split("\n\n"):
        paragraph = block.strip("\n").rstrip()
        if held and len(held) + len(paragraph) > AIM_CHARS:
            passages.append(held)
            held = ""
        held = f"{held}\n\n{paragraph}" if held else paragraph
        while len(held) > MOST_CHARS:
            at = max(held.rfind("\n", 0, MOST_CHARS), held.rfind(". ", 0, MOST_CHARS) + 1)
            at = at if at > LEAST_CHARS else MOST_CHARS
            passages.append(held[:at].rstrip())
            held = held[at:].lstrip()
    if held:
        passages.append(held)
    return [p for p in passages if len(p) >= LEAST_CHARS]


def build(sources: Sequence[Source], limit: int) -> list[Passage]:
    """About `limit` passages, each text once: the standard library, then the packages' most imported modules."""
    imported = count_imports(sources)
    made: dict[str, Passage] = {}
    for source in sorted(sources, key=lambda s: (not s.standard, -imported[s.module], s.module)):
        for title, docstring in docstrings(source):
            for part, text in enumerate(cut(docstring)):
                key = hashlib.sha256(text.encode()).hexdigest()[:20]
                made.setdefault(key, Passage(key, title, source.module, part, text, imported[source.module]))
        if len(made) >= limit:
            break
    # In the order of the ids, which are digests: the normaliser of importance learns from the values in their order.
    return sorted(made.values(), key=lambda p: p.id)
