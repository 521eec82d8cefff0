"""Which Python sources this machine has, and a fingerprint of them that needs no parsing.

The standard library and the installed packages are real text that every machine with Python holds, so the demo needs
no download. Tests and vendored copies are left out: they are not documentation.
"""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SKIPPED_FOLDERS = frozenset({
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "testing", "idle_test", "lib2to3", "_vendor",
    "_vendored", "vendor", "turtledemo", "ensurepip", "models", "gen",
})  # fmt: skip
"""`models` and `gen` hold generated classes whose docstrings repeat each other by the thousand."""
LARGEST_FILE_BYTES = 2 * 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its dotted module name, its path, what its directory entry says, and whether it comes with Python."""

    module: str
    path: Path
    size: int
    mtime_ns: int
    standard: bool


def _walk(root: Path, prefix: str = "", *, standard: bool = False) -> Iterator[Source]:
    try:
        entries = sorted(os.scandir(root), key=lambda e: e.name)
    except OSError:
        return  # a folder of sys.path that we may not read holds no text for us
    for entry in entries:
        if entry.is_dir():
            if entry.name not in SKIPPED_FOLDERS and entry.name.isidentifier():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}.", standard=standard)
        elif entry.name.endswith(".py"):
            stem = entry.name[:-3]
            at = entry.stat()
            if at.st_size <= LARGEST_FILE_BYTES and stem.isidentifier():
                name = prefix[:-1] if stem == "__init__" else prefix + stem
                if name:
                    yield Source(name, Path(entry.path), at.st_size, at.st_mtime_ns, standard)


def roots() -> tuple[Path, ...]:
    """The folders of the standard library and of the packages installed beside us."""
    paths = sysconfig.get_paths()
    return tuple(dict.fromkeys(Path(paths[key]) for key in ("stdlib", "purelib", "platlib")))


def find(folders: tuple[Path, ...] | None = None) -> list[Source]:
    """Every source, the standard library first, ordered by name; a module that exists twice counts once."""
    found: dict[str, Source] = {}
    for folder in folders if folders is not None else roots():
        for source in _walk(folder, standard=folder == Path(sysconfig.get_paths()["stdlib"])):
            found.setdefault(source.module, source)
    return list(found.values())


def fingerprint(sources: list[Source], recipe: str) -> str:
    """What the passages depend on: names, sizes and times of the files, and the recipe that cuts them."""
    digest = hashlib.sha256(recipe.encode())
    for source in sources:
        digest.update(f"{source.module}\0{source.size}\0{source.mtime_ns}\n".encode())
    return digest.hexdigest()
